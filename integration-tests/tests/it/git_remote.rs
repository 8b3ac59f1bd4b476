//! Remote repositories.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use multidb_integration_tests::{Authority, Daemon, Repository};

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

#[test]
fn repository_is_fetched_over_ssh() {
    let remote = daemon().without_snapshots().prepare();
    let url = format!(
        "ssh://git@git.invalid{}",
        remote.repository().path().display()
    );
    let daemon = daemon().git(&url).prepare();
    let ssh = daemon.dir().join("ssh");
    std::fs::write(&ssh, SSH).expect("it can be written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&ssh, executable).expect("it is there");
    daemon.start_with(&[("GIT_SSH_COMMAND", &ssh.display().to_string())]);
    fetches(&daemon, remote.repository());
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

#[test]
fn repository_is_fetched_over_https() {
    let remote = daemon().without_snapshots().prepare();
    let path = remote.repository().path();
    let certificates = tempfile::tempdir().expect("there is room for a directory");
    let authority = Authority::create(certificates.path());
    let server = Https::serve(path, &authority);
    let name = path.file_name().expect("it has a name").to_string_lossy();
    let url = format!("https://localhost:{}/{name}", server.1);
    let daemon = daemon().git(&url).prepare();
    let authority = authority.cert().display().to_string();
    daemon.start_with(&[("GIT_SSL_CAINFO", &authority)]);
    fetches(&daemon, remote.repository());
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
