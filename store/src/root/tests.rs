use std::fs::{self, File};
use std::time::Duration;

use proptest::prelude::*;

use super::lock::is_at;
use super::*;
use crate::codec::tests::example;

fn root() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path().join("root"));
    (directory, layout)
}

fn made() -> (tempfile::TempDir, Layout) {
    let (directory, layout) = root();
    fs::create_dir(layout.root()).unwrap();
    (directory, layout)
}

#[test]
fn missing_and_empty_directory_become_a_root_whose_identity_stays() {
    let (_directory, layout) = root();
    assert_eq!(inspect(&layout).unwrap(), RootKind::New);
    fs::create_dir(layout.root()).unwrap();
    // A file system of its own.
    fs::create_dir(layout.root().join("lost+found")).unwrap();
    assert_eq!(inspect(&layout).unwrap(), RootKind::New);
    let id = identify(&layout).unwrap();
    assert_eq!(identify(&layout).unwrap(), id);
    assert_eq!(inspect(&layout).unwrap(), RootKind::Marked(id));
}

#[test]
fn moved_root_and_one_behind_a_link_have_the_same_identity() {
    let (directory, layout) = made();
    let id = identify(&layout).unwrap();
    let moved = directory.path().join("moved");
    fs::rename(layout.root(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, layout.root()).unwrap();
    assert_eq!(identify(&layout).unwrap(), id);
    assert_eq!(identify(&Layout::new(moved)).unwrap(), id);
}

#[test]
fn copy_of_a_root_is_refused_until_it_has_an_identity_of_its_own() {
    let (directory, layout) = made();
    let id = identify(&layout).unwrap();
    let instance = layout.instance(example().uid);
    fs::create_dir(&instance).unwrap();
    manifest::write(&instance, &example()).unwrap();
    let copy = Layout::new(directory.path().join("copy"));
    let copied = std::process::Command::new("cp")
        .arg("--archive")
        .args([layout.root(), copy.root()])
        .status();
    assert!(copied.unwrap().success());
    let error = identify(&copy).unwrap_err();
    assert!(matches!(error, RootError::Copied { .. }), "{error}");
    fs::remove_file(copy.marker()).unwrap();
    assert_ne!(identify(&copy).unwrap(), id);
    assert_eq!(identify(&layout).unwrap(), id);
    // A disk that is not mounted.
    fs::rename(layout.instances(), directory.path().join("elsewhere")).unwrap();
    assert!(matches!(inspect(&layout), Err(RootError::Copied { .. })));
    // Behind a link, it is the same.
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), layout.instances()).unwrap();
    assert_eq!(identify(&layout).unwrap(), id);
}

#[test]
fn root_of_an_earlier_version_is_recognized_by_records_and_manifests() {
    let database = |layout: &Layout| {
        fs::create_dir_all(layout.db()).unwrap();
        File::create(layout.db().join("conf")).unwrap();
        File::create(layout.db().join("db")).unwrap();
    };
    let instance = |layout: &Layout| {
        let directory = layout.instance(example().uid);
        fs::create_dir_all(&directory).unwrap();
        manifest::write(&directory, &example()).unwrap();
    };
    for fill in [&database as &dyn Fn(&Layout), &instance] {
        let (_directory, layout) = made();
        fs::create_dir(layout.trash()).unwrap();
        fill(&layout);
        assert_eq!(inspect(&layout).unwrap(), RootKind::Unmarked);
        identify(&layout).unwrap();
    }
}

#[test]
fn directory_of_somebody_else_is_refused_with_its_contents() {
    for names in [&["trash"][..], &["run", "snapshots"], &["state"]] {
        let (_directory, layout) = made();
        for name in names {
            fs::create_dir(layout.root().join(name)).unwrap();
            File::create(layout.root().join(name).join("diary")).unwrap();
        }
        let error = identify(&layout).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, RootError::Foreign { .. }), "{message}");
        assert!(
            message.ends_with(&format!("it contains {}", names.join(", "))),
            "{message}"
        );
        assert!(!layout.marker().exists());
    }
}

#[test]
fn users_may_be_added_before_the_first_start() {
    let (_directory, layout) = made();
    fs::create_dir(layout.state()).unwrap();
    File::create(layout.state().join("users.toml")).unwrap();
    assert_eq!(inspect(&layout).unwrap(), RootKind::New);
}

#[test]
fn marker_that_is_newer_or_damaged_is_refused() {
    let (_directory, layout) = made();
    let id = identify(&layout).unwrap();
    let newer = format!("{{\"multidb_root\": 2, \"id\": \"{id}\", \"more\": 1}}");
    fs::write(layout.marker(), newer).unwrap();
    assert!(matches!(
        identify(&layout),
        Err(RootError::Newer { format: 2, .. })
    ));
    fs::write(layout.marker(), "").unwrap();
    assert!(matches!(identify(&layout), Err(RootError::Marker { .. })));
    fs::remove_file(layout.marker()).unwrap();
    fs::create_dir(layout.marker()).unwrap();
    assert!(matches!(identify(&layout), Err(RootError::Io { .. })));
}

#[test]
fn lock_is_waited_for_and_refused_while_another_has_it() {
    let (_directory, layout) = made();
    let held = RootLock::acquire(&layout, Duration::ZERO).unwrap();
    let refused = RootLock::acquire(&layout, Duration::from_millis(60)).unwrap_err();
    assert!(matches!(refused, RootError::Locked { .. }), "{refused}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| RootLock::acquire(&layout, Duration::from_secs(60)));
        drop(held);
        waiting.join().unwrap().unwrap();
    });
    // Its file was deleted under its holder, so another process would get another one.
    let held = RootLock::acquire(&layout, Duration::ZERO).unwrap();
    fs::remove_file(layout.lock()).unwrap();
    assert!(!is_at(&held.file, &layout.lock()));
}

proptest! {
    #[test]
    fn identity_is_written_as_a_uuid_and_read_back(bits in any::<u128>()) {
        let id = RootId::from_bits(bits);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 36);
        prop_assert_eq!(text.parse::<RootId>(), Ok(id));
        prop_assert!(text.replacen('-', "", 1).parse::<RootId>().is_err());
    }
}
