//! Tests on real file systems: the XFS and Btrfs that `scripts/test.sh` mounts.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use multidb_actors::testing;
use multidb_store::SnapshotRecord;
use multidb_store::clones::ClonesOnDisk;
use multidb_store::recovery::FoundManifest;

use super::*;

mod create;
mod delete;
mod growing;
mod prewarmed;
mod probing;
mod trees;

const XFS: &str = "MULTIDB_TEST_XFS";
const BTRFS: &str = "MULTIDB_TEST_BTRFS";
const OWNER: (u32, u32) = (4321, 4322);
const FILE_BYTES: usize = 16 << 10;

/// A root on the file system that a variable names.
struct Root {
    directory: tempfile::TempDir,
    layout: Layout,
}

fn directory_in(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run scripts/test.sh"))
        .into()
}

fn root_in(parent: &Path) -> Root {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let layout = Layout::new(directory.path().join("root"));
    Root { directory, layout }
}

fn root(variable: &str) -> Root {
    root_in(&directory_in(variable))
}

impl Root {
    /// The clones in `instances/` that multidb made, complete or not.
    fn own_clones(&self) -> Vec<InstanceUid> {
        let found = ClonesOnDisk::find(&self.layout).unwrap();
        let own = found.clones.into_iter().filter(|clone| {
            clone.record().is_some() || clone.manifest == FoundManifest::Unfinished
        });
        own.map(|clone| clone.uid).collect()
    }

    fn open(&self, method: Method) -> TreeCloner {
        TreeCloner::open(self.layout.clone(), method, 0, OWNER).unwrap()
    }

    /// Creates a snapshot of this many files that looks like a cluster.
    fn snapshot(&self, cloner: &TreeCloner, files: u64) -> SnapshotRecord {
        let record = SnapshotRecord {
            files,
            ..testing::snapshot("monday", 0, &[])
        };
        let data = self.layout.snapshot_data(&record.id);
        fs::create_dir(self.layout.snapshot(&record.id)).unwrap();
        cloner.make_data_dir(&data).unwrap();
        fs::create_dir_all(data.join("base/5")).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        for number in 0..files - 2 {
            let path = data.join(format!("base/5/{number}"));
            fs::write(path, vec![number as u8; FILE_BYTES]).unwrap();
        }
        let secret = data.join("empty");
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o662)).unwrap();
        for owned in [&secret, &data] {
            chown(owned, Some(OWNER.0), Some(OWNER.1)).unwrap();
        }
        fs::write(data.join("postmaster.opts"), "of the last run").unwrap();
        manifest::write(&self.layout.snapshot(&record.id), &record).unwrap();
        cloner.sync(&data).unwrap();
        record
    }

    fn data(&self, bits: u64) -> PathBuf {
        self.layout.instance_data(InstanceUid::from_bits(bits))
    }

    fn count(&self, directory: PathBuf) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    fn assert_no_trace(&self) {
        assert_eq!(self.count(self.layout.instances()), 0);
        assert_eq!(self.count(self.layout.trash()), 0);
    }
}

fn instance(bits: u64) -> InstanceRecord {
    InstanceRecord {
        name: "testdb".parse().unwrap(),
        uid: InstanceUid::from_bits(bits),
        epoch: 1,
        sequence: 0,
        phase: multidb_store::Phase::Ready,
        project: "p".parse().unwrap(),
        snapshot: "monday".parse().unwrap(),
        gitref: None,
        commit: None,
        created_by: "staff".to_owned(),
        postgres_major: 15,
        superuser: "postgres".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        last_used_at: jiff::Timestamp::UNIX_EPOCH,
        last_used_observed: multidb_store::ObservedTime::default(),
        marked: None,
        pin: multidb_store::Pin::None,
        runtime: None,
        ttl: None,
        class: Default::default(),
        parent: None,
    }
}

/// Runs a check with each clone method, on a file system where it works.
fn each_method(check: impl Fn(&Root, &TreeCloner)) {
    let methods = [
        (XFS, Method::Auto, "reflink"),
        (BTRFS, Method::Auto, "btrfs-snapshot"),
        (BTRFS, Method::Reflink, "reflink"),
        (XFS, Method::Copy, "copy"),
    ];
    for (variable, method, name) in methods {
        let root = root(variable);
        let cloner = root.open(method);
        assert_eq!(cloner.method(), name);
        check(&root, &cloner);
    }
}
