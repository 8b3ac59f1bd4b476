//! Answers on disk: a small file for each, `state/answers/<hash of user and key>.json`.
//!
//! A thread of its own writes them, so a disk that hangs keeps no other request waiting. Losing one loses no data: its
//! request is carried out when it is sent again.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use multidb_store::{Layout, atomic_file, error_chain};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::answers::{Answered, Key};
use crate::fsutil::{directory, unless_missing};

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Files(mpsc::Sender<Change>);

#[derive(Debug)]
struct Change {
    forgotten: Vec<Key>,
    answered: Option<(Answered, oneshot::Sender<()>)>,
}

/// Where the files are.
#[derive(Debug)]
struct Directory(PathBuf);

impl Files {
    /// Reads the answers of the daemon before, and starts the thread.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read, or the system has no threads left.
    pub(super) fn open(layout: &Layout) -> io::Result<(Self, Vec<Answered>)> {
        let files = Directory(layout.state().join("answers"));
        directory::create_missing(&files.0, 0o700)?;
        let answers = files.read_all()?;
        let (sender, changes) = mpsc::channel();
        let thread = std::thread::Builder::new().name("answers".to_owned());
        thread.spawn(move || files.keep(&changes))?;
        Ok((Self(sender), answers))
    }

    /// Removes the files of these keys, later.
    pub(super) fn forget(&self, forgotten: Vec<Key>) {
        if !forgotten.is_empty() {
            self.send(Change {
                forgotten,
                answered: None,
            });
        }
    }

    /// Removes files, and writes one. It is durable when this returns, unless the disk failed.
    pub(super) async fn write(&self, answered: Answered, forgotten: Vec<Key>) {
        let (written, durable) = oneshot::channel();
        self.send(Change {
            forgotten,
            answered: Some((answered, written)),
        });
        // The thread drops it where the disk fails.
        let _durable = durable.await;
    }

    fn send(&self, change: Change) {
        if self.0.send(change).is_err() {
            tracing::debug!("the thread of answers has ended");
        }
    }
}

impl Directory {
    /// Until the sender is dropped.
    fn keep(&self, changes: &mpsc::Receiver<Change>) {
        for change in changes {
            if let Err(error) = self.carry_out(change) {
                // The disk may be full, which others say.
                let error = error_chain(&error);
                tracing::debug!(error, "an answer is not kept over a restart");
            }
        }
    }

    fn carry_out(&self, change: Change) -> io::Result<()> {
        for key in &change.forgotten {
            unless_missing(fs::remove_file(self.path(key)))?;
        }
        if let Some((answered, written)) = change.answered {
            let text = serde_json::to_vec(&answered)?;
            atomic_file::replace(&self.path(&answered.key), &text, 0o600, |_| Ok(()))?;
            let _gone = written.send(());
        }
        Ok(())
    }

    /// What cannot be read is removed: a file that was not completed, or that another version wrote.
    fn read_all(&self) -> io::Result<Vec<Answered>> {
        let mut answers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let read = fs::read(&path).map(|text| serde_json::from_slice::<Answered>(&text));
            match read {
                Ok(Ok(answered)) if path == self.path(&answered.key) => answers.push(answered),
                Ok(_) => unless_missing(fs::remove_file(&path))?,
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    fn path(&self, key: &Key) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&key.user, &key.key] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        self.0
            .join(format!("{}.json", hex::encode(hash.finalize())))
    }
}

#[cfg(test)]
mod tests {
    use multidb_store::ObservedTime;

    use super::super::answers::Answer;
    use super::*;

    fn answered(key: &str) -> Answered {
        Answered {
            key: Key {
                user: "alice".to_owned(),
                key: key.to_owned(),
            },
            fingerprint: [7; 32],
            since: ObservedTime::from_millis(5),
            answer: Answer {
                status: 200,
                content_type: Some("application/json".to_owned()),
                error: None,
                body: "{}".to_owned(),
            },
        }
    }

    #[tokio::test]
    async fn answers_are_there_after_a_restart_unless_they_were_forgotten_or_are_broken() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir(layout.state()).unwrap();
        let (files, read) = Files::open(&layout).unwrap();
        assert!(read.is_empty());
        files.write(answered("../a"), Vec::new()).await;
        files.write(answered("b"), Vec::new()).await;
        files.write(answered("c"), vec![answered("b").key]).await;
        let directory = layout.state().join("answers");
        fs::write(directory.join(".new"), "{").unwrap();
        fs::write(
            directory.join("d.json"),
            serde_json::to_vec(&answered("d")).unwrap(),
        )
        .unwrap();
        let (_, mut read) = Files::open(&layout).unwrap();
        read.sort_by(|a, b| a.key.key.cmp(&b.key.key));
        assert_eq!(read, [answered("../a"), answered("c")]);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
    }
}
