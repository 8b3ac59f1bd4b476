//! A dump that only the client can open is sent to the daemon: a pipe, the standard input, a file of the client's own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{
    Daemon, Disk, Fixture, ProgramOutput, TUESDAY_ROWS, eventually, poll, run,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon;

const TIMEOUT: Duration = Duration::from_secs(120);

fn fixture() -> Fixture {
    Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM))
}

/// The command that imports a dump.
fn import(daemon: &Daemon, id: &str, dump: &str) -> Command {
    daemon.expect_log("import failed");
    let args = ["snapshot", "import", id, "--project", "demo", "--dump"];
    let mut command = daemon.cli_command(&args);
    command.arg(dump);
    command
}

/// Begins an import from a pipe that stays open.
fn import_from_pipe(daemon: &Daemon, id: &str, first: &[u8]) -> Child {
    let mut command = import(daemon, id, "-");
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be run");
    let pipe = child.stdin.as_mut().expect("it has one");
    pipe.write_all(first).expect("it is read");
    child
}

fn wait_for_restore(daemon: &Daemon) {
    poll("the dump is being restored", TIMEOUT, || {
        let jobs = daemon.json(&["job", "ls"]);
        let last = jobs.as_array().and_then(|jobs| jobs.last()).cloned();
        match last {
            Some(job) if job["step"] == "restoring the dump" => Ok(()),
            other => Err(other),
        }
    });
}

fn job(daemon: &Daemon) -> Value {
    let jobs = daemon.json(&["job", "ls"]);
    let last = jobs.as_array().and_then(|jobs| jobs.last()).cloned();
    last.expect("there is one")
}

fn assert_imported(daemon: &Daemon, id: &str) {
    let session = daemon.connect(&format!("instance:of-{id},snapshot:{id}"));
    let rows = session.one("select count(*) from polls_question");
    assert_eq!(rows, TUESDAY_ROWS.to_string(), "{id}");
}

fn assert_nothing_left(daemon: &Daemon) {
    let left = fs::read_dir(daemon.root().join("snapshots")).expect("it can be listed");
    assert_eq!(left.count(), 0);
}

/// The beginning of a dump, in which statements are complete.
fn half() -> Vec<u8> {
    let whole = fs::read_to_string(fixture().dump("tuesday.sql")).expect("it can be read");
    let rows = whole.find("\nCOPY ").expect("it has rows");
    // More than the head, from which the format is seen.
    let comments = "-- a comment\n".repeat(20 << 10);
    [&whole.as_bytes()[..=rows], comments.as_bytes()].concat()
}

/// Runs a line of the shell, in which `import` imports the dump that is its argument.
fn shell(daemon: &Daemon, id: &str, line: &str) -> ProgramOutput {
    let import = import(daemon, id, "");
    let mut words = vec![import.get_program()];
    words.extend(import.get_args());
    words.pop();
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", word.display()))
        .collect();
    let mut command = Command::new("bash");
    let script = format!("import() {{ {} \"$@\"; }}\n{line}", words.join(" "));
    command.arg("-c").arg(script);
    let sql = fixture().dump("tuesday.sql");
    command.env("FIXTURE", sql.parent().expect("it is in one"));
    for (name, value) in import.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    run(&mut command)
}

#[test]
fn dump_comes_from_a_pipe_in_any_format() {
    let daemon = daemon().without_snapshots().start();
    let fifo = daemon.dir().join("fifo");
    run(Command::new("mkfifo").arg(&fifo)).ok();
    let through_fifo = format!(
        "cat $FIXTURE/tuesday.tar > '{0}' & import '{0}'",
        fifo.display()
    );
    for (id, line) in [
        ("plain", "cat $FIXTURE/tuesday.sql | import -"),
        ("gzip", "gzip -c $FIXTURE/tuesday.sql | import /dev/stdin"),
        ("xz", "import - < <(xz -0 -c $FIXTURE/tuesday.sql)"),
        ("custom", "import <(cat $FIXTURE/tuesday.dump)"),
        ("zstd", "import <(zstd -c $FIXTURE/tuesday.dump)"),
        ("tar", through_fifo.as_str()),
        ("file", "import - < $FIXTURE/tuesday.dump"),
        ("device", "import /dev/stdin < $FIXTURE/tuesday.dump"),
    ] {
        shell(&daemon, id, line).ok();
        assert_imported(&daemon, id);
    }
    let source = &daemon.json(&["snapshot", "show", "plain"])["source"];
    assert_eq!(source, "dump standard input, sent by a client");
}

#[test]
fn dump_that_only_the_client_can_read_is_sent_by_it() {
    let daemon = daemon().as_postgres().without_snapshots().start();
    let own = PathBuf::from(format!("{}/own", daemon.dir().display()));
    fs::create_dir(&own).expect("it can be made");
    let dump = own.join("own.dump");
    fs::copy(fixture().dump("tuesday.dump"), &dump).expect("it can be copied");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let path = dump.display().to_string();
    run(&mut import(&daemon, "own", &path)).ok();
    assert_imported(&daemon, "own");
    // A dump that the daemon can read is read by it.
    let open = fixture().dump("tuesday.dump").display().to_string();
    run(&mut import(&daemon, "open", &open)).ok();
    let source = &daemon.json(&["snapshot", "show", "open"])["source"];
    assert_eq!(source, &Value::from(format!("dump {open}")));
    // A directory cannot be sent.
    let output = run(&mut import(
        &daemon,
        "none",
        &own.join("x").display().to_string(),
    ));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("cannot open "), "{output:?}");
    assert!(output.stderr.contains("--dump -"), "{output:?}");
}

#[test]
fn client_that_dies_while_it_sends_fails_its_import() {
    let daemon = daemon().without_snapshots().start();
    let mut child = import_from_pipe(&daemon, "dead", &half());
    wait_for_restore(&daemon);
    kill_process(Pid::from_child(&child), Signal::KILL).expect("it runs");
    child.wait().expect("it can be waited for");
    eventually("the job has failed", TIMEOUT, || {
        job(&daemon)["state"] == "failed"
    });
    let failed = job(&daemon);
    assert_eq!(
        failed["error"]["message"],
        "cannot import standard input: the dump ended early, since the client disconnected"
    );
    assert_nothing_left(&daemon);
}

#[test]
fn interrupt_while_the_dump_is_sent_cancels_its_import() {
    let daemon = daemon().without_snapshots().start();
    for detach in [false, true] {
        let mut command = import(&daemon, "interrupted", "-");
        if detach {
            command.arg("--detach");
        }
        command.stdin(Stdio::piped());
        let mut child = command.spawn().expect("it can be run");
        let mut pipe = child.stdin.take().expect("it has one");
        pipe.write_all(&half()).expect("it is read");
        wait_for_restore(&daemon);
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        // The pipe is still open.
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        drop(pipe);
        assert_eq!(job(&daemon)["state"], "cancelled");
        assert_nothing_left(&daemon);
    }
}

#[test]
fn dump_that_is_wrong_in_the_pipe_is_refused() {
    let daemon = daemon().without_snapshots().start();
    for (line, says) in [
        (
            "gzip -c $FIXTURE/tuesday.sql | head -c 900 | import -",
            "its gzip stream ends early",
        ),
        (
            "head -c 2000 $FIXTURE/tuesday.sql | import -",
            "the dump is truncated",
        ),
        (
            "(cat $FIXTURE/tuesday.sql; echo 'SELECT nonsense;'; yes -- '--') | import -",
            "column \"nonsense\" does not exist",
        ),
        ("import - < /dev/null", "it is empty"),
        ("import /dev/tty", "cannot open /dev/tty"),
    ] {
        let output = shell(&daemon, "wrong", line);
        assert_eq!(output.code, Some(1), "{line}: {output:?}");
        assert!(output.stderr.contains(says), "{line}: {output:?}");
        assert_nothing_left(&daemon);
    }
}

#[test]
fn detached_import_returns_once_its_dump_is_sent() {
    let daemon = daemon().without_snapshots().start();
    let line = "cat $FIXTURE/tuesday.sql | import - --detach --json";
    let output = shell(&daemon, "detached", line);
    let job: Value = serde_json::from_str(output.ok()).expect("a job is printed");
    let id = job["id"].to_string();
    let waited = daemon.cli(&["job", "wait", &id]);
    assert!(waited.ok().contains("done"), "{waited:?}");
    assert_imported(&daemon, "detached");
    // It cannot be sent again.
    let mut again = Command::new("curl");
    again.args(["--silent", "--upload-file", "/dev/null", "--unix-socket"]);
    again.arg(daemon.admin_socket());
    again.arg(format!("http://multidb/v1/jobs/{id}/upload"));
    let answer = run(&mut again);
    assert!(answer.ok().contains("no_dump_expected"), "{answer:?}");
}
