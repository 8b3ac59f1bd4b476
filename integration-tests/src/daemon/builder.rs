//! The configuration of a test's daemon.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DATABASE, Daemon};
use crate::disk::{Disk, SmallDisk};
use crate::fixture::{Fixture, Repository};
use crate::ports::Port;
use crate::programs::run;

/// The section of the one project.
const PROJECT: &str = "project.demo";

/// The runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Local processes.
    Process,
    /// Containers.
    Docker,
}

/// Builds a daemon.
pub struct DaemonBuilder {
    binary: PathBuf,
    disk: Disk,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    git: Option<String>,
    snapshots: bool,
    small_disk: Option<(Disk, u64)>,
    as_postgres: bool,
}

impl DaemonBuilder {
    /// A daemon of this program, with the fixture's two snapshots, on this file system.
    pub fn new(binary: impl AsRef<Path>, disk: Disk, engine: Engine) -> Self {
        let builder = Self {
            binary: binary.as_ref().to_owned(),
            disk,
            settings: BTreeMap::new(),
            git: None,
            snapshots: true,
            small_disk: None,
            as_postgres: false,
        };
        let builder = builder
            .set("limits", "disk_reserve", "64MiB")
            // The file system is shared with other tests.
            .set("limits", "disk_high_water", "none")
            .set("limits", "start_timeout", "60s")
            // Its jobs would show up beside those of a test.
            .set_raw("dedup", "enabled", "false");
        match engine {
            Engine::Process => builder.set("runtime", "kind", "process"),
            Engine::Docker => {
                let image = std::env::var("MULTIDB_TEST_IMAGE").expect(
                    "MULTIDB_TEST_IMAGE is not set: it names a Postgres image; scripts/test.sh builds one",
                );
                builder
                    .set("runtime", "kind", "docker")
                    .set("runtime", "image", &image)
            }
        }
    }

    /// Sets a string in a section of the configuration.
    #[must_use]
    pub fn set(self, section: &str, key: &str, value: &str) -> Self {
        self.set_raw(section, key, &format!("{value:?}"))
    }

    /// Sets a value in TOML syntax.
    #[must_use]
    pub fn set_raw(mut self, section: &str, key: &str, value: &str) -> Self {
        let keys = self.settings.entry(section.to_owned()).or_default();
        keys.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a limit.
    #[must_use]
    pub fn limit(self, key: &str, value: &str) -> Self {
        self.set("limits", key, value)
    }

    /// Sets the project's repository to this URL instead of the fixture's path.
    #[must_use]
    pub fn git(mut self, url: &str) -> Self {
        self.git = Some(url.to_owned());
        self
    }

    /// Puts the root on a separate XFS of this size, which can be filled.
    #[must_use]
    pub fn small_disk(self, bytes: u64) -> Self {
        self.small_disk_of(Disk::Xfs, bytes)
    }

    /// Puts the root on a separate file system of this kind and size.
    #[must_use]
    pub fn small_disk_of(mut self, disk: Disk, bytes: u64) -> Self {
        self.small_disk = Some((disk, bytes));
        self
    }

    /// Runs it as Postgres' user, an ordinary one, which owns its directory.
    #[must_use]
    pub fn as_postgres(mut self) -> Self {
        self.as_postgres = true;
        self
    }

    /// Leaves the snapshots out.
    #[must_use]
    pub fn without_snapshots(mut self) -> Self {
        self.snapshots = false;
        self
    }

    /// Makes the directory and the configuration without starting the daemon, which creates the root,
    /// unless snapshots or a disk are in it.
    #[track_caller]
    pub fn prepare(self) -> Daemon {
        let dir = self.disk.temp_dir();
        let root = dir.path().join("root");
        if self.snapshots || self.small_disk.is_some() {
            std::fs::create_dir(&root).expect("the root directory can be made");
        }
        let image = dir.path().join("small.img");
        let small_disk = self
            .small_disk
            .map(|(disk, bytes)| SmallDisk::mount(&image, disk, bytes, &root));
        if self.snapshots {
            Fixture::of(self.disk, &self.binary).seed(&root);
        }
        let daemon = Daemon {
            binary: self.binary.clone(),
            child: RefCell::new(None),
            repository: Repository::create(&dir.path().join("repository")),
            _small_disk: small_disk,
            dir,
            port: Port::take(),
            expected_log: RefCell::new(Vec::new()),
            as_postgres: self.as_postgres,
        };
        std::fs::write(daemon.config_file(), self.toml(&daemon))
            .expect("the configuration can be written");
        if self.as_postgres {
            let mut chown = Command::new("chown");
            run(chown
                .args(["--recursive", "postgres:postgres"])
                .arg(daemon.dir()))
            .ok();
        }
        daemon
    }

    /// Makes the daemon and starts it.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let daemon = self.prepare();
        daemon.start();
        daemon
    }

    fn toml(&self, daemon: &Daemon) -> String {
        let git = self.git.clone();
        let git = git.unwrap_or_else(|| daemon.repository.path().display().to_string());
        let mut toml = format!(
            "listen = [\"127.0.0.1:{}\", \"{}\"]\nroot = {:?}\nadmin_socket = {:?}\n",
            daemon.port(),
            daemon.unix_listener().display(),
            daemon.root(),
            daemon.admin_socket(),
        );
        for (section, keys) in self.settings.iter().filter(|(name, _)| *name != PROJECT) {
            let _ = writeln!(toml, "\n[{section}]");
            for (key, value) in keys {
                let _ = writeln!(toml, "{key} = {value}");
            }
        }
        let _ = write!(
            toml,
            "\n[{PROJECT}]\ngit = {git:?}\nlisting = \"migrations.txt\"\nmigrations = \"django\"\n\
             database = \"{DATABASE}\"\nrole = \"postgres\"\n"
        );
        for (key, value) in self.settings.get(PROJECT).into_iter().flatten() {
            let _ = writeln!(toml, "{key} = {value}");
        }
        toml
    }
}
