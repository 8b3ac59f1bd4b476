//! Why a revision does not define a snapshot's migrations: a guess for the error's hint, from the names
//! alone. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

/// The most likely cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// The listing defines nothing.
    EmptyListing,
    /// The listing has nothing of the snapshot: it is another project's, or has another form.
    NothingInCommon,
    /// The listing knows nothing of these apps: they were removed, or are packages of others.
    UnknownApps {
        /// The apps, ordered.
        apps: Vec<String>,
    },
    /// The listing has a squashed migration of the app that may replace the missing ones.
    Squashed {
        /// The squashed migration, as the listing has it.
        squashed: String,
    },
    /// All of the missing ones follow the listing's last migration of their app.
    Newer,
    /// None of these.
    Other,
}

impl Cause {
    /// The cause by which `missing`, of all `applied`, are not among `defined`.
    pub(super) fn of<'a>(
        applied: impl IntoIterator<Item = &'a String>,
        missing: &[&str],
        defined: &HashSet<String>,
    ) -> Self {
        if defined.is_empty() {
            return Self::EmptyListing;
        }
        if !applied.into_iter().any(|name| defined.contains(name)) {
            return Self::NothingInCommon;
        }
        let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (app, name) in defined.iter().map(|name| app_and_name(name)) {
            known.entry(app).or_default().insert(name);
        }
        let missing: Vec<_> = missing.iter().map(|name| app_and_name(name)).collect();
        let unknown = missing.iter().filter(|(app, _)| !known.contains_key(app));
        let unknown: BTreeSet<&str> = unknown.map(|(app, _)| *app).collect();
        if !unknown.is_empty() {
            let apps = unknown.into_iter().map(str::to_owned).collect();
            return Self::UnknownApps { apps };
        }
        let names_of = |app: &str| known.get(app).into_iter().flatten().copied();
        let squashed = missing.iter().find_map(|(app, missing)| {
            // Django names it by the first and the last that it replaces, such as 0001_squashed_0004_more.
            let replaces = |name: &&str| {
                let Some((first, last)) = name.split_once("_squashed_") else {
                    return false;
                };
                number(first) <= number(missing) && number(missing) <= number(last)
            };
            names_of(app).find(replaces).map(|name| (*app, name))
        });
        if let Some((app, name)) = squashed {
            let squashed = format!("{app}.{name}");
            return Self::Squashed { squashed };
        }
        let is_newer = |(app, missing): &(&str, &str)| names_of(app).all(|name| name < *missing);
        if missing.iter().all(is_newer) {
            Self::Newer
        } else {
            Self::Other
        }
    }
}

/// The app and the name of a migration. Most tools have no apps.
fn app_and_name(migration: &str) -> (&str, &str) {
    migration.split_once('.').unwrap_or(("", migration))
}

/// The number that the name begins with.
fn number(name: &str) -> Option<u64> {
    let end = name.find(|c: char| !c.is_ascii_digit());
    name[..end.unwrap_or(name.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(applied: &[&str], defined: &[&str]) -> Cause {
        let applied: Vec<String> = applied.iter().map(|name| (*name).to_owned()).collect();
        let defined: HashSet<String> = defined.iter().map(|name| (*name).to_owned()).collect();
        let missing = applied.iter().filter(|name| !defined.contains(*name));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        Cause::of(&applied, &missing, &defined)
    }

    #[test]
    fn each_cause_is_told_from_the_others() {
        let unknown = |apps: &[&str]| Cause::UnknownApps {
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
        };
        let squashed = Cause::Squashed {
            squashed: "a.0001_squashed_0003_c".to_owned(),
        };
        let cases: [(&[&str], &[&str], Cause); 8] = [
            (&["a.0001_a"], &[], Cause::EmptyListing),
            (&["a.0001_a"], &["0001_a"], Cause::NothingInCommon),
            (&["2026"], &["2025"], Cause::NothingInCommon),
            (
                &["a.0001_a", "auth.0001_b", "admin.0001_b", "a.0002_c"],
                &["a.0001_a"],
                unknown(&["admin", "auth"]),
            ),
            (
                &["b.0001_a", "a.0001_a", "a.0002_b", "a.0003_c"],
                &["b.0001_a", "a.0001_squashed_0003_c"],
                squashed,
            ),
            (
                &["a.0001_a", "a.0004_d"],
                &["a.0001_a", "a.0001_squashed_0003_c"],
                Cause::Newer,
            ),
            (
                &["20260101", "20260301"],
                &["20260101", "20260201"],
                Cause::Newer,
            ),
            (
                &["a.0001_a", "a.0002_b"],
                &["a.0001_a", "a.0003_c"],
                Cause::Other,
            ),
        ];
        for (applied, defined, expected) in cases {
            assert_eq!(cause(applied, defined), expected, "{applied:?} {defined:?}");
        }
    }
}
