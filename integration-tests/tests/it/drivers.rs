//! Drivers of other languages and Postgres' own programs, through TLS and SCRAM. Each runs all that it supports:
//! prepared statements, COPY, LISTEN and NOTIFY, cancelling, large results. The scripts are in
//! `integration-tests/drivers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{
    Authority, Daemon, DaemonBuilder, Identity, ProgramOutput, postgres_bin, run,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;

use crate::authenticating::user;
use crate::daemon;

mod console;
mod rust;

const USER: &str = "instance:drivers,gitref:main,user:alice";
const PASSWORD: &str = "se cret/?&";

/// A daemon on a network, as it were: TLS, and a password.
struct Site {
    daemon: Daemon,
    authority: PathBuf,
    _certificates: TempDir,
}

impl Site {
    fn open() -> Self {
        Self::of(daemon())
    }

    fn of(daemon: DaemonBuilder) -> Self {
        let certificates = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::create(certificates.path());
        let Identity { cert, key } = authority.issue("localhost", &["localhost"]);
        let text = |path: &Path| path.to_str().expect("the path is a text").to_owned();
        let daemon = daemon
            .set("auth", "method", "scram-sha-256")
            .set("tls", "cert", &text(&cert))
            .set("tls", "key", &text(&key))
            .prepare();
        user(&daemon, &["add", "alice", "--role", "postgres"], PASSWORD).ok();
        daemon.start();
        Self {
            daemon,
            authority: authority.cert(),
            _certificates: certificates,
        }
    }

    /// All of it in one URL.
    fn url(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        format!(
            "postgresql://{}:{}@localhost:{}/app?sslmode=verify-full&sslrootcert={}",
            encode(USER),
            encode(PASSWORD),
            self.daemon.port(),
            self.authority.display(),
        )
    }

    /// Runs a program that is told where to connect; it must succeed.
    #[track_caller]
    fn run(&self, command: &mut Command) -> String {
        command
            .env("MULTIDB_PORT", self.daemon.port().to_string())
            .env("MULTIDB_USER", USER)
            .env("MULTIDB_PASSWORD", PASSWORD)
            .env("MULTIDB_CA", &self.authority)
            .env("MULTIDB_URL", self.url());
        run(command).ok().to_owned()
    }

    /// Runs a script of Python's.
    #[track_caller]
    fn python(&self, script: &str) {
        // Debian's, which has Debian's drivers.
        self.python_of("/usr/bin/python3", script);
    }

    /// Runs a script by this Python.
    #[track_caller]
    fn python_of(&self, program: &str, script: &str) {
        let mut command = Command::new(program);
        command.args(["-B", "-W", "error::ResourceWarning"]);
        self.run(command.arg(scripts().join(script)));
    }

    /// Runs a script of Node's.
    #[track_caller]
    fn node(&self, script: &str) {
        let modules = [
            "/usr/share/nodejs",
            "/usr/local/share/multidb-tests/usr/share/nodejs",
        ];
        let mut command = Command::new("node");
        command.env("NODE_PATH", modules.join(":"));
        self.run(command.arg(scripts().join(script)));
    }

    /// Runs a program of one Java file, with these of Debian's libraries.
    #[track_caller]
    fn java(&self, libraries: &[&str], source: &str) {
        let libraries: Vec<_> = libraries
            .iter()
            .map(|library| format!("/usr/share/java/{library}.jar"))
            .collect();
        let mut command = Command::new("java");
        command.args(["-cp", &libraries.join(":")]);
        self.run(command.arg(scripts().join(source)));
    }

    /// Where and how programs of Postgres' connect to an instance.
    fn conninfo(&self, instance: &str) -> String {
        format!(
            "host=localhost port={} user=instance:{instance},gitref:main,user:alice \
             password='{PASSWORD}' dbname=app sslmode=verify-full channel_binding=require \
             sslrootcert={}",
            self.daemon.port(),
            self.authority.display(),
        )
    }

    /// Runs SQL by psql, which prints nothing but rows.
    fn psql(&self, to: &str, sql: &str) -> ProgramOutput {
        let mut command = program("psql");
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]);
        run(command.args(["--dbname", to, "--command", sql]))
    }

    /// Runs a script by psql, with commands of its own.
    fn psql_script(&self, to: &str, script: &str) -> ProgramOutput {
        let file = self.daemon.dir().join("script.sql");
        std::fs::write(&file, script).expect("it can be written");
        let mut command = program("psql");
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]);
        command.args(["--set=ON_ERROR_STOP=1", "--dbname", to, "--file"]);
        run(command.arg(&file))
    }
}

fn program(name: &str) -> Command {
    Command::new(postgres_bin().0.join(name))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/drivers")
}

#[test]
fn psycopg3_works_unchanged() {
    Site::open().python("use_psycopg3.py");
}

#[test]
fn libpqs_new_functions_cancel_over_tls() {
    Site::open().python_of(crate::frameworks::PYTHON, "cancel_libpq17.py");
}

#[test]
fn psycopg2_works_unchanged() {
    Site::open().python("use_psycopg2.py");
}

#[test]
fn asyncpg_works_unchanged() {
    Site::open().python("use_asyncpg.py");
}

#[test]
fn sqlalchemy_works_unchanged() {
    Site::open().python("use_sqlalchemy.py");
}

#[test]
fn django_works_unchanged() {
    Site::open().python("use_django.py");
}

#[test]
fn node_postgres_works_unchanged() {
    Site::open().node("use_node_postgres.js");
}

#[test]
fn jdbc_works_unchanged() {
    Site::open().java(&["postgresql"], "UseJdbc.java");
}

/// A daemon that ends the sessions in a pool soon.
fn impatient() -> Site {
    Site::of(daemon().limit("session_idle_timeout", "1s"))
}

#[test]
fn session_that_ended_in_sqlalchemys_pool_costs_nothing() {
    impatient().python("pool_sqlalchemy.py");
}

#[test]
fn session_that_ended_in_node_postgres_pool_costs_nothing() {
    impatient().node("pool_node_postgres.js");
}

#[test]
fn session_that_ended_in_hikaris_pool_costs_nothing() {
    impatient().java(&["postgresql", "HikariCP", "slf4j-api"], "PoolHikari.java");
}

#[test]
fn psql_works_unchanged() {
    let site = Site::open();
    assert_eq!(site.psql(&site.url(), "select 1").ok(), "1");
    let to = site.conninfo("psql");
    let prepared = site.psql(&to, "prepare plus (int) as select $1 + 1; execute plus (1)");
    assert_eq!(prepared.ok(), "2");
    let large = site.psql(
        &to,
        "select repeat('x', 100) from generate_series(1, 100000)",
    );
    assert_eq!(large.ok().len(), 101 * 100_000 - 1);
    let rows = site.daemon.dir().join("rows");
    std::fs::write(&rows, "1\n2\n3\n").expect("it can be written");
    let copied = site.psql_script(
        &to,
        &format!(
            "create table copied (n int);\n\\copy copied from '{}'\n\\copy copied to stdout\n",
            rows.display()
        ),
    );
    assert_eq!(copied.ok(), "1\n2\n3");
    let heard = site.psql(&to, "listen changes; notify changes, 'hello'");
    assert!(heard.ok().contains("payload \"hello\""), "{heard:?}");
    let mut interrupted = Command::new("timeout");
    interrupted.args(["--preserve-status", "--signal=INT", "1"]);
    interrupted.arg(program("psql").get_program());
    interrupted.args([
        "--no-psqlrc",
        "--dbname",
        &to,
        "--command",
        "select pg_sleep(60)",
    ]);
    let interrupted = run(&mut interrupted);
    assert!(
        interrupted.stderr.contains("canceling statement"),
        "{interrupted:?}"
    );
}

#[test]
fn dumps_and_restores_pass() {
    let site = Site::open();
    let (from, to) = (site.conninfo("from"), site.conninfo("to"));
    let dump = site.daemon.dir().join("app.dump");
    let mut command = program("pg_dump");
    command.args(["--format=custom", "--dbname", &from, "--file"]);
    run(command.arg(&dump)).ok();
    let checksum =
        "select count(*), md5(string_agg(q::text, '' order by id)) from polls_question q";
    let before = site.psql(&to, checksum).ok().to_owned();
    site.psql(&to, "drop schema public cascade; create schema public")
        .ok();
    let mut command = program("pg_restore");
    command.args(["--jobs=2", "--exit-on-error", "--dbname", &to]);
    run(command.arg(&dump)).ok();
    assert_eq!(site.psql(&to, checksum).ok(), before);
}

#[test]
fn pgbench_prepares_and_pipelines() {
    let site = Site::open();
    let to = site.conninfo("bench");
    run(program("pgbench").args(["--initialize", "--quiet", &to])).ok();
    let mut command = program("pgbench");
    command.args(["--client=4", "--transactions=100", "--protocol=prepared"]);
    let output = run(command.arg(&to));
    assert!(output.ok().contains("processed: 400/400"), "{output:?}");
    let script = site.daemon.dir().join("pipeline.sql");
    std::fs::write(
        &script,
        "\\startpipeline\nselect 1;\nselect 2;\n\\endpipeline\n",
    )
    .expect("it can be written");
    let mut command = program("pgbench");
    command.args([
        "--no-vacuum",
        "--transactions=100",
        "--protocol=extended",
        "--file",
    ]);
    let output = run(command.arg(&script).arg(&to));
    assert!(output.ok().contains("processed: 100/100"), "{output:?}");
}

#[test]
fn base_backup_streams_its_wal_and_is_complete() {
    let site = Site::open();
    let target = site.daemon.dir().join("basebackup");
    let mut command = program("pg_basebackup");
    command.args(["--checkpoint=fast", "--wal-method=stream", "--dbname"]);
    command.arg(site.conninfo("backup")).arg("--pgdata");
    run(command.arg(&target)).ok();
    let verified = run(program("pg_verifybackup").arg(&target));
    assert!(
        verified.ok().contains("backup successfully verified"),
        "{verified:?}"
    );
}
