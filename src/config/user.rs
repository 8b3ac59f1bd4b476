//! `[auth.users.*]`, and the file of users, with the same tables without the prefix.

use std::path::Path;
use std::sync::Arc;

use multidb_actors::auth::{User, Users, Verifier};
use multidb_store::ProjectName;

use super::fault::{ConfigFaults, Fault};
use super::section::{Report, Section};
use super::source;
use super::value::{Value, string};

impl Value for Verifier {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|error| format!("{error}"))
    }

    fn show(&self) -> toml::Value {
        string("SCRAM-SHA-256$***")
    }
}

impl Value for ProjectName {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|error| format!("{error}"))
    }

    fn show(&self) -> toml::Value {
        string(self.as_str())
    }
}

/// Reads the file of users. A missing file has none.
///
/// # Errors
///
/// All faults of the file.
pub fn read_users_file(path: &Path) -> Result<Users, ConfigFaults> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_users(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Users::new()),
        Err(error) => Err(ConfigFaults {
            file: Some(path.to_owned()),
            faults: vec![Fault::new("", format!("cannot be read: {error}"))],
        }),
    }
}

/// Reads the text of the file of users, which is at this path.
///
/// # Errors
///
/// All faults of the text.
pub fn parse_users(path: &Path, text: &str) -> Result<Users, ConfigFaults> {
    let read = |table, report: &mut Report| read_users(Section::top(table), report);
    let (users, _report) = source::parse(Some(path), text, read)?;
    Ok(users)
}

pub(super) fn read_users(section: Section, report: &mut Report) -> Users {
    let mut users = Users::new();
    for (name, mut section) in section.into_sections(report) {
        if name.trim().is_empty() || name.contains(char::is_control) {
            report.fault(section.path(), "is not the name of a user");
        }
        let verifier = section.required("verifier", report);
        let roles: Option<Vec<String>> = section.required("roles", report);
        if roles.as_ref().is_some_and(Vec::is_empty) {
            report.fault(section.key("roles"), "is empty, so the user cannot log in");
        }
        let projects = section.optional("projects", report);
        let admin = section.get("admin", false, report);
        let max_instances = section.optional("max_instances", report);
        let creations_per_minute = section.optional("creations_per_minute", report);
        section.close(report);
        if let (Some(verifier), Some(roles)) = (verifier, roles) {
            let user = User {
                verifier,
                roles,
                projects,
                admin,
                max_instances,
                creations_per_minute,
            };
            users.insert(name, Arc::new(user));
        }
    }
    users
}
