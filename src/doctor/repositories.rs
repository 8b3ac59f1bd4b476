//! git, and the projects' repositories.

use std::path::Path;

use futures_util::future::join_all;
use multidb_store::{Layout, ProjectName};

use super::{Finding, Level};
use crate::config::{Config, GitRemote, Project};
use crate::daemon::convert::git_project;
use crate::git::{Condition, refused_form};
use crate::runtime::version::version_of;

/// Checks each project's repository.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let projects = config.projects.iter();
    let asked = projects.map(|(name, project)| repository(name, project, config));
    join_all(asked).await
}

/// Checks the git program. Only remote repositories need it.
pub(crate) fn program(config: Option<&Config>) -> Finding {
    let projects = config.map(|config| config.projects.values());
    let needed = projects
        .into_iter()
        .flatten()
        .any(|project| matches!(project.git, GitRemote::Remote(_)));
    match version_of(Path::new("git")) {
        Ok(version) => Finding::new(Level::Ok, "git", version),
        Err(error) => {
            let level = if needed { Level::Fail } else { Level::Warn };
            Finding::new(level, "git", format!("cannot run git: {error}"))
                .hint("Install it; it fetches repositories that are given as a URL.")
        }
    }
}

async fn repository(name: &ProjectName, project: &Project, config: &Config) -> Finding {
    let finding = |level, message: String| Finding::new(level, &format!("project {name}"), message);
    let examined = git_project(project).examine(config.fetch_timeout).await;
    let mirror = Layout::new(&config.root).git_mirror(name);
    if let Some(form) = refused_form(&project.git, &mirror) {
        let level = match examined {
            // Its newest commit may be complete.
            Ok(Condition::Readable | Condition::NoListing(_)) => Level::Warn,
            Ok(Condition::Answers) | Err(_) => Level::Fail,
        };
        let message = format!("{}: {}", project.git, form.detail());
        return finding(level, message).hint(form.hint());
    }
    match examined {
        Ok(Condition::Readable) => finding(Level::Ok, format!("{} is readable", project.git)),
        Ok(Condition::Answers) => finding(Level::Ok, format!("{} answers", project.git)),
        Ok(Condition::NoListing(error)) => finding(
            Level::Warn,
            match error.detail() {
                Some(detail) => format!("{}, at HEAD: {error}. {detail}", project.git),
                None => format!("{}, at HEAD: {error}", project.git),
            },
        )
        .hint(
            "Commit a listing of all migrations there, one a line; instances cannot be created by gitref \
             from a revision without one.",
        ),
        Err(message) => finding(Level::Fail, message).hint(match project.git {
            GitRemote::Local(_) => {
                "Check the path, and that the daemon's user may read it."
            }
            GitRemote::Remote(_) => {
                "Run \"git ls-remote\" with this URL as the daemon's user."
            }
        }),
    }
}
