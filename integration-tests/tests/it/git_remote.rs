//! Remote repositories.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Authority, Daemon, Repository, poll};

use crate::daemon;

/// Creates an instance from a commit that the daemon's mirror lacks, which it has to fetch.
fn fetches(daemon: &Daemon, remote: &Repository) {
    drop(daemon.connect("instance:a,gitref:v1"));
    assert_eq!(daemon.instance("a")["snapshot"], "monday");
    let commit = remote.commit(&[
        "auth.0001_initial",
        "polls.0001_initial",
        "polls.0002_closed_at",
        "polls.0009_later",
    ]);
    drop(daemon.connect(&format!("instance:b,gitref:{}", &commit[..12])));
    assert_eq!(daemon.instance("b")["commit"], commit.as_str());
    assert_eq!(daemon.instance("b")["snapshot"], "tuesday");
}

#[test]
fn mirror_is_made_and_a_revision_that_it_lacks_is_fetched() {
    let remote = daemon().without_snapshots().prepare();
    let url = format!("file://{}", remote.repository().path().display());
    let daemon = daemon().git(&url).start();
    fetches(&daemon, remote.repository());
}

#[test]
fn mirror_does_not_depend_on_the_formats_in_the_environment() {
    let remote = daemon().without_snapshots().prepare();
    let url = format!("file://{}", remote.repository().path().display());
    let daemon = daemon().git(&url).prepare();
    daemon.start_with(&[
        ("GIT_DEFAULT_HASH", "sha256"),
        ("GIT_DEFAULT_REF_FORMAT", "reftable"),
    ]);
    fetches(&daemon, remote.repository());
}

#[test]
fn branch_that_moved_is_followed_and_a_remote_that_is_away_is_told_with_its_age() {
    let remote = daemon().without_snapshots().prepare();
    let repository = remote.repository();
    let url = format!("file://{}", repository.path().display());
    let daemon = daemon().git(&url).start();
    for number in 0..3 {
        let commit = repository.commit(&["auth.0001_initial", "polls.0001_initial"]);
        drop(daemon.connect(&format!("instance:a{number},gitref:refs/heads/main")));
        assert_eq!(
            daemon.instance(&format!("a{number}"))["commit"],
            commit.as_str()
        );
    }
    daemon
        .expect_log("fetch failed")
        .expect_log("remote does not answer");
    let away = repository.path().with_extension("away");
    std::fs::rename(repository.path(), &away).expect("it can be moved");
    let session = daemon.connect("instance:b,gitref:main");
    session.one("select 1");
    let notices = format!("{:?}", session.notices());
    std::fs::rename(&away, repository.path()).expect("it can be moved back");
    assert!(
        notices.contains("The git remote does not answer"),
        "{notices}"
    );
    assert!(notices.contains("ago"), "{notices}");
}

/// Git's replacement for ssh: runs the remote command locally.
const SSH: &str = "#!/bin/sh\nfor command; do :; done\nexec sh -c \"$command\"\n";

/// The same over a slow line.
const SLOW_SSH: &str = r#"#!/bin/sh
for command; do :; done
sh -c "$command" | /usr/bin/python3 -c '
import os, time
while chunk := os.read(0, 16384):
    os.write(1, chunk)
    time.sleep(0.1)
'
"#;

/// The URL of a repository by ssh.
fn ssh_url(path: &Path) -> String {
    format!("ssh://git@git.invalid{}", path.display())
}

/// Starts the daemon with this replacement for ssh.
fn start_with_ssh(daemon: &Daemon, script: &str) {
    let ssh = daemon.dir().join("ssh");
    std::fs::write(&ssh, script).expect("it can be written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&ssh, executable).expect("it is there");
    daemon.start_with(&[("GIT_SSH_COMMAND", &ssh.display().to_string())]);
}

#[test]
fn repository_is_fetched_over_ssh() {
    let remote = daemon().without_snapshots().prepare();
    let daemon = daemon().git(&ssh_url(remote.repository().path())).prepare();
    start_with_ssh(&daemon, SSH);
    fetches(&daemon, remote.repository());
}

#[test]
fn first_fetch_of_a_big_repository_goes_on_while_clients_are_told() {
    let remote = daemon().without_snapshots().prepare();
    let repository = remote.repository();
    // A few seconds of the line, since it cannot be compressed.
    let mut noise = vec![0; 512 << 10];
    let mut random = File::open("/dev/urandom").expect("it is there");
    random.read_exact(&mut noise).expect("it is endless");
    std::fs::write(repository.path().join("noise"), noise).expect("it can be written");
    repository.git(&["add", "noise"]);
    repository.git(&["commit", "--quiet", "--message", "noise"]);
    let daemon = daemon()
        .git(&ssh_url(repository.path()))
        .limit("fetch_timeout", "1s")
        .prepare();
    start_with_ssh(&daemon, SLOW_SSH);
    let refused = daemon.refused("instance:a,gitref:main");
    assert_eq!(refused.sqlstate(), "57P03", "{refused:?}");
    let text = format!("{refused:?}");
    assert!(text.contains("for the first time"), "{text}");
    assert!(text.contains("Try again in a while"), "{text}");
    poll(
        "the first fetch is complete",
        Duration::from_secs(60),
        || daemon.try_connect("instance:a,gitref:main").map(drop),
    );
    assert_eq!(
        daemon.instance("a")["commit"],
        repository.rev_parse("main").as_str()
    );
}

/// A partial clone of the repository, whose own source is away.
fn partial_clone(repository: &Repository) -> PathBuf {
    let path = repository.path().with_extension("partial");
    let url = format!("file://{}", repository.path().display());
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    let to = path.display().to_string();
    let filter = "--filter=blob:none";
    repository.git(&["clone", "--quiet", "--bare", filter, &url, &to]);
    let config = ["--git-dir", &to, "config", "remote.origin.url"];
    repository.git(&[&config[..], &["file:///nowhere"]].concat());
    path
}

/// A client, `doctor` and `config check` name the form of the remote.
fn refuses_partial_clone(daemon: &Daemon) {
    daemon.expect_log("promisor");
    let before = daemon.cli(&["doctor"]);
    assert_eq!(before.code, Some(1), "{before:?}");
    assert!(before.stdout.contains("partial clone"), "{before:?}");
    let refused = daemon.refused("instance:a,gitref:main");
    assert_eq!(refused.sqlstate(), "58000", "{refused:?}");
    let text = format!("{refused:?}");
    assert!(text.contains("It is a partial clone"), "{text}");
    for command in [&["config", "check"][..], &["doctor"]] {
        let told = daemon.cli(command);
        let text = format!("{}{}", told.stdout, told.stderr);
        assert!(text.contains("partial clone"), "{told:?}");
    }
}

#[test]
fn partial_clone_is_named_over_ssh() {
    let remote = daemon().without_snapshots().prepare();
    let partial = partial_clone(remote.repository());
    let daemon = daemon().git(&ssh_url(&partial)).prepare();
    start_with_ssh(&daemon, SSH);
    refuses_partial_clone(&daemon);
}

/// A server of a repository, until it is dropped.
struct Https(Child, u16);

impl Https {
    fn serve(repository: &Path, authority: &Authority) -> Self {
        let identity = authority.issue("localhost", &["localhost"]);
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/integration-tests/servers/git_https.py"
        );
        // Debian's Python, since another may come first in the PATH.
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(script);
        command.arg(repository.parent().expect("it is in a directory"));
        command.args([&identity.cert, &identity.key]);
        let mut server = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let mut port = String::new();
        let output = server.stdout.take().expect("it has an output");
        let read = BufReader::new(output).read_line(&mut port);
        read.expect("it says its port");
        Self(server, port.trim().parse().expect("it is a port"))
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a daemon whose remote is this repository by https.
fn over_https(path: &Path, use_it: impl FnOnce(&Daemon)) {
    let certificates = tempfile::tempdir().expect("there is room for a directory");
    let authority = Authority::create(certificates.path());
    let server = Https::serve(path, &authority);
    let name = path.file_name().expect("it has a name").to_string_lossy();
    let url = format!("https://localhost:{}/{name}", server.1);
    let daemon = daemon().git(&url).prepare();
    let authority = authority.cert().display().to_string();
    daemon.start_with(&[("GIT_SSL_CAINFO", &authority)]);
    use_it(&daemon);
}

#[test]
fn repository_is_fetched_over_https() {
    let remote = daemon().without_snapshots().prepare();
    let repository = remote.repository();
    over_https(repository.path(), |daemon| fetches(daemon, repository));
}

#[test]
fn partial_clone_is_named_over_https() {
    let remote = daemon().without_snapshots().prepare();
    let partial = partial_clone(remote.repository());
    over_https(&partial, refuses_partial_clone);
}

#[test]
fn existing_instance_gives_a_notice_for_an_unknown_revision_without_fetching() {
    let remote = daemon().without_snapshots().prepare();
    let url = format!("file://{}", remote.repository().path().display());
    let daemon = daemon().git(&url).start();
    drop(daemon.connect("instance:a,gitref:v1"));
    let commit = remote.repository().commit(&["auth.0001_initial"]);
    let session = daemon.connect(&format!("instance:a,gitref:{commit}"));
    session.one("select 1");
    let notices = session.notices();
    let [notice] = notices.as_slice() else {
        panic!("one notice was expected: {notices:?}")
    };
    assert!(notice.message.contains("was ignored"), "{notice:?}");
}

#[test]
fn hanging_remote_times_out_and_delays_no_other_client() {
    // The kernel accepts connections into its backlog, and nothing ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("it has an address");
    let daemon = daemon()
        .git(&format!("http://{address}/repository.git"))
        .limit("start_timeout", "8s")
        .start();
    daemon
        .expect_log("git")
        .expect_log("fetch")
        .expect_log("mirror");
    let config = daemon.config("instance:stuck,gitref:main");
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| multidb_integration_tests::Session::connect(&config).err());
        for number in 0..5 {
            let session = daemon.connect(&format!("instance:free{number},snapshot:latest"));
            session.one("select 1");
        }
        assert!(
            !stuck.is_finished(),
            "the remote did not hang, so this tested nothing"
        );
        let failure = stuck.join().expect("no panic").expect("it is refused");
        assert!(
            matches!(failure.sqlstate(), "22023" | "57P03" | "58000"),
            "{failure:?}"
        );
    });
}

#[test]
fn missing_repository_is_reported_and_snapshots_still_serve() {
    let daemon = daemon().git("/no/such/repository").start();
    daemon.expect_log("/no/such/repository");
    let failure = daemon.refused("instance:a,gitref:main");
    assert!(
        matches!(failure.sqlstate(), "22023" | "58000"),
        "{failure:?}"
    );
    daemon.connect("instance:a,snapshot:latest").one("select 1");
}
