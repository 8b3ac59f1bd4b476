use std::collections::BTreeSet;

use super::*;
use crate::config::ROOT_ADMIN_SOCKET;
use crate::config::section::Report;
use crate::config::{Config, source};

/// Keys that stand beside no other of the table's.
const ALTERNATIVES: &str = r#"
[project.a]
git = "/srv/a.git"
listing.dir = "db/migrate"
listing.pattern = '(?<migration>\d+)_.*\.rb'
migrations.query = "select version from schema"
migrations.database = "mathspace_default"
database = "a"
[project.a.refresh]
source.command = ["/usr/local/bin/get-dump"]
every = "24h"
[[project.a.prepare]]
command = ["/usr/local/bin/prune", "--keep-days", "90"]
[project.b]
git = "/srv/b.git"
migrations = "rails"
database = "b"
[project.b.refresh]
source = "postgres://h/d"
method = "logical"
exclude_table = ["audit.*"]
exclude_table_data = ["audit.*"]
[[notify]]
on = ["disk_high"]
command = ["/usr/local/bin/page", "--quiet"]
[[notify]]
on = ["disk_high"]
webhook = "https://chat.internal/hook"
secret = "0123456789abcdef"
"#;

/// The file with the lines of some sections in effect.
fn uncommented(is_wanted: impl Fn(&str) -> bool) -> String {
    let mut section = String::new();
    let file = commented_file().unwrap();
    let lines = file.lines().map(|line| {
        let Some(setting) = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')) else {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            return line.to_owned();
        };
        if setting.starts_with('[') {
            section = setting.to_owned();
        }
        let is_in_effect = is_wanted(&section) && !setting.is_empty();
        if is_in_effect { setting } else { line }.to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The keys that the parser asked for or took, with the table's names for those of the user's choice.
fn accepted(text: &str) -> BTreeSet<String> {
    let mut report = Report::default();
    let (_, read) =
        source::parse(None, text, Config::read).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    report.accepted.extend(read.accepted);
    let taken = read.settings.into_iter().map(|setting| setting.key);
    report.accepted.extend(taken);
    report.accepted.iter().map(|key| general(key)).collect()
}

fn general(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    if parts.get(3) == Some(&"tokens") {
        parts.truncate(4);
    }
    let named = match parts.as_slice() {
        ["project", _, "refresh", "rename_database", _] => &[1, 4][..],
        ["project", _, ..] => &[1],
        ["auth", "users", _, ..] | ["http", "hooks", _, ..] | ["postgres", "settings", _] => &[2],
        _ => &[],
    };
    for part in named {
        parts[*part] = NAME;
    }
    let key = parts.join(".").replace("prepare[1]", "prepare");
    key.replace("notify[1]", "notify")
        .replace("notify[2]", "notify")
}

#[test]
fn each_key_that_the_parser_accepts_is_in_the_table_and_no_other() {
    let mut accepted_keys = accepted(&uncommented(|_| true));
    accepted_keys.extend(accepted(ALTERNATIVES));
    let keys: BTreeSet<String> = sections()
        .flat_map(|section| section.rows.iter().map(|row| section.full_key(row)))
        .collect();
    let missing = accepted_keys.iter().filter(|key| {
        let below = format!("{key}.");
        !keys.contains(*key) && !keys.iter().any(|known| known.starts_with(&below))
    });
    assert_eq!(
        missing.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "the table lacks them"
    );
    let unknown: Vec<_> = keys.difference(&accepted_keys).collect();
    assert_eq!(
        unknown,
        Vec::<&String>::new(),
        "the parser does not know them"
    );
}

#[test]
fn each_default_is_the_parsers() {
    let defaults = Defaults::read().unwrap();
    for section in sections() {
        for row in section.rows {
            let key = section.full_key(row);
            let is_default = row.absent == Absent::Default;
            assert!(
                !is_default || !defaults.toml(section, row).is_empty(),
                "{key} has none"
            );
            // Defaults that depend on the machine or on other settings are described in words.
            let in_words = ["admin_socket", "runtime.kind", "auth.method"];
            let is_known = defaults.0.contains_key(&key) && !in_words.contains(&key.as_str());
            assert!(is_default || !is_known, "{key} has one");
        }
    }
    let mut top = daemon_rows::SECTIONS[0].rows.iter();
    let admin_socket = top.find(|row| row.key == "admin_socket");
    let example = admin_socket.unwrap().example;
    assert_eq!(example, format!("\"{ROOT_ADMIN_SOCKET}\""));
}

#[test]
fn the_packages_file_means_the_defaults_and_parses_section_by_section() {
    let parse = |text: &str| {
        Loaded::parse(None, text)
            .unwrap_or_else(|faults| panic!("{faults}\n{text}"))
            .config
    };
    assert_eq!(parse(&commented_file().unwrap()), Config::default());
    for section in sections() {
        let header = section.example_header().unwrap_or_default();
        // The sections of a project need the project.
        let text = uncommented(|name| {
            let is_hook = header.contains("http.hooks");
            name == header
                || (is_hook && name == "[http]")
                || ((is_hook || header.contains("project")) && name == "[project.mathspace]")
        });
        let config = parse(&text);
        if !header.is_empty() && section.rows.iter().all(|row| row.absent == Absent::Default) {
            assert_eq!(config, Config::default(), "{header}");
        }
    }
    parse(&uncommented(|_| true));
}

#[test]
fn the_alternatives_are_those_of_the_table() {
    let lines: Vec<&str> = ALTERNATIVES.lines().collect();
    let defaults = Defaults::read().unwrap();
    for section in sections() {
        for row in section.rows.iter().filter(|row| row.is_alternative) {
            let line = section.example_line(row, &defaults);
            assert!(lines.contains(&line.as_str()), "{line}");
        }
    }
}
