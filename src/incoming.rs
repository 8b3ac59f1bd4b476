//! A folder in which dumps and data directories appear: which entries are complete, and where they go afterwards.
//!
//! An entry is complete when its size, its number of files and their times have rested for a while, or when an empty file
//! `NAME.done` is beside it. Links, pipes and names that mark something unfinished are left alone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, RenameFlags, Stat, renameat_with};
use rustix::io::Errno;

use crate::fsutil::beneath::{Directory, TreeError};

/// How long an entry rests until it counts as complete.
const REST: Duration = Duration::from_secs(30);
/// The suffix of the empty file that marks an entry as complete.
const MARK: &str = ".done";
/// The suffixes of the names of incomplete entries.
const UNFINISHED: [&str; 4] = [".part", ".partial", ".tmp", ".filepart"];
/// The deepest directory of a dump or a data directory that is looked at.
const DEPTH_MAX: usize = 8;
/// The most names that are tried for an entry whose own is taken.
const NAMES_MAX: u32 = 1000;

/// The result of an entry's import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It became a snapshot.
    Done,
    /// It cannot become one.
    Failed,
}

impl Outcome {
    /// The folder for such entries, in their folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// An entry of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is a data directory, and no dump.
    pub is_data_directory: bool,
    /// When it was last changed, in seconds of the Unix epoch.
    pub changed_at: i64,
    is_marked: bool,
    bytes: u64,
    files: u64,
}

impl Entry {
    fn add(&mut self, stat: &Stat) {
        self.files += 1;
        self.bytes += u64::try_from(stat.st_size).unwrap_or_default();
        self.changed_at = self.changed_at.max(stat.st_mtime);
    }

    fn add_directory(&mut self, directory: &Directory, depth: usize) -> Result<(), TreeError> {
        for name in directory.names()? {
            let name = name?;
            // It may just have been renamed.
            let Some(stat) = directory.find(&name)? else {
                continue;
            };
            self.add(&stat);
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory && depth < DEPTH_MAX {
                self.add_directory(&directory.directory(&name)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// The entries of a folder that may become snapshots, complete or not. Blocks.
///
/// # Errors
///
/// It cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Entry>, TreeError> {
    let directory = Directory::open(folder)?;
    let mut entries = Vec::new();
    for name in directory.names()? {
        let name = name?;
        if !is_entry(&name) {
            continue;
        }
        let Some(stat) = directory.find(&name)? else {
            continue;
        };
        let mut mark = name.clone();
        mark.push(MARK);
        let mut entry = Entry {
            path: folder.join(&name),
            is_data_directory: false,
            changed_at: 0,
            is_marked: directory.find(&mark)?.is_some(),
            bytes: 0,
            files: 0,
        };
        entry.add(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => {
                let inner = directory.directory(&name)?;
                entry.is_data_directory = inner.find("PG_VERSION")?.is_some();
                entry.add_directory(&inner, 1)?;
            }
            _ => continue,
        }
        entries.push(entry);
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// Whether a name is that of something to import.
fn is_entry(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let is_folder = [Outcome::Done, Outcome::Failed]
        .iter()
        .any(|outcome| name == outcome.folder());
    let is_unfinished = UNFINISHED.iter().any(|end| name.ends_with(end));
    !(name.starts_with('.') || name.ends_with(MARK) || is_folder || is_unfinished)
}

/// The entries of a folder, as the looks so far found them.
#[derive(Debug, Default)]
pub struct Watch {
    /// The entries as they are, and since when, by the boot-time clock.
    seen: BTreeMap<PathBuf, (Entry, Duration)>,
    /// Entries that were imported or have failed, and could not be put away.
    settled: Vec<Entry>,
}

impl Watch {
    /// The complete ones among the entries that are there now.
    pub fn complete(&mut self, entries: Vec<Entry>, since_boot: Duration) -> Vec<Entry> {
        let mut seen = BTreeMap::new();
        let mut complete = Vec::new();
        for entry in entries {
            let since = match self.seen.remove(&entry.path) {
                Some((before, since)) if before == entry => since,
                _ => since_boot,
            };
            let is_complete = entry.is_marked || since_boot.saturating_sub(since) >= REST;
            if is_complete && !self.settled.contains(&entry) {
                complete.push(entry.clone());
            }
            seen.insert(entry.path.clone(), (entry, since));
        }
        self.seen = seen;
        self.settled
            .retain(|entry| self.seen.contains_key(&entry.path));
        complete
    }

    /// Notes that an entry is not to be imported again as it is.
    pub fn settle(&mut self, entry: Entry) {
        self.settled.push(entry);
    }
}

/// Moves an entry to the folder of its outcome, under another name if its own is taken, and removes its mark. Blocks.
///
/// # Errors
///
/// The file system refuses.
pub fn put_away(path: &Path, outcome: Outcome) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::InvalidInput);
    let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(missing)?;
    let folder = Directory::open(folder)?;
    let to = OsStr::new(outcome.folder());
    let target = match folder.directory(to) {
        Err(error) if error.is_missing() => folder.create_directory(to, 0o755)?,
        opened => opened?,
    };
    let numbered = (2..NAMES_MAX).map(|number| {
        let mut name = name.to_owned();
        name.push(format!(".{number}"));
        name
    });
    for new in std::iter::once(name.to_owned()).chain(numbered) {
        match renameat_with(&folder, name, &target, &new, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(()) => break,
        }
    }
    let mut mark: OsString = name.to_owned();
    mark.push(MARK);
    match folder.unlink(&mark) {
        Err(error) if !error.is_missing() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn complete(watch: &mut Watch, folder: &Path, seconds: u64) -> Vec<String> {
        let complete = watch.complete(list(folder).unwrap(), Duration::from_secs(seconds));
        let names = complete.iter().map(|entry| entry.path.file_name().unwrap());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn entries_are_complete_when_they_rest_or_are_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut watch = Watch::default();
        fs::write(path("fed.sql"), "a").unwrap();
        fs::create_dir(path("dump")).unwrap();
        assert!(complete(&mut watch, folder.path(), 0).is_empty());
        fs::write(path("fed.sql"), "ab").unwrap();
        fs::write(path("dump/toc.dat"), "x").unwrap();
        assert!(complete(&mut watch, folder.path(), 29).is_empty());
        fs::write(path("dump/1.dat"), "x").unwrap();
        assert!(complete(&mut watch, folder.path(), 58).is_empty());
        assert_eq!(complete(&mut watch, folder.path(), 60), ["fed.sql"]);
        assert_eq!(complete(&mut watch, folder.path(), 88), ["dump", "fed.sql"]);
        fs::write(path("new.sql"), "a").unwrap();
        fs::write(path("new.sql.done"), "").unwrap();
        let all = ["dump", "fed.sql", "new.sql"];
        assert_eq!(complete(&mut watch, folder.path(), 89), all);
        let listed = list(folder.path()).unwrap();
        let fed = listed
            .into_iter()
            .find(|entry| entry.path.ends_with("fed.sql"));
        watch.settle(fed.unwrap());
        assert_eq!(complete(&mut watch, folder.path(), 90), ["dump", "new.sql"]);
        fs::write(path("fed.sql"), "abc").unwrap();
        complete(&mut watch, folder.path(), 91);
        assert_eq!(complete(&mut watch, folder.path(), 121), all);
    }

    #[test]
    fn links_and_odd_names_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            ".hidden",
            "x.part",
            "x.tmp",
            "done",
            "failed",
            "lonely.done",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::write(folder.path().join(OsStr::from_bytes(b"\xff.sql")), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.sql")).unwrap();
        assert_eq!(list(folder.path()).unwrap(), []);
        let data = folder.path().join("base");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        assert!(list(folder.path()).unwrap()[0].is_data_directory);
    }

    #[test]
    fn entries_are_put_away_under_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sql");
        for _ in 0..2 {
            fs::write(&path, "").unwrap();
            fs::write(folder.path().join("a.sql.done"), "").unwrap();
            put_away(&path, Outcome::Failed).unwrap();
        }
        put_away(&path, Outcome::Failed).unwrap();
        let failed = fs::read_dir(folder.path().join("failed")).unwrap();
        assert_eq!(failed.count(), 2);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
