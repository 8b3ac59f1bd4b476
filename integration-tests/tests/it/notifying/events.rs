//! Each event of a daemon that runs, as a command is told of it.

use std::fs;
use std::process::Command;

use multidb_integration_tests::{Daemon, DaemonBuilder, WallClock, poll};
use serde_json::Value;
use tempfile::TempDir;

use super::{TIMEOUT, daemon_telling, script};
use crate::daemon;

/// The messages to a target, as a script writes them to a file.
struct Told {
    dir: TempDir,
}

impl Told {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        Self { dir }
    }

    /// A daemon that tells it of these events.
    fn of(&self, builder: DaemonBuilder, events: &[&str]) -> Daemon {
        let told = self.dir.path().join("told");
        let told = told.display();
        let text = format!("cat >> {told}; echo >> {told}");
        let program = script(self.dir.path(), "tell", &text);
        daemon_telling(
            builder,
            &format!("{{ on = {events:?}, command = [{program:?}] }}"),
        )
    }

    /// All messages that have this value in this field.
    fn all(&self, field: &str, value: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("told")).unwrap_or_default();
        // The last line may be half written.
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"))
            .filter(|message| message[field] == value)
            .collect()
    }

    /// Waits until there are so many of them.
    #[track_caller]
    fn wait(&self, field: &str, value: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} messages with {field} = {value}");
        poll(&what, TIMEOUT, || {
            let all = self.all(field, value);
            match all.len() >= count {
                true => Ok(all),
                false => Err(fs::read_to_string(self.dir.path().join("told"))),
            }
        })
    }

    /// Waits until everything that is the case now would have been told: until a job that fails meanwhile was.
    #[track_caller]
    fn wait_look(&self, daemon: &Daemon, id: &str) {
        let dump = daemon.dir().join("none.dump");
        fs::write(&dump, "no dump").expect("it can be written");
        let dump = dump.display().to_string();
        let failed = daemon.cli(&Daemon::import_args(id, &["--dump", &dump]));
        assert_eq!(failed.code, Some(1), "{failed:?}");
        self.wait("snapshot", id, 1);
    }
}

fn text_of(message: &Value) -> &str {
    message["text"].as_str().expect("it has a text")
}

#[test]
fn pin_that_ends_within_a_day_is_told_unless_it_is_shorter() {
    let told = Told::new();
    let daemon = told.of(daemon(), &["pin_ending", "job_failed"]);
    let clock = WallClock::new(daemon.dir());
    daemon
        .expect_log("the wall clock jumped")
        .expect_log("import failed");
    daemon.start_with(&clock.environment());
    for name in ["long", "longer", "short"] {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
    }
    let pin = |what: &str, name: &str, time: &str| {
        daemon.cli(&[what, "pin", name, "--for", time]).ok();
    };
    pin("instance", "long", "3d");
    pin("instance", "longer", "9d");
    pin("snapshot", "tuesday", "3d");
    told.wait_look(&daemon, "first");
    assert!(told.all("event", "pin_ending").is_empty());
    clock.set_ahead_days(2);
    let messages = told.wait("event", "pin_ending", 2);
    let instance = messages.iter().find(|one| one["instance"] == "long");
    let instance = instance.unwrap_or_else(|| panic!("{messages:?}"));
    let action = "\"multidb instance pin long --for 30d\"";
    assert!(text_of(instance).contains(action), "{instance}");
    let snapshot = messages.iter().find(|one| one["instance"].is_null());
    let snapshot = snapshot.unwrap_or_else(|| panic!("{messages:?}"));
    assert_eq!(snapshot["snapshot"], "tuesday");
    // A pin for a short time is not notified: its user knows.
    pin("instance", "short", "2h");
    told.wait_look(&daemon, "second");
    assert_eq!(told.all("event", "pin_ending").len(), 2);
}

#[test]
fn refresh_that_fails_and_one_that_is_late_are_told_once() {
    const SECTION: &str = "project.demo.refresh";
    let told = Told::new();
    let good = "cat <<'END'\ncreate table django_migrations (app text, name text);\n\
                insert into django_migrations values ('polls', '0001_initial');\nEND";
    let source = |text: &str| script(told.dir.path(), "source", text);
    let command = format!("{{ command = [{:?}] }}", source(good));
    let builder = daemon()
        .without_snapshots()
        .set_raw(SECTION, "source", &command)
        .set(SECTION, "every", "24h");
    let events = ["refresh_failed", "refresh_late", "job_done"];
    let daemon = told.of(builder, &events);
    let clock = WallClock::new(daemon.dir());
    daemon
        .expect_log("the wall clock jumped")
        .expect_log("a refresh failed, and is tried again");
    daemon.start_with(&clock.environment());
    let done = |count| told.wait("event", "job_done", count);
    done(1);
    source("echo the bucket is gone >&2\nexit 1");
    clock.set_ahead_days(1);
    let failed = told.wait("event", "refresh_failed", 1);
    assert_eq!(failed[0]["project"], "demo");
    let text = text_of(&failed[0]);
    assert!(text.contains("the bucket is gone"), "{text}");
    assert!(text.contains("It is tried again at "), "{text}");
    assert!(told.all("event", "refresh_late").is_empty());
    // It fails again, by command, since a schedule that failed pauses for a minute first.
    let refresh = || daemon.cli(&["snapshot", "refresh", "--project", "demo"]);
    assert_eq!(refresh().code, Some(1));
    clock.set_ahead_days(3);
    let late = told.wait("event", "refresh_late", 1);
    assert_eq!(late[0]["project"], "demo");
    let text = text_of(&late[0]);
    assert!(text.contains("more than two periods"), "{text}");
    source(good);
    refresh().ok();
    done(2);
    assert_eq!(told.all("event", "refresh_failed").len(), 1);
    assert_eq!(told.all("event", "refresh_late").len(), 1);
    // After a success it is another one.
    source("exit 1");
    clock.set_ahead_days(5);
    let failed = told.wait("event", "refresh_failed", 2);
    assert_ne!(failed[0]["id"], failed[1]["id"]);
}

#[test]
fn disk_at_its_mark_and_at_its_reserve_is_told_once() {
    const MIB: u64 = 1 << 20;
    let told = Told::new();
    let builder = daemon()
        .small_disk(1024 * MIB)
        .limit("disk_high_water", "60%")
        .limit("disk_reserve", "64MiB");
    let daemon = told.of(builder, &["disk_high", "job_failed"]);
    for text in [
        "the disk is above limits.disk_high_water",
        "the disk is below its reserve",
        "import failed",
    ] {
        daemon.expect_log(text);
    }
    daemon.start();
    told.wait_look(&daemon, "first");
    assert!(told.all("event", "disk_high").is_empty());
    let free = || {
        let free = daemon.json(&["status"])["disk_free_bytes"].as_u64();
        free.expect("it is a number")
    };
    let fill = |name: &str, left: u64| {
        let length = free().checked_sub(left).expect("there is room");
        let mut fallocate = Command::new("fallocate");
        fallocate.args(["--length", &length.to_string()]);
        let status = fallocate.arg(daemon.root().join(name)).status();
        assert!(status.expect("it can be run").success());
    };
    fill("above", 300 * MIB);
    let high = told.wait("event", "disk_high", 1);
    let text = text_of(&high[0]);
    assert!(
        text.contains("above limits.disk_high_water of 60%"),
        "{text}"
    );
    fill("below", 32 * MIB);
    let high = told.wait("event", "disk_high", 2);
    let text = text_of(&high[1]);
    assert!(
        text.contains("less than limits.disk_reserve of 64"),
        "{text}"
    );
    // It comes and goes.
    for name in ["below", "above"] {
        fs::remove_file(daemon.root().join(name)).expect("it can be removed");
    }
    told.wait_look(&daemon, "second");
    fill("again", 300 * MIB);
    told.wait_look(&daemon, "third");
    assert_eq!(told.all("event", "disk_high").len(), 2);
}

/// Lets an instance's next start fail, and returns the repair.
fn break_data(daemon: &Daemon, name: &str) -> impl FnOnce() {
    let control = daemon.data_dir(name).join("global/pg_control");
    let away = control.with_extension("away");
    fs::rename(&control, &away).expect("it can be moved");
    move || fs::rename(&away, &control).expect("it can be moved back")
}

fn stopped(daemon: &Daemon, names: &[&str]) {
    for name in names {
        drop(daemon.connect(&format!("instance:{name},snapshot:monday")));
        daemon.cli(&["instance", "stop", name]).ok();
    }
}

#[test]
fn instance_that_fails_is_told_once_with_what_to_do() {
    let told = Told::new();
    let daemon = told.of(daemon(), &["instance_failed", "job_failed"]);
    daemon
        .expect_log("postgres did not start")
        .expect_log("import failed");
    daemon.start();
    stopped(&daemon, &["sick", "well"]);
    let _broken = break_data(&daemon, "sick");
    daemon.refused("instance:sick");
    let failed = told.wait("event", "instance_failed", 1);
    assert_eq!(failed[0]["instance"], "sick");
    assert_eq!(failed[0]["project"], "demo");
    let text = text_of(&failed[0]);
    assert!(
        text.contains("Instance \"sick\" failed: postgres did not start"),
        "{text}"
    );
    // Each client fails, and so does the next daemon's.
    daemon.refused("instance:sick");
    told.wait_look(&daemon, "first");
    daemon.restart();
    daemon.refused("instance:sick");
    drop(daemon.connect("instance:well"));
    told.wait_look(&daemon, "second");
    assert_eq!(told.all("event", "instance_failed").len(), 1);
}

/// It is looked every five seconds, so at most one of them can still be failed then.
#[test]
fn instance_that_failed_and_runs_again_at_once_is_told_too() {
    let told = Told::new();
    let daemon = told.of(daemon(), &["instance_failed"]);
    daemon.expect_log("postgres did not start");
    daemon.start();
    let names = ["a", "b", "c"];
    stopped(&daemon, &names);
    for name in names {
        let mend = break_data(&daemon, name);
        daemon.refused(&format!("instance:{name}"));
        mend();
        drop(daemon.connect(&format!("instance:{name}")));
    }
    for name in names {
        assert_eq!(daemon.state(name), "running");
        told.wait("instance", name, 1);
    }
    assert_eq!(told.all("event", "instance_failed").len(), 3);
}
