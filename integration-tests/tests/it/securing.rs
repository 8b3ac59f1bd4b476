//! TLS, as clients and operators see it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use multidb_integration_tests::{
    Authority, Daemon, DaemonBuilder, Identity, ProgramOutput, eventually, run,
};

use rustix::process::Signal;

use crate::daemon;

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon with a certificate for `localhost` in its own directory.
struct Secured {
    daemon: Daemon,
    authority: Authority,
    _certificates: tempfile::TempDir,
}

impl Secured {
    fn start(configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let secured = Self::prepare(configure);
        secured.daemon.start();
        secured
    }

    fn prepare(configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let certificates = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::create(certificates.path());
        let Identity { cert, key } = authority.issue("localhost", &["localhost"]);
        let builder = configure(daemon())
            .set("tls", "cert", text(&cert))
            .set("tls", "key", text(&key))
            .set("tls", "client_ca", text(&authority.cert()));
        Self {
            daemon: builder.prepare(),
            authority,
            _certificates: certificates,
        }
    }

    /// Runs SQL by psql with these additional libpq settings.
    fn psql(&self, user: &str, settings: &str, commands: &[&str]) -> ProgramOutput {
        let mut command = self.daemon.client_program("psql", user);
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]);
        command.arg(format!(
            "--dbname=dbname=app host=localhost hostaddr=127.0.0.1 sslrootcert={} {settings}",
            text(&self.authority.cert()),
        ));
        for sql in commands {
            command.args(["--command", sql]);
        }
        run(&mut command)
    }

    /// Whether new clients get the certificate that is in the file now.
    fn shows_the_file(&self) -> bool {
        let shown = run(std::process::Command::new("openssl").args([
            "s_client",
            "-starttls",
            "postgres",
            "-connect",
            &format!("127.0.0.1:{}", self.daemon.port()),
        ]));
        let begin = "-----BEGIN CERTIFICATE-----";
        let file = std::fs::read_to_string(self.authority.cert().with_file_name("localhost.pem"));
        let file = file.expect("the certificate can be read");
        assert!(shown.stdout.contains(begin), "{shown:?}");
        let pem = |text: &str| {
            let (_, rest) = text.split_once(begin)?;
            let (body, _) = rest.split_once("-----END")?;
            Some(body.split_whitespace().collect::<String>())
        };
        pem(&shown.stdout) == pem(&file)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is a text")
}

#[test]
fn psql_verifies_the_certificate_and_large_results_and_copies_pass() {
    let secured = Secured::start(|daemon| daemon);
    let user = "instance:a,gitref:main";
    let shown = secured.psql(user, "sslmode=verify-full", &["\\conninfo"]);
    assert!(shown.ok().contains("TLSv1.3"), "{shown:?}");
    let sql = "select md5(string_agg(n::text, ',')) from generate_series(1, 300000) n";
    let expected = secured.psql("instance:a", "sslmode=disable", &[sql]);
    let commands = [
        "create temp table copied (n int)",
        "\\copy (select generate_series(1, 300000)) to '/dev/null'",
        "\\copy copied from program 'seq 300000'",
        "select md5(string_agg(n::text, ',' order by n)) from copied",
    ];
    let copied = secured.psql("instance:a", "sslmode=verify-full", &commands);
    assert_eq!(copied.ok(), expected.ok());
    let rows = secured.psql(
        "instance:a",
        "sslmode=verify-full ssl_max_protocol_version=TLSv1.2",
        &["select n from generate_series(1, 300000) n"],
    );
    assert_eq!(rows.ok().lines().count(), 300_000);
}

#[test]
fn without_tls_there_is_no_session_over_tcp_where_it_is_required() {
    let secured = Secured::start(|daemon| daemon.set_raw("tls", "required", "true"));
    let daemon = &secured.daemon;
    let refused = daemon.refused("instance:a,gitref:main");
    assert_eq!(refused.sqlstate(), "28000", "{refused:?}");
    assert_eq!(refused.message, "multidb: TLS is required");
    assert_eq!(daemon.json(&["instance", "ls"]), serde_json::json!([]));
    let user = "instance:a,gitref:main";
    let one = secured.psql(user, "sslmode=require", &["select 1"]);
    assert_eq!(one.ok(), "1");
    // Bytes in a Unix socket do not leave the machine.
    let mut command = daemon.client_program("psql", "instance:a");
    let directory = daemon.unix_listener();
    let directory = text(directory.parent().expect("it is in a directory"));
    command.args(["--host", directory, "--dbname=app", "--command=select 1"]);
    run(&mut command).ok();
}

#[test]
fn changed_certificate_is_used_for_new_clients_and_an_invalid_one_never() {
    let secured = Secured::start(|daemon| daemon);
    let daemon = &secured.daemon;
    let session = daemon.connect("instance:a,gitref:main");
    assert!(secured.shows_the_file());
    secured.authority.issue("localhost", &["localhost"]);
    eventually("the new certificate is shown", WAIT_TIMEOUT, || {
        secured.shows_the_file()
    });
    // The file is unchanged, so only the signal causes another read.
    let reads = || daemon.log().matches("certificate reloaded").count();
    let before = reads();
    daemon.signal(Signal::HUP);
    eventually("it is read again", WAIT_TIMEOUT, || reads() > before);

    daemon.expect_log("certificate was not reloaded");
    let cert = secured.authority.cert().with_file_name("localhost.pem");
    std::fs::write(&cert, "no certificate").expect("it can be written");
    daemon.wait_log("certificate was not reloaded");
    let one = secured.psql("instance:a", "sslmode=verify-full", &["select 1"]);
    assert_eq!(one.ok(), "1");
    assert_eq!(session.one("select 1"), "1");
}

#[test]
fn client_certificate_authenticates_its_user() {
    let secured = Secured::start(|daemon| daemon);
    let alice = secured.authority.issue("alice", &[]);
    let settings = format!(
        "sslmode=verify-full sslcert={} sslkey={}",
        text(&alice.cert),
        text(&alice.key)
    );
    let created = secured.psql("instance:a,gitref:main", &settings, &["select 1"]);
    assert_eq!(created.ok(), "1");
    let bob = secured.psql("instance:a,user:bob", &settings, &["select 1"]);
    assert_eq!(bob.code, Some(2), "{bob:?}");
    let said = "multidb: client certificate is for user \"alice\", not \"bob\"";
    assert!(bob.stderr.contains(said), "{bob:?}");
}

#[test]
fn key_that_other_users_can_read_is_refused_at_start() {
    let secured = Secured::prepare(|daemon| daemon);
    let key = secured.authority.cert().with_file_name("localhost.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("it is ours");
    let output = run(&mut secured.daemon.cli_command(&[
        "serve",
        "--config",
        text(&secured.daemon.config_file()),
    ]));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("cannot offer TLS"), "{output:?}");
    assert!(output.stderr.contains("run chmod 640 on it"), "{output:?}");
    let doctor = secured.daemon.cli(&["doctor"]);
    assert!(doctor.stdout.contains("run chmod 640 on it"), "{doctor:?}");
}
