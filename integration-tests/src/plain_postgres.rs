//! A Postgres without multidb, of the newest major that is installed, to compare multidb with.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::certificates::Identity;
use crate::daemon::DATABASE;
use crate::disk::open_for_others;
use crate::ports::Port;
use crate::programs::{self, postgres_bin, run_as_postgres};

/// A new cluster that listens on its own port, with the role `postgres`, the fixture's
/// database (empty) and `trust`. Its drop stops and deletes it.
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
        let postgres = Self::init();
        postgres.run(&[]);
        postgres
    }

    /// Makes a cluster with TLS and another superuser, whose password has this verifier,
    /// and starts it.
    #[track_caller]
    pub fn start_secured(identity: &Identity, user: &str, verifier: &str) -> Self {
        let postgres = Self::init();
        let data = postgres.data();
        for (from, name) in [
            (&identity.cert, "server.crt"),
            (&identity.key, "server.key"),
        ] {
            let to = data.join(name);
            std::fs::copy(from, &to).expect("a file can be copied");
            give_to_postgres(&to);
        }
        let hba = format!("host all {user} all scram-sha-256\nhost all all all trust\n");
        std::fs::write(data.join("pg_hba.conf"), hba).expect("the file can be written");
        postgres.run(&["-c", "ssl=on"]);
        let role = format!("create role {user} superuser login password '{verifier}'");
        let mut psql = postgres.client("psql");
        programs::run(psql.args(["--no-psqlrc", "--command", &role, DATABASE])).ok();
        postgres
    }

    fn init() -> Self {
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
        give_to_postgres(&data);
        run_as_postgres(
            Command::new(postgres.bin.join("initdb"))
                .arg("--pgdata")
                .arg(&data)
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--no-sync"]),
        )
        .ok();
        postgres
    }

    fn run(&self, more: &[&str]) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c fsync=off \
             -c authentication_timeout=2s {}",
            self.port(),
            more.join(" ")
        );
        run_as_postgres(
            self.pg_ctl("start")
                .args(["--wait", "--options", &options, "--log"])
                .arg(self.data().join("start.log")),
        )
        .ok();
        programs::run(self.client("createdb").arg(DATABASE)).ok();
    }

    /// A client program of Postgres, with connection parameters.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        let port = format!("--port={}", self.port());
        command.args(["--host=127.0.0.1", "--username=postgres", &port]);
        command
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

/// Postgres refuses to run as root and requires that it owns its key file.
fn give_to_postgres(path: &Path) {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = programs::postgres_ids();
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown works for root");
    }
}

impl Drop for PlainPostgres {
    fn drop(&mut self) {
        // Its directory is deleted with it, so an immediate shutdown suffices.
        run_as_postgres(self.pg_ctl("stop").args(["--wait", "--mode=immediate"]));
    }
}
