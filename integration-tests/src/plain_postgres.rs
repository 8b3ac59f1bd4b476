//! A Postgres without multidb, to compare multidb with and to import from.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::certificates::Identity;
use crate::daemon::DATABASE;
use crate::disk::open_for_others;
use crate::ports::Port;
use crate::programs::{self, ProgramOutput, other_postgres_bin, postgres_bin, run_as_postgres};

/// A new cluster that listens on its own port, with the role `postgres`, the fixture's
/// database (empty) and `trust`. Its drop stops and deletes it.
pub struct PlainPostgres {
    port: Port,
    bin: PathBuf,
    major: u16,
    dir: TempDir,
}

impl PlainPostgres {
    /// Makes the cluster, of the newest major that Debian's packages install, and starts it.
    #[track_caller]
    pub fn start() -> Self {
        let (bin, major) = postgres_bin();
        let postgres = Self::init(bin, major);
        postgres.run(&[]);
        postgres
    }

    /// Makes a cluster of one of [`OTHER_MAJORS`](programs::OTHER_MAJORS), and starts it.
    #[track_caller]
    pub fn start_other(major: u16) -> Self {
        let postgres = Self::init(other_postgres_bin(major), major);
        postgres.run(&[]);
        postgres
    }

    /// Makes a cluster with TLS and another superuser, whose password has this verifier,
    /// and starts it.
    #[track_caller]
    pub fn start_secured(identity: &Identity, user: &str, verifier: &str) -> Self {
        let (bin, major) = postgres_bin();
        let postgres = Self::init(bin, major);
        let data = postgres.data_dir();
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
        postgres.psql(DATABASE, &role).ok();
        postgres
    }

    /// Starts a standby of this one, by streaming replication.
    #[track_caller]
    pub fn start_standby(&self) -> Self {
        let standby = Self::in_directory(self.bin.clone(), self.major);
        let mut copy = self.client("pg_basebackup");
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--pgdata",
        ]);
        run_as_postgres(copy.arg(standby.data_dir())).ok();
        standby.run_server(&[]);
        standby
    }

    /// Starts it again after [`stop`](Self::stop), with these options more.
    #[track_caller]
    pub fn start_again(&self, more: &[&str]) {
        self.run_server(more);
    }

    fn init(bin: PathBuf, major: u16) -> Self {
        let postgres = Self::in_directory(bin, major);
        let data = postgres.data_dir();
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

    /// One whose data directory is empty.
    fn in_directory(bin: PathBuf, major: u16) -> Self {
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
        let data = postgres.data_dir();
        std::fs::create_dir(&data).expect("the cluster's directory can be made");
        give_to_postgres(&data);
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&data, private).expect("its mode can be set");
        postgres
    }

    fn run(&self, more: &[&str]) {
        self.run_server(more);
        let create = format!("create database {DATABASE}");
        self.psql("postgres", &create).ok();
    }

    fn run_server(&self, more: &[&str]) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c fsync=off \
             -c authentication_timeout=2s {}",
            self.port(),
            more.join(" ")
        );
        run_as_postgres(
            self.pg_ctl("start")
                .args(["--wait", "--options", &options, "--log"])
                .arg(self.data_dir().join("start.log")),
        )
        .ok();
    }

    /// Runs SQL by psql.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> ProgramOutput {
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        programs::run(psql.args(["--set=ON_ERROR_STOP=1", "--command", sql, database]))
    }

    /// Stops it cleanly, so that its data directory can be imported.
    #[track_caller]
    pub fn stop(&self) {
        run_as_postgres(self.pg_ctl("stop").args(["--wait", "--mode=fast"])).ok();
    }

    /// A client program of Postgres, with connection parameters.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        let port = format!("--port={}", self.port());
        command.args(["--host=127.0.0.1", "--username=postgres", &port]);
        command
    }

    /// Dumps its database in pg_dump's custom format.
    #[track_caller]
    pub fn dump(&self, to: &Path) {
        let mut dump = self.client("pg_dump");
        programs::run(
            dump.args(["--format=custom", "--file"])
                .arg(to)
                .arg(DATABASE),
        )
        .ok();
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command
            .args([action, "--silent", "--pgdata"])
            .arg(self.data_dir());
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
        // Its directory is deleted with it, so an immediate shutdown suffices. It may have been stopped.
        run_as_postgres(self.pg_ctl("stop").args(["--wait", "--mode=immediate"]));
    }
}
