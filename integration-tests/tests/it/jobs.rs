//! An import is a job of the daemon: it outlives its command, can be cancelled, and leaves a history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{
    Daemon, Disk, Fixture, ProgramOutput, TUESDAY_ROWS, eventually, poll, run,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon;

/// How long an import or its clean-up may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The file that a dump waits for, in the data directory that it is restored into: its server sees no other.
const GATE: &str = "gate";

/// A daemon without snapshots, and a dump whose restore waits until it is let through.
struct Harness {
    daemon: Daemon,
    dump: PathBuf,
    /// The same without the wait.
    rest: String,
}

impl Harness {
    fn start() -> Self {
        let daemon = daemon().without_snapshots().start();
        let fixture = Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM));
        let rest = fs::read_to_string(fixture.dump("tuesday.sql")).expect("it can be read");
        let wait = format!(
            "DO $$ BEGIN WHILE (pg_stat_file('{GATE}', true)).size IS NULL LOOP \
             PERFORM pg_sleep(0.02); END LOOP; END $$;\n\
             COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm {GATE}';\n"
        );
        let dump = daemon.dir().join("slow.sql");
        fs::write(&dump, wait + &rest).expect("it can be written");
        Self { daemon, dump, rest }
    }

    /// Lets the restore in progress and all later ones through.
    fn open_gate(&self) {
        let new = self.dump.with_extension("new");
        fs::write(&new, &self.rest).expect("it can be written");
        fs::rename(&new, &self.dump).expect("it can be renamed");
        let snapshots = fs::read_dir(self.daemon.root().join("snapshots"));
        for snapshot in snapshots.expect("it can be read").flatten() {
            let data = snapshot.path().join("data");
            if data.exists() {
                fs::write(data.join(GATE), "").expect("it can be written");
            }
        }
    }

    fn import_command(&self, id: &str) -> Command {
        let dump = self.dump.display().to_string();
        let args = ["snapshot", "import", id, "--project", "demo", "--dump"];
        let mut command = self.daemon.cli_command(&args);
        command.arg(dump);
        command
    }

    /// Begins an import whose command waits for it, and returns when the dump is being restored.
    fn import_in_foreground(&self, id: &str) -> Child {
        let mut command = self.import_command(id);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("it can be run");
        self.wait_for_restore();
        child
    }

    /// Begins an import whose command does not wait for it; the job.
    fn import_detached(&self, id: &str) -> Value {
        let output = run(self.import_command(id).args(["--detach", "--json"]));
        serde_json::from_str(output.ok()).expect("a job is printed")
    }

    fn wait_for_restore(&self) {
        poll("the dump is being restored", TIMEOUT, || {
            let jobs = self.daemon.json(&["job", "ls"]);
            let last = jobs.as_array().and_then(|jobs| jobs.last()).cloned();
            match last {
                Some(job) if job["step"] == "restoring the dump" => Ok(()),
                other => Err(other),
            }
        });
    }

    fn job(&self, id: u64) -> Value {
        self.daemon.json(&["job", "show", &id.to_string()])
    }

    fn wait(&self, id: u64) -> ProgramOutput {
        self.daemon.cli(&["job", "wait", &id.to_string()])
    }

    fn rows_of(&self, snapshot: &str) -> String {
        let user = format!("instance:of-{snapshot},snapshot:{snapshot}");
        let session = self.daemon.connect(&user);
        session.one("select count(*) from polls_question")
    }

    /// Neither a snapshot nor a part of one is on the disk, and no server of an import.
    fn assert_nothing_left(&self) {
        for directory in ["snapshots", "run"] {
            let entries = fs::read_dir(self.daemon.root().join(directory));
            let left: Vec<_> = entries.map_or_else(|_| Vec::new(), |all| all.flatten().collect());
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
}

#[test]
fn import_outlives_its_killed_command() {
    let harness = Harness::start();
    let mut import = harness.import_in_foreground("slow");
    signal(&import, Signal::KILL);
    import.wait().expect("it can be waited for");
    assert_eq!(harness.job(1)["state"], "running");
    assert_eq!(harness.daemon.json(&["status"])["jobs"], 1);
    harness.open_gate();
    let waited = harness.wait(1);
    assert!(waited.ok().contains("done"), "{waited:?}");
    assert_eq!(harness.job(1)["state"], "done");
    assert_eq!(harness.daemon.json(&["status"])["jobs"], 0);
    assert_eq!(harness.rows_of("slow"), TUESDAY_ROWS.to_string());
}

#[test]
fn interrupted_command_cancels_its_import_and_says_so() {
    for interrupt in [Signal::INT, Signal::TERM] {
        let harness = Harness::start();
        let import = harness.import_in_foreground("slow");
        signal(&import, interrupt);
        let output = import.wait_with_output().expect("it can be waited for");
        // At once: the command returns when nothing is left.
        harness.assert_nothing_left();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("job 1 was cancelled"), "{stderr}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let job = harness.job(1);
        assert_eq!(job["state"], "cancelled");
        assert!(
            !job["ended_at"].is_null() && job["error"].is_null(),
            "{job}"
        );
    }
}

#[test]
fn import_that_waits_for_its_source_can_be_interrupted() {
    let harness = Harness::start();
    let fifo = harness.daemon.dir().join("fifo.sql");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    // Held open and never written to, so that the import waits for the rest of its dump.
    let keeper = fs::OpenOptions::new().read(true).write(true).open(&fifo);
    let path = fifo.display().to_string();
    let args = [
        "snapshot",
        "import",
        "slow",
        "--project",
        "demo",
        "--dump",
        &path,
    ];
    let mut command = harness.daemon.cli_command(&args);
    let mut import = command.spawn().expect("it can be run");
    eventually("it began", TIMEOUT, || {
        let jobs = harness.daemon.json(&["job", "ls"]);
        jobs[0]["state"] == "running"
    });
    signal(&import, Signal::INT);
    let status = import.wait().expect("it can be waited for");
    drop(keeper);
    assert_eq!(status.code(), Some(1));
    harness.assert_nothing_left();
}

#[test]
fn detached_import_is_waited_for() {
    let harness = Harness::start();
    let job = harness.import_detached("slow");
    let mut keys: Vec<_> = job.as_object().expect("it is an object").keys().collect();
    keys.retain(|key| *key != "warnings");
    keys.sort();
    let documented = [
        "bytes_done",
        "bytes_total",
        "ended_at",
        "error",
        "id",
        "kind",
        "project",
        "snapshot",
        "started_at",
        "state",
        "step",
    ];
    assert_eq!(keys, documented);
    assert_eq!((&job["id"], &job["kind"]), (&1.into(), &"import".into()));
    assert_eq!(
        (&job["project"], &job["snapshot"]),
        (&"demo".into(), &"slow".into())
    );
    harness.open_gate();
    let waited = harness.daemon.json(&["job", "wait", "1"]);
    assert_eq!(
        (&waited["id"], &waited["state"]),
        (&1.into(), &"done".into())
    );
    assert_eq!(
        harness.daemon.json(&["snapshot", "show", "slow"])["migrations"],
        3
    );
    // A job that has ended is not waited for.
    harness.wait(1).ok();
}

#[test]
fn failed_import_is_explained_by_its_job() {
    let harness = Harness::start();
    fs::write(&harness.dump, "select 1/0;\n").expect("it can be written");
    harness.import_detached("broken");
    let waited = harness.wait(1);
    assert_eq!(waited.code, Some(1), "{waited:?}");
    assert!(waited.stderr.contains("job 1 failed"), "{waited:?}");
    assert!(waited.stderr.contains("division by zero"), "{waited:?}");
    let job = harness.job(1);
    assert_eq!(
        (&job["state"], &job["error"]["code"]),
        (&"failed".into(), &"import_failed".into())
    );
    let missing = harness.daemon.dir().join("missing.sql");
    fs::rename(&harness.dump, &missing).expect("it can be renamed");
    let attached = run(&mut harness.import_command("broken"));
    assert_eq!(attached.code, Some(1), "{attached:?}");
    assert!(attached.stderr.contains("slow.sql"), "{attached:?}");
    assert!(attached.stderr.contains("cannot open "), "{attached:?}");
    // It was refused before there was a job.
    let listed = harness.daemon.cli(&["job", "ls"]);
    assert_eq!(listed.ok().matches("failed").count(), 1, "{listed:?}");
    harness.assert_nothing_left();
}

#[test]
fn cancelled_job_leaves_nothing_and_frees_the_id() {
    let harness = Harness::start();
    harness.import_detached("slow");
    harness.wait_for_restore();
    let again = run(&mut harness.import_command("slow"));
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again
            .stderr
            .contains("job 1 already makes snapshot \"slow\""),
        "{again:?}"
    );
    let cancelled = harness.daemon.json(&["job", "cancel", "1"]);
    assert_eq!(cancelled["state"], "cancelled");
    harness.assert_nothing_left();
    let waited = harness.wait(1);
    assert_eq!(waited.code, Some(1), "{waited:?}");
    assert!(waited.stderr.contains("job 1 was cancelled"), "{waited:?}");
    for (id, text) in [
        ("1", "job 1 has already ended"),
        ("99", "job 99 does not exist"),
    ] {
        let refused = harness.daemon.cli(&["job", "cancel", id]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
    harness.open_gate();
    run(&mut harness.import_command("slow")).ok();
    assert_eq!(harness.rows_of("slow"), TUESDAY_ROWS.to_string());
}

#[test]
fn import_of_a_killed_daemon_has_failed_and_can_be_repeated() {
    let harness = Harness::start();
    let import = harness.import_in_foreground("slow");
    harness.daemon.kill9();
    let output = import.wait_with_output().expect("it can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("job wait 1"), "{stderr}");
    harness.daemon.start();
    let job = harness.job(1);
    assert_eq!(
        (&job["state"], &job["error"]["code"]),
        (&"failed".into(), &"daemon_stopped".into())
    );
    assert!(
        !job["started_at"].is_null() && !job["ended_at"].is_null(),
        "{job}"
    );
    harness.assert_nothing_left();
    harness.open_gate();
    let repeated = run(harness.import_command("slow").arg("--json"));
    let snapshot: Value = serde_json::from_str(repeated.ok()).expect("a snapshot is printed");
    assert_eq!(
        (&snapshot["id"], &snapshot["migrations"]),
        (&"slow".into(), &3.into())
    );
    assert_eq!(harness.job(2)["state"], "done");
}

#[test]
fn stopped_daemon_ends_its_imports_and_keeps_the_history() {
    let harness = Harness::start();
    let import = harness.import_in_foreground("slow");
    assert!(harness.daemon.stop().success());
    let output = import.wait_with_output().expect("it can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the daemon was stopped"), "{stderr}");
    // The harness looks for processes that are left.
    harness.assert_nothing_left();
    harness.daemon.start();
    let job = harness.job(1);
    assert_eq!(
        (&job["state"], &job["snapshot"]),
        (&"failed".into(), &"slow".into())
    );
    assert_eq!(job["error"]["message"], "the daemon was stopped");
    harness.open_gate();
    assert_eq!(harness.import_detached("next")["id"], 2);
    harness.wait(2).ok();
    let before = harness.daemon.json(&["job", "ls"]);
    harness.daemon.restart();
    assert_eq!(harness.daemon.json(&["job", "ls"]), before);
}
