//! `[auth.users.*]`: who may connect once a method asks for it.

use std::collections::BTreeMap;
use std::fmt;

use super::section::{Report, Section};
use super::value::{Value, quoted};

/// How Postgres' own form begins (`pg_authid.rolpassword`).
const SCRAM: &str = "SCRAM-SHA-256";
/// Base64 of 32 bytes, the length of SHA-256.
const KEY_LENGTH: usize = 44;

/// A user of multidb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What their password is checked against.
    pub verifier: Verifier,
    /// The Postgres roles that they may log in as.
    pub roles: Vec<String>,
}

/// A password in the form that Postgres stores:
/// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(String);

impl Verifier {
    /// The whole text. It is a secret: whoever has it can try passwords.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

impl Value for Verifier {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = String::read(value)?;
        // What was given instead may well be the password itself: it is not repeated.
        if !is_verifier(&text) {
            return Err(format!(
                "is not of the form {SCRAM}$<iterations>:<salt>$<stored key>:<server key>, as \
                 Postgres stores it"
            ));
        }
        Ok(Self(text))
    }

    fn show(&self) -> String {
        quoted(format!("{SCRAM}$***"))
    }
}

fn is_verifier(text: &str) -> bool {
    let parts: Vec<_> = text.split('$').collect();
    let [SCRAM, salted, keys] = parts[..] else {
        return false;
    };
    let (Some((iterations, salt)), Some((stored, server))) =
        (salted.split_once(':'), keys.split_once(':'))
    else {
        return false;
    };
    let is_key = |key: &str| key.len() == KEY_LENGTH && is_base64(key);
    iterations.parse::<u32>().is_ok_and(|count| count > 0)
        && is_base64(salt)
        && is_key(stored)
        && is_key(server)
}

fn is_base64(text: &str) -> bool {
    let digit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    let digits = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits.bytes().all(digit)
}

pub(super) fn read_users(section: Section, report: &mut Report) -> BTreeMap<String, User> {
    let mut users = BTreeMap::new();
    for (name, mut section) in section.into_sections(report) {
        if name.trim().is_empty() || name.contains(char::is_control) {
            report.fault(section.path(), "is not the name of a user");
        }
        let verifier = section.required("verifier", report);
        let roles: Option<Vec<String>> = section.required("roles", report);
        if roles.as_ref().is_some_and(Vec::is_empty) {
            report.fault(
                section.key("roles"),
                "is empty, so the user could not log in",
            );
        }
        section.close(report);
        if let (Some(verifier), Some(roles)) = (verifier, roles) {
            users.insert(name, User { verifier, roles });
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_what_postgres_stores() {
        let key = format!("{}=", "A".repeat(43));
        let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert!(is_verifier(&good));
        for bad in [
            "",
            "secret",
            "md5d41d8cd98f00b204e9800998ecf8427e",
            "SCRAM-SHA-256$4096:c2FsdA==",
            "SCRAM-SHA-256$4096:c2FsdA==$short:short",
            &good.replace("4096", "0"),
            &good.replace("4096", "many"),
            &good.replace("c2FsdA==", "c2FsdA="),
            &good.replace("c2FsdA==", "c2 sdA=="),
            &good.replace("256", "512"),
            &format!("{good}$x"),
        ] {
            assert!(!is_verifier(bad), "{bad}");
        }
    }

    #[test]
    fn a_verifier_is_never_shown() {
        let verifier = Verifier("SCRAM-SHA-256$4096:c2FsdA==$a:b".to_owned());
        assert!(!format!("{verifier:?}{}", verifier.show()).contains("c2FsdA"));
    }
}
