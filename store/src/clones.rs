//! The clones under a root, as a start finds them: in `instances/`, in the trash and in the quarantine.
//!
//! Every manifest is read, since it can be newer than the record of its clone. With 50,000 instances that takes
//! some tenths of a second, so the work is shared by threads.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;

use crate::disk_fault::FileError;
use crate::ids::InstanceUid;
use crate::layout::{BASE_DATA, Layout, PARTIAL_DATA};
use crate::manifest::{self, ManifestError};
use crate::records::InstanceRecord;
use crate::recovery::{FoundClone, FoundManifest};
use crate::{error_chain, quarantine};

/// More threads than processors: reading waits for the disk.
const THREADS: usize = 4;

/// All clones under a root.
#[derive(Debug, Default)]
pub struct ClonesOnDisk {
    /// The clones in `instances/`, by uid.
    pub clones: Vec<FoundClone>,
    /// The other directories in `instances/`, whose names are not uids.
    pub foreign: Vec<PathBuf>,
    /// The clones in the trash.
    pub trashed: Vec<InstanceUid>,
    /// The highest epoch in the trash and in the quarantine.
    pub epoch: u64,
}

impl ClonesOnDisk {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// `instances/` cannot be listed.
    pub fn find(layout: &Layout) -> Result<Self, ManifestError> {
        let (uids, foreign) = list(&layout.instances())?;
        let mut found = Self {
            clones: inspect_all(layout, &uids),
            foreign,
            ..Self::default()
        };
        for directory in subdirectories(&layout.trash()) {
            let manifest = manifest::read::<InstanceRecord>(&directory).ok();
            let epoch = manifest.as_ref().map_or(0, |record| record.epoch);
            found.epoch = found.epoch.max(epoch);
            let by_name = || trashed_uid(&directory);
            found
                .trashed
                .extend(manifest.map(|record| record.uid).or_else(by_name));
        }
        let quarantined = quarantine::list(layout).into_iter();
        let epochs = quarantined.filter_map(|one| Some(one.manifest.ok()?.epoch));
        found.epoch = epochs.fold(found.epoch, u64::max);
        Ok(found)
    }
}

/// The uids of the directories, and the paths of directories with another name.
fn list(instances: &Path) -> Result<(Vec<InstanceUid>, Vec<PathBuf>), ManifestError> {
    let failed = FileError::at("list", instances);
    let (mut uids, mut foreign) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(instances) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((uids, foreign)),
        entries => entries.map_err(&failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if is_hidden || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match name.to_str().and_then(|name| name.parse().ok()) {
            Some(uid) => uids.push(uid),
            None => foreign.push(entry.path()),
        }
    }
    uids.sort_unstable();
    foreign.sort_unstable();
    Ok((uids, foreign))
}

fn inspect_all(layout: &Layout, uids: &[InstanceUid]) -> Vec<FoundClone> {
    let part = uids.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let inspect = |part: &[InstanceUid]| -> Vec<FoundClone> {
            part.iter().map(|uid| inspect(layout, *uid)).collect()
        };
        let threads: Vec<_> = uids
            .chunks(part)
            .map(|part| scope.spawn(move || inspect(part)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    })
}

/// One clone, as it is on disk.
pub fn inspect(layout: &Layout, uid: InstanceUid) -> FoundClone {
    let directory = layout.instance(uid);
    let data = layout.instance_data(uid);
    let has_data = match is_directory(&data) {
        Ok(has_data) => has_data,
        // It may be complete.
        Err(error) => {
            let why = error_chain(&FileError::at("read", &data)(error));
            return FoundClone {
                uid,
                manifest: FoundManifest::Unreadable(why),
                has_data: false,
            };
        }
    };
    let unfinished = || !has_data && is_unfinished(&directory);
    let manifest = match manifest::read::<InstanceRecord>(&directory) {
        Ok(record) if record.uid == uid => FoundManifest::Record(Box::new(record)),
        Ok(record) => {
            FoundManifest::Foreign(format!("its manifest names the clone {}", record.uid))
        }
        Err(_) if unfinished() => FoundManifest::Unfinished,
        Err(error) if error.is_missing() => FoundManifest::Missing,
        Err(error) if error.is_damage() => FoundManifest::Damaged(error_chain(&error)),
        Err(error) => FoundManifest::Unreadable(error_chain(&error)),
    };
    FoundClone {
        uid,
        manifest,
        has_data,
    }
}

/// The reason for data that has another record.
pub(crate) const OF_ANOTHER: &str = "its data belongs to another instance";

/// Why the data of this record cannot be used; `None` where its clone is complete and has no other name.
pub fn why_unusable(record: &InstanceRecord, clone: Option<&FoundClone>) -> Option<String> {
    let Some(clone) = clone else {
        return Some("its directory is missing".to_owned());
    };
    if !clone.has_data {
        return Some(match &clone.manifest {
            FoundManifest::Unreadable(why) => why.clone(),
            _ => "its data is missing".to_owned(),
        });
    }
    match &clone.manifest {
        FoundManifest::Foreign(why) => Some(why.clone()),
        FoundManifest::Record(manifest) if manifest.name != record.name => {
            Some(OF_ANOTHER.to_owned())
        }
        FoundManifest::Record(_)
        | FoundManifest::Damaged(_)
        | FoundManifest::Unreadable(_)
        | FoundManifest::Unfinished
        | FoundManifest::Missing => None,
    }
}

/// Whether the directory is an incomplete clone that a crash left.
pub fn is_unfinished(directory: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.all(|entry| {
        let Ok(entry) = entry else { return false };
        let name = entry.file_name();
        let is_empty = || entry.metadata().is_ok_and(|m| m.is_file() && m.len() == 0);
        name == PARTIAL_DATA
            || name == BASE_DATA
            || name == manifest::TEMPORARY_NAME
            || (name == manifest::FILE_NAME && is_empty())
    })
}

fn is_directory(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directories in a directory; none if it cannot be listed.
pub(crate) fn subdirectories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten();
    let paths = entries.filter_map(|entry: io::Result<_>| Some(entry.ok()?.path()));
    let mut directories: Vec<_> = paths
        .filter(|path| is_directory(path).unwrap_or(false))
        .collect();
    directories.sort_unstable();
    directories
}

/// The clone whose directory was moved to the trash: its name is the end of the new one.
fn trashed_uid(directory: &Path) -> Option<InstanceUid> {
    let name = directory.file_name()?.to_str()?;
    name.rsplit('-').next()?.parse().ok()
}
