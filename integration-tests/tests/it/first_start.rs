//! A daemon that starts for the first time makes its root, for Postgres' user too.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use multidb_integration_tests::{Daemon, Disk, Fixture, TUESDAY_ROWS};

use crate::daemon;

/// Imports a small dump and reads from it.
fn import_and_connect(daemon: &Daemon) {
    let fixture = Fixture::of(Disk::Xfs, Path::new(crate::PROGRAM));
    let dump = fixture.dump("tuesday.dump").display().to_string();
    let import = ["snapshot", "import", "first", "--project", "demo"];
    daemon.cli(&[&import[..], &["--dump", &dump]].concat()).ok();
    let session = daemon.connect("instance:a,snapshot:first");
    let rows = session.one("select count(*) from polls_question");
    assert_eq!(rows, TUESDAY_ROWS.to_string());
}

#[test]
fn missing_root_is_made_for_postgres_too_whatever_the_umask() {
    for umask in ["022", "077"] {
        let daemon = daemon().without_snapshots().prepare();
        assert!(!daemon.root().exists());
        daemon.start_with_umask(umask);
        let mode = fs::metadata(daemon.root()).expect("the root was made");
        assert_eq!(mode.permissions().mode() & 0o7777, 0o711, "umask {umask}");
        import_and_connect(&daemon);
        daemon.cli(&["doctor"]).ok();
    }
}

#[test]
fn directory_that_postgres_cannot_enter_is_named_by_serve_and_doctor() {
    let daemon = daemon().without_snapshots().prepare();
    for closed in [daemon.dir().to_owned(), daemon.root()] {
        if !closed.exists() {
            fs::create_dir(&closed).expect("the root can be made");
        }
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("it is the test's own");
        let fault = format!(
            "postgres, the user that runs Postgres, cannot enter {}",
            closed.display()
        );
        let hint = format!("Run \"chmod a+x {}\"", closed.display());
        let serve = daemon.cli(&["serve"]);
        assert_eq!(serve.code, Some(1), "{serve:?}");
        let doctor = daemon.cli(&["doctor"]);
        assert_eq!(doctor.code, Some(1), "{doctor:?}");
        for said in [&serve.stderr, &doctor.stdout] {
            assert!(said.contains(&fault) && said.contains(&hint), "{said}");
            // The whole path: the root's begins with its parent's.
            assert!(said.contains(&format!("{fault}\n")), "{said}");
        }
        // The hint is followed.
        fs::set_permissions(&closed, Permissions::from_mode(0o711)).expect("it is the test's own");
    }
    assert!(
        daemon
            .root()
            .read_dir()
            .is_ok_and(|mut all| all.next().is_none())
    );
    daemon.start();
    import_and_connect(&daemon);
}

#[test]
fn start_that_fails_leaves_no_root() {
    let daemon = daemon().without_snapshots().prepare();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it has an address");
    let (dir, file) = (daemon.dir(), daemon.dir().join("faulty.toml"));
    let below_a_file = file.join("admin.sock").display().to_string();
    let socket = daemon.admin_socket().display().to_string();
    let taken_port = format!("listen = [\"{taken}\"]\n");
    let unix = format!("listen = [\"{}/.s.PGSQL.6432\"]\n", dir.display());
    let tls = "[tls]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\n";
    for (fault, socket, said) in [
        (taken_port.as_str(), &socket, "cannot listen on 127.0.0.1"),
        (&unix, &below_a_file, &below_a_file),
        (tls, &socket, "/nowhere/cert.pem"),
        ("[clone]\nmethod = \"btrfs-snapshot\"\n", &socket, "Btrfs"),
    ] {
        let root = dir.join("other-root");
        fs::write(&file, format!("root = \"{}\"\n{fault}", root.display())).expect("writable");
        let file = file.display().to_string();
        let serve = daemon.cli(&["serve", "--config", &file, "--socket", socket]);
        assert_eq!(serve.code, Some(1), "{serve:?}");
        assert!(serve.stderr.contains(said), "{said}: {}", serve.stderr);
        assert!(!root.exists(), "{said}");
    }
}
