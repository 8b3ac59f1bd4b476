//! Passwords and permissions of users, as clients and operators see them.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use multidb_integration_tests::{
    Authority, Daemon, Identity, PgFailure, ProgramOutput, Session, run,
};
use serde_json::json;

use crate::daemon;

/// `multidb user` with a password on standard input.
pub(crate) fn user(daemon: &Daemon, args: &[&str], password: &str) -> ProgramOutput {
    let mut command = daemon.cli_command(&[&["user"], args].concat());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("multidb can be run");
    let mut stdin = child.stdin.take().expect("it has an input");
    writeln!(stdin, "{password}").expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    ProgramOutput {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A daemon with password authentication and the user `alice` with the password "secret".
pub(crate) fn with_alice(args: &[&str]) -> Daemon {
    let daemon = daemon().set("auth", "method", "scram-sha-256").prepare();
    let args = [&["add", "alice"], args].concat();
    let added = user(&daemon, &args, "secret");
    assert_eq!(added.code, Some(0), "{added:?}");
    daemon.start();
    daemon
}

fn connect(daemon: &Daemon, user: &str, password: &str) -> Result<Session, PgFailure> {
    let mut config = daemon.config(user);
    Session::connect(config.password(password))
}

pub(crate) fn refused(daemon: &Daemon, user: &str, password: &str) -> PgFailure {
    match connect(daemon, user, password) {
        Ok(_) => panic!("{user}: a session was given"),
        Err(failure) => failure,
    }
}

fn psql(daemon: &Daemon, user: &str, settings: &str) -> ProgramOutput {
    let mut command = daemon.client_program("psql", user);
    command.args([
        "--no-psqlrc",
        "--no-align",
        "--tuples-only",
        "--no-password",
    ]);
    command.arg(format!("--dbname=dbname=app {settings}"));
    run(command.args(["--command", "select 1"]))
}

#[test]
fn nothing_is_created_before_the_right_password() {
    let daemon = with_alice(&["--role", "postgres"]);
    let new = "instance:a,gitref:main,user:alice";
    let wrong = refused(&daemon, new, "wrong");
    let nobody = refused(&daemon, "instance:a,gitref:main,user:bob", "secret");
    assert_eq!(wrong.sqlstate(), "28P01", "{wrong:?}");
    assert_eq!(nobody.sqlstate(), "28P01", "{nobody:?}");
    let said = "multidb: password authentication failed for user";
    assert_eq!(wrong.message, format!("{said} \"alice\""));
    assert_eq!(nobody.message, format!("{said} \"bob\""));
    assert_eq!((&wrong.detail, &wrong.hint), (&nobody.detail, &nobody.hint));
    assert_eq!(daemon.json(&["instance", "ls"]), json!([]));

    let right = psql(&daemon, new, "password=secret");
    assert_eq!(right.ok(), "1");
    assert_eq!(daemon.instance("a")["created_by"], "alice");
    let without = psql(&daemon, "instance:a,user:alice", "");
    assert_eq!(without.code, Some(2), "{without:?}");
    let session = connect(&daemon, "instance:a,user:alice", "secret").expect("it is right");
    assert_eq!(session.one("select 1"), "1");
}

#[test]
fn user_is_limited_to_its_roles_projects_and_quotas() {
    let daemon = with_alice(&["--role", "app", "--max-instances", "1"]);
    let role = refused(&daemon, "instance:a,gitref:main,user:alice", "secret");
    assert_eq!(role.sqlstate(), "28000", "{role:?}");
    assert_eq!(daemon.json(&["instance", "ls"]), json!([]));

    let outsider = ["add", "bob", "--role", "postgres", "--project", "other"];
    let unknown = user(&daemon, &outsider, "secret");
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(
        unknown.stderr.contains("no project \"other\""),
        "{unknown:?}"
    );
    // The daemon knows it from its next start.
    let config = std::fs::read_to_string(daemon.config_file()).expect("it is there");
    let other =
        "[project.other]\ngit = \"/nowhere\"\nmigrations = \"django\"\ndatabase = \"other\"\n";
    std::fs::write(daemon.config_file(), config + other).expect("it can be written");
    assert_eq!(user(&daemon, &outsider, "secret").code, Some(0));
    let carol = ["add", "carol", "--role", "postgres", "--max-instances", "1"];
    assert_eq!(user(&daemon, &carol, "secret").code, Some(0));
    let new = "instance:a,gitref:main,user:carol";
    connect(&daemon, new, "secret").expect("the daemon knows carol once the command has ended");
    let project = refused(&daemon, "instance:a,user:bob", "secret");
    assert_eq!(project.sqlstate(), "28000", "{project:?}");
    let second = refused(&daemon, "instance:b,gitref:main,user:carol", "secret");
    assert_eq!(second.sqlstate(), "53400", "{second:?}");
    connect(&daemon, "instance:a,user:carol", "secret").expect("the first is there");
}

#[test]
fn user_is_limited_in_creations_per_minute() {
    let daemon = with_alice(&["--role", "postgres", "--creations-per-minute", "2"]);
    let open = |instance: &str| {
        let user = format!("instance:{instance},user:alice");
        connect(&daemon, &user, "secret").map(drop)
    };
    // A failed creation does not count.
    for _ in 0..3 {
        let mistyped = open("a,gitref:maim").expect_err("there is no such revision");
        assert_eq!(mistyped.sqlstate(), "22023", "{mistyped:?}");
    }
    open("a,gitref:main").expect("it is the first");
    open("b,gitref:main").expect("it is the second");
    let third = open("c,gitref:main").expect_err("it is one too many");
    assert_eq!(third.sqlstate(), "53400", "{third:?}");
    open("a,gitref:main").expect("it is there");
}

#[test]
fn users_changed_by_commands_are_read_again() {
    let daemon = with_alice(&["--role", "postgres"]);
    let again = user(&daemon, &["add", "alice", "--role", "app"], "x");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("multidb user passwd"), "{again:?}");
    let empty = user(&daemon, &["add", "bob", "--role", "app"], "");
    assert_eq!(empty.code, Some(1), "{empty:?}");
    let shown = daemon.json(&["user", "ls"]);
    assert_eq!(shown[0]["name"], "alice");
    assert_eq!(shown[0]["roles"], json!(["postgres"]));
    assert!(!shown.to_string().contains("SCRAM"), "{shown}");

    let session = connect(&daemon, "instance:a,gitref:main,user:alice", "secret");
    let session = session.expect("the password is right");
    assert_eq!(user(&daemon, &["passwd", "alice"], "new").code, Some(0));
    connect(&daemon, "instance:a,user:alice", "new").expect("the new password counts at once");
    let old = refused(&daemon, "instance:a,user:alice", "secret");
    assert_eq!(old.sqlstate(), "28P01", "{old:?}");

    daemon.expect_log("users were not read again");
    let file = daemon.root().join("state/users.toml");
    let good = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, "[alice]\nverifier = 1\n").expect("it can be written");
    daemon.wait_log("users were not read again");
    connect(&daemon, "instance:a,user:alice", "new").expect("those before stay");
    std::fs::write(&file, good).expect("it can be written");

    assert_eq!(daemon.cli(&["user", "rm", "alice"]).code, Some(0));
    let gone = refused(&daemon, "instance:a,user:alice", "new");
    assert_eq!(gone.sqlstate(), "28P01", "{gone:?}");
    assert_eq!(session.one("select 1"), "1");
}

#[test]
fn scram_is_bound_to_the_certificate_where_the_client_requests_it() {
    let certificates = tempfile::tempdir().expect("there is room for a directory");
    let authority = Authority::create(certificates.path());
    let Identity { cert, key } = authority.issue("localhost", &["localhost"]);
    let text = |path: &Path| path.to_str().expect("the path is a text").to_owned();
    let daemon = daemon()
        .set("auth", "method", "scram-sha-256")
        .set("tls", "cert", &text(&cert))
        .set("tls", "key", &text(&key))
        .set("tls", "client_ca", &text(&authority.cert()))
        .prepare();
    let added = user(&daemon, &["add", "alice", "--role", "postgres"], "secret");
    assert_eq!(added.code, Some(0), "{added:?}");
    daemon.start();
    let tls = format!(
        "host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}",
        text(&authority.cert())
    );
    let new = "instance:a,gitref:main,user:alice";
    let bound = format!("{tls} channel_binding=require password=secret");
    assert_eq!(psql(&daemon, new, &bound).ok(), "1");
    let unbound = format!("{tls} channel_binding=disable password=secret");
    assert_eq!(psql(&daemon, new, &unbound).ok(), "1");
    let plain = "channel_binding=require sslmode=disable password=secret";
    assert_eq!(psql(&daemon, new, plain).code, Some(2));

    let shows = |name| {
        let Identity { cert, key } = authority.issue(name, &[]);
        format!("{tls} sslcert={} sslkey={}", text(&cert), text(&key))
    };
    assert_eq!(psql(&daemon, "instance:a", &shows("alice")).ok(), "1");
    let stranger = psql(&daemon, "instance:a", &shows("mallory"));
    assert_eq!(stranger.code, Some(2), "{stranger:?}");
    let said = "client certificate is for \"mallory\", which is not a user";
    assert!(stranger.stderr.contains(said), "{stranger:?}");
}
