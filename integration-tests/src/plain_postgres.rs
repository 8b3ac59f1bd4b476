//! A Postgres without multidb, of the newest major that is installed, to compare multidb with.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::DATABASE;
use crate::disk::open_for_others;
use crate::ports::Port;
use crate::programs::{self, postgres_bin, run_as_postgres};

/// A fresh cluster that listens on a port of its own, with the role `postgres`, the fixture's
/// database, empty, and `trust`. It is stopped and deleted when it is dropped.
pub struct PlainPostgres {
    port: Port,
    bin: PathBuf,
    major: u16,
    dir: TempDir,
}

impl PlainPostgres {
    /// Makes the cluster and starts it.
    #[track_caller]
    pub fn start() -> Self {
        let (bin, major) = postgres_bin();
        let dir = tempfile::Builder::new()
            .prefix("mdb-plain")
            .tempdir()
            .expect("a temporary directory can be made");
        open_for_others(dir.path());
        let postgres = Self {
            port: Port::take(),
            bin,
            major,
            dir,
        };
        let data = postgres.data();
        std::fs::create_dir(&data).expect("the cluster's directory can be made");
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = programs::postgres_ids();
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).expect("chown works for root");
        }
        run_as_postgres(
            Command::new(postgres.bin.join("initdb"))
                .arg("--pgdata")
                .arg(&data)
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--no-sync"]),
        )
        .ok();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c fsync=off \
             -c authentication_timeout=2s",
            postgres.port()
        );
        run_as_postgres(
            postgres
                .pg_ctl("start")
                .args(["--wait", "--options", &options, "--log"])
                .arg(data.join("start.log")),
        )
        .ok();
        let mut create = Command::new(postgres.bin.join("createdb"));
        create.args(["--host=127.0.0.1", "--username=postgres", "--port"]);
        programs::run(create.arg(postgres.port().to_string()).arg(DATABASE)).ok();
        postgres
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command
            .args([action, "--silent", "--pgdata"])
            .arg(self.data());
        command
    }
}

impl Drop for PlainPostgres {
    fn drop(&mut self) {
        // Its directory goes with it, so there is nothing to keep in order.
        run_as_postgres(self.pg_ctl("stop").args(["--wait", "--mode=immediate"]));
    }
}
