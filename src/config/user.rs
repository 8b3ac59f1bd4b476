//! `[auth.users.*]`, and the file of users, with the same tables without the prefix.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use multidb_actors::auth::{Scope, SecretHash, Token, User, Users, Verifier};
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

impl Value for SecretHash {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(str::to_owned)
    }

    fn show(&self) -> toml::Value {
        string("***")
    }
}

impl Value for Scope {
    fn read(value: &toml::Value) -> Result<Self, String> {
        String::read(value)?.parse()
    }

    fn show(&self) -> toml::Value {
        string(self.name())
    }
}

impl Value for Timestamp {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|error| {
            format!("\"{text}\" is not a time such as \"2026-05-01T12:00:00Z\": {error}")
        })
    }

    fn show(&self) -> toml::Value {
        string(self.to_string())
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
        let tokens = section.existing_section("tokens", report);
        let tokens = tokens.map_or_else(Vec::new, |tokens| read_tokens(tokens, report));
        section.close(report);
        if let (Some(verifier), Some(roles)) = (verifier, roles) {
            let user = User {
                verifier,
                roles,
                projects,
                admin,
                max_instances,
                creations_per_minute,
                tokens,
            };
            users.insert(name, Arc::new(user));
        }
    }
    users
}

fn read_tokens(section: Section, report: &mut Report) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (id, mut section) in section.into_sections(report) {
        let hash = section.required("sha256", report);
        let scope = section.required("scope", report);
        let created_at = section.required("created_at", report);
        let expires_at = section.optional("expires_at", report);
        let label = section.optional("label", report);
        section.close(report);
        if let (Some(hash), Some(scope), Some(created_at)) = (hash, scope, created_at) {
            tokens.push(Token {
                id,
                hash,
                scope,
                created_at,
                expires_at,
                label,
            });
        }
    }
    tokens
}
