//! Every message that a client can get, in one table: a change of any is a change that users see.

use std::fmt::Write;
use std::time::Duration;

use multidb_store::{InstanceName, ProjectName, SnapshotId};

use super::*;
use crate::ports::{CloneError, RevisionError, RuntimeError, StartError};
use crate::request::{self, Source};
use crate::wire::{BackendMessage, WireError, decode_backend, decode_startup};

fn instance() -> InstanceName {
    "testdb".parse().unwrap()
}

fn project(name: &str) -> ProjectName {
    name.parse().unwrap()
}

fn snapshot(id: &str) -> SnapshotId {
    id.parse().unwrap()
}

fn requests() -> Vec<ClientError> {
    let cases: &[(&[u8], &[u8])] = &[
        (b"postgres", b""),
        (b"instance", b""),
        (b"gitref:main", b""),
        (b"instance:testdb,main", b""),
        (b"instance:testdb,branch:main", b""),
        (b"instance:testdb", b"-c multidb.branch=main"),
        (b"instance:testdb", b"-c multidb.gitref"),
        (b"instance:testdb,instance:other", b""),
        (b"instance:testdb", b"-c multidb.instance=other"),
        (b"instance:testdb,gitref:a,asof:b", b""),
        (b"instance:test db", b""),
        (b"instance:testdb,asof:monday", b""),
        (b"instance:\xFF", b""),
        (b"app", b"-c multidb.instance=\xFF"),
    ];
    cases
        .iter()
        .map(|(user, options)| request::parse(user, Some(options)).unwrap_err().into())
        .collect()
}

fn packets() -> Vec<ClientError> {
    let cases: &[&[u8]] = &[
        b"\x00\x00\xFF\xFF",
        b"\x00\x00\x00\x08\x00\x03\x00\x00",
        b"\x00\x00\x00\x08\x00\x02\x00\x00",
        b"\x16\x03\x01",
    ];
    let mut errors: Vec<ClientError> = cases
        .iter()
        .map(|packet| decode_startup(&mut (*packet).into()).unwrap_err().into())
        .collect();
    errors.push(WireError::EarlyData { request: "SSL" }.into());
    errors.push(
        WireError::MessageLength {
            tag: b'p',
            length: 1,
        }
        .into(),
    );
    errors.push(WireError::MessageLayout { tag: b'p' }.into());
    errors.push(ClientError::unexpected_message(b'Q'));
    errors.push(ClientError::login_timeout(Duration::from_secs(60)));
    errors.push(ClientError::too_many_connections(1000));
    errors.push(ClientError::put_out());
    errors
}

fn choices() -> Vec<ClientError> {
    let shop = project("shop");
    let known = [project("shop"), project("blog")];
    let miss = NearestMiss {
        snapshot: snapshot("monday"),
        missing: (1..=12).map(|n| format!("app.00{n:02}_step")).collect(),
        missing_total: 40,
    };
    let one = NearestMiss {
        missing: vec!["app.0001_step".into()],
        missing_total: 1,
        ..miss.clone()
    };
    vec![
        ClientError::no_such_instance(&instance()),
        ClientError::instance_of_other_project(&instance(), &shop, &project("blog")),
        ClientError::no_such_project(&project("shpo"), &known),
        ClientError::no_such_project(&project("shpo"), &[]),
        ClientError::no_project(),
        ClientError::project_needed(&known),
        ClientError::no_such_snapshot(&snapshot("tuesday"), &shop),
        ClientError::no_snapshots(&shop),
        ClientError::no_snapshot_as_of(
            "2026-01-01T00:00:00Z".parse().unwrap(),
            &shop,
            "2026-02-01T00:00:00Z".parse().unwrap(),
        ),
        ClientError::no_compatible_snapshot("main", &shop, Some(&miss)),
        ClientError::no_compatible_snapshot("main", &shop, Some(&one)),
        ClientError::no_compatible_snapshot("main", &shop, None),
    ]
}

fn revisions() -> Vec<ClientError> {
    let unknown = |fetch_failure| RevisionError::Unknown {
        gitref: "maim".into(),
        fetch_failure,
    };
    let errors = [
        unknown(None),
        unknown(Some("https://user:secret@git.internal answered 500".into())),
        RevisionError::Ambiguous {
            gitref: "abc".into(),
            candidates: vec!["abc1".into(), "abc2".into()],
        },
        RevisionError::ListingMissing {
            commit: "a".repeat(40),
            path: "migrations.txt".into(),
        },
        RevisionError::Repository {
            message: "/var/lib/multidb/secret is gone".into(),
        },
    ];
    errors.into_iter().map(ClientError::from).collect()
}

fn services() -> Vec<ClientError> {
    let runtime = RuntimeError {
        message: "container 0123456789ab at /secret".into(),
        hint: None,
    };
    let exited = |log: Vec<String>| StartError::Exited {
        status: "exit code 1".into(),
        log,
    };
    let log = (1..=12).map(|n| format!("LOG:  line {n}")).collect();
    let name = instance();
    let no_space = CloneError::NoSpace {
        free_bytes: 4_966_055_936,
        reserve_bytes: 5 << 30,
    };
    let damaged = CloneError::SnapshotDamaged {
        snapshot: "monday".into(),
        message: "/secret is missing".into(),
    };
    let failed = CloneError::Failed {
        message: "cannot write /secret".into(),
    };
    vec![
        ClientError::clone_failed(&name, &no_space),
        ClientError::clone_failed(&name, &damaged),
        ClientError::clone_failed(&name, &failed).with_connection(17),
        ClientError::start_failed(&name, &exited(log)).with_connection(17),
        ClientError::start_failed(&name, &exited(Vec::new())),
        ClientError::start_failed(&name, &StartError::Runtime(runtime)).with_connection(17),
        ClientError::stop_failed(&name),
        ClientError::start_timeout(&name, Duration::from_secs(30)),
        ClientError::too_many_running(&name, 50, Duration::from_millis(1500)),
        ClientError::backend_lost(&name).with_connection(17),
        ClientError::internal().with_connection(17),
    ]
}

fn sessions() -> Vec<ClientError> {
    vec![
        ClientError::idle_session(Duration::from_secs(900)),
        ClientError::idle_listener(Duration::from_secs(900)),
        ClientError::idle_in_copy(Duration::from_secs(900)),
        ClientError::idle_in_transaction(Duration::from_secs(3600)),
        ClientError::instance_ended(&instance(), AdminAction::Stop),
        ClientError::instance_ended(&instance(), AdminAction::Reset),
        ClientError::instance_ended(&instance(), AdminAction::Remove),
        ClientError::connection_killed(),
        ClientError::shutting_down(),
    ]
}

fn all() -> Vec<ClientError> {
    [
        requests(),
        packets(),
        choices(),
        revisions(),
        services(),
        sessions(),
    ]
    .concat()
}

#[test]
fn every_message() {
    let mut text = String::new();
    for error in all() {
        let severity = error.severity.as_str();
        writeln!(text, "{severity} {}:  {error}\n", error.sqlstate).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn messages_follow_postgres_style() {
    for error in all() {
        let message = &error.message;
        assert!(
            !message.ends_with('.') && !message.contains('\n'),
            "{message}"
        );
        let first = message.chars().find(|c| *c != '"').unwrap();
        assert!(
            first.is_lowercase() || message.starts_with("Postgres"),
            "{message}"
        );
        for sentence in [&error.hint, &error.detail].into_iter().flatten() {
            let is_log = sentence.contains("\nLOG:");
            assert!(is_log || sentence.ends_with('.'), "{sentence}");
            assert!(!sentence.contains("secret"), "{sentence}");
        }
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn an_error_reaches_the_client_whole() {
    for error in all() {
        let mut out = BytesMut::new();
        error.encode(&mut out);
        let Ok(Some(frame)) = decode_backend(&mut out) else {
            panic!("not whole: {error}");
        };
        let BackendMessage::ErrorResponse(fields) = frame.message else {
            panic!("no error: {error}");
        };
        assert_eq!(fields.severity(), error.severity.as_str());
        assert_eq!(fields.sqlstate(), error.sqlstate.as_str());
        assert_eq!(fields.message(), format!("multidb: {}", error.message));
        assert_eq!(fields.detail().as_deref(), error.detail.as_deref());
        assert_eq!(fields.hint().as_deref(), error.hint.as_deref());
    }
}

#[test]
fn every_notice() {
    let source = Source::GitRef("main".into());
    let notices = [
        ClientNotice::created(&instance(), &snapshot("monday")),
        ClientNotice::other_snapshot(
            &instance(),
            &snapshot("monday"),
            &source,
            &snapshot("tuesday"),
        ),
        ClientNotice::source_ignored(&instance(), &source),
    ];
    let mut text = String::new();
    for notice in notices {
        let mut out = BytesMut::new();
        notice.encode(&mut out);
        let Ok(Some(frame)) = decode_backend(&mut out) else {
            panic!("not whole: {notice:?}");
        };
        let BackendMessage::NoticeResponse(fields) = frame.message else {
            panic!("no notice: {notice:?}");
        };
        let (detail, hint) = (fields.detail(), fields.hint());
        let severity = fields.severity();
        writeln!(
            text,
            "{severity} {}:  {}",
            fields.sqlstate(),
            fields.message()
        )
        .unwrap();
        let detail = detail.map(|detail| format!("DETAIL:  {detail}\n"));
        let hint = hint.map(|hint| format!("HINT:  {hint}\n"));
        text.extend([detail, hint].into_iter().flatten());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn sizes_and_lists_read_well() {
    assert_eq!(text::bytes(0), "0 bytes");
    assert_eq!(text::bytes(1024), "1 KiB");
    assert_eq!(text::bytes(1536), "1.5 KiB");
    assert_eq!(text::bytes(5 << 30), "5 GiB");
    assert_eq!(text::bytes(u64::MAX), "16777215.9 TiB");
    assert_eq!(text::list(&["a", "b"]), "a, b");
    assert_eq!(text::list(&["x"; 11]).len(), 28 + " and 1 more".len());
    assert_eq!(text::sentence("it ended."), "It ended.");
}
