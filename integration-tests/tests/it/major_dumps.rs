//! Dumps of several majors, made by the newest pg_dump, have the contents that stock programs restore.

use std::path::Path;
use std::process::Command;

use multidb_integration_tests::{
    Daemon, OTHER_MAJORS, PlainPostgres, other_postgres_bin, path_with, run,
};

use crate::daemon;

/// Objects of many kinds, which all of the majors have.
const DATA: &str = "
    create role app login; create role reader; grant pg_monitor to reader;
    create table django_migrations (id serial primary key, app text not null, name text not null);
    insert into django_migrations (app, name) values ('polls', '0001_initial');
    create table parts (id int generated always as identity, day date, t text collate \"C\", j jsonb)
        partition by range (day);
    create table part partition of parts for values from ('2026-01-01') to ('2027-01-01');
    insert into parts (day, t, j) select '2026-02-03', 'x' || n, '{\"a\": 1}' from generate_series(1, 100) n;
    create index on parts (t);
    create materialized view counted as select count(*) from parts;
    create function same(a int) returns int language plpgsql as $$begin return a; end$$;
    create statistics related on day, t from part;
    create publication parted for table part;
    select lo_from_bytea(4711, '\\x0102');
    alter table parts owner to app;
    grant select on parts to reader;
    alter database app set work_mem = '7MB';
    alter role app in database app set search_path = app, public;
    analyze;";

/// A database of the fixture's name, as the newest pg_dump writes it.
fn contents(port: u16, user: &str, more: &[&str]) -> String {
    let mut dump = Command::new(other_postgres_bin(18).join("pg_dump"));
    let port = format!("--port={port}");
    dump.args(["--host=127.0.0.1", &port, "--username", user]);
    let text = run(dump.args(more).arg("app"));
    let differs = |line: &&str| {
        line.starts_with("--") || line.starts_with("\\restrict") || line.starts_with("\\unrestrict")
    };
    let lines: Vec<&str> = text.ok().lines().filter(|line| !differs(line)).collect();
    lines.join("\n")
}

fn contents_of(postgres: &PlainPostgres, more: &[&str]) -> String {
    contents(postgres.port(), "postgres", more)
}

/// The contents of an instance of a snapshot that is made of this dump.
fn imported(daemon: &Daemon, id: &str, dump: &Path, into: u16, more: &[&str]) -> String {
    let (dump, major) = (dump.display().to_string(), into.to_string());
    let args = Daemon::import_args(id, &["--dump", &dump, "--postgres-major", &major]);
    daemon.cli(&args).ok();
    let user = format!("instance:i-{id},snapshot:{id}");
    let text = contents(daemon.port(), &user, more);
    daemon.cli(&["instance", "stop", &format!("i-{id}")]).ok();
    text
}

fn dump(postgres: &PlainPostgres, path: &Path, options: &[&str]) {
    let mut command = postgres.client("pg_dump");
    run(command.args(options).arg("--file").arg(path).arg("app")).ok();
}

#[test]
fn dumps_of_several_majors_restore_as_stock_programs_restore_them() {
    let daemon = daemon().without_snapshots().prepare();
    let path = path_with(OTHER_MAJORS.map(other_postgres_bin));
    daemon.start_with(&[("PATH", &path)]);
    let file = |name: String| daemon.dir().join(name);
    for major in OTHER_MAJORS {
        let source = PlainPostgres::start_other(major);
        source.psql("app", DATA).ok();
        let expected = contents_of(&source, &["--create"]);
        for (format, options) in [
            ("plain", &["--create", "--format=plain"][..]),
            ("custom", &["--format=custom"]),
            ("directory", &["--format=directory"]),
        ] {
            let (id, path) = (
                format!("{format}-{major}"),
                file(format!("{format}-{major}")),
            );
            dump(&source, &path, options);
            let found = imported(&daemon, &id, &path, major, &["--create"]);
            assert!(found == expected, "{id}: {found}\nand not: {expected}");
        }
        let (id, all) = (format!("all-{major}"), file(format!("all-{major}")));
        run(source.client("pg_dumpall").arg("--file").arg(&all)).ok();
        let found = imported(&daemon, &id, &all, major, &["--create"]);
        assert!(found == expected, "{id}: {found}\nand not: {expected}");
        let statistics = match major {
            // Their functions came with 18.
            18 => &["--statistics"][..],
            _ => &[],
        };
        dump(&source, &file(format!("script-{major}")), statistics);
    }
    for (from, into) in [(13, 18), (18, 16), (18, 13)] {
        let script = file(format!("script-{from}"));
        let stock = PlainPostgres::start_other(into);
        stock
            .psql("postgres", "create role app login; create role reader")
            .ok();
        let mut psql = stock.client("psql");
        psql.args(["--no-psqlrc", "--quiet", "--dbname=app", "--file"]);
        run(psql.arg(&script)).ok();
        let expected = contents_of(&stock, &[]);
        let id = format!("{from}-in-{into}");
        let found = imported(&daemon, &id, &script, into, &[]);
        assert!(found == expected, "{id}: {found}\nand not: {expected}");
    }
}
