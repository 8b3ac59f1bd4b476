//! `rename_database`: the names that databases of a project's imports get.

use std::collections::BTreeMap;

use super::section::{Entry, Origin, Report, Section};
use super::value::{Value, string};

/// The databases that multidb itself, Postgres or its tools enter by name.
const FIXED: [&str; 3] = ["postgres", "template0", "template1"];
/// Postgres cuts longer ones off (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;

/// The new names by the old ones. A name is only the one or the other, so their order is of no importance.
pub(super) fn read(section: &mut Section, report: &mut Report) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let Some(entries) = section.existing_section("rename_database", report) else {
        return names;
    };
    let entries: Vec<Entry> = entries.into_entries();
    let old_names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    for Entry { key, name, value } in entries {
        let read = String::read(&value).and_then(|new| {
            check(&name)?;
            check(&new)?;
            if new == name {
                return Err(format!("gives \"{name}\" its own name"));
            }
            if old_names.contains(&new) {
                return Err(format!("is \"{new}\", which is itself renamed"));
            }
            match names.iter().find(|(_, taken)| **taken == new) {
                Some((other, _)) => Err(format!(
                    "gives \"{new}\" to a second database, after \"{other}\""
                )),
                None => Ok(new),
            }
        });
        match read {
            Ok(new) => {
                report.setting(&key, string(&new), Origin::File);
                names.insert(name, new);
            }
            Err(message) => report.fault(key, message),
        }
    }
    names
}

fn check(name: &str) -> Result<(), String> {
    if FIXED.contains(&name) {
        return Err(format!("is about \"{name}\", which keeps its name"));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(format!(
            "has the name \"{}\", but a name has 1 to {NAME_BYTES_MAX} bytes",
            name.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_given_are_refused_by_key() {
        let long = format!("prod = '{}'", "x".repeat(64));
        for (text, expected) in [
            ("prod = 'app'\n\"Prod 2\" = 'app2'", ""),
            ("prod = 1", "n.rename_database.prod: is an integer"),
            ("prod = ''", "n.rename_database.prod: is empty"),
            (long.as_str(), "but a name has 1 to 63 bytes"),
            ("prod = 'prod'", "prod: gives \"prod\" its own name"),
            (
                "prod = 'postgres'",
                "prod: is about \"postgres\", which keeps",
            ),
            (
                "template1 = 'x'",
                "template1: is about \"template1\", which keeps",
            ),
            (
                "a = 'app'\nb = 'app'",
                "b: gives \"app\" to a second database, after \"a\"",
            ),
            ("a = 'b'\nb = 'c'", "a: is \"b\", which is itself renamed"),
        ] {
            let mut report = Report::default();
            let table = format!("[rename_database]\n{text}").parse().unwrap();
            let mut section = Section::at("n".to_owned(), table);
            let names = read(&mut section, &mut report);
            section.close(&mut report);
            let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
            if expected.is_empty() {
                assert_eq!(faults, Vec::<String>::new());
                assert_eq!(names["Prod 2"], "app2");
                continue;
            }
            let [fault] = faults.as_slice() else {
                panic!("{text}: {faults:?}");
            };
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }
}
