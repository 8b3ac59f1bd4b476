//! The choice of a project for a request.

use multidb_store::ProjectName;
use serde::Serialize;

/// Why a request has no project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum ProjectError {
    /// No project is configured.
    #[error("no project is configured")]
    NoProject,
    /// No project of this name is configured.
    #[error("project \"{project}\" does not exist")]
    NoSuchProject {
        /// The requested project.
        project: ProjectName,
        /// The configured projects, sorted.
        known: Vec<ProjectName>,
    },
    /// Several projects are configured, and the request names none.
    #[error("several projects are configured and none is named")]
    ProjectNeeded {
        /// The configured projects, sorted.
        known: Vec<ProjectName>,
    },
}

impl ProjectError {
    /// A stable word for programs; `code` in the serialized form.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoProject => "no_project",
            Self::NoSuchProject { .. } => "no_such_project",
            Self::ProjectNeeded { .. } => "project_needed",
        }
    }

    /// The configured projects, where they help; sorted.
    pub fn known(&self) -> Option<&[ProjectName]> {
        match self {
            Self::NoProject => None,
            Self::NoSuchProject { known, .. } | Self::ProjectNeeded { known } => Some(known),
        }
    }
}

/// The requested project, or the only one.
///
/// # Errors
///
/// It is not configured, or none is requested and there are several or none.
pub fn choose_project<'a>(
    configured: impl Iterator<Item = &'a ProjectName> + Clone,
    requested: Option<&ProjectName>,
) -> Result<ProjectName, ProjectError> {
    let known = || {
        let mut known: Vec<_> = configured.clone().cloned().collect();
        known.sort();
        known
    };
    let mut names = configured.clone();
    match (requested, names.next(), names.next()) {
        (_, None, _) => Err(ProjectError::NoProject),
        (Some(name), _, _) if configured.clone().any(|one| one == name) => Ok(name.clone()),
        (Some(name), _, _) => Err(ProjectError::NoSuchProject {
            project: name.clone(),
            known: known(),
        }),
        (None, Some(only), None) => Ok(only.clone()),
        (None, _, Some(_)) => Err(ProjectError::ProjectNeeded { known: known() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_is_named_or_the_only_one() {
        let name = |text: &str| -> ProjectName { text.parse().unwrap() };
        for (configured, requested, expected) in [
            ("", None, Err("no_project")),
            ("", Some("shop"), Err("no_project")),
            ("shop", None, Ok("shop")),
            ("wiki shop", None, Err("project_needed")),
            ("wiki shop", Some("wiki"), Ok("wiki")),
            ("shop", Some("shop"), Ok("shop")),
            ("shop", Some("wiki"), Err("no_such_project")),
        ] {
            let mut names: Vec<_> = configured.split_whitespace().map(name).collect();
            let chosen = choose_project(names.iter(), requested.map(name).as_ref());
            if let Some(known) = chosen.as_ref().err().and_then(ProjectError::known) {
                names.sort();
                assert_eq!(known, names);
            }
            let chosen = chosen.as_ref().map(ProjectName::as_str);
            let chosen = chosen.map_err(ProjectError::code);
            assert_eq!(chosen, expected, "{configured} {requested:?}");
        }
    }
}
