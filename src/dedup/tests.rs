//! Tests on real file systems: the XFS and Btrfs that `scripts/test.sh` mounts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multidb_actors::testing;
use multidb_store::SnapshotId;
use proptest::prelude::*;

use super::budget::EXTENTS_MAX;
use super::*;
use crate::fsutil::fiemap;
use crate::relations::Relations;

const VARIABLES: [&str; 2] = ["MULTIDB_TEST_XFS", "MULTIDB_TEST_BTRFS"];
const BLOCK: usize = 4096;
const FAST: u64 = 1 << 30;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A root with snapshots of one project.
struct Root {
    layout: Layout,
    snapshots: Vec<Arc<SnapshotRecord>>,
    _directory: tempfile::TempDir,
}

impl Root {
    fn new(variable: &str) -> Self {
        let parent = std::env::var_os(variable)
            .unwrap_or_else(|| panic!("{variable} is not set: run scripts/test.sh"));
        let directory = tempfile::tempdir_in(parent).unwrap();
        let layout = Layout::new(directory.path());
        fs::create_dir_all(layout.state()).unwrap();
        Self {
            layout,
            snapshots: Vec::new(),
            _directory: directory,
        }
    }

    /// A snapshot that is a day newer than the one before.
    fn snapshot(&mut self, name: &str, files: &[(&str, &[u8])]) -> SnapshotId {
        let id: SnapshotId = name.parse().unwrap();
        for (path, bytes) in files {
            let path = self.layout.snapshot_data(&id).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let day = 86_400 * self.snapshots.len() as i64;
        let taken_at = jiff::Timestamp::from_second(1_700_000_000 + day).unwrap();
        let record = SnapshotRecord {
            project: "polls".parse().unwrap(),
            imported_at: taken_at,
            files: files.len() as u64,
            ..testing::snapshot(name, taken_at.as_second(), &[])
        };
        self.snapshots.push(Arc::new(record));
        id
    }

    fn read(&self, id: &SnapshotId, path: &str) -> Vec<u8> {
        fs::read(self.layout.snapshot_data(id).join(path)).unwrap()
    }

    fn pending(&self, deduplicator: &Deduplicator) -> Vec<Snapshots> {
        deduplicator.pending(&"polls".parse().unwrap(), &self.snapshots)
    }

    /// Shares everything that is pending, and returns the record of the oldest.
    async fn share(&self, bandwidth: u64) -> DedupRecord {
        let deduplicator = Arc::new(Deduplicator::open(self.layout.clone(), bandwidth));
        for next in self.pending(&deduplicator) {
            let cancelled = CancellationToken::new();
            deduplicator
                .share(next, &cancelled, |_, _| {})
                .await
                .unwrap();
        }
        assert_eq!(self.pending(&deduplicator), []);
        deduplicator.record(&self.snapshots[0]).unwrap()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

/// Blocks that differ from each other and from the blocks of another seed.
fn blocks(seed: u8, numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let numbers = numbers.into_iter();
    numbers
        .flat_map(|number| {
            let mut block = vec![seed; BLOCK];
            block[..8].copy_from_slice(&number.to_le_bytes());
            block
        })
        .collect()
}

/// The bytes of a file whose blocks no other file has.
fn own_bytes(path: &Path) -> u64 {
    let mut own = 0;
    let file = fs::File::open(path).unwrap();
    let has_extents = fiemap::visit(&file, fiemap::Pending::Written, |extent| {
        own += if extent.is_shared() { 0 } else { extent.length };
    });
    assert!(has_extents.unwrap());
    own
}

#[tokio::test]
async fn older_snapshots_get_the_blocks_that_they_have_in_common_with_the_newest() {
    for variable in VARIABLES {
        let mut root = Root::new(variable);
        let common = blocks(1, 0..1000);
        // A page that was updated, and one more at the end.
        let mut updated = common.clone();
        updated[500 * BLOCK..501 * BLOCK].copy_from_slice(&blocks(9, [500]));
        updated.extend(blocks(9, [1000]));
        let other = blocks(3, 0..20);
        let first = [
            ("base/5/1", &common[..]),
            ("base/5/2", &other[..]),
            ("PG_VERSION", b"15\n"),
        ];
        let oldest = root.snapshot("sunday", &first);
        root.snapshot("monday", &first);
        let second = [
            ("base/5/1", &updated[..]),
            ("base/5/3", &other[..]),
            ("PG_VERSION", b"15\n"),
        ];
        let newest = root.snapshot("tuesday", &second);
        let record = root.share(FAST).await;
        assert_eq!(record.onto, newest);
        assert_eq!(record.bytes_examined, 1000 * BLOCK as u64, "{variable}");
        assert_eq!(record.bytes_shared, 999 * BLOCK as u64, "{variable}");
        assert_eq!(record.bytes_saved, 999 * BLOCK as u64, "{variable}");
        assert_eq!(root.read(&oldest, "base/5/1"), common);
        assert_eq!(root.read(&oldest, "base/5/2"), other);
        assert_eq!(root.read(&newest, "base/5/1"), updated);
        let path = root.layout.snapshot_data(&oldest).join("base/5/1");
        assert_eq!(own_bytes(&path), BLOCK as u64, "{variable}");
    }
}

#[tokio::test]
async fn relation_whose_file_has_another_name_shares_its_blocks() {
    let mut root = Root::new(VARIABLES[0]);
    let (table, other) = (blocks(1, 0..100), blocks(2, 0..50));
    let old = root.snapshot("monday", &[("base/5/1", &table), ("base/5/2_fsm", &other)]);
    let new = root.snapshot(
        "tuesday",
        &[
            ("base/5/1", &other),
            ("base/5/7", &table),
            ("base/5/9_fsm", &other),
        ],
    );
    for (id, paths) in [
        (&old, ["base/5/1", "base/5/2"]),
        (&new, ["base/5/7", "base/5/9"]),
    ] {
        let mut relations = Relations::default();
        for (name, path) in ["public.table", "public.other"].into_iter().zip(paths) {
            relations.add("app", name, path);
        }
        relations.write(&root.layout.snapshot(id)).unwrap();
    }
    let record = root.share(FAST).await;
    assert_eq!(record.bytes_shared, 150 * BLOCK as u64);
    assert_eq!(root.read(&old, "base/5/1"), table);
    assert_eq!(root.read(&old, "base/5/2_fsm"), other);
}

/// The oldest one is compared with each newer one; blocks in common with both are not read again.
#[tokio::test]
async fn shared_blocks_are_not_read_again() {
    for variable in VARIABLES {
        let mut root = Root::new(variable);
        let common = blocks(1, 0..300);
        let old = root.snapshot("monday", &[("base/1", &common)]);
        root.snapshot("tuesday", &[("base/1", &common)]);
        root.share(FAST).await;
        // A copy-on-write copy, as a refresh of the same data directory would be.
        let path = root.layout.snapshot_data(&old).join("base/1");
        let new = root.snapshot("wednesday", &[("base/1", b"")]);
        let copy = fs::File::create(root.layout.snapshot_data(&new).join("base/1")).unwrap();
        rustix::fs::ioctl_ficlone(&copy, fs::File::open(path).unwrap()).unwrap();
        let record = root.share(FAST).await;
        assert_eq!((record.onto, record.bytes_examined), (new, 0), "{variable}");
    }
}

#[tokio::test]
async fn snapshot_that_took_the_name_of_another_is_compared() {
    let mut root = Root::new(VARIABLES[0]);
    let common = blocks(1, 0..300);
    root.snapshot("monday", &[("base/1", &common)]);
    let new = root.snapshot("tuesday", &[("base/1", &blocks(2, 0..300))]);
    assert_eq!(root.share(FAST).await.bytes_shared, 0);
    fs::remove_dir_all(root.layout.snapshot(&new)).unwrap();
    root.snapshots.pop();
    root.snapshots
        .push(Arc::new(testing::snapshot("sunday", 0, &[])));
    root.snapshot("tuesday", &[("base/1", &common)]);
    assert_eq!(root.share(FAST).await.bytes_shared, common.len() as u64);
}

#[test]
fn only_what_the_page_cache_has_is_read_without_the_disk() {
    for variable in VARIABLES {
        let mut root = Root::new(variable);
        let content = blocks(1, 0..1000);
        let id = root.snapshot("monday", &[("a", &content)]);
        let file = fs::File::open(root.layout.snapshot_data(&id).join("a")).unwrap();
        let mut buffer = vec![0; content.len()];
        let cached = pair::read_cached(&file, &mut buffer, 0);
        assert_eq!(cached, content.len(), "{variable}");
        assert_eq!(buffer, content, "{variable}");
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        // It may come from the disk while it is being asked for.
        let cached = pair::read_cached(&file, &mut buffer, 0);
        assert!(cached < content.len(), "{variable}: {cached}");
    }
}

#[test]
fn record_of_an_earlier_version_is_of_the_snapshot_that_was_there_when_it_was_complete() {
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let snapshots = Snapshots {
        older: "monday".parse().unwrap(),
        newer: "tuesday".parse().unwrap(),
        newer_imported_at: at(100),
    };
    let mut record = DedupRecord::new(&snapshots);
    assert!(record.is_of(&snapshots));
    record.onto_imported_at = None;
    for (finished_at, is_of) in [(None, false), (Some(at(99)), false), (Some(at(101)), true)] {
        record.finished_at = finished_at;
        assert_eq!(record.is_of(&snapshots), is_of, "{finished_at:?}");
    }
}

#[tokio::test]
async fn cancelled_comparison_goes_on_where_it_stopped() {
    let mut root = Root::new(VARIABLES[0]);
    let common = blocks(1, 0..1024);
    let files = [("a", &common[..]), ("b", &common[..]), ("c", &common[..])];
    let old = root.snapshot("monday", &files);
    root.snapshot("tuesday", &files);
    let deduplicator = Arc::new(Deduplicator::open(root.layout.clone(), 16 << 20));
    let cancelled = CancellationToken::new();
    let cancel = cancelled.clone();
    let next = root.pending(&deduplicator).remove(0);
    let ended = deduplicator
        .share(next, &cancelled, move |_, _| cancel.cancel())
        .await;
    assert!(matches!(ended, Err(DedupError::Cancelled)), "{ended:?}");
    let record = DedupRecord::read(&root.layout, &old).unwrap();
    assert_eq!(record.last_file.as_deref(), Some(Path::new("a")));
    assert_eq!(record.finished_at, None);
    assert_eq!(record.bytes_examined, common.len() as u64);
    let record = root.share(FAST).await;
    assert_eq!(record.bytes_examined, 3 * common.len() as u64);
    assert_eq!(record.bytes_shared, 3 * common.len() as u64);
}

#[tokio::test]
async fn pause_lasts_until_it_is_resumed_also_by_another_daemon() {
    let mut root = Root::new(VARIABLES[0]);
    let common = blocks(1, 0..16);
    root.snapshot("monday", &[("a", &common)]);
    root.snapshot("tuesday", &[("a", &common)]);
    Deduplicator::open(root.layout.clone(), FAST)
        .pause()
        .unwrap();
    let deduplicator = Arc::new(Deduplicator::open(root.layout.clone(), FAST));
    assert!(deduplicator.is_paused());
    let next = root.pending(&deduplicator).remove(0);
    let cancelled = CancellationToken::new();
    let sharing = tokio::spawn({
        let deduplicator = deduplicator.clone();
        async move { deduplicator.share(next, &cancelled, |_, _| {}).await }
    });
    // It cannot end while it is paused.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!sharing.is_finished());
    deduplicator.resume().unwrap();
    let ended = tokio::time::timeout(TIMEOUT, sharing).await;
    ended.unwrap().unwrap().unwrap();
    assert_eq!(root.pending(&deduplicator), []);
    assert!(!Deduplicator::open(root.layout.clone(), FAST).is_paused());
}

#[tokio::test]
async fn snapshot_that_is_removed_meanwhile_is_no_error() {
    let mut root = Root::new(VARIABLES[0]);
    let common = blocks(1, 0..16);
    let old = root.snapshot("monday", &[("a", &common)]);
    root.snapshot("tuesday", &[("a", &common)]);
    fs::remove_dir_all(root.layout.snapshot(&old)).unwrap();
    let deduplicator = Arc::new(Deduplicator::open(root.layout.clone(), FAST));
    let next = root.pending(&deduplicator).remove(0);
    let cancelled = CancellationToken::new();
    deduplicator
        .share(next, &cancelled, |_, _| {})
        .await
        .unwrap();
}

#[test]
fn snapshot_stays_below_its_limit_of_extents() {
    let mut root = Root::new(VARIABLES[0]);
    // Every other block differs: 30,000 runs.
    let old = blocks(1, 0..60_000);
    let mut new = old.clone();
    for number in (0..60_000).step_by(2) {
        new[number * BLOCK] ^= 0xff;
    }
    root.snapshot("monday", &[("a", &old)]);
    root.snapshot("tuesday", &[("a", &new)]);
    let record = runtime().block_on(root.share(FAST));
    assert!(
        (EXTENTS_MAX - 100..=EXTENTS_MAX).contains(&record.extents),
        "{record:?}"
    );
    let sixth = old.len() as u64 / 6;
    assert!(record.bytes_shared > sixth - (1 << 20), "{record:?}");
}

/// The runs of the first file are too short to be shared before all files are compared.
#[tokio::test]
async fn runs_that_waited_are_found_again_after_an_interruption() {
    for interrupted_after in [1, 2] {
        let mut root = Root::new(VARIABLES[0]);
        let old = blocks(1, 0..2_000);
        let mut new = old.clone();
        for number in (0..2_000).step_by(2) {
            new[number * BLOCK] ^= 0xff;
        }
        let still = blocks(2, 0..12_000);
        let id = root.snapshot("monday", &[("a", &old), ("b", &still)]);
        root.snapshot("tuesday", &[("a", &new), ("b", &still)]);
        let deduplicator = Arc::new(Deduplicator::open(root.layout.clone(), FAST));
        let cancelled = CancellationToken::new();
        let cancel = cancelled.clone();
        let reports = std::sync::atomic::AtomicU32::new(0);
        let report = move |_, _| {
            if reports.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == interrupted_after {
                cancel.cancel();
            }
        };
        let next = root.pending(&deduplicator).remove(0);
        let ended = deduplicator.share(next, &cancelled, report).await;
        assert!(matches!(ended, Err(DedupError::Cancelled)), "{ended:?}");
        let record = DedupRecord::read(&root.layout, &id).unwrap();
        assert_eq!(record.last_file, None);
        let record = root.share(FAST).await;
        assert_eq!(record.bytes_shared, 13_000 * BLOCK as u64);
        let path = root.layout.snapshot_data(&id).join("a");
        assert_eq!(own_bytes(&path), 1_000 * BLOCK as u64);
    }
}

/// The first file needs most of the extents, and its long runs are at the end.
#[test]
fn longest_runs_of_all_files_are_shared_first() {
    let mut root = Root::new(VARIABLES[0]);
    let old = blocks(1, 0..40_000);
    let mut new = old.clone();
    for number in (0..22_000).step_by(2).chain((22_000..40_000).step_by(3)) {
        new[number * BLOCK] ^= 0xff;
    }
    let still = blocks(2, 0..20_000);
    root.snapshot("monday", &[("a", &old), ("b", &still)]);
    root.snapshot("tuesday", &[("a", &new), ("b", &still)]);
    let record = runtime().block_on(root.share(FAST));
    assert!(record.extents <= EXTENTS_MAX, "{record:?}");
    let long_runs = 6_000 * 2;
    // The others cost two extents for each block.
    let others = (EXTENTS_MAX as usize - long_runs) / 2;
    let best = ((long_runs + others + 20_000) * BLOCK) as u64;
    assert!(
        (best - (1 << 20)..=best + (1 << 20)).contains(&record.bytes_shared),
        "{record:?}, best {best}"
    );
}

/// The contents of two files at one block.
#[derive(Debug, Clone, Copy)]
enum Block {
    Equal,
    Different,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_two_files_keep_their_bytes_and_share_their_equal_blocks(
        common in prop::collection::vec(prop_oneof![Just(Block::Equal), Just(Block::Different)], 1..300),
        (old_tail, new_tail) in (0usize..10_000, 0usize..10_000),
    ) {
        let mut root = Root::new(VARIABLES[0]);
        let old = blocks(1, 0..common.len());
        let mut new = old.clone();
        let mut equal = 0;
        for (number, block) in common.iter().enumerate() {
            match block {
                Block::Equal => equal += BLOCK as u64,
                Block::Different => new[number * BLOCK + 100] ^= 0xff,
            }
        }
        // The bytes behind differ.
        let old = [old, vec![1; old_tail]].concat();
        let new = [new, vec![2; new_tail]].concat();
        let older = root.snapshot("monday", &[("a", &old)]);
        let newer = root.snapshot("tuesday", &[("a", &new)]);
        let runtime = runtime();
        let record = runtime.block_on(root.share(FAST));
        prop_assert_eq!(record.bytes_shared, equal);
        prop_assert_eq!(root.read(&older, "a"), old);
        prop_assert_eq!(root.read(&newer, "a"), new);
    }
}
