//! All clients of Postgres work through multidb.

use multidb_integration_tests::{RawClient, run};

use crate::daemon;

#[test]
fn pg_dump_reads_through_it() {
    let daemon = daemon().start();
    let mut command = daemon.client_program("pg_dump", "instance:a,gitref:main");
    let output = run(command.args(["--dbname=app", "--table=polls_question"]));
    let lines = output
        .ok()
        .lines()
        .filter(|line| line.contains("question 11"))
        .count();
    // 11, 110 to 119, and 1100 to 1199.
    assert_eq!(lines, 111);
}

#[test]
fn pgbench_runs_through_it() {
    let daemon = daemon().start();
    let bench = |args: &[&str]| {
        let mut command = daemon.client_program("pgbench", "instance:bench,gitref:main");
        run(command.args(args).arg("app"))
    };
    bench(&["--initialize", "--scale=1", "--quiet"]).ok();
    let output = bench(&["--client=4", "--transactions=200", "--protocol=prepared"]);
    assert!(
        output
            .ok()
            .contains("number of transactions actually processed: 800/800"),
        "{output:?}"
    );
}

#[test]
fn replication_passes_as_it_is() {
    let daemon = daemon().start();
    let target = daemon.dir().join("basebackup");
    let mut command = daemon.client_program("pg_basebackup", "instance:a,gitref:main");
    let output = run(command
        .args(["--checkpoint=fast", "--wal-method=none", "--pgdata"])
        .arg(&target));
    output.ok();
    assert!(target.join("PG_VERSION").exists());
}

#[test]
fn copy_carries_megabytes_both_ways() {
    let daemon = daemon().start();
    let file = daemon.dir().join("rows.txt");
    let rows: String = (0..200_000)
        .map(|n| format!("{n}\tsome text to carry along\n"))
        .collect();
    std::fs::write(&file, rows).expect("it can be written");
    let user = "instance:copy,gitref:main";
    daemon
        .psql(user, "create table carried (n int, t text)")
        .ok();
    let load = format!("\\copy carried from '{}'", file.display());
    assert_eq!(daemon.psql(user, &load).ok(), "COPY 200000");
    let back = daemon.dir().join("back.txt");
    let unload = format!(
        "\\copy (select * from carried order by n) to '{}'",
        back.display()
    );
    daemon.psql(user, &unload).ok();
    assert!(
        std::fs::read(&file).ok() == std::fs::read(&back).ok(),
        "the files differ"
    );
}

#[test]
fn psql_connects_over_the_unix_listener() {
    let daemon = daemon().start();
    let mut command = std::process::Command::new("psql");
    command
        .args([
            "--no-psqlrc",
            "--no-align",
            "--tuples-only",
            "--dbname=app",
            "--host",
        ])
        .arg(daemon.dir())
        .arg(format!("--port={}", daemon.port()))
        .args([
            "--username=instance:u,gitref:v1",
            "--command=select count(*) from polls_question",
        ]);
    assert_eq!(run(&mut command).ok(), "1000");
}

#[test]
fn encryption_is_declined_and_the_session_goes_on_in_plain() {
    let daemon = daemon().start();
    let mut client = daemon.raw();
    client.send(&[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x30]);
    assert_eq!(client.read(1), b"N");
    client.send(&[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F]);
    assert_eq!(client.read(1), b"N");
    start(&mut client, 196_608, &[]);
    client.read_until('Z');
}

#[test]
fn newer_minor_protocols_are_negotiated() {
    let daemon = daemon().start();
    let mut client = daemon.raw();
    start(&mut client, 196_608 + 9, &[("_pq_.something", "1")]);
    let body = client.read_until('v');
    let refused = String::from_utf8_lossy(&body).into_owned();
    assert!(refused.contains("_pq_.something"), "{refused}");
    client.read_until('Z');
}

#[test]
fn server_parameters_are_those_of_postgres() {
    let daemon = daemon().start();
    let mut client = daemon.raw();
    start(&mut client, 196_608, &[("client_encoding", "LATIN1")]);
    let mut seen = Vec::new();
    loop {
        let (kind, body) = client.read_message();
        match kind {
            'S' => seen.push(String::from_utf8_lossy(&body).into_owned()),
            'Z' => break,
            _ => {}
        }
    }
    assert!(
        seen.contains(&"client_encoding\0LATIN1\0".to_owned()),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|status| status.starts_with("server_version\0")),
        "{seen:?}"
    );
}

fn start(client: &mut RawClient, version: u32, more: &[(&str, &str)]) {
    let mut parameters = vec![("user", "instance:p,gitref:main"), ("database", "app")];
    parameters.extend_from_slice(more);
    client.send_startup(version, &parameters);
}
