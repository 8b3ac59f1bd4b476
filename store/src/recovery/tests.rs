//! The rule by a table of cases, and by random histories.

use jiff::Timestamp;

use super::*;
use crate::codec::tests::example;
use crate::records::{ObservedTime, Pin};

mod histories;

const LAST_USE: LastUse = LastUse {
    at: Timestamp::UNIX_EPOCH,
    observed: ObservedTime::from_millis(1_000_000),
};

fn record(name: &str, uid: u64, epoch: u64, phase: Phase) -> InstanceRecord {
    InstanceRecord {
        name: name.parse().unwrap(),
        uid: InstanceUid::from_bits(uid),
        epoch,
        phase,
        marked: None,
        pin: Pin::None,
        ..example()
    }
}

fn ready(uid: u64, epoch: u64) -> InstanceRecord {
    record("x", uid, epoch, Phase::Ready)
}

fn clone_of(manifest: &InstanceRecord, has_data: bool) -> FoundClone {
    FoundClone {
        uid: manifest.uid,
        manifest: FoundManifest::Record(Box::new(manifest.clone())),
        has_data,
    }
}

fn found(records: &[InstanceRecord], clones: &[FoundClone]) -> Found {
    Found {
        records: records.to_vec(),
        clones: clones.to_vec(),
        trashed: Vec::new(),
        epoch: 0,
        last_use: LAST_USE,
    }
}

/// The plan in short: `serve 1 Database; delete 2`.
fn told(plan: &Plan) -> String {
    let number = |uid: InstanceUid| uid.to_string().trim_start_matches('0').to_owned();
    let mut parts = Vec::new();
    for instance in &plan.instances {
        let Recovered {
            record,
            origin,
            unusable,
            mends_manifest,
        } = instance;
        assert_eq!(
            record.phase,
            if unusable.is_some() {
                record.phase
            } else {
                Phase::Ready
            }
        );
        let mends = if *mends_manifest { " mend" } else { "" };
        let uid = number(record.uid);
        parts.push(match unusable {
            None => format!("serve {uid} {origin:?}{mends}"),
            Some(_) => format!("fail {uid}"),
        });
    }
    parts.extend(plan.removed.iter().map(|_| "remove record".to_owned()));
    for Leftover { uid, action, .. } in &plan.leftovers {
        let action = match action {
            LeftoverAction::Delete => "delete",
            LeftoverAction::Quarantine(_) => "quarantine",
        };
        parts.push(format!("{action} {}", number(*uid)));
    }
    let left = plan.left_alone.iter();
    parts.extend(left.map(|(uid, _)| format!("leave {}", number(*uid))));
    parts.join("; ")
}

/// A case, the record of `x` as phase, clone and epoch, its clones, and the plan.
const CASES: &str = "
nothing happened                               | ready 1 1    | full 1 1             | serve 1 Database
removed, created anew, records of before       | ready 1 1    | full 2 2             | serve 2 Manifest
likewise, while the first was deleted          | deleting 1 1 | full 2 2             | serve 2 Manifest
likewise, in a root of an earlier version      | deleting 1 1 | full 2 1             | serve 2 Manifest
likewise, while the first was cloned           | cloning 1 1  | full 2 2             | serve 2 Manifest
likewise, and the first is still there         | ready 1 1    | full 1 1, full 2 2   | serve 2 Manifest; delete 1
no records                                     |              | full 1 1             | serve 1 Manifest
no records, a replaced clone                   |              | full 1 1, full 2 2   | serve 2 Manifest; delete 1
no records, two clones of one epoch            |              | full 1 1, full 2 1   | serve 2 Manifest; quarantine 1
a deletion failed, or was interrupted          | deleting 1 1 | full 1 1             | serve 1 Kept
a deletion moved the data                      | deleting 1 1 |                      | remove record
a deletion left the directory                  | deleting 1 1 | partial 1 1          | remove record; delete 1
a deletion, and an older clone                 | deleting 2 2 | full 1 1             | remove record; quarantine 1
a creation was interrupted                     | cloning 1 1  | partial 1 1          | remove record; delete 1
a creation was complete but for its record     | cloning 1 1  | full 1 1             | serve 1 Finished
a reset was interrupted                        | ready 1 1    | full 1 1, partial 2 2| serve 1 Database; delete 2
a reset was complete but for its record        | ready 1 1    | full 1 1, full 2 2   | serve 2 Manifest; delete 1
a reset left the replaced clone                | ready 2 2    | full 1 1, full 2 2   | serve 2 Database; delete 1
a reset's clone was lost, the replaced one not | ready 2 2    | full 1 1             | serve 1 Manifest
the data is gone                               | ready 1 1    |                      | fail 1
the data is gone, the directory is there       | ready 1 1    | partial 1 1          | fail 1
the disk cannot read the data                  | ready 1 1    | unreadable 1 1       | fail 1
likewise, during a deletion                    | deleting 1 1 | unreadable 1 1       | fail 1
likewise, and a replaced clone is left         | ready 2 2    | full 1 1, unreadable 2 2 | fail 2; leave 1
likewise, without a record                     |              | unreadable 1 1       | leave 1
";

/// The items of a column: a word, a uid and an epoch each.
fn items(column: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    let items = column.split(',').filter(|item| !item.trim().is_empty());
    items.map(|item| {
        let words: Vec<&str> = item.split_whitespace().collect();
        let [word, uid, epoch] = words[..] else {
            panic!("{item}");
        };
        (word, uid.parse().unwrap(), epoch.parse().unwrap())
    })
}

#[test]
fn each_case_has_its_result() {
    for case in CASES.lines().filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = case.split('|').map(str::trim).collect();
        let records: Vec<_> = items(columns[1])
            .map(|(phase, uid, epoch)| match phase {
                "ready" => record("x", uid, epoch, Phase::Ready),
                "cloning" => record("x", uid, epoch, Phase::Cloning),
                _ => record("x", uid, epoch, Phase::Deleting),
            })
            .collect();
        let clones: Vec<_> = items(columns[2])
            .map(|(data, uid, epoch)| {
                let mut clone = clone_of(&ready(uid, epoch), data == "full");
                if data == "unreadable" {
                    clone.manifest = FoundManifest::Unreadable("an I/O error".to_owned());
                }
                clone
            })
            .collect();
        assert_eq!(told(&plan(found(&records, &clones))), columns[3], "{case}");
    }
}

/// A renamed instance: the records as name, uid and epoch, the clones likewise by their manifests, and the plan.
const RENAMES: &str = "
the manifest is written               | x 1 1        | y 1 2          | serve 1 Renamed; remove record
the new record is written             | x 1 1, y 1 2 | y 1 2          | serve 1 Database; remove record
the old record is removed             | y 1 2        | y 1 2          | serve 1 Database
the old name is given again           | x 2 3, y 1 2 | y 1 2, x 2 3   | serve 2 Database; serve 1 Database
likewise, and the records are older   | x 1 1        | y 1 2, x 2 3   | serve 2 Manifest; serve 1 Renamed
an older clone of the old name is left| x 2 2        | y 2 3, x 1 1   | serve 2 Renamed; remove record; quarantine 1
it was renamed back                   | x 1 1        | x 1 3          | serve 1 Database
renamed twice, the records are older  | x 1 1        | z 1 3          | serve 1 Renamed; remove record
";

#[test]
fn renamed_instance_has_one_name_whatever_was_written() {
    let parse = |column: &str| -> Vec<InstanceRecord> {
        let records = items(column);
        records
            .map(|(name, uid, epoch)| record(name, uid, epoch, Phase::Ready))
            .collect()
    };
    for case in RENAMES.lines().filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = case.split('|').map(str::trim).collect();
        let clones: Vec<_> = parse(columns[2])
            .iter()
            .map(|one| clone_of(one, true))
            .collect();
        let plan = plan(found(&parse(columns[1]), &clones));
        assert_eq!(told(&plan), columns[3], "{case}");
    }
}

#[test]
fn clones_of_a_renamed_instance_are_told_by_the_start() {
    let one = |name: &str, uid, epoch| record(name, uid, epoch, Phase::Ready);
    let child = InstanceRecord {
        parent: Some("x".parse().unwrap()),
        ..one("child", 9, 1)
    };
    let (old, new, other) = (one("x", 1, 1), one("y", 1, 2), one("x", 2, 3));
    // The records beside the child's, the manifests beside its own, and the parent that it has then.
    for (records, manifests, parent) in [
        (vec![&old], vec![&new], "y"),
        (vec![&old, &new], vec![&new], "y"),
        (vec![&new], vec![&new], "x"),
        // Another instance has the old name since.
        (vec![&new, &other], vec![&new, &other], "x"),
        (vec![&old, &new], vec![&new, &other], "x"),
    ] {
        let records: Vec<_> = records.into_iter().chain([&child]).cloned().collect();
        let manifests = manifests.into_iter().chain([&child]);
        let clones: Vec<_> = manifests.map(|one| clone_of(one, true)).collect();
        let plan = plan(found(&records, &clones));
        let planned = plan
            .instances
            .iter()
            .find(|one| one.record.uid == child.uid);
        let planned = planned.expect("it is an instance");
        let told = parent == "y";
        assert_eq!(
            planned.record.parent,
            Some(parent.parse().unwrap()),
            "{records:?}"
        );
        assert_eq!(planned.record.sequence, child.sequence + u64::from(told));
        assert_eq!(planned.mends_manifest, told);
        assert_eq!(planned.origin == RecordOrigin::ParentRenamed, told);
    }
}

#[test]
fn unreadable_manifest_beside_complete_data_is_kept_and_shown() {
    let with = |manifest: FoundManifest, has_data| FoundClone {
        uid: InstanceUid::from_bits(1),
        manifest,
        has_data,
    };
    let why = || "why".to_owned();
    for (manifest, has_data, unnamed, named) in [
        (
            FoundManifest::Damaged(why()),
            true,
            "quarantine 1",
            "serve 1 Database mend",
        ),
        (FoundManifest::Damaged(why()), false, "leave 1", "fail 1"),
        (
            FoundManifest::Unreadable(why()),
            true,
            "leave 1",
            "serve 1 Database",
        ),
        (
            FoundManifest::Missing,
            true,
            "leave 1",
            "serve 1 Database mend",
        ),
        (FoundManifest::Missing, false, "leave 1", "fail 1"),
        (FoundManifest::Foreign(why()), true, "leave 1", "fail 1"),
        (FoundManifest::Unfinished, false, "delete 1", "fail 1"),
    ] {
        let clone = [with(manifest, has_data)];
        assert_eq!(told(&plan(found(&[], &clone))), unnamed, "{clone:?}");
        assert_eq!(
            told(&plan(found(&[ready(1, 1)], &clone))),
            named,
            "{clone:?}"
        );
    }
}

#[test]
fn clone_in_the_trash_is_of_a_deletion_and_no_failure() {
    let mut found = found(&[ready(2, 2)], &[]);
    found.trashed = vec![ready(2, 2).uid];
    assert_eq!(told(&plan(found.clone())), "remove record");
    found.clones = vec![clone_of(&ready(1, 1), true)];
    assert_eq!(told(&plan(found)), "remove record; quarantine 1");
}

#[test]
fn two_records_of_one_clone_do_not_share_it() {
    let (x, y) = (
        record("x", 1, 1, Phase::Ready),
        record("y", 1, 1, Phase::Ready),
    );
    let clones = [clone_of(&y, true)];
    assert_eq!(
        told(&plan(found(&[x.clone(), y], &clones))),
        "fail 1; serve 1 Database"
    );
    // A record is believed where no other claims the clone.
    assert_eq!(told(&plan(found(&[x], &clones))), "serve 1 Database");
}

#[test]
fn newer_copy_wins_and_only_a_newer_manifest_takes_a_pin_away() {
    let until = |second| Pin::Until(Timestamp::from_second(second).unwrap());
    let copy = |sequence, pin| InstanceRecord {
        sequence,
        pin,
        ..ready(1, 1)
    };
    for (in_database, in_manifest, expected, origin) in [
        (
            copy(1, Pin::None),
            copy(2, Pin::Forever),
            Pin::Forever,
            RecordOrigin::Updated,
        ),
        (
            copy(2, Pin::Forever),
            copy(3, Pin::None),
            Pin::None,
            RecordOrigin::Updated,
        ),
        (
            copy(2, Pin::None),
            copy(1, Pin::Forever),
            Pin::Forever,
            RecordOrigin::Updated,
        ),
        (
            copy(1, Pin::None),
            copy(1, Pin::Forever),
            Pin::Forever,
            RecordOrigin::Updated,
        ),
        (
            copy(1, Pin::None),
            copy(1, until(9)),
            until(9),
            RecordOrigin::Updated,
        ),
        (
            copy(1, until(9)),
            copy(1, until(5)),
            until(9),
            RecordOrigin::Database,
        ),
        (
            copy(1, until(9)),
            copy(1, Pin::Forever),
            Pin::Forever,
            RecordOrigin::Updated,
        ),
    ] {
        let plan = plan(found(
            std::slice::from_ref(&in_database),
            &[clone_of(&in_manifest, true)],
        ));
        let [instance] = &plan.instances[..] else {
            panic!("{plan:?}");
        };
        assert_eq!((instance.record.pin, instance.origin), (expected, origin));
        let newest = in_database.sequence.max(in_manifest.sequence);
        assert_eq!(instance.record.sequence, newest);
        assert!(instance.record.last_used_at >= in_database.last_used_at);
    }
}

#[test]
fn last_use_never_goes_back_and_is_now_where_it_was_lost() {
    let mut older = ready(1, 1);
    older.last_used_observed = ObservedTime::from_millis(2_000_000);
    let newer = InstanceRecord {
        sequence: older.sequence + 1,
        last_used_observed: ObservedTime::from_millis(5),
        ..ready(1, 1)
    };
    let used = |records: &[InstanceRecord], manifest: &InstanceRecord| {
        let plan = plan(found(records, &[clone_of(manifest, true)]));
        plan.instances[0].record.last_used_observed
    };
    assert_eq!(used(&[older.clone()], &newer), older.last_used_observed);
    assert_eq!(used(&[], &newer), LAST_USE.observed);
    assert_eq!(
        used(std::slice::from_ref(&newer), &older),
        newer.last_used_observed
    );
}

#[test]
fn epoch_is_the_highest_of_all() {
    let mut all = found(&[ready(1, 3)], &[clone_of(&ready(2, 7), false)]);
    all.epoch = 5;
    assert_eq!(plan(all.clone()).epoch, 7);
    all.epoch = 9;
    assert_eq!(plan(all).epoch, 9);
}

#[test]
fn clones_that_no_ready_record_names_are_made_durable_first() {
    let is_synced = |record: Option<&InstanceRecord>, clone: FoundClone| {
        let records: Vec<_> = record.cloned().into_iter().collect();
        plan(found(&records, &[clone])).has_unsynced_clones()
    };
    let [cloning, deleting] =
        [Phase::Cloning, Phase::Deleting].map(|phase| record("x", 1, 1, phase));
    let ready = ready(1, 1);
    let damaged = FoundClone {
        manifest: FoundManifest::Damaged("no".to_owned()),
        ..clone_of(&ready, true)
    };
    for record in [&cloning, &deleting] {
        assert!(is_synced(Some(record), clone_of(record, true)));
    }
    assert!(is_synced(None, clone_of(&ready, true)));
    assert!(is_synced(None, damaged));
    // It was durable before its record was written, or is deleted.
    assert!(!is_synced(Some(&ready), clone_of(&ready, true)));
    assert!(!is_synced(Some(&cloning), clone_of(&cloning, false)));
}

#[test]
fn data_can_be_used_that_is_complete_and_bears_the_name() {
    let mine = ready(1, 1);
    let other = record("y", 1, 1, Phase::Ready);
    for (clone, expected) in [
        (None, Some("its directory is missing")),
        (Some(clone_of(&mine, false)), Some("its data is missing")),
        (Some(clone_of(&other, true)), Some(OF_ANOTHER)),
        (Some(clone_of(&mine, true)), None),
    ] {
        let why = why_unusable(&mine, clone.as_ref());
        assert_eq!(why.as_deref(), expected);
    }
}
