//! Names, commits and files of a local repository, read by gix.
//!
//! The repository is opened for each read. That costs a fraction of a millisecond, and sees all changes
//! by fetches and pushes.

use std::collections::HashSet;
use std::path::Path;

use gix::hash::Prefix;
use gix::objs::Kind as ObjectKind;
use gix::objs::tree::EntryKind;
use gix::{ObjectId, Repository};
use multidb_actors::ports::{RepositoryForm, RevisionError, WhyUnknown};

use super::names;
use crate::config::Listing;

/// The largest listing. A hundred thousand migrations take less.
const LISTING_BYTES_MAX: u64 = 64 << 20;
/// The most files and directories below one whose files are the listing.
const FILES_MAX: usize = 1_000_000;
/// The longest path of a file in it.
const FILE_PATH_LENGTH_MAX: usize = 4096;
/// The symbolic links on the way to a listing.
const LINKS_MAX: usize = 8;
/// The candidates that an error names.
const CANDIDATES_SHOWN: usize = 5;

/// The commit of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The id of the commit.
    pub(super) commit: String,
    /// The branch, tag or other reference by which it was found, which can move; `None` where it was found by its id.
    pub(super) reference: Option<String>,
}

pub(super) fn unknown(gitref: &str, why: WhyUnknown) -> RevisionError {
    RevisionError::Unknown {
        gitref: gitref.to_owned(),
        why,
    }
}

fn open(path: &Path) -> Result<Repository, RevisionError> {
    let repository = open_any(path).map_err(|error| failed(path, "open", &error))?;
    if is_reftable(&repository) {
        let message = "its references are in reftables";
        return Err(failed(path, "read", &message));
    }
    Ok(repository)
}

fn open_any(path: &Path) -> Result<Repository, String> {
    let opened = gix::open_opts(path, gix::open::Options::isolated());
    opened.map_err(|error| error.to_string())
}

/// The form for which a repository is not read, or not in full.
pub(super) fn form(path: &Path) -> Option<RepositoryForm> {
    let repository = open_any(path).ok()?;
    if is_reftable(&repository) {
        Some(RepositoryForm::Reftable)
    } else if is_partial(&repository) {
        Some(RepositoryForm::Partial)
    } else {
        None
    }
}

fn is_reftable(repository: &Repository) -> bool {
    let storage = repository.config_snapshot().string("extensions.refStorage");
    storage.is_some_and(|storage| storage.starts_with(b"reftable"))
}

fn is_partial(repository: &Repository) -> bool {
    let config = repository.config_snapshot();
    let promisors = config.plumbing().sections_by_name("remote");
    config.string("extensions.partialClone").is_some()
        || promisors
            .into_iter()
            .flatten()
            .any(|remote| remote.value("promisor").is_some())
}

fn failed(path: &Path, action: &str, error: &dyn std::fmt::Display) -> RevisionError {
    RevisionError::Repository {
        message: format!("cannot {action} repository {}: {error}", path.display()),
        form: form(path),
    }
}

/// Finds a revision: a branch, a tag, another reference, an id, or an abbreviation of one, in this order. `name_here`
/// gives the name that a reference has in this repository.
pub(super) fn find(
    path: &Path,
    gitref: &str,
    name_here: fn(&str) -> &str,
) -> Result<Found, RevisionError> {
    let repository = open(path)?;
    for name in names::references(gitref) {
        let reference = repository.try_find_reference(name_here(&name));
        // An invalid name of a reference can still be an id.
        let Ok(Some(mut reference)) = reference else {
            continue;
        };
        // That of a new repository leads to a branch that is not there yet.
        if name_here(&name) == "HEAD" && repository.head().is_ok_and(|head| head.is_unborn()) {
            continue;
        }
        let commit = reference
            .peel_to_commit()
            .map_err(|error| failed(path, "read", &error))?;
        return Ok(Found {
            commit: commit.id.to_string(),
            reference: Some(name),
        });
    }
    let lacking = if repository.is_shallow().unwrap_or(false) {
        WhyUnknown::Shallow
    } else {
        WhyUnknown::NoSuch
    };
    if !names::is_id(gitref) || gitref.len() > repository.object_hash().len_in_hex() {
        return Err(unknown(gitref, WhyUnknown::NoSuch));
    }
    let commit = find_id(&repository, path, gitref)?.ok_or_else(|| unknown(gitref, lacking))?;
    Ok(Found {
        commit: commit.to_string(),
        reference: None,
    })
}

fn find_id(
    repository: &Repository,
    path: &Path,
    gitref: &str,
) -> Result<Option<ObjectId>, RevisionError> {
    let read = |error: &dyn std::fmt::Display| failed(path, "read", error);
    // A prefix of the repository's kind: of a shorter one gix would take it for SHA-1.
    let digits = repository.object_hash().len_in_hex();
    let whole = format!("{gitref:0<digits$}");
    let whole = ObjectId::from_hex(whole.as_bytes()).map_err(|error| read(&error))?;
    let prefix = Prefix::new(&whole, gitref.len()).map_err(|error| read(&error))?;
    let mut candidates = HashSet::new();
    repository
        .objects
        .lookup_prefix(prefix, Some(&mut candidates))
        .map_err(|error| failed(path, "read", &error))?;
    let mut commits: Vec<ObjectId> = candidates
        .into_iter()
        .filter_map(|id| peel(repository, id))
        .collect();
    commits.sort();
    commits.dedup();
    match commits.as_slice() {
        [] => Ok(None),
        [commit] => Ok(Some(*commit)),
        several => Err(RevisionError::Ambiguous {
            gitref: gitref.to_owned(),
            candidates: several
                .iter()
                .take(CANDIDATES_SHOWN)
                .map(|id| id.to_hex_with_len(12).to_string())
                .collect(),
        }),
    }
}

/// The commit that an object is or, if it is an annotated tag, points to.
fn peel(repository: &Repository, id: ObjectId) -> Option<ObjectId> {
    let object = repository.find_object(id).ok()?;
    match object.kind {
        ObjectKind::Commit => Some(id),
        ObjectKind::Tag => Some(object.peel_to_commit().ok()?.id),
        ObjectKind::Tree | ObjectKind::Blob => None,
    }
}

/// The id of the listing at a commit: of a file or a directory. A symbolic link to another one in the repository is
/// followed.
pub(super) fn listing(
    path: &Path,
    commit: &str,
    listing: &Listing,
) -> Result<String, RevisionError> {
    let repository = open(path)?;
    let read = |error: &dyn std::fmt::Display| failed(path, "read", error);
    let id = ObjectId::from_hex(commit.as_bytes()).map_err(|error| read(&error))?;
    let commit = repository.find_commit(id).map_err(|error| read(&error))?;
    let tree = commit.tree().map_err(|error| read(&error))?;
    let missing = |instead| RevisionError::ListingMissing {
        commit: id.to_hex_with_len(12).to_string(),
        path: listing.path().to_owned(),
        instead,
    };
    let mut name = listing.path().to_owned();
    if name.is_empty() {
        return Ok(tree.id.to_string());
    }
    let is_file = matches!(listing, Listing::File(_));
    for _ in 0..LINKS_MAX {
        let entry = tree
            .lookup_entry_by_path(&name)
            .map_err(|error| read(&error))?;
        let Some(entry) = entry else {
            let similar = similar(&tree, &name).map_err(|error| read(&error))?;
            return Err(missing(similar));
        };
        let mode = entry.mode();
        if (is_file && mode.is_blob()) || (!is_file && mode.is_tree()) {
            return Ok(entry.object_id().to_string());
        }
        if !mode.is_link() {
            let kind = if mode.is_tree() {
                "a directory"
            } else if mode.is_blob() {
                "a file"
            } else {
                "a submodule"
            };
            return Err(missing(Some(format!("It is {kind}."))));
        }
        let link = entry.object().map_err(|error| read(&error))?.detach().data;
        let target = link_target(&name, &String::from_utf8_lossy(&link));
        name = target.ok_or_else(|| {
            missing(Some(
                "It is a link that leads out of the repository.".to_owned(),
            ))
        })?;
    }
    Err(missing(Some(
        "It is a link that leads to itself.".to_owned(),
    )))
}

/// The path in the repository that a symbolic link at `link` leads to.
fn link_target(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Says which entry differs from a missing one in its case alone.
fn similar(tree: &gix::Tree<'_>, name: &str) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    let here = if directory.is_empty() {
        tree.clone()
    } else {
        match tree.lookup_entry_by_path(directory)? {
            Some(entry) if entry.mode().is_tree() => entry.object()?.try_into_tree()?,
            _ => return Ok(None),
        }
    };
    for entry in here.iter() {
        let entry = entry?;
        let other = entry.filename().to_string();
        if other.to_lowercase() == file.to_lowercase() {
            return Ok(Some(format!("Its name there is \"{other}\".")));
        }
    }
    Ok(None)
}

/// The id of the listing in the commit at HEAD.
pub(super) fn listing_at_head(path: &Path, name: &Listing) -> Result<String, RevisionError> {
    let repository = open(path)?;
    let head = repository
        .head_id()
        .map_err(|error| failed(path, "find a commit in", &error))?;
    listing(path, &head.to_string(), name)
}

/// A repository whose files are read one after another.
pub(super) struct Reader<'a> {
    repository: Repository,
    path: &'a Path,
}

impl Reader<'_> {
    /// The contents of a file.
    pub(super) fn blob(&self, id: ObjectId) -> Result<Vec<u8>, RevisionError> {
        let read = |error: &dyn std::fmt::Display| failed(self.path, "read", error);
        let header = self.repository.find_header(id);
        let header = header.map_err(|error| read(&error))?;
        if header.size() > LISTING_BYTES_MAX {
            return Err(read(&format!("file {id} has {} bytes", header.size())));
        }
        let object = self.repository.find_object(id);
        Ok(object.map_err(|error| read(&error))?.detach().data)
    }
}

/// All files below a directory.
pub(super) struct Files<'a> {
    /// Their paths below it, and their ids.
    pub(super) files: Vec<(String, ObjectId)>,
    /// Their repository.
    pub(super) repository: Reader<'a>,
}

/// All files below a directory.
pub(super) fn files<'a>(path: &'a Path, id: &str) -> Result<Files<'a>, RevisionError> {
    let repository = open(path)?;
    let read = |error: &dyn std::fmt::Display| failed(path, "read", error);
    let id = ObjectId::from_hex(id.as_bytes()).map_err(|error| read(&error))?;
    let mut directories = vec![(id, String::new())];
    let (mut files, mut entries) = (Vec::new(), 0);
    while let Some((id, prefix)) = directories.pop() {
        let tree = repository.find_tree(id).map_err(|error| read(&error))?;
        for entry in tree.iter() {
            let entry = entry.map_err(|error| read(&error))?;
            // A few objects can describe more files than there is memory for.
            entries += 1;
            if entries > FILES_MAX || prefix.len() > FILE_PATH_LENGTH_MAX {
                return Err(read(&format!("directory {id} has too many files")));
            }
            let name = format!("{prefix}{}", entry.filename());
            let id = entry.object_id();
            match entry.mode().kind() {
                EntryKind::Tree => directories.push((id, format!("{name}/"))),
                EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Link => {
                    files.push((name, id));
                }
                EntryKind::Commit => {}
            }
        }
    }
    let repository = Reader { repository, path };
    Ok(Files { files, repository })
}

/// The contents of a file.
pub(super) fn blob(path: &Path, id: &str) -> Result<Vec<u8>, RevisionError> {
    let repository = open(path)?;
    let id = ObjectId::from_hex(id.as_bytes()).map_err(|error| failed(path, "read", &error))?;
    Reader { repository, path }.blob(id)
}
