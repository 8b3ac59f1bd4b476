//! Fresh and derived snapshots side by side.

use multidb_store::FromInstance;

use super::*;
use crate::testing::{FakeSource, snapshot};

fn derived(id: &str, second: i64, migrations: &[&str]) -> SnapshotRecord {
    SnapshotRecord {
        from_instance: Some(FromInstance {
            instance: "pr-1".parse().unwrap(),
            snapshot: "a".parse().unwrap(),
            commit: None,
            derived: true,
        }),
        ..snapshot(id, second, migrations)
    }
}

fn index(snapshots: Vec<SnapshotRecord>) -> (SnapshotIndex, ProjectName) {
    let project = snapshots[0].project.clone();
    let source = Arc::new(FakeSource::default());
    (
        SnapshotIndex::new(snapshots, source, HashMap::new()),
        project,
    )
}

fn ids(snapshots: &[Arc<SnapshotRecord>]) -> Vec<&str> {
    snapshots.iter().map(|one| one.id.as_str()).collect()
}

#[test]
fn derived_snapshot_is_passed_over_where_a_fresh_one_has_its_migrations() {
    let (index, project) = index(vec![
        snapshot("a", 1, &["1"]),
        snapshot("b", 2, &["1", "2"]),
        derived("c", 9, &["1", "2"]),
        derived("d", 3, &["1", "2", "3"]),
    ]);
    let defined = ["1", "2", "3"].map(str::to_owned).into();
    let all = index.of_project(&project);
    let decision = Decision::new(&all, &defined, &Ignored::default());
    let candidates = decision.candidates().map(|one| one.snapshot.clone());
    assert_eq!(ids(&candidates.collect::<Vec<_>>()), ["d", "b", "a"]);
    let passed_over = decision.verdicts.iter().filter_map(|one| {
        let preferred = one.passed_over_for.as_ref()?;
        Some((one.snapshot.id.as_str(), preferred.as_str()))
    });
    assert_eq!(passed_over.collect::<Vec<_>>(), [("c", "b")]);
}

#[test]
fn latest_and_asof_name_fresh_data() {
    let snapshots = vec![snapshot("a", 1, &["1"]), derived("d", 3, &["1", "2"])];
    let (mixed, project) = index(snapshots);
    let latest = |index: &SnapshotIndex| index.by_selector(&project, &SnapshotSelector::Latest);
    let id = |choice: Result<Choice, ChooseError>| choice.unwrap().snapshot.id.to_string();
    assert_eq!(id(latest(&mixed)), "a");
    let then = Timestamp::from_second(5).unwrap();
    assert_eq!(id(mixed.by_time(&project, then)), "a");
    let (alone, _) = index(vec![derived("d", 3, &["1", "2"])]);
    assert_eq!(id(latest(&alone)), "d");
}
