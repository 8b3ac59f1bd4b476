//! `[http.hooks.PROJECT]`: events in a project's repository remove its instances.

use std::collections::BTreeMap;
use std::path::PathBuf;

use multidb_store::{InstanceName, ProjectName};

use super::project::Project;
use super::section::{Report, Section};
use super::value::{Value, string};

/// What stands for the number of the pull request.
const NUMBER: &str = "{number}";

/// The webhook of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// The project.
    pub project: ProjectName,
    /// Its repository, as GitHub or GitLab name it: `acme/shop`.
    pub repository: String,
    /// The file with the secret that GitHub or GitLab have, too.
    pub secret_file: PathBuf,
    /// The user whose instances are removed.
    pub user: String,
    /// The names of the instances of a pull request.
    pub instances: NamePattern,
}

/// The shortest secret.
const SECRET_LENGTH_MIN: usize = 16;

impl HookConfig {
    /// Reads the secret, which may change at any time.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its secret could be guessed.
    pub fn read_secret(&self) -> Result<Vec<u8>, String> {
        let file = self.secret_file.display();
        let secret = std::fs::read(&self.secret_file)
            .map_err(|error| format!("{file} cannot be read: {error}"))?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_LENGTH_MIN {
            return Err(format!(
                "{file} has fewer than {SECRET_LENGTH_MIN} characters; \"openssl rand -hex 32\" makes a secret"
            ));
        }
        Ok(secret.to_vec())
    }
}

/// Names with the number of a pull request: `pr-{number}*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    before: String,
    after: String,
    /// Whether anything may follow.
    is_open: bool,
}

impl NamePattern {
    /// Whether a name is of this pull request. That of 12 is none of 1.
    pub fn matches(&self, name: &InstanceName, number: u64) -> bool {
        let rest = name.as_str().strip_prefix(&self.before);
        let rest = rest.and_then(|rest| rest.strip_prefix(&number.to_string()));
        let Some(rest) = rest.filter(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())) else {
            return false;
        };
        match rest.strip_prefix(self.after.as_str()) {
            Some(more) => self.is_open || more.is_empty(),
            None => false,
        }
    }
}

impl Value for NamePattern {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        let malformed = format!(
            "\"{text}\" is not a pattern such as \"pr-{NUMBER}*\": letters, digits, \".\", \"_\" and \"-\" around one \
             {NUMBER}, with at most one * at its end"
        );
        let (before, after) = text.split_once(NUMBER).ok_or_else(|| malformed.clone())?;
        let (after, is_open) = match after.strip_suffix('*') {
            Some(after) => (after, true),
            None => (after, false),
        };
        let is_part = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        // Digits beside the number would be part of another one.
        let ends_in_digit = before.ends_with(|c: char| c.is_ascii_digit());
        if !is_part(before) || !is_part(after) || ends_in_digit {
            return Err(malformed);
        }
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
            is_open,
        })
    }

    fn show(&self) -> toml::Value {
        let end = if self.is_open { "*" } else { "" };
        string(format!("{}{NUMBER}{}{end}", self.before, self.after))
    }
}

pub(super) fn read(section: Section, report: &mut Report) -> Vec<HookConfig> {
    let mut hooks = Vec::new();
    for (name, mut section) in section.into_sections(report) {
        let project: Option<ProjectName> = name
            .parse()
            .map_err(|error| report.fault(section.path(), format!("{error}")))
            .ok();
        let repository = section.required("repository", report);
        let secret_file = section.required("secret_file", report);
        let user = section.required("user", report);
        let default = NamePattern {
            before: "pr-".to_owned(),
            after: String::new(),
            is_open: true,
        };
        let instances = section.get("instances", default, report);
        section.close(report);
        if let (Some(project), Some(repository), Some(secret_file), Some(user)) =
            (project, repository, secret_file, user)
        {
            hooks.push(HookConfig {
                project,
                repository,
                secret_file,
                user,
                instances,
            });
        }
    }
    hooks
}

/// Refuses hooks of projects that are not configured.
pub(super) fn check<'a>(
    hooks: impl Iterator<Item = &'a HookConfig>,
    projects: &BTreeMap<ProjectName, Project>,
    report: &mut Report,
) {
    for hook in hooks.filter(|hook| !projects.contains_key(&hook.project)) {
        let key = format!("http.hooks.{}", hook.project);
        report.fault(key, "is of no configured project");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<NamePattern, String> {
        NamePattern::read(&string(text))
    }

    #[test]
    fn number_is_whole_and_the_rest_is_as_written() {
        for (text, matching, other) in [
            (
                "pr-{number}*",
                "pr-12 pr-12-web pr-12.db",
                "pr-1 pr-123 pr-120-web xpr-12 pr-12x/",
            ),
            ("pr-{number}", "pr-12", "pr-12-web pr-123"),
            ("shop-{number}-web", "shop-12-web", "shop-12 shop-12-web2"),
            ("{number}", "12", "123 1"),
        ] {
            let pattern = pattern(text).unwrap();
            assert_eq!(pattern.show(), string(text));
            let matches = |name: &str| {
                let name = name.parse::<InstanceName>();
                name.is_ok_and(|name| pattern.matches(&name, 12))
            };
            for name in matching.split(' ') {
                assert!(matches(name), "{text} {name}");
            }
            for name in other.split(' ') {
                assert!(!matches(name), "{text} {name}");
            }
        }
        for malformed in [
            "",
            "*",
            "pr-*",
            "pr-{number}-*-x",
            "pr-{number}{number}",
            "pr/{number}",
            "pr1{number}",
        ] {
            assert!(pattern(malformed).is_err(), "{malformed}");
        }
    }
}
