//! `[postgres]`: settings of every Postgres server.

use super::section::{Entry, Origin, Report, Section, kind};
use super::value::string;

/// Settings that multidb passes on each server's command line, or that can be of one server only. A configuration may not
/// set them.
pub const OWNED_SETTINGS: [&str; 9] = [
    "config_file",
    "data_directory",
    "dynamic_shared_memory_type",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
];

pub(super) fn read(mut section: Section, report: &mut Report) -> Vec<(String, String)> {
    let entries = section.section("settings", report).into_entries();
    section.close(report);
    let mut settings = Vec::new();
    for Entry { key, name, value } in entries {
        match postgres_setting(&name, &value) {
            Ok(text) => {
                report.setting(&key, string(&text), Origin::File);
                settings.push((name, text));
            }
            Err(message) => report.fault(key, message),
        }
    }
    settings
}

fn postgres_setting(name: &str, value: &toml::Value) -> Result<String, String> {
    if !is_setting_name(name) {
        return Err("is not the name of a Postgres setting".to_owned());
    }
    if OWNED_SETTINGS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("is set by multidb itself and cannot be changed".to_owned());
    }
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(true) => "on".to_owned(),
        toml::Value::Boolean(false) => "off".to_owned(),
        other => {
            return Err(format!(
                "is {}, but must be a string or a number",
                kind(other)
            ));
        }
    };
    if text.contains(['\0', '\n', '\r']) {
        return Err("contains a line break or a NUL character".to_owned());
    }
    Ok(text)
}

/// Whether this is the name of a Postgres setting: letters, digits, underscores and one dot.
fn is_setting_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match name.split_once('.') {
        Some((class, name)) => part(class) && part(name),
        None => part(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_settings_have_letters_digits_underscores_and_one_dot() {
        for name in [
            "fsync",
            "_x",
            "pg_stat_statements.max",
            "auto_explain.log_min_duration",
        ] {
            assert!(is_setting_name(name), "{name}");
        }
        for name in ["", "1x", "a b", "a.b.c", "a=b", "a\nfsync", ".x"] {
            assert!(!is_setting_name(name), "{name}");
        }
    }
}
