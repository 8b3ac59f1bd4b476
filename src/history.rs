//! Keeps the events of each instance: a small file for each, `state/history/<name>.jsonl`, with a line for each
//! happening.
//!
//! A thread of its own writes them, so no actor waits for the disk, and nothing is made durable by force: after a power
//! cut the last lines may be missing. A line that cannot be read is left out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use multidb_actors::history::{Happening, History, Note, What};
use multidb_store::{InstanceName, Layout, error_chain};
use tokio::sync::mpsc;

use crate::fsutil::{directory, unless_missing};

/// The most events that are kept of an instance.
const HAPPENINGS_MAX: usize = 50;
/// A longer file is shortened to [`HAPPENINGS_MAX`].
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Begins to keep the history of the root's instances. Without a directory for it nothing is kept.
pub(crate) fn keep(layout: &Layout) -> History {
    let (history, notes) = History::new();
    let files = Files(layout.state().join("history"));
    let begun = directory::create_missing(&files.0, 0o700).and_then(|()| {
        let thread = std::thread::Builder::new().name("history".to_owned());
        thread.spawn(move || files.keep(notes))
    });
    match begun {
        Ok(_) => history,
        Err(error) => {
            let error = error_chain(&error);
            tracing::warn!(error, "what happens to instances is not kept");
            History::default()
        }
    }
}

/// The directory of the files.
struct Files(PathBuf);

impl Files {
    fn keep(self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.blocking_recv() {
            if let Err(error) = self.take(note) {
                // The disk may be full, which others say.
                let error = error_chain(&error);
                tracing::debug!(error, "what happened to an instance is not kept");
            }
        }
    }

    fn take(&self, note: Note) -> io::Result<()> {
        match note {
            Note::Happened(instance, happening) => {
                if happening.what == What::Created {
                    self.forget(&instance)?;
                }
                self.append(&instance, &happening)
            }
            Note::Renamed(from, to) => {
                self.forget(&to)?;
                unless_missing(fs::rename(self.path(&from), self.path(&to)))
            }
            Note::Forget(instance) => self.forget(&instance),
            Note::Read(instance, reply) => {
                let _gone = reply.send(self.read(&instance)?);
                Ok(())
            }
            Note::Flush(reply) => {
                let _gone = reply.send(());
                Ok(())
            }
        }
    }

    fn append(&self, instance: &InstanceName, happening: &Happening) -> io::Result<()> {
        let path = self.path(instance);
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(&line(happening)?)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            self.shorten(instance, &path)?;
        }
        Ok(())
    }

    fn shorten(&self, instance: &InstanceName, path: &Path) -> io::Result<()> {
        let new = self.0.join(".new");
        let mut file = File::create(&new)?;
        for happening in self.read(instance)? {
            file.write_all(&line(&happening)?)?;
        }
        fs::rename(new, path)
    }

    fn forget(&self, instance: &InstanceName) -> io::Result<()> {
        unless_missing(fs::remove_file(self.path(instance)))
    }

    /// The last ones, earliest first.
    fn read(&self, instance: &InstanceName) -> io::Result<Vec<Happening>> {
        let text = match fs::read_to_string(self.path(instance)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let lines = text.lines();
        let mut all: Vec<Happening> = lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        all.drain(..all.len().saturating_sub(HAPPENINGS_MAX));
        Ok(all)
    }

    fn path(&self, instance: &InstanceName) -> PathBuf {
        self.0.join(format!("{instance}.jsonl"))
    }
}

fn line(happening: &Happening) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(happening)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use multidb_actors::history::Cause;

    use super::*;

    fn name(name: &str) -> InstanceName {
        name.parse().unwrap()
    }

    fn files() -> (tempfile::TempDir, Files) {
        let directory = tempfile::tempdir().unwrap();
        let files = Files(directory.path().to_owned());
        (directory, files)
    }

    fn note(files: &Files, instance: &str, second: i64, what: What) {
        let at = Timestamp::from_second(second).unwrap();
        let happening = Happening { at, what };
        files
            .take(Note::Happened(name(instance), happening))
            .unwrap();
    }

    #[test]
    fn the_last_are_kept_in_little_room_by_the_name_of_the_instance() {
        let (_directory, files) = files();
        note(&files, "a", 0, What::Created);
        let stopped = || What::Stopped { cause: Cause::Idle };
        for second in 1..1000 {
            note(&files, "a", second, stopped());
        }
        let all = files.read(&name("a")).unwrap();
        assert_eq!(all.len(), HAPPENINGS_MAX);
        assert_eq!(all[49].at, Timestamp::from_second(999).unwrap());
        assert_eq!(all[49].what, stopped());
        assert!(files.path(&name("a")).metadata().unwrap().len() <= FILE_BYTES_MAX);

        note(&files, "b", 0, What::Created);
        files.take(Note::Renamed(name("a"), name("b"))).unwrap();
        assert_eq!(files.read(&name("b")).unwrap(), all);
        assert_eq!(files.read(&name("a")).unwrap(), []);
        // A new instance of the name has nothing of the old one.
        note(&files, "b", 2000, What::Created);
        assert_eq!(files.read(&name("b")).unwrap().len(), 1);
        files.take(Note::Forget(name("b"))).unwrap();
        files.take(Note::Forget(name("b"))).unwrap();
        assert_eq!(files.read(&name("b")).unwrap(), []);
    }

    #[test]
    fn lines_that_are_damaged_or_of_a_later_version_cost_no_others() {
        let (_directory, files) = files();
        note(&files, "a", 0, What::Started { login: None });
        let mut file = OpenOptions::new()
            .append(true)
            .open(files.path(&name("a")))
            .unwrap();
        let later = r#"{"at":"2026-01-01T00:00:00Z","what":"hibernated","where":"x"}"#;
        writeln!(file, "{later}\n{{\"at\":\"2026-01-").unwrap();
        note(&files, "a", 9, What::Exited);
        let what: Vec<_> = files
            .read(&name("a"))
            .unwrap()
            .into_iter()
            .map(|one| one.what)
            .collect();
        assert_eq!(
            what,
            [What::Started { login: None }, What::Other, What::Exited]
        );
    }
}
