//! One daemon with its snapshot, in one environment: a file system and a runtime.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use multidb_integration_tests::{Daemon, DaemonBuilder, Disk, Engine};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Client, Endpoint, Login};
use crate::http::Http;
use crate::say;
use crate::source::Source;

/// The snapshot's id.
const SNAPSHOT: &str = "bench";

/// A daemon. Dropping it stops it and deletes all of it.
pub(crate) struct Environment {
    daemon: Daemon,
    access: Access,
    disk: Disk,
    engine: Engine,
}

/// The sockets of a daemon, which threads can share.
#[derive(Debug)]
pub(crate) struct Access {
    admin: Http,
    endpoint: Endpoint,
}

impl Access {
    /// Connects to an instance, which may not exist yet, and says how long its first row took.
    #[track_caller]
    pub(crate) fn first_row(&self, name: &str) -> (Client, Duration) {
        let login = Login::trusted(Environment::user(name));
        Client::first_row(&self.endpoint, &login)
            .unwrap_or_else(|failure| panic!("{name}: {failure}"))
    }

    /// The daemon's facts about an instance.
    pub(crate) fn instance(&self, name: &str) -> Value {
        self.admin
            .request("GET", &format!("/v1/instances/{name}"), None)
    }

    /// Stops an instance, and says how long that took.
    pub(crate) fn stop(&self, name: &str) -> Duration {
        let begin = Instant::now();
        let shown = self
            .admin
            .request("POST", &format!("/v1/instances/{name}/stop"), None);
        let elapsed = begin.elapsed();
        assert_eq!(shown["state"], "stopped", "{shown}");
        elapsed
    }

    /// Pins an instance for good, and says how long that took.
    pub(crate) fn pin(&self, name: &str) -> Duration {
        let begin = Instant::now();
        let path = format!("/v1/instances/{name}/pin");
        self.admin.request("POST", &path, Some(&json!({})));
        begin.elapsed()
    }

    /// Deletes an instance.
    pub(crate) fn remove(&self, name: &str) {
        self.admin
            .request("DELETE", &format!("/v1/instances/{name}"), None);
    }
}

impl Environment {
    /// Starts a daemon and imports the snapshot.
    pub(crate) fn prepare(
        multidb: &Path,
        disk: Disk,
        engine: Engine,
        source: &Source,
        configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder,
    ) -> Self {
        let defaults = DaemonBuilder::new(multidb, disk, engine)
            .without_snapshots()
            .limit("instance_idle_timeout", "1h")
            .limit("session_idle_timeout", "1h")
            .set_raw("limits", "max_running", "100")
            .set_raw("limits", "max_connections", "11000")
            .set_raw("limits", "max_unauthenticated", "1000")
            .set("postgres.settings", "max_connections", "150");
        let daemon = configure(defaults).start();
        // Warnings are for the scenarios to judge.
        daemon.expect_log("");
        let environment = Self {
            access: Access {
                admin: Http::new(&daemon.admin_socket()),
                endpoint: Endpoint::Tcp(daemon.port()),
            },
            daemon,
            disk,
            engine,
        };
        say(&format!("importing the snapshot ({})", environment.name()));
        let from = source.data_dir().display().to_string();
        environment
            .daemon
            .cli(&[
                "snapshot",
                "import",
                SNAPSHOT,
                "--project",
                "demo",
                "--data-dir",
                &from,
            ])
            .ok();
        environment
    }

    /// The environment's name in the table.
    pub(crate) fn name(&self) -> String {
        let disk = match self.disk {
            Disk::Xfs => "xfs",
            Disk::Btrfs => "btrfs",
        };
        let engine = match self.engine {
            Engine::Process => "process",
            Engine::Docker => "docker",
        };
        format!("{disk}, {engine}")
    }

    pub(crate) fn disk(&self) -> Disk {
        self.disk
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// A directory for the lower bound's own files, on the same file system.
    pub(crate) fn dir(&self) -> &Path {
        self.daemon.dir()
    }

    /// The daemon's facts about the snapshot.
    pub(crate) fn snapshot(&self) -> Value {
        let path = format!("/v1/snapshots/{SNAPSHOT}");
        self.access.admin.request("GET", &path, None)
    }

    /// The answer of the admin socket to a GET.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.access.admin.request("GET", path, None)
    }

    /// The snapshot's data directory.
    pub(crate) fn snapshot_data(&self) -> PathBuf {
        path(&self.snapshot(), "data_dir")
    }

    /// Where clients connect.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.access.endpoint.clone()
    }

    /// The same daemon, for several threads.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The Unix socket where clients connect.
    pub(crate) fn unix_endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.daemon.unix_listener())
    }

    /// The user name that creates or wakes an instance.
    pub(crate) fn user(name: &str) -> String {
        format!("instance:{name},gitref:main")
    }

    /// Connects to an instance, which may not exist yet, and says how long its first row took.
    #[track_caller]
    pub(crate) fn first_row(&self, name: &str) -> (Client, Duration) {
        self.access.first_row(name)
    }

    /// Stops an instance, and says how long that took.
    pub(crate) fn stop(&self, name: &str) -> Duration {
        self.access.stop(name)
    }

    /// Deletes an instance.
    pub(crate) fn remove(&self, name: &str) {
        self.access.remove(name);
    }

    /// The daemon's facts about an instance.
    pub(crate) fn instance(&self, name: &str) -> Value {
        self.access.instance(name)
    }

    /// The directory of an instance's socket.
    pub(crate) fn run_dir(&self, name: &str) -> PathBuf {
        let shown = self.instance(name);
        let uid = shown["uid"].as_str().expect("an instance has a uid");
        self.daemon.root().join("run").join(uid)
    }

    /// An instance's data directory.
    pub(crate) fn data_dir(&self, name: &str) -> PathBuf {
        path(&self.instance(name), "data_dir")
    }

    /// How long the clone of an instance took, by the daemon's log.
    pub(crate) fn clone_milliseconds(&self, name: &str) -> f64 {
        let log = self.daemon.log();
        let named = format!("instance={name} ");
        log.lines()
            .filter(|line| line.contains("clone made") && line.contains(&named))
            .filter_map(|line| line.split("elapsed_ms=").nth(1))
            .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
            .next_back()
            .unwrap_or_else(|| panic!("the log does not tell how {name} was cloned:\n{log}"))
    }

    /// Syncs the file system, so that a measurement does not pay for earlier writes.
    pub(crate) fn settle(&self) {
        let directory = File::open(self.dir()).expect("the daemon's directory can be opened");
        rustix::fs::syncfs(directory).expect("a file system can be synced");
    }
}

fn path(shown: &Value, key: &str) -> PathBuf {
    PathBuf::from(
        shown[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key}: {shown}")),
    )
}

/// Does this for all of them at once, and gives the results in order.
pub(crate) fn at_once<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    each: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    thread::scope(|scope| {
        let started: Vec<_> = all
            .into_iter()
            .map(|one| {
                let each = &each;
                scope.spawn(move || each(one))
            })
            .collect();
        let ended = started.into_iter().map(ScopedJoinHandle::join);
        ended
            .map(|result| result.expect("no thread of the bench panics"))
            .collect()
    })
}
