//! Sources that cannot be copied, or not to their end: the error names the cause and the way out, and nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Daemon, PlainPostgres, is_alive, kill, poll, postmaster_pid};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{COUNT, SECTION, answer, daemon, import, script, source, url};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs an import that fails, and returns the code of its error and the output of its command.
#[track_caller]
fn failure(daemon: &Daemon, args: &[&str]) -> (String, String) {
    let failed = daemon.cli(args);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let jobs = daemon.json(&["job", "ls"]);
    let last = jobs.as_array().and_then(|jobs| jobs.last()).cloned();
    let code = last.unwrap_or_default()["error"]["code"].clone();
    assert_nothing_left(daemon);
    let code = code.as_str().unwrap_or_default().to_owned();
    (code, failed.stderr)
}

#[track_caller]
pub(super) fn assert_nothing_left(daemon: &Daemon) {
    let entries = fs::read_dir(daemon.root().join("snapshots")).expect("it can be read");
    let names = entries.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn password_comes_from_a_passfile_alone_and_is_shown_nowhere() {
    let source = source();
    let hba = "host all all all scram-sha-256\nhost replication all all scram-sha-256\n";
    source
        .psql(
            "app",
            "create role backup login replication password 'hunter2'",
        )
        .ok();
    source.psql("app", "grant pg_read_all_data to backup").ok();
    source
        .psql("app", "alter role postgres password 'tiger'")
        .ok();
    fs::write(source.data_dir().join("pg_hba.conf"), hba).expect("it can be written");
    source.psql("app", "select pg_reload_conf()").ok();
    let daemon = daemon().without_snapshots().start();
    let plain = format!("postgres://backup@127.0.0.1:{}/app", source.port());
    let passfile = daemon.dir().join("passfile");
    let path = passfile.display().to_string();
    let write = |password: &str, mode: u32| {
        fs::write(&passfile, format!("*:*:*:backup:{password}\n")).expect("it can be written");
        fs::set_permissions(&passfile, fs::Permissions::from_mode(mode)).expect("a mode");
    };

    let with_password = plain.replace("backup@", "backup:hunter2@");
    let refused = daemon.cli(&import("a", &with_password));
    assert!(refused.stderr.contains("has a password"), "{refused:?}");
    let (code, _) = failure(&daemon, &import("a", &plain));
    assert_eq!(code, "source_password");
    let mut args = import("a", &plain);
    args.extend(["--passfile", &path]);
    write("wrong", 0o600);
    let (code, said) = failure(&daemon, &args);
    assert_eq!(code, "source_password");
    assert!(said.contains("passfile"), "{said}");
    write("hunter2", 0o644);
    assert!(failure(&daemon, &args).1.contains("chmod 600"));
    write("hunter2", 0o600);
    daemon.cli(&args).ok();
    assert_eq!(answer(&daemon, "a", COUNT), "1000");
    let everything = format!(
        "{}{}{:?}",
        daemon.log(),
        daemon.json(&["job", "ls"]),
        daemon.json(&["snapshot", "ls"])
    );
    assert!(!everything.contains("hunter2") && !everything.contains("wrong"));
    let kept = daemon.root().join("snapshots/a");
    let names: Vec<_> = fs::read_dir(kept)
        .expect("it is there")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(!names.iter().any(|name| name == "client"), "{names:?}");
}

#[test]
fn source_that_cannot_be_copied_is_explained() {
    let source = source();
    source.psql("app", "create role weak login").ok();
    let daemon = daemon().without_snapshots().start();
    let url_of = |role: &str, port: u16, database: &str| {
        format!("postgres://{role}@127.0.0.1:{port}/{database}")
    };
    let port = source.port();
    let weak = url_of("weak", port, "app");
    assert_eq!(
        failure(&daemon, &import("a", &weak)).0,
        "source_not_allowed"
    );
    let with = |url: &str| {
        let args = import("a", url);
        let args: Vec<String> = args
            .into_iter()
            .chain(["--logical"])
            .map(str::to_owned)
            .collect();
        args
    };
    let logical = |url: &str| {
        let args = with(url);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        failure(&daemon, &args).0
    };
    assert_eq!(logical(&weak), "source_not_allowed");
    assert_eq!(
        logical(&url_of("postgres", port, "nothing")),
        "source_unknown"
    );
    assert_eq!(logical(&format!("{weak}?sslmode=require")), "source_tls");
    source
        .psql("app", "alter system set max_wal_senders = 1")
        .ok();
    source.stop();
    let (code, said) = failure(&daemon, &import("a", &url(&source)));
    assert_eq!(code, "source_unreachable", "{said}");
    source.start_again(&[]);
    assert_eq!(
        failure(&daemon, &import("a", &url(&source))).0,
        "source_wal_senders"
    );
    source
        .psql("app", "alter system set max_wal_senders = 0")
        .ok();
    source
        .psql("app", "alter system set wal_level = minimal")
        .ok();
    source.stop();
    source.start_again(&[]);
    assert_eq!(
        failure(&daemon, &import("a", &url(&source))).0,
        "source_wal_senders"
    );
}

#[test]
fn source_without_programs_is_named_by_its_major() {
    let source = PlainPostgres::start_other(18);
    let daemon = daemon().without_snapshots().start();
    let url = url(&source);
    let (code, said) = failure(&daemon, &import("a", &url));
    assert_eq!(code, "source_major", "{said}");
    assert!(said.contains("PostgreSQL 18"), "{said}");
    let mut logical = import("a", &url);
    logical.push("--logical");
    assert_eq!(failure(&daemon, &logical).0, "source_major");
}

/// A process of the source that goes no further, so that a copy waits for it.
struct Held(i32);

impl Held {
    /// Stops the checkpointer, for whose checkpoint a base backup waits.
    fn checkpointer(source: &PlainPostgres) -> Self {
        let of = "select pid from pg_stat_activity where backend_type = 'checkpointer'";
        let pid = source.psql("app", of).ok().parse().expect("it is a number");
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0).expect("it is a process");
        // It may have ended with its server.
        let _ = kill_process(pid, Signal::CONT);
    }
}

fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("it is a process");
    kill_process(pid, signal).expect("it can be signalled");
}

/// Holds a lock that pg_dump waits for, until the source ends.
fn lock_table(source: &PlainPostgres) -> Child {
    let mut psql = source.client("psql");
    let lock = "begin; lock table polls_question; select pg_sleep(1000)";
    psql.args(["--quiet", "--command", lock, "app"])
        .stderr(Stdio::null());
    let child = psql.spawn().expect("psql runs");
    let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted";
    poll("the table is locked", TIMEOUT, || {
        match source.psql("app", held).ok() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    child
}

/// Waits until the last job is this far.
pub(super) fn wait_for_step(daemon: &Daemon, step: &str) {
    poll("the job's step", TIMEOUT, || {
        let jobs = daemon.json(&["job", "ls"]);
        let last = jobs.as_array().and_then(|jobs| jobs.last()).cloned();
        match last {
            Some(job) if job["step"] == step => Ok(()),
            other => Err(other),
        }
    });
}

fn ended(daemon: &Daemon, job: &Value) -> Value {
    let id = job["id"].to_string();
    daemon.cli(&["job", "wait", &id]);
    daemon.json(&["job", "show", &id])
}

/// Kills the source while it is copied.
fn source_dies_half_way(source: &PlainPostgres, method: &str, release: impl FnOnce()) {
    let daemon = daemon()
        .set(SECTION, "source", &url(source))
        .set(SECTION, "method", method)
        .start();
    let ids = || {
        let listed = daemon.json(&["snapshot", "ls"]);
        let listed = listed.as_array().expect("a list").clone();
        let ids = listed.into_iter().map(|snapshot| snapshot["id"].clone());
        ids.collect::<Vec<_>>()
    };
    let before = ids();
    let job = daemon.json(&["snapshot", "refresh", "--project", "demo", "--detach"]);
    wait_for_step(&daemon, "copying from the server");
    let again = daemon.cli(&["snapshot", "refresh", "--project", "demo"]);
    let said = &again.stderr;
    assert!(said.contains("already refreshes project"), "{again:?}");
    kill(postmaster_pid(&source.data_dir()).expect("it runs"));
    release();
    let failed = ended(&daemon, &job);
    assert_eq!(failed["error"]["code"], "source_vanished", "{failed}");
    assert_nothing_left(&daemon);
    assert_eq!(ids(), before);
}

#[test]
fn source_that_dies_during_a_physical_copy_leaves_the_last_snapshot() {
    let source = source();
    let held = Held::checkpointer(&source);
    source_dies_half_way(&source, "physical", || drop(held));
}

#[test]
fn source_that_dies_during_a_dump_leaves_the_last_snapshot() {
    let source = source();
    let mut locked = lock_table(&source);
    source_dies_half_way(&source, "logical", || {
        locked.wait().expect("it ends with its server");
    });
}

#[test]
fn refresh_ends_with_its_cancellation_and_with_the_daemon() {
    let script = script("#!/bin/sh\necho '-- a dump'\nsleep 1000 & echo $! > $0.pid; wait\n");
    let pid_file = script.1.with_extension("pid");
    let _ = fs::set_permissions(script.0.path(), fs::Permissions::from_mode(0o777));
    let command = format!("{{ command = [{:?}] }}", script.1);
    let daemon = daemon()
        .without_snapshots()
        .set_raw(SECTION, "source", &command)
        .start();
    let sleeper = || {
        poll("the command runs", TIMEOUT, || {
            let text = fs::read_to_string(&pid_file).map_err(|error| error.to_string())?;
            text.trim()
                .parse::<i32>()
                .map_err(|error| error.to_string())
        })
    };
    let args = ["snapshot", "refresh", "--project", "demo", "--detach"];
    let job = daemon.json(&args);
    let pid = sleeper();
    daemon.json(&["job", "cancel", &job["id"].to_string()]);
    poll("the command has ended", TIMEOUT, || match is_alive(pid) {
        true => Err(pid),
        false => Ok(()),
    });
    assert_nothing_left(&daemon);
    let _ = fs::remove_file(&pid_file);
    let job = daemon.json(&args);
    let pid = sleeper();
    daemon.kill9();
    daemon.start();
    let failed = daemon.json(&["job", "show", &job["id"].to_string()]);
    assert_eq!(failed["error"]["code"], "daemon_stopped");
    assert_nothing_left(&daemon);
    kill(pid);
}
