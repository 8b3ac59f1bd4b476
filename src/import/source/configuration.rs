//! The settings of the server that ran on a data directory, from its configuration files and its last command line.
//!
//! The author of the data directory chose the includes of its files and the targets of its links. So a file outside of
//! it is read only where it is named like a configuration file, and with the rights of the user that owns the data
//! directory; and no message has a text of a file, only the numbers of lines.

mod options;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Uid, User};

use self::options::Options;
use crate::fsutil::access::as_user;
use crate::fsutil::beneath::{self, Directory, TreeError};
use crate::import::error::{ImportError, tree_error};
use crate::runtime::carried;
use crate::runtime::conf_file::{self, Entry, Include};

/// The file of an ordinary data directory.
pub(super) const MAIN_FILE: &str = "postgresql.conf";
const AUTO_FILE: &str = "postgresql.auto.conf";
/// The last command line of the server.
const OPTIONS_FILE: &str = "postmaster.opts";

const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most files, and the most names in a directory of files.
const FILES_MAX: usize = 100;
/// The most files that include each other, as in Postgres.
const DEPTH_MAX: usize = 10;
const SETTINGS_MAX: usize = 1000;
/// The most of a value: more than any setting needs.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// The problems that are told.
const PROBLEMS_MAX: usize = 10;

/// The settings of the server that ran on a data directory.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// The value in force of each setting, by its name in lower case.
    pub(super) settings: BTreeMap<String, String>,
    /// The parts that could not be read.
    pub(super) problems: Vec<String>,
}

/// Reads the configuration of the data directory at `root`, a path without links. Where root owns it, and any user may
/// have packed it, files outside are read as the user `data_owner`. Blocks.
pub(super) fn read(root: &Path, data_owner: (u32, u32)) -> Result<Configuration, ImportError> {
    let failed = |error| tree_error(root, root, error);
    let directory = Directory::open(root).map_err(failed)?;
    let reader = match directory.stat().map_err(failed)? {
        stat if stat.st_uid == 0 => data_owner,
        stat => (stat.st_uid, group_of(stat.st_uid)),
    };
    let options = directory.read(OPTIONS_FILE, FILE_BYTES_MAX);
    let options = String::from_utf8_lossy(&options.ok().flatten().unwrap_or_default()).into_owned();
    let options = Options::parse(&options);
    let mut reading = Reading {
        root,
        directory,
        reader,
        files: 0,
        configuration: Configuration::default(),
    };
    reading.read_main(&options);
    reading.read_file(&root.join(AUTO_FILE), IfMissing::Ignored, 0);
    for (name, value) in options.settings {
        reading.set(name, value);
    }
    Ok(reading.configuration)
}

/// The group of a user. The group of its files may be another one, which may read files that the user may not.
fn group_of(uid: u32) -> u32 {
    const NOBODY: u32 = 65534;
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or(NOBODY, |user| user.gid.as_raw())
}

struct Reading<'a> {
    root: &'a Path,
    directory: Directory,
    /// The user and the group that read files outside.
    reader: (u32, u32),
    /// The number of files that were read.
    files: usize,
    configuration: Configuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    Told,
    Ignored,
}

impl Reading<'_> {
    /// Reads the file that the server was started with.
    fn read_main(&mut self, options: &Options) {
        // For an instance's data: the settings that it carries, not the settings of its server.
        if matches!(self.directory.find(carried::FILE), Ok(Some(_))) {
            return self.read_file(&self.root.join(carried::FILE), IfMissing::Told, 0);
        }
        let main = self.root.join(MAIN_FILE);
        let Some(used) = &options.config_file else {
            return self.read_file(&main, IfMissing::Told, 0);
        };
        // Trusted path: nothing is opened.
        let is_of_this =
            |named: &PathBuf| fs::canonicalize(named).is_ok_and(|path| path == self.root);
        let path = normalized(&self.root.join(used));
        let is_here = options.data_dir.as_ref().is_some_and(is_of_this);
        if is_here && !matches!(self.text(&path), Ok(None)) {
            return self.read_file(&path, IfMissing::Told, 0);
        }
        // A path of another machine, or of another cluster on this one.
        self.problem(format!(
            "its server used {}, which is not read (copy it to {MAIN_FILE} in the data directory)",
            used.display()
        ));
        self.read_file(&main, IfMissing::Ignored, 0);
    }

    /// Reads a file and the files that it includes. Postgres would not start with a line that is no setting, so all
    /// others count.
    fn read_file(&mut self, path: &Path, if_missing: IfMissing, depth: usize) {
        let shown = self.shown(path);
        if depth > DEPTH_MAX || (depth > 0 && self.files >= FILES_MAX) {
            return self.problem(format!("{shown} is one of too many files"));
        }
        self.files += 1;
        let text = match self.text(path) {
            Ok(Some(text)) => text,
            Ok(None) if if_missing == IfMissing::Ignored => return,
            Ok(None) => return self.problem(format!("{shown} does not exist")),
            Err(reason) => return self.problem(format!("{shown} {reason}")),
        };
        let text = String::from_utf8_lossy(&text);
        for (number, entry) in conf_file::parse(&text) {
            match entry {
                Entry::Setting(name, value) => self.set(name, value),
                Entry::Include(kind, named) => self.include(kind, path, &named, depth + 1),
                Entry::Invalid => self.problem(format!("line {number} of {shown} is no setting")),
            }
        }
    }

    fn include(&mut self, kind: Include, including: &Path, named: &str, depth: usize) {
        let parent = including.parent().unwrap_or(self.root);
        let path = normalized(&parent.join(named));
        match kind {
            Include::File => self.read_file(&path, IfMissing::Told, depth),
            Include::FileIfExists => self.read_file(&path, IfMissing::Ignored, depth),
            Include::Directory => match self.names(&path) {
                Ok(names) => {
                    for name in names {
                        self.read_file(&path.join(name), IfMissing::Told, depth);
                    }
                }
                Err(reason) => {
                    let shown = self.shown(&path);
                    self.problem(format!("{shown} {reason}"));
                }
            },
        }
    }

    /// The text of a file; `None` if it is missing. The error is the end of a sentence about the file.
    fn text(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        if let Ok(relative) = path.strip_prefix(self.root) {
            match self.text_inside(relative) {
                // A link, also on the way: it may lead outside.
                Err(TreeError::Foreign { .. }) => {}
                read => return read.map_err(reason),
            }
        }
        self.text_outside(path)
    }

    fn text_inside(&self, relative: &Path) -> Result<Option<Vec<u8>>, TreeError> {
        let Some(found) = self.directory.find(relative)? else {
            return Ok(None);
        };
        let top = self.directory.stat()?;
        if found.st_nlink > 1 && found.st_uid != top.st_uid {
            // A link of a file that perhaps only root can read.
            let path = relative.to_owned();
            return Err(TreeError::Linked { path });
        }
        self.directory.read(relative, FILE_BYTES_MAX)
    }

    fn text_outside(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        let read = as_user(self.reader, || {
            // Trusted path: it may lead anywhere, and is read with the rights of its author.
            let path = match fs::canonicalize(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
                found => found?,
            };
            if path.extension().is_none_or(|extension| extension != "conf") {
                return Ok(Err("leads to a file that is not named .conf".to_owned()));
            }
            Ok(beneath::read_file(&path, FILE_BYTES_MAX).map_err(reason))
        });
        read.unwrap_or_else(|error| Err(reason_of_io(&error)))
    }

    /// The names of the files that an include of a directory includes, in their order.
    fn names(&self, path: &Path) -> Result<Vec<String>, String> {
        let inside = path.strip_prefix(self.root).map(|relative| {
            let directory = self.directory.directory(relative)?;
            let names = directory.names()?.take(FILES_MAX);
            names.collect::<Result<Vec<OsString>, TreeError>>()
        });
        let names = match inside {
            Ok(Err(TreeError::Foreign { .. })) | Err(_) => as_user(self.reader, || {
                // Trusted path: it is listed with the rights of its author.
                let entries = fs::read_dir(path)?.take(FILES_MAX);
                entries.map(|entry| Ok(entry?.file_name())).collect()
            })
            .map_err(|error| reason_of_io(&error)),
            Ok(names) => names.map_err(reason),
        };
        let names = names?.into_iter();
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".conf") && !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn set(&mut self, name: String, value: String) {
        let settings = &mut self.configuration.settings;
        if value.len() > VALUE_BYTES_MAX {
            return self.problem(format!("{name} has a value that is too long"));
        }
        if settings.len() < SETTINGS_MAX || settings.contains_key(&name) {
            settings.insert(name, value);
        } else {
            self.problem(format!("{name} is one of too many settings"));
        }
    }

    fn problem(&mut self, problem: String) {
        let problems = &mut self.configuration.problems;
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// A path as the problems have it.
    fn shown(&self, path: &Path) -> String {
        let shown = path.strip_prefix(self.root).unwrap_or(path);
        shown.display().to_string()
    }
}

/// Without `.` and `..`, as if no part were a link.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normalized.pop();
            }
            other => normalized.push(other),
        }
    }
    normalized
}

fn reason(error: TreeError) -> String {
    match error {
        TreeError::Io { source, .. } => reason_of_io(&source),
        TreeError::Foreign { kind, .. } => format!("is a {kind}"),
        TreeError::Linked { .. } => "has more than one hard link".to_owned(),
        _ => format!("is longer than {FILE_BYTES_MAX} bytes"),
    }
}

fn reason_of_io(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests;
