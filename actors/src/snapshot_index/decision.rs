//! The compatibility of snapshots with a listing of migrations: pure.

use std::collections::HashSet;
use std::sync::Arc;

use globset::{GlobSet, GlobSetBuilder};
use multidb_store::{SnapshotId, SnapshotRecord};
use serde::Serialize;

use super::cause::Cause;

/// The most missing migrations kept of each snapshot, for messages.
const MISSING_SHOWN: usize = 5;

/// Applied migrations that are not compared, as globs.
#[derive(Debug, Clone, Default)]
pub struct Ignored(GlobSet);

impl Ignored {
    /// The migrations that match one of the globs.
    ///
    /// # Errors
    ///
    /// One of the globs is malformed.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(globset::Glob::new(glob)?);
        }
        Ok(Self(set.build()?))
    }
}

/// The compatibility of each snapshot of a project with a listing.
#[derive(Debug, Clone)]
pub struct Decision {
    /// A verdict for each snapshot, newest first.
    pub verdicts: Vec<Verdict>,
    /// The number of migrations that the listing defines.
    pub defined: usize,
}

/// Whether one snapshot is compatible.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The snapshot.
    pub snapshot: Arc<SnapshotRecord>,
    /// The first migrations applied in it that the listing lacks.
    pub missing: Vec<String>,
    /// The number of migrations that the listing lacks; 0 if the snapshot is compatible.
    pub missing_total: usize,
    /// The most likely cause, if the snapshot is not compatible.
    pub cause: Option<Cause>,
    /// Set for a derived snapshot: the fresh one with the same migrations, which is preferred to it.
    pub passed_over_for: Option<SnapshotId>,
}

/// The snapshot that came nearest to being compatible with a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearestMiss {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first migrations applied in it that the listing lacks.
    pub missing: Vec<String>,
    /// The number of all migrations that the listing lacks.
    pub missing_total: usize,
    /// The most likely cause.
    #[serde(flatten)]
    pub cause: Cause,
}

impl Decision {
    /// Compares each snapshot with the defined migrations. The newest snapshot comes first.
    pub fn new(
        newest_first: &[Arc<SnapshotRecord>],
        defined: &HashSet<String>,
        ignored: &Ignored,
    ) -> Self {
        let fresh: Vec<_> = newest_first
            .iter()
            .filter(|one| !one.is_derived())
            .collect();
        let verdict = |snapshot: &Arc<SnapshotRecord>| {
            let applied = &snapshot.migrations;
            let missing: Vec<&str> = applied
                .iter()
                .filter(|migration| !defined.contains(*migration))
                .filter(|migration| !ignored.0.is_match(migration.as_str()))
                .map(String::as_str)
                .collect();
            let shown = missing.iter().take(MISSING_SHOWN);
            let mut alike = fresh.iter().filter(|one| one.migrations == *applied);
            let preferred = alike.next().filter(|_| snapshot.is_derived());
            Verdict {
                snapshot: snapshot.clone(),
                passed_over_for: preferred.map(|one| one.id.clone()),
                missing: shown.map(|migration| (*migration).to_owned()).collect(),
                missing_total: missing.len(),
                cause: (!missing.is_empty()).then(|| Cause::of(applied, &missing, defined)),
            }
        };
        Self {
            verdicts: newest_first.iter().map(verdict).collect(),
            defined: defined.len(),
        }
    }

    /// The verdicts about the snapshots that a revision may get, newest first.
    pub fn candidates(&self) -> impl Iterator<Item = &Verdict> {
        let verdicts = self.verdicts.iter();
        verdicts.filter(|verdict| verdict.passed_over_for.is_none())
    }

    /// The newest compatible snapshot.
    pub fn chosen(&self) -> Option<Arc<SnapshotRecord>> {
        self.candidates()
            .find(|verdict| verdict.missing_total == 0)
            .map(|verdict| verdict.snapshot.clone())
    }

    /// The snapshot with the fewest undefined migrations, the newest of equals.
    pub fn nearest_miss(&self) -> Option<NearestMiss> {
        self.candidates()
            .min_by_key(|verdict| verdict.missing_total)?
            .miss()
    }
}

impl Verdict {
    /// The migrations that the listing lacks, if the snapshot is not compatible.
    pub fn miss(&self) -> Option<NearestMiss> {
        Some(NearestMiss {
            snapshot: self.snapshot.id.clone(),
            missing: self.missing.clone(),
            missing_total: self.missing_total,
            cause: self.cause.clone()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn snapshot(id: &str, taken: i64, migrations: &[&str]) -> Arc<SnapshotRecord> {
        Arc::new(testing::snapshot(id, taken, migrations))
    }

    fn defined(migrations: &[&str]) -> HashSet<String> {
        migrations.iter().map(|m| (*m).to_owned()).collect()
    }

    #[test]
    fn newest_compatible_snapshot_is_chosen() {
        let newest_first = [
            snapshot("c", 3, &["a.1", "a.2", "a.3"]),
            snapshot("b", 2, &["a.1", "a.2"]),
            snapshot("a", 1, &["a.1"]),
        ];
        let known = defined(&["a.1", "a.2", "b.1"]);
        let decision = Decision::new(&newest_first, &known, &Ignored::default());
        assert_eq!(decision.chosen().unwrap().id.as_str(), "b");
    }

    #[test]
    fn nearest_miss_lacks_the_fewest_definitions_and_is_the_newest_of_equals() {
        let newest_first = [
            snapshot("c", 3, &["a.1", "a.2", "a.3"]),
            snapshot("b", 2, &["a.1", "a.9"]),
            snapshot("a", 1, &["a.1", "a.8"]),
        ];
        let decision = Decision::new(&newest_first, &defined(&["a.1"]), &Ignored::default());
        assert!(decision.chosen().is_none());
        let miss = decision.nearest_miss().unwrap();
        assert_eq!(miss.snapshot.as_str(), "b");
        assert_eq!(miss.missing, ["a.9"]);
        assert_eq!(miss.missing_total, 1);
    }

    #[test]
    fn ignored_migrations_are_not_compared() {
        let newest_first = [snapshot("a", 1, &["a.1", "auth.1", "authors.1"])];
        let ignored = Ignored::new(&["auth.*".to_owned()]).unwrap();
        let decision = Decision::new(&newest_first, &defined(&["a.1"]), &ignored);
        assert_eq!(decision.verdicts[0].missing, ["authors.1"]);
        let decision = Decision::new(&newest_first, &defined(&["a.1", "authors.1"]), &ignored);
        assert!(decision.chosen().is_some());
        assert!(Ignored::new(&["[".to_owned()]).is_err());
    }

    #[test]
    fn no_snapshots_give_neither_choice_nor_miss() {
        let decision = Decision::new(&[], &defined(&["a.1"]), &Ignored::default());
        assert!(decision.chosen().is_none());
        assert!(decision.nearest_miss().is_none());
    }

    proptest! {
        #[test]
        fn chosen_snapshot_is_the_newest_with_only_defined_migrations(
            sets in prop::collection::vec(prop::collection::btree_set(0u8..12, 0..8), 0..6),
            known in prop::collection::hash_set(0u8..12, 0..12),
        ) {
            let text = |m: &u8| format!("app.{m:04}");
            let newest_first: Vec<_> = sets.iter().enumerate().map(|(i, set)| {
                let migrations: Vec<_> = set.iter().map(text).collect();
                let refs: Vec<_> = migrations.iter().map(String::as_str).collect();
                snapshot(&format!("s{i}"), -(i as i64), &refs)
            }).collect();
            let defined: HashSet<String> = known.iter().map(text).collect();
            let decision = Decision::new(&newest_first, &defined, &Ignored::default());
            let expected = sets.iter().position(|set| set.iter().all(|m| known.contains(m)));
            let chosen = decision.chosen().map(|s| s.id.to_string());
            prop_assert_eq!(chosen, expected.map(|i| format!("s{i}")));
        }
    }
}
