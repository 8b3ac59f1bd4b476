//! Which clones are kept ready (`prewarm` in `[project.X]`), pure: so many of the newest snapshot of each project, as long as
//! the disk has room.

use std::sync::Arc;

use multidb_store::SnapshotRecord;

use crate::clone::PrewarmedClone;

/// The clones that a project wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its newest snapshot.
    pub snapshot: Arc<SnapshotRecord>,
    /// The number of clones.
    pub count: usize,
}

/// The next steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The clones that no project wants any more.
    pub discarded: Vec<PrewarmedClone>,
    /// The snapshot of which one is to be made next.
    pub made: Option<Arc<SnapshotRecord>>,
}

/// The next steps for the clones that are ready.
pub fn plan(wanted: &[Wanted], ready: &[PrewarmedClone], has_room: bool) -> Plan {
    let wanted = if has_room { wanted } else { &[] };
    let mut missing: Vec<_> = wanted.iter().map(|one| one.count).collect();
    let mut discarded = Vec::new();
    for clone in ready {
        let of = wanted.iter().position(|one| clone.is_of(&one.snapshot));
        match of.and_then(|position| missing.get_mut(position)) {
            Some(missing) if *missing > 0 => *missing -= 1,
            Some(_) | None => discarded.push(clone.clone()),
        }
    }
    let next = wanted.iter().zip(missing).find(|(_, missing)| *missing > 0);
    Plan {
        discarded,
        made: next.map(|(one, _)| one.snapshot.clone()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use multidb_actors::testing;
    use proptest::prelude::*;

    use super::*;

    /// The snapshot of this project that was imported at this time, under one id.
    fn snapshot(project: u8, imported_at: i64) -> Arc<SnapshotRecord> {
        Arc::new(SnapshotRecord {
            project: format!("p{project}").parse().unwrap(),
            imported_at: Timestamp::from_second(imported_at).unwrap(),
            ..testing::snapshot(&format!("s{project}"), 0, &[])
        })
    }

    fn clone_of(snapshot: &SnapshotRecord, number: usize) -> PrewarmedClone {
        PrewarmedClone {
            project: snapshot.project.clone(),
            snapshot: snapshot.id.clone(),
            imported_at: snapshot.imported_at,
            path: format!("/{number}").into(),
            exclusive_bytes: 0,
        }
    }

    proptest! {
        /// From any ready clones, the plans lead to the wanted ones, and never delete a clone that they make.
        #[test]
        fn what_is_ready_comes_to_be_what_is_wanted(
            counts in prop::collection::vec(0_usize..4, 0..4),
            ready in prop::collection::vec((0_u8..5, 0_i64..2), 0..12),
            has_room: bool,
        ) {
            let wanted: Vec<_> = counts
                .iter()
                .enumerate()
                .map(|(project, count)| Wanted { snapshot: snapshot(project as u8, 1), count: *count })
                .collect();
            let ready = ready.iter().enumerate();
            let mut ready: Vec<_> = ready
                .map(|(number, (project, at))| clone_of(&snapshot(*project, *at), number))
                .collect();
            for round in 0.. {
                prop_assert!(round < 20, "it does not end");
                let Plan { discarded, made } = plan(&wanted, &ready, has_room);
                prop_assert!(round == 0 || discarded.is_empty());
                ready.retain(|clone| !discarded.contains(clone));
                let Some(made) = made else { break };
                ready.push(clone_of(&made, 100 + round));
            }
            for one in &wanted {
                let count = ready.iter().filter(|clone| clone.is_of(&one.snapshot)).count();
                prop_assert_eq!(count, if has_room { one.count } else { 0 });
            }
            let all: usize = if has_room { counts.iter().sum() } else { 0 };
            prop_assert_eq!(ready.len(), all);
        }
    }
}
