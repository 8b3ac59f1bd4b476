//! The root directory, its clones, and the snapshots in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use multidb_store::{Layout, SnapshotRecord};

use super::{Finding, Level};
use crate::catalog;
use crate::clone::{Method, probe, snapshot_extents};
use crate::config::Config;

/// What holds instances must be there, be able to clone, and have room.
pub(super) fn root(config: &Config) -> Vec<Finding> {
    let finding = |level, what: String| Finding::new(level, "root", what);
    let root = config.root.display();
    match fs::metadata(&config.root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return vec![finding(Level::Fail, format!("{root} is no directory"))],
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = finding(Level::Warn, format!("{root} does not exist yet")).hint(
                "\"multidb serve\" makes it; for clones that take no space, first mount XFS or \
                 Btrfs there.",
            );
            return vec![missing];
        }
        Err(error) => {
            let failed = finding(Level::Fail, format!("{root} cannot be read: {error}"));
            return vec![failed.hint(AS_DAEMON)];
        }
    }
    match tried(&config.root) {
        Ok(found) => vec![clones(config, &found), room(config, found.free_bytes)],
        Err(error) => {
            let failed = finding(Level::Fail, format!("{root} cannot be tried: {error}"));
            vec![failed.hint(AS_DAEMON)]
        }
    }
}

const AS_DAEMON: &str = "Run this command as root, or as the user that the daemon runs as.";

/// Tries the real directories, or before the first start such as will be there.
fn tried(root: &Path) -> std::io::Result<probe::Findings> {
    let layout = Layout::new(root);
    if layout.trash().is_dir() && layout.state().is_dir() {
        return probe::probe(&layout);
    }
    let scratch = Scratch(root.join(format!(".multidb-doctor-{}", std::process::id())));
    let layout = Layout::new(&scratch.0);
    for directory in [
        layout.snapshots(),
        layout.instances(),
        layout.state(),
        layout.trash(),
    ] {
        fs::create_dir_all(directory)?;
    }
    probe::probe(&layout)
}

/// A directory that goes away with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is empty, and is in nobody's way.
        let _left = fs::remove_dir_all(&self.0);
    }
}

fn clones(config: &Config, found: &probe::Findings) -> Finding {
    let finding = |level, what: String| Finding::new(level, "clones", what);
    let system = found.file_system;
    match found.resolve(config.clone_method) {
        Ok(Method::Copy) => finding(
            Level::Warn,
            format!("every instance is a full copy of its snapshot, as configured; the root is on {system}"),
        )
        .hint("Put the root on XFS or Btrfs and set clone.method = \"auto\"."),
        Ok(method) => finding(Level::Ok, format!("by {}, on {system}", method.name())),
        // It says what to do itself.
        Err(error) => finding(Level::Fail, error.to_string()),
    }
}

fn room(config: &Config, free_bytes: u64) -> Finding {
    let iec = |bytes| ByteSize::b(bytes).display().iec().to_string();
    let (free, reserve) = (iec(free_bytes), iec(config.disk_reserve_bytes));
    let what = format!("{free} are free, {reserve} are reserved");
    let level = match free_bytes.checked_sub(config.disk_reserve_bytes) {
        None => Level::Fail,
        Some(spare) if spare < config.disk_reserve_bytes => Level::Warn,
        Some(_) => return Finding::new(Level::Ok, "disk", what),
    };
    Finding::new(level, "disk", what).hint(
        "No instance is made that would touch the reserve: delete instances or snapshots, enlarge \
         the disk, or lower limits.disk_reserve.",
    )
}

/// The snapshots, and what is wrong with them.
pub(super) fn snapshots(config: &Config) -> (Vec<SnapshotRecord>, Vec<Finding>) {
    let finding = |level, what: String| Finding::new(level, "snapshots", what);
    let layout = Layout::new(&config.root);
    if !layout.snapshots().is_dir() {
        return (Vec::new(), Vec::new());
    }
    let found = match catalog::inspect(&layout) {
        Ok(found) => found,
        Err(error) => {
            let failed = finding(Level::Fail, error.to_string());
            return (Vec::new(), vec![failed]);
        }
    };
    let (mut good, mut findings) = (Vec::new(), Vec::new());
    for (directory, snapshot) in found {
        match snapshot {
            Ok(snapshot) => good.push(snapshot),
            Err(damage) => findings.push(
                finding(
                    Level::Warn,
                    format!("{} is left out: {damage}", directory.display()),
                )
                .hint("Move the directory away, and import the snapshot again."),
            ),
        }
    }
    findings.extend(
        good.iter()
            .filter_map(|snapshot| scattered(&layout, snapshot)),
    );
    let of_projects = config.projects.keys();
    for project in of_projects.filter(|name| good.iter().all(|s| s.project != **name)) {
        findings.push(
            finding(Level::Warn, format!("project {project} has none"))
                .hint("Import one with \"multidb snapshot import\"."),
        );
    }
    for orphan in good
        .iter()
        .filter(|s| !config.projects.contains_key(&s.project))
    {
        let what = format!(
            "{} is of project {}, which is not configured",
            orphan.id, orphan.project
        );
        findings.push(finding(Level::Warn, what).hint("Configure it, or delete the snapshot."));
    }
    if findings.is_empty() && !good.is_empty() {
        findings.push(finding(Level::Ok, format!("{} are whole", good.len())));
    }
    (good, findings)
}

/// Whether clones of it take longer than they need.
fn scattered(layout: &Layout, snapshot: &SnapshotRecord) -> Option<Finding> {
    let finding = |level, what: String| Finding::new(level, "snapshots", what);
    match snapshot_extents(&layout.snapshot_data(&snapshot.id)) {
        Err(error) => Some(finding(Level::Fail, error.to_string())),
        Ok(extents) if extents.is_fragmented() => {
            let what = format!(
                "{} is fragmented: its {} files fall into {} pieces",
                snapshot.id, extents.files, extents.count
            );
            Some(finding(Level::Warn, what).hint(
                "Each clone of it takes longer for that; import it again, onto a disk with room.",
            ))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use multidb_store::manifest;

    use super::*;

    fn config(root: &Path) -> Config {
        Config {
            root: root.to_owned(),
            clone_method: Method::Copy,
            disk_reserve_bytes: 0,
            ..Config::default()
        }
    }

    fn worst(findings: &[Finding]) -> Level {
        findings.iter().map(|finding| finding.level).max().unwrap()
    }

    #[test]
    fn a_root_before_the_first_start_is_tried_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let findings = super::root(&config(root.path()));
        assert_eq!(findings.len(), 2, "{findings:?}");
        // Copies are a warning, since nobody should have them unknowingly.
        assert_eq!(worst(&findings), Level::Warn, "{findings:?}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_root_that_is_not_there_is_no_failure_and_a_file_is() {
        let parent = tempfile::tempdir().unwrap();
        let missing = parent.path().join("none");
        assert_eq!(worst(&super::root(&config(&missing))), Level::Warn);
        assert!(!missing.exists());
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(worst(&super::root(&config(&file))), Level::Fail);
    }

    #[test]
    fn a_reserve_that_is_reached_is_a_failure() {
        let config = Config {
            disk_reserve_bytes: 100,
            ..Config::default()
        };
        for (free, level) in [(99, Level::Fail), (150, Level::Warn), (200, Level::Ok)] {
            assert_eq!(room(&config, free).level, level, "{free}");
        }
    }

    #[test]
    fn each_snapshot_that_is_damaged_missing_or_of_nobody_is_found() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let record = SnapshotRecord {
            id: "monday".parse().unwrap(),
            project: "gone".parse().unwrap(),
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            imported_at: jiff::Timestamp::UNIX_EPOCH,
            postgres_major: 15,
            superuser: "postgres".to_owned(),
            bytes: 0,
            files: 0,
            migrations: Vec::new(),
            source: String::new(),
        };
        for name in ["monday", "renamed"] {
            fs::create_dir_all(layout.snapshots().join(name).join("data")).unwrap();
            manifest::write(&layout.snapshots().join(name), &record).unwrap();
        }
        let (good, findings) = snapshots(&config(root.path()));
        assert_eq!(good, [record]);
        let all: Vec<_> = findings.iter().map(|finding| &finding.what).collect();
        let said = |part: &str| all.iter().any(|what| what.contains(part));
        assert!(said("renamed is left out"), "{all:?}");
        assert!(said("project gone, which is not configured"), "{all:?}");
        assert_eq!(worst(&findings), Level::Warn);
    }
}
