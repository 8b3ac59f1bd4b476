//! The cluster that the snapshots are imported from: a pgbench database of a given size, written
//! sequentially, as an import writes a snapshot.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{Disk, ProgramOutput, postgres_bin, run, run_as_postgres};

use crate::client::DATABASE;
use crate::say;

/// pgbench's scale for one GiB: a unit is 100,000 rows, 12.8 MB of table and 2.1 MB of index.
pub(crate) const SCALE_OF_GIB: u32 = 68;

/// Nothing of the source has to survive a crash, and nothing may come between the writes of a load.
/// Rows written in the transaction that made the table need no WAL at `minimal`.
const SETTINGS: [&str; 9] = [
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=256MB",
    "maintenance_work_mem=512MB",
    "checkpoint_timeout=1h",
];

/// A cleanly stopped data directory.
pub(crate) struct Source {
    dir: PathBuf,
}

impl Source {
    /// Makes one of about this size.
    pub(crate) fn generate(disk: Disk, gib: u32) -> Self {
        say(&format!("making a database of {gib} GiB on {disk:?}"));
        let source = Self::at(disk);
        let postgres = run(Command::new("id").args(["--user", "postgres"]));
        let uid = postgres.ok().parse().expect("a user id is a number");
        std::fs::create_dir(&source.dir).expect("the source's directory can be made");
        chown(&source.dir, Some(uid), None).expect("root can give a directory away");
        let bin = postgres_bin().0;
        run_as_postgres(
            Command::new(bin.join("initdb"))
                .arg("--pgdata")
                .arg(source.data_dir())
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--no-sync"]),
        )
        .ok();
        source.pg_ctl("start").ok();
        source.client("createdb", &[DATABASE]);
        let scale = format!("--scale={}", SCALE_OF_GIB * gib);
        // Drop, create, generate (a COPY with FREEZE), vacuum, primary keys.
        let steps = "--init-steps=dtgvp";
        source.client(
            "pgbench",
            &["--initialize", steps, "--quiet", &scale, DATABASE],
        );
        source.client(
            "psql",
            &[
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--command=create table django_migrations (id bigserial primary key,
                     app text not null, name text not null, applied timestamptz not null);
                 insert into django_migrations (app, name, applied)
                     values ('auth', '0001_initial', now())",
                DATABASE,
            ],
        );
        source.pg_ctl("stop").ok();
        source
    }

    /// Copies one to another file system.
    pub(crate) fn copy(from: &Self, disk: Disk) -> Self {
        say(&format!("copying the database to {disk:?}"));
        let source = Self::at(disk);
        run(Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(&from.dir)
            .arg(&source.dir))
        .ok();
        source
    }

    /// The data directory to import.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Deletes it.
    pub(crate) fn delete(self) {
        std::fs::remove_dir_all(&self.dir).expect("the source can be deleted");
    }

    fn at(disk: Disk) -> Self {
        Self {
            dir: disk.mount().join("source"),
        }
    }

    fn pg_ctl(&self, action: &str) -> ProgramOutput {
        let mut options = format!("-c unix_socket_directories={}", self.dir.display());
        for setting in SETTINGS {
            options.push_str(" -c ");
            options.push_str(setting);
        }
        let mut command = Command::new(postgres_bin().0.join("pg_ctl"));
        command
            .args([action, "--silent", "--wait", "--timeout=600", "--pgdata"])
            .arg(self.data_dir());
        if action == "start" {
            // Not into a pipe of ours: the server keeps it open.
            let log = self.dir.join("log");
            command.args(["--options", &options, "--log"]).arg(log);
        }
        run_as_postgres(&mut command)
    }

    fn client(&self, program: &str, args: &[&str]) {
        let program: &Path = &postgres_bin().0.join(program);
        let mut command = Command::new(program);
        command.arg("--host").arg(&self.dir);
        run(command.arg("--username=postgres").args(args)).ok();
    }
}
