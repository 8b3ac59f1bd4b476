//! Malformed packets, damaged files and wrong configurations.

use std::time::Duration;

use multidb_integration_tests::{Authority, Daemon, Identity, eventually};

use crate::daemon;

/// Bytes that are not a startup packet, with a description.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let oversized = [&[0x00, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0][..], &[b'x'; 4096]].concat();
    vec![
        ("nothing at all", Vec::new()),
        ("half a length", vec![0, 0]),
        ("length 0", vec![0, 0, 0, 0]),
        ("length 7", vec![0, 0, 0, 7, 0, 3, 0]),
        ("negative length", vec![0xFF, 0xFF, 0xFF, 0xFF, 0, 3, 0, 0]),
        ("longer than allowed", oversized),
        ("protocol 2", vec![0, 0, 0, 8, 0, 2, 0, 0]),
        ("protocol 4", vec![0, 0, 0, 9, 0, 4, 0, 0, 0]),
        ("no terminator", b"\0\0\0\x0d\0\x03\0\0user\0".to_vec()),
        (
            "key without value",
            b"\0\0\0\x0e\0\x03\0\0user\0\0".to_vec(),
        ),
        (
            "bytes after the terminator",
            b"\0\0\0\x11\0\x03\0\0user\0a\0\0x".to_vec(),
        ),
        ("no user", b"\0\0\0\x09\0\x03\0\0\0".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 0, 0xF4, 1, 0, 0, 0xF0, 3, 3]),
        (
            "data behind an SSLRequest",
            vec![0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 0, 3, 0, 0],
        ),
        (
            "cancel of 5 bytes",
            vec![0, 0, 0, 13, 4, 210, 22, 46, 0, 0, 0, 1, 1],
        ),
    ]
}

#[test]
fn malformed_packets_end_their_connection_and_nothing_else() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:a,gitref:main");
    for (what, bytes) in malformed() {
        let mut client = daemon.raw();
        client.send(&bytes);
        client.half_close();
        let answer = client.read_to_end();
        let text = String::from_utf8_lossy(&answer);
        // A TLS ClientHello is answered by a TLS alert, protocol 2 by an error in its own form.
        let polite = answer.is_empty()
            || answer == b"N"
            || answer.starts_with(&[0x15, 3])
            || text.starts_with("EFATAL:  multidb: ")
            || text.contains("SFATAL");
        assert!(polite, "{what}: {text}");
    }
    session.one("select 1");
    eventually("only the session is left", Duration::from_secs(30), || {
        daemon.json(&["status"])["connections"] == 1
    });
}

#[test]
fn oversized_packet_is_named_a_protocol_violation() {
    let daemon = daemon().start();
    let mut client = daemon.raw();
    client.send(&[0x00, 0x00, 0x40, 0x00, 0, 3, 0, 0]);
    client.send(&[b'x'; 12_000]);
    let answer = client.read_to_end();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("C08P01"), "{text}");
}

#[test]
fn half_open_clients_delay_no_other_client() {
    let daemon = daemon().start();
    let mut silent: Vec<_> = (0..50).map(|_| daemon.raw()).collect();
    for (number, client) in silent.iter_mut().enumerate() {
        client.send(&[0, 0, 0, 50, 0, 3][..number % 7]);
    }
    daemon.connect("instance:a,gitref:main").one("select 1");
    // The login timeout closes each of them.
    for client in &mut silent {
        client.read_to_end();
    }
}

#[test]
fn configuration_with_several_faults_reports_all_of_them() {
    let daemon = daemon().without_snapshots().prepare();
    std::fs::write(
        daemon.config_file(),
        "root = \"relative/path\"\nlisten = [\"nowhere\"]\nprot = 1\n\
         [limits]\nretention = \"soon\"\ndisk_reserve = \"a lot\"\n\
         [runtime]\nkind = \"magic\"\n",
    )
    .expect("it can be written");
    for args in [&["config", "check"][..], &["serve"]] {
        let output = daemon.cli(args);
        assert_ne!(output.code, Some(0), "{args:?}: {output:?}");
        for key in [
            "root",
            "listen",
            "prot",
            "retention",
            "disk_reserve",
            "kind",
        ] {
            assert!(
                output.stderr.contains(key),
                "{args:?}: {key} is missing: {}",
                output.stderr
            );
        }
    }
}

#[test]
fn root_with_a_comma_is_refused_before_anything_is_made() {
    let daemon = daemon().without_snapshots().prepare();
    let root = daemon.dir().join("a,b");
    let line = |root: &std::path::Path| format!("root = {root:?}");
    daemon.reconfigure(&line(&daemon.root()), &line(&root));
    for args in [&["config", "check"][..], &["serve"]] {
        let output = daemon.cli(args);
        assert_eq!(output.code, Some(1), "{args:?}: {output:?}");
        assert!(
            output.stderr.contains("must not contain a comma"),
            "{output:?}"
        );
    }
    assert!(!root.exists());
}

#[test]
fn configuration_whose_certificate_cannot_be_used_is_not_valid() {
    let daemon = daemon().without_snapshots().prepare();
    let authority = Authority::create(daemon.dir());
    let Identity { cert, key } = authority.issue("localhost", &["localhost"]);
    let tls = format!(
        "\n[tls]\ncert = {:?}\nkey = {:?}\n",
        cert.display().to_string(),
        key.display().to_string()
    );
    let config = std::fs::read_to_string(daemon.config_file()).expect("it is there");
    std::fs::write(daemon.config_file(), config + &tls).expect("it can be written");
    let check = || daemon.cli(&["config", "check"]);
    assert_eq!(check().code, Some(0), "{:?}", check());
    let pem = std::fs::read_to_string(&key).expect("it is there");
    let other = authority.issue("other", &["localhost"]);
    let other = std::fs::read_to_string(other.key).expect("it is there");
    for (text, fault) in [
        (&pem[..pem.len() / 2], "is not a private key in PEM"),
        (&other, "is not that of the certificate"),
    ] {
        std::fs::write(&key, text).expect("it can be written");
        let output = check();
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("tls.key"), "{output:?}");
        assert!(output.stderr.contains(fault), "{output:?}");
    }
}

#[test]
fn trust_on_a_reachable_address_is_refused() {
    let trust = daemon().set("auth", "method", "trust");
    let daemon = trust.without_snapshots().prepare();
    let config = std::fs::read_to_string(daemon.config_file()).expect("it is there");
    std::fs::write(daemon.config_file(), config.replace("127.0.0.1", "0.0.0.0"))
        .expect("it can be written");
    let output = daemon.cli(&["serve"]);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("trust"), "{output:?}");
}

/// Removes a file of a snapshot.
fn damage(daemon: &Daemon, file: &str) {
    let path = daemon.root().join("snapshots").join(file);
    std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn snapshot_with_a_damaged_manifest_is_ignored_and_logged() {
    let daemon = daemon().prepare();
    let manifest = daemon.root().join("snapshots/tuesday/manifest.json");
    std::fs::write(manifest, "{\"oops\":").expect("it can be written");
    daemon.expect_log("tuesday");
    daemon.start();
    drop(daemon.connect("instance:a,snapshot:latest"));
    assert_eq!(daemon.instance("a")["snapshot"], "monday");
    assert!(daemon.log().contains("tuesday"));
}

#[test]
fn damaged_snapshot_fails_for_its_own_clients_only() {
    let daemon = daemon().start();
    damage(&daemon, "tuesday/data/global/pg_control");
    daemon.expect_log("tuesday").expect_log("instance");
    let failure = daemon.refused("instance:a,snapshot:tuesday");
    assert!(
        matches!(failure.sqlstate(), "58000" | "XX001"),
        "{failure:?}"
    );
    daemon.connect("instance:b,snapshot:monday").one("select 1");
}
