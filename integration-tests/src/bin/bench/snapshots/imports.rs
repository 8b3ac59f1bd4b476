//! Each way in, by turns with the programs that do the same by hand.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use multidb_integration_tests::{PlainPostgres, run};
use tokio::time::Instant;

use super::{import, remove, url};
use crate::client::DATABASE;
use crate::environment::Environment;
use crate::report::{Aim, Report, Samples, Unit};
use crate::say;

/// The least of the rate by hand.
const RATE_AIM: f64 = 0.8;
/// The snapshot that is imported, and the database that is restored.
const ID: &str = "imported";

/// The times of one way.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    by_hand: Vec<Duration>,
}

impl Times {
    /// Measures one after the other.
    fn measure(
        environment: &Environment,
        runs: usize,
        mut ours: impl FnMut(),
        mut by_hand: impl FnMut(),
        mut clean_up: impl FnMut(),
    ) -> Self {
        let mut times = Self::default();
        for _ in 0..runs {
            environment.settle();
            let begin = Instant::now();
            ours();
            times.ours.push(begin.elapsed());
            environment.settle();
            let begin = Instant::now();
            by_hand();
            // multidb's is on the disk when it says so.
            environment.settle();
            times.by_hand.push(begin.elapsed());
            clean_up();
        }
        times
    }

    fn tell(self, section: &str, what: &str, program: &str, report: &mut Report) {
        let (ours, by_hand) = (
            Samples::of_times(self.ours),
            Samples::of_times(self.by_hand),
        );
        let ratio = by_hand.median() / ours.median();
        report.add(section, what, Unit::Milliseconds, ours);
        report.ratio("of the rate by hand", ratio, Aim::AtLeast(RATE_AIM));
        report.add(
            section,
            &format!("  by hand: {program}"),
            Unit::Milliseconds,
            by_hand,
        );
    }
}

/// Measures all ways from one server.
pub(super) fn measure(
    environment: &Environment,
    server: &PlainPostgres,
    runs: usize,
    report: &mut Report,
) {
    let section = format!("a new snapshot ({})", environment.name());
    physical(environment, server, runs).tell(
        &section,
        "a refresh, physical",
        "pg_basebackup",
        report,
    );
    let restored = PlainPostgres::start();
    logical(environment, (server, &restored), runs).tell(
        &section,
        "from a server, logical",
        "pg_dump | pg_restore",
        report,
    );
    dump(environment, (server, &restored), runs).tell(
        &section,
        "from an archive of pg_dump",
        "pg_restore",
        report,
    );
    drop(restored);
    server.stop();
    directory(environment, server, runs).tell(
        &section,
        "from a data directory",
        "cp --archive",
        report,
    );
    server.start_again(&[]);
}

fn physical(environment: &Environment, server: &PlainPostgres, runs: usize) -> Times {
    say("imports: a refresh beside pg_basebackup");
    let target = environment.dir().join("by-hand");
    Times::measure(
        environment,
        runs,
        || {
            let refresh = ["snapshot", "refresh", "--project", "demo"];
            environment.daemon().cli(&refresh).ok();
        },
        || {
            let mut backup = server.client("pg_basebackup");
            run(backup.args(["--checkpoint=fast", "--pgdata"]).arg(&target)).ok();
        },
        || {
            delete(&target);
            for id in refreshed(environment) {
                remove(environment, &id);
            }
        },
    )
}

/// The snapshots that refreshes made.
fn refreshed(environment: &Environment) -> Vec<String> {
    let shown = environment.daemon().json(&["snapshot", "ls"]);
    let ids = shown.as_array().into_iter().flatten();
    let ids = ids.filter_map(|one| one["id"].as_str().map(str::to_owned));
    ids.filter(|id| id != "bench").collect()
}

fn logical(
    environment: &Environment,
    (server, restored): (&PlainPostgres, &PlainPostgres),
    runs: usize,
) -> Times {
    say("imports: a logical copy beside pg_dump and pg_restore");
    let url = url(server);
    Times::measure(
        environment,
        runs,
        || import(environment, ID, &["--from-url", &url, "--logical"]),
        || {
            restored
                .psql("postgres", &format!("create database {ID}"))
                .ok();
            let mut pipe = Command::new("sh");
            pipe.args(["-c", "\"$0\" --port=\"$1\" $4 --format=custom --compress=0 \"$5\" | \"$2\" --port=\"$3\" $4 --dbname=\"$6\""]);
            pipe.arg(server.client("pg_dump").get_program());
            pipe.arg(server.port().to_string());
            pipe.arg(restored.client("pg_restore").get_program());
            pipe.arg(restored.port().to_string());
            pipe.args(["--host=127.0.0.1 --username=postgres", DATABASE, ID]);
            run(&mut pipe).ok();
        },
        || {
            remove(environment, ID);
            drop_database(restored);
        },
    )
}

fn dump(
    environment: &Environment,
    (server, restored): (&PlainPostgres, &PlainPostgres),
    runs: usize,
) -> Times {
    say("imports: an archive beside pg_restore");
    let path = environment.dir().join("bench.dump");
    server.dump(&path);
    let archive = path.display().to_string();
    let times = Times::measure(
        environment,
        runs,
        || import(environment, ID, &["--dump", &archive]),
        || {
            restored
                .psql("postgres", &format!("create database {ID}"))
                .ok();
            let mut restore = restored.client("pg_restore");
            run(restore.args(["--dbname", ID]).arg(&path)).ok();
        },
        || {
            remove(environment, ID);
            drop_database(restored);
        },
    );
    fs::remove_file(&path).expect("the dump can be deleted");
    times
}

fn directory(environment: &Environment, server: &PlainPostgres, runs: usize) -> Times {
    say("imports: a data directory beside cp");
    let target = environment.dir().join("by-hand");
    let data = server.data_dir().display().to_string();
    Times::measure(
        environment,
        runs,
        || import(environment, ID, &["--data-dir", &data]),
        || {
            run(Command::new("cp").arg("--archive").arg(&data).arg(&target)).ok();
        },
        || {
            remove(environment, ID);
            delete(&target);
        },
    )
}

fn drop_database(server: &PlainPostgres) {
    server.psql("postgres", &format!("drop database {ID}")).ok();
}

fn delete(directory: &Path) {
    fs::remove_dir_all(directory).expect("a copy can be deleted");
}
