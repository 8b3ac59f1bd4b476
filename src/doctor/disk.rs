//! The root directory, its clones, and the snapshots in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use multidb_store::{DiskFault, Layout, SnapshotRecord, quarantine};

use super::{Finding, Level};
use crate::catalog;
use crate::clone::{Method, probe, snapshot_extents};
use crate::config::Config;
use crate::daemon::convert;
use crate::text::{count, size};

/// The hint for a missing permission.
const AS_DAEMON: &str = "Run this command as root or as the daemon's user.";

/// Checks that the root exists, that its file system can clone, and that it has free space.
pub(super) fn root(config: &Config) -> Vec<Finding> {
    let finding = |level, message: String| Finding::new(level, "root", message);
    let root = config.root.display();
    match fs::metadata(&config.root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return vec![finding(Level::Fail, format!("{root} is not a directory"))],
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = finding(Level::Warn, format!("{root} does not exist yet")).hint(
                "\"multidb serve\" creates it; for clones that take no space, mount XFS or Btrfs \
                 there first.",
            );
            return vec![missing];
        }
        Err(error) => {
            let failed = finding(Level::Fail, format!("cannot read {root}: {error}"));
            return vec![failed.hint(AS_DAEMON)];
        }
    }
    if let Err(error) = multidb_store::root::inspect(&Layout::new(&config.root)) {
        let failed = finding(Level::Fail, multidb_store::error_chain(&error));
        return vec![failed.hint(error.hint().unwrap_or(AS_DAEMON))];
    }
    match probe_root(&config.root) {
        Ok(found) => vec![clones(config, &found), free_space(config, found.free_bytes)],
        Err(error) => {
            let failed = finding(Level::Fail, format!("cannot write to {root}: {error}"));
            vec![failed.hint(DiskFault::of(&error).map_or(AS_DAEMON, DiskFault::hint))]
        }
    }
}

/// Probes the real directories; before the first start, temporary ones in their place.
fn probe_root(root: &Path) -> std::io::Result<probe::Findings> {
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

/// A directory that is removed on drop.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover is an empty hidden directory.
        let _leftover = fs::remove_dir_all(&self.0);
    }
}

/// The quarantined clones.
pub(super) fn quarantined(config: &Config) -> Vec<Finding> {
    let finding = |one: quarantine::Quarantined| {
        let why = one.note.as_ref().map(|note| format!(": {}", note.why));
        let why = why.unwrap_or_default();
        let directory = one.directory.display();
        let (message, advice) = match (&one.manifest, one.uid) {
            (Ok(record), _) => {
                let (name, uid) = (&record.name, record.uid);
                (
                    format!("{directory} is a clone of instance \"{name}\"{why}"),
                    format!(
                        "\"multidb instance recover {name} --uid {uid}\" brings it back, with \
                         \"--as NEWNAME\" if its name is taken. To be rid of it, delete it."
                    ),
                )
            }
            (Err(damage), Some(_)) => (
                format!("{directory} is a clone{why}"),
                format!(
                    "Its manifest cannot be used: {damage}. Repair it by hand, then bring the clone back with \
                     \"multidb instance recover\". To be rid of it, delete it."
                ),
            ),
            (Err(_), None) => (
                format!("{directory} is not multidb's"),
                "Move it away.".to_owned(),
            ),
        };
        Finding::new(Level::Warn, "quarantine", message).hint(advice)
    };
    let kept = quarantine::list(&Layout::new(&config.root));
    kept.into_iter().map(finding).collect()
}

fn clones(config: &Config, found: &probe::Findings) -> Finding {
    let finding = |level, message: String| Finding::new(level, "clones", message);
    let system = found.file_system;
    match found.resolve(convert::clone_method(config.clone_method)) {
        Ok(Method::Copy) => finding(
            Level::Warn,
            format!("every instance is a full copy of its snapshot, as configured; the root is on {system}"),
        )
        .hint("Put the root on XFS or Btrfs and set clone.method = \"auto\"."),
        Ok(method) => finding(Level::Ok, format!("by {}, on {system}", method.name())),
        // The error has advice of its own.
        Err(error) => finding(Level::Fail, error.to_string()),
    }
}

fn free_space(config: &Config, free_bytes: u64) -> Finding {
    let reserve = short_size(config.disk_reserve_bytes);
    let (level, message) = match free_bytes.checked_sub(config.disk_reserve_bytes) {
        None => {
            let free = short_size(free_bytes);
            (
                Level::Fail,
                format!("only {free} left, less than the {reserve} reserve"),
            )
        }
        Some(spare) if spare < config.disk_reserve_bytes => {
            let spare = short_size(spare);
            (
                Level::Warn,
                format!("only {spare} left above the {reserve} reserve"),
            )
        }
        Some(spare) => {
            let message = format!("{} left above the {reserve} reserve", short_size(spare));
            return Finding::new(Level::Ok, "disk", message);
        }
    };
    Finding::new(level, "disk", message).hint(
        "New instances do not use the reserve: delete instances or snapshots, enlarge the disk, or \
         lower limits.disk_reserve.",
    )
}

/// A size without a fraction of zero: `5 GiB`.
fn short_size(bytes: u64) -> String {
    size(bytes).replace(".0 ", " ")
}

/// The intact snapshots, and findings about all of them.
pub(super) fn snapshots(config: &Config) -> (Vec<SnapshotRecord>, Vec<Finding>) {
    let finding = |level, message: String| Finding::new(level, "snapshots", message);
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
            Err(unusable) => findings.push(
                finding(
                    Level::Warn,
                    format!("{} is ignored: {}", directory.display(), unusable.why),
                )
                .hint(if unusable.is_of_disk {
                    DiskFault::Device.hint()
                } else {
                    "Move the directory away and import the snapshot again."
                }),
            ),
        }
    }
    findings.extend(
        good.iter()
            .filter_map(|snapshot| fragmentation(&layout, snapshot)),
    );
    let of_projects = config.projects.keys();
    for project in of_projects.filter(|name| good.iter().all(|s| s.project != **name)) {
        findings.push(
            finding(Level::Warn, format!("project {project} has no snapshot"))
                .hint("Import one with \"multidb snapshot import\"."),
        );
    }
    for orphan in good
        .iter()
        .filter(|s| !config.projects.contains_key(&s.project))
    {
        let message = format!(
            "{} belongs to project {}, which is not configured",
            orphan.id, orphan.project
        );
        findings.push(
            finding(Level::Warn, message).hint("Configure the project or delete the snapshot."),
        );
    }
    if findings.is_empty() && !good.is_empty() {
        findings.push(finding(Level::Ok, format!("{} intact", good.len())));
    }
    (good, findings)
}

/// Warns about a fragmented snapshot, whose clones take longer.
fn fragmentation(layout: &Layout, snapshot: &SnapshotRecord) -> Option<Finding> {
    let finding = |level, message: String| Finding::new(level, "snapshots", message);
    match snapshot_extents(&layout.snapshot_data(&snapshot.id)) {
        Err(error) => Some(finding(Level::Fail, error.to_string())),
        Ok(extents) if extents.is_fragmented() => {
            let message = format!(
                "{} is fragmented: {} in {}",
                snapshot.id,
                count(extents.files, "file"),
                count(extents.count, "extent")
            );
            Some(finding(Level::Warn, message).hint(
                "Its clones take longer; import it again while the disk has more free space.",
            ))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use multidb_actors::testing;
    use multidb_store::manifest;

    use super::*;
    use crate::config::CloneMethod;

    fn config(root: &Path) -> Config {
        Config {
            root: root.to_owned(),
            clone_method: CloneMethod::Copy,
            disk_reserve_bytes: 0,
            ..Config::default()
        }
    }

    fn worst(findings: &[Finding]) -> Level {
        findings.iter().map(|finding| finding.level).max().unwrap()
    }

    #[test]
    fn root_is_probed_before_the_first_start_and_left_unchanged() {
        let root = tempfile::tempdir().unwrap();
        let findings = super::root(&config(root.path()));
        assert_eq!(findings.len(), 2, "{findings:?}");
        // Full copies are a warning.
        assert_eq!(worst(&findings), Level::Warn, "{findings:?}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn missing_root_is_a_warning_and_a_file_is_a_failure() {
        let parent = tempfile::tempdir().unwrap();
        let missing = parent.path().join("none");
        assert_eq!(worst(&super::root(&config(&missing))), Level::Warn);
        assert!(!missing.exists());
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(worst(&super::root(&config(&file))), Level::Fail);
    }

    #[test]
    fn quarantined_clones_are_told_with_their_reasons() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let uid = multidb_store::InstanceUid::from_bits(7);
        fs::create_dir_all(layout.instance_data(uid)).unwrap();
        let note = quarantine::Note {
            why: "its manifest is damaged".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        quarantine::put(&layout, uid, &note).unwrap();
        let found = quarantined(&config(root.path()));
        assert_eq!(worst(&found), Level::Warn);
        let expected = "quarantine/000000000007 is a clone: its manifest is damaged";
        assert!(found[0].message.ends_with(expected), "{found:?}");
    }

    #[test]
    fn reached_reserve_is_a_failure() {
        let config = Config {
            disk_reserve_bytes: 100,
            ..Config::default()
        };
        for (free, level) in [(99, Level::Fail), (150, Level::Warn), (200, Level::Ok)] {
            assert_eq!(free_space(&config, free).level, level, "{free}");
        }
    }

    #[test]
    fn damaged_and_orphaned_snapshots_are_found() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let record = SnapshotRecord {
            project: "gone".parse().unwrap(),
            ..testing::snapshot("monday", 0, &[])
        };
        for name in ["monday", "renamed"] {
            fs::create_dir_all(layout.snapshots().join(name).join("data")).unwrap();
            manifest::write(&layout.snapshots().join(name), &record).unwrap();
        }
        let (good, findings) = snapshots(&config(root.path()));
        assert_eq!(good, [record]);
        let all: Vec<_> = findings.iter().map(|finding| &finding.message).collect();
        let has = |part: &str| all.iter().any(|message| message.contains(part));
        assert!(has("renamed is ignored"), "{all:?}");
        assert!(has("project gone, which is not configured"), "{all:?}");
        assert_eq!(worst(&findings), Level::Warn);
    }
}
