//! Snapshots: each way in beside the programs that do the same by hand, the blocks that are shared a day later,
//! instances made from an instance at work, and lists.
//!
//! | module | shows |
//! | --- | --- |
//! | `imports` | a refresh, a logical copy, a dump, a data directory |
//! | `sharing` | de-duplication of copies and of dumps a day apart |
//! | `branches` | an instance from an idle and from a busy instance, and the p99 of the busy one |
//! | `bytes` | the exclusive bytes of instances |
//! | `prewarmed` | new instances that take a clone that is kept ready |
//! | `lists` | lists of many instances and snapshots |

mod branches;
mod bytes;
mod imports;
mod lists;
mod prewarmed;
mod sharing;

use multidb_integration_tests::{Daemon, Disk, Engine, PlainPostgres, run};

use crate::client::DATABASE;
use crate::environment::Environment;
use crate::options::Options;
use crate::report::Report;
use crate::say;
use crate::source::{SCALE_OF_GIB, Source};

/// How often each import is measured.
const RUNS: usize = 3;

/// Measures all of it, with a server of the snapshot's size to import from.
pub(crate) fn measure(options: &Options, on: (Disk, Engine), source: &Source, report: &mut Report) {
    let (disk, engine) = on;
    let server = server(options.gib);
    let url = url(&server);
    let environment = Environment::prepare(&options.multidb, disk, engine, source, |daemon| {
        daemon.set("project.demo.refresh", "source", &url)
    });
    report.snapshot(environment.snapshot());
    let runs = options.runs.min(RUNS);
    branches::measure(&environment, report);
    bytes::measure(&environment, report);
    prewarmed::measure(options, source, &environment, options.runs, report);
    imports::measure(&environment, &server, runs, report);
    sharing::measure(&environment, &server, report);
    lists::measure(&environment, report);
}

/// A running server with a pgbench database of about this size, elsewhere than the snapshots.
fn server(gib: u32) -> PlainPostgres {
    say(&format!("making a server with a database of {gib} GiB"));
    let server = PlainPostgres::start();
    let scale = format!("--scale={}", SCALE_OF_GIB * gib);
    let mut pgbench = server.client("pgbench");
    pgbench.args(["--initialize", "--init-steps=dtgvp", "--quiet", &scale]);
    run(pgbench.arg(DATABASE)).ok();
    server
        .psql(
            DATABASE,
            "create table django_migrations (id bigserial primary key, app text not null, name text not null);
             insert into django_migrations (app, name) values ('auth', '0001_initial');",
        )
        .ok();
    server
}

fn url(server: &PlainPostgres) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{DATABASE}", server.port())
}

/// Imports a snapshot by these arguments.
fn import(environment: &Environment, id: &str, how: &[&str]) {
    environment.daemon().cli(&Daemon::import_args(id, how)).ok();
}

fn remove(environment: &Environment, id: &str) {
    environment.daemon().cli(&["snapshot", "rm", id]).ok();
}
