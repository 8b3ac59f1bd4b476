//! The users file: reloaded when it changes, and written by `multidb user`, with or without a daemon.
//!
//! A change keeps the rest of the file, comments included.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use multidb_actors::auth::Users;
use multidb_store::ProjectName;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::config::{Auth, ConfigFaults, parse_users, read_users_file};
use crate::fsutil::atomic_file::{self, directory_of};
use crate::fsutil::directory::create_missing;
use crate::reload::WatchedFiles;

mod tokens;

pub use self::tokens::NewToken;

/// Only the daemon may read the verifiers.
const MODE: u32 = 0o600;

/// The users of the configuration and of the file. The configuration overrides the file.
///
/// # Errors
///
/// The file has faults.
pub fn load(auth: &Auth) -> Result<Users, ConfigFaults> {
    let mut users = read_users_file(&auth.users_file)?;
    let configured = auth.users.iter();
    users.extend(configured.map(|(name, user)| (name.clone(), Arc::clone(user))));
    Ok(users)
}

/// The users of a running daemon: from the configuration and the last valid file.
pub struct LiveUsers {
    auth: Auth,
    sender: watch::Sender<Users>,
    /// Held while the file is read and published, so that an older version never replaces a newer one.
    reload_lock: Mutex<()>,
}

impl LiveUsers {
    /// Reads the users for the first time.
    ///
    /// # Errors
    ///
    /// The file has faults.
    pub fn open(auth: Auth) -> Result<Self, ConfigFaults> {
        let (sender, _) = watch::channel(load(&auth)?);
        Ok(Self {
            auth,
            sender,
            reload_lock: Mutex::default(),
        })
    }

    /// The current users, and their changes.
    pub fn subscribe(&self) -> watch::Receiver<Users> {
        self.sender.subscribe()
    }

    /// Reads the file again. Returns the number of users. Open sessions are not affected.
    ///
    /// # Errors
    ///
    /// The file has faults. The previous users stay.
    pub fn reload(&self) -> Result<usize, ConfigFaults> {
        let _guard = self
            .reload_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let read = load(&self.auth);
        match &read {
            Ok(users) => tracing::info!(users = users.len(), "users read again"),
            Err(error) => tracing::error!(
                error = multidb_store::error_chain(error),
                "users were not read again, the previous ones stay"
            ),
        }
        let users = read?;
        let count = users.len();
        self.sender.send_replace(users);
        Ok(count)
    }

    /// Reads the file again when it changes, until all receivers are dropped.
    pub async fn keep_fresh(&self, watched: WatchedFiles) {
        let refresh = || drop(self.reload());
        watched.keep_fresh(&self.sender, refresh).await;
    }
}

/// The rights of a new user.
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    /// The Postgres roles that the user may log in as.
    pub roles: Vec<String>,
    /// The projects that the user may use; empty for all.
    pub projects: Vec<String>,
    /// Whether the user has the rights of the administrator, in the console and over HTTP.
    pub admin: bool,
    /// The most instances of the user that may exist at a time.
    pub max_instances: Option<i64>,
    /// The most instances that the user may create in a minute.
    pub creations_per_minute: Option<i64>,
}

impl NewUser {
    /// Checks that its projects are among the configured ones.
    ///
    /// # Errors
    ///
    /// Names the first project that is not configured.
    pub fn check_projects<'a>(
        &self,
        configured: impl Iterator<Item = &'a ProjectName>,
    ) -> anyhow::Result<()> {
        let configured: Vec<&str> = configured.map(ProjectName::as_str).collect();
        let unknown = |name: &&String| !configured.contains(&name.as_str());
        match self.projects.iter().find(unknown) {
            None => Ok(()),
            Some(name) if configured.is_empty() => {
                bail!("there is no project \"{name}\": the configuration has none")
            }
            Some(name) => bail!(
                "there is no project \"{name}\"; the configuration has {}",
                configured.join(", ")
            ),
        }
    }
}

/// The users file, locked and as text that can be changed. A second one waits in [`Self::open`].
pub struct UsersFile {
    path: PathBuf,
    document: DocumentMut,
    /// The file's directory, locked: the file itself is replaced.
    directory: File,
}

impl UsersFile {
    /// Locks and reads the file, which may not exist yet.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has faults. It is not changed then.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let directory = directory_of(path);
        // Before the first start this creates the root.
        create_missing(directory, 0o711)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let locked = File::open(directory)
            .and_then(|directory| {
                flock(&directory, FlockOperation::LockExclusive)?;
                Ok(directory)
            })
            .with_context(|| format!("cannot lock {}", directory.display()))?;
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        parse_users(path, &text)?;
        Ok(Self {
            path: path.to_owned(),
            document: text.parse()?,
            directory: locked,
        })
    }

    /// Whether the file has a user of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.document.contains_key(name)
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// The file has a user of this name.
    pub fn add(&mut self, name: &str, password: &str, new: &NewUser) -> anyhow::Result<()> {
        if self.contains(name) {
            return Err(user_exists(name));
        }
        let mut table = Table::new();
        table["verifier"] = value(verifier(password));
        table["roles"] = value(new.roles.iter().collect::<Array>());
        if !new.projects.is_empty() {
            table["projects"] = value(new.projects.iter().collect::<Array>());
        }
        if new.admin {
            table["admin"] = value(true);
        }
        if let Some(max) = new.max_instances {
            table["max_instances"] = value(max);
        }
        if let Some(max) = new.creations_per_minute {
            table["creations_per_minute"] = value(max);
        }
        self.document.insert(name, Item::Table(table));
        Ok(())
    }

    /// Changes a user's password.
    ///
    /// # Errors
    ///
    /// The file has no user of this name.
    pub fn set_password(&mut self, name: &str, password: &str) -> anyhow::Result<()> {
        let user = self.document.get_mut(name);
        let user = user.and_then(Item::as_table_like_mut);
        let user = user.ok_or_else(|| no_such_user(name, &self.path))?;
        user.insert("verifier", value(verifier(password)));
        Ok(())
    }

    /// Removes a user.
    ///
    /// # Errors
    ///
    /// The file has no user of this name.
    pub fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        let removed = self.document.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| no_such_user(name, &self.path))
    }

    /// Replaces the file, with mode 0600. It keeps its owner, and a new one gets that of its directory:
    /// root may write a file that a daemon of another user reads.
    ///
    /// # Errors
    ///
    /// The new text has faults, such as a user without roles, or it cannot be written. The old file stays.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = self.document.to_string();
        parse_users(&self.path, &text)?;
        let owner = std::fs::metadata(&self.path).or_else(|_| self.directory.metadata())?;
        let keep_owner = |new: &File| {
            if owner.uid() == new.metadata()?.uid() {
                return Ok(());
            }
            fchown(new, Some(owner.uid()), Some(owner.gid())).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("the file belongs to another user: {error}"),
                )
            })
        };
        atomic_file::replace(&self.path, text.as_bytes(), MODE, keep_owner)
            .with_context(|| format!("cannot replace {}", self.path.display()))
    }
}

/// The error for a new user whose name is taken.
pub fn user_exists(name: &str) -> anyhow::Error {
    anyhow!("user \"{name}\" already exists; \"multidb user passwd\" changes the password")
}

/// The error for a user that is not in the file.
pub fn no_such_user(name: &str, path: &Path) -> anyhow::Error {
    anyhow!("there is no user \"{name}\" in {}", path.display())
}

/// A password in the form that Postgres stores, with a random salt.
fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn staff() -> NewUser {
        NewUser {
            roles: vec!["app".to_owned()],
            projects: vec!["demo".to_owned()],
            admin: true,
            max_instances: Some(3),
            creations_per_minute: None,
        }
    }

    #[test]
    fn projects_of_a_user_must_be_configured() {
        let names: Vec<ProjectName> = ["demo", "other"].map(|name| name.parse().unwrap()).into();
        assert!(staff().check_projects(names.iter()).is_ok());
        assert!(NewUser::default().check_projects([].iter()).is_ok());
        for (configured, said) in [(&names[1..], "the configuration has other"), (&[], "none")] {
            let error = staff()
                .check_projects(configured.iter())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("\"demo\"") && error.contains(said),
                "{error}"
            );
        }
    }

    #[test]
    fn users_are_added_changed_and_removed_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/users.toml");
        let mut file = UsersFile::open(&path).unwrap();
        file.add("alice", "secret", &staff()).unwrap();
        file.save().unwrap();
        drop(file);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = read_users_file(&path).unwrap();
        assert_eq!(before["alice"].max_instances, Some(3));
        assert!(before["alice"].admin);

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# the team\n{text}")).unwrap();
        let mut file = UsersFile::open(&path).unwrap();
        assert!(file.add("alice", "other", &staff()).is_err());
        file.set_password("alice", "other").unwrap();
        file.add("bob smith", "x", &staff()).unwrap();
        file.save().unwrap();
        drop(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# the team\n"), "{text}");
        assert!(!text.contains("other"), "{text}");
        let after = read_users_file(&path).unwrap();
        assert_ne!(after["alice"].verifier, before["alice"].verifier);
        assert!(after.contains_key("bob smith"));

        let mut file = UsersFile::open(&path).unwrap();
        file.remove("bob smith").unwrap();
        assert!(file.remove("bob smith").is_err());
        assert!(file.set_password("bob smith", "x").is_err());
        file.save().unwrap();
        assert_eq!(read_users_file(&path).unwrap().len(), 1);
    }

    #[test]
    fn faulty_users_are_not_written_and_a_faulty_file_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let mut file = UsersFile::open(&path).unwrap();
        file.add("alice", "secret", &NewUser::default()).unwrap();
        assert!(file.save().unwrap_err().to_string().contains("roles"));
        assert!(!path.exists());
        drop(file);
        std::fs::write(&path, "[alice]\nverifier = \"secret\"\n").unwrap();
        let error = UsersFile::open(&path).err().unwrap().to_string();
        assert!(error.contains("alice.verifier"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn concurrent_changes_are_all_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let path = &path;
                scope.spawn(move || {
                    let mut file = UsersFile::open(path).unwrap();
                    file.add(&format!("user{number}"), "x", &staff()).unwrap();
                    file.save().unwrap();
                });
            }
        });
        assert_eq!(read_users_file(&path).unwrap().len(), 16);
    }

    #[test]
    fn file_keeps_its_owner_and_a_new_file_gets_that_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let daemon = 65_534;
        chown(dir.path(), Some(daemon), None).unwrap();
        for name in ["alice", "bob"] {
            let mut file = UsersFile::open(&path).unwrap();
            file.add(name, "x", &staff()).unwrap();
            file.save().unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), daemon);
            chown(dir.path(), Some(0), None).unwrap();
        }
    }
}
