//! Tests of clones that are kept ready.

use multidb_actors::ports::ClonedFrom;

use super::*;

fn source(cloner: &TreeCloner, bits: u64) -> ClonedFrom {
    let made = cloner.create(&instance(bits), &CloneSource::Snapshot);
    made.unwrap().source
}

#[test]
fn instance_takes_a_clone_that_is_ready_and_shares_nothing_with_others() {
    each_method(|root, cloner| {
        let snapshot = root.snapshot(cloner, 20);
        for _ in 0..2 {
            cloner.prewarm(&snapshot).unwrap();
        }
        assert_eq!(root.own_clones(), [], "they are no instances");
        let sources = [1, 2, 3].map(|bits| source(cloner, bits));
        let expected = [
            ClonedFrom::Prewarmed,
            ClonedFrom::Prewarmed,
            ClonedFrom::Snapshot,
        ];
        assert_eq!(sources, expected, "{}", cloner.method());
        assert_eq!(cloner.prewarmed(), []);
        let from = root.layout.snapshot_data(&snapshot.id);
        for bits in 1..=3 {
            let sizes = [&from, &root.data(bits)].map(|tree| cloner.tree_size(tree).unwrap());
            assert_eq!(sizes[0], sizes[1]);
            let file = root.data(bits).join("base/5/7");
            assert_eq!(fs::read(&file).unwrap(), vec![7; FILE_BYTES]);
            fs::write(&file, "changed").unwrap();
            let owner = fs::metadata(root.data(bits)).unwrap().uid();
            assert_eq!(owner, OWNER.0);
        }
        for bits in 1..=3 {
            cloner.delete(instance(bits).uid).unwrap();
        }
        root.assert_no_trace();
    });
}

#[test]
fn clone_of_a_snapshot_that_was_imported_again_is_not_taken() {
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    let mut snapshot = root.snapshot(&cloner, 10);
    cloner.prewarm(&snapshot).unwrap();
    snapshot.imported_at = jiff::Timestamp::from_second(1).unwrap();
    manifest::write(&root.layout.snapshot(&snapshot.id), &snapshot).unwrap();
    assert_eq!(source(&cloner, 1), ClonedFrom::Snapshot);
    assert_eq!(cloner.prewarmed().len(), 1);
    cloner.discard_prewarmed_of(&snapshot.id).unwrap();
    cloner.delete(instance(1).uid).unwrap();
    root.assert_no_trace();
}

#[test]
fn clones_of_an_earlier_daemon_and_failed_ones_are_removed() {
    each_method(|root, cloner| {
        let snapshot = root.snapshot(cloner, 10);
        cloner.prewarm(&snapshot).unwrap();
        let clone = cloner.prewarmed().remove(0);
        cloner.discard_prewarmed(&clone).unwrap();
        cloner.discard_prewarmed(&clone).unwrap();
        root.assert_no_trace();

        cloner.prewarm(&snapshot).unwrap();
        // A kill in the middle of another one.
        fs::create_dir(root.layout.instances().join(".prewarmed-1-1")).unwrap();
        let next = root.open(cloner.configured);
        assert_eq!(root.count(root.layout.instances()), 0);
        assert_eq!(source(&next, 1), ClonedFrom::Snapshot);
        next.delete(instance(1).uid).unwrap();
        next.sweep_trash().unwrap();
        root.assert_no_trace();

        fs::remove_file(root.layout.snapshot_data(&snapshot.id).join("base/5/7")).unwrap();
        next.prewarm(&snapshot).unwrap_err();
        assert_eq!(next.prewarmed(), []);
        root.assert_no_trace();
    });
}

#[test]
fn clone_that_somebody_deleted_is_made_anew() {
    let root = root(XFS);
    let cloner = root.open(Method::Auto);
    let snapshot = root.snapshot(&cloner, 10);
    cloner.prewarm(&snapshot).unwrap();
    fs::remove_dir_all(&cloner.prewarmed()[0].path).unwrap();
    assert_eq!(source(&cloner, 1), ClonedFrom::Snapshot);
    assert_eq!(cloner.tree_size(&root.data(1)).unwrap().files, 10);
}
