//! Every message that a client can get, in one table: a change of any is a change that users see.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{InstanceName, ProjectName, RuntimeKind, SnapshotId, TakenAtOrigin};

use super::*;
use crate::auth::{AuthenticationError, DenyReason, ScramError};
use crate::connection::{RefusalReason, TerminationReason};
use crate::instance::{Beginning, InstanceError};
use crate::ports::{CloneError, DiskError, RuntimeError, StartError, Unavailable, Unconfirmed};
use crate::project::ProjectError;
use crate::request::{self, Source};
use crate::sessions::{EndingCommand, InstanceThen};
use crate::supervisor::AcquireError;
use crate::testing;
use crate::wire::{BackendMessage, WireError, decode_backend, decode_startup};

mod choices;
mod console;

use self::choices::{choices, revisions};

mod clones;
mod limits;
mod reference;
mod variants;

fn instance() -> InstanceName {
    "testdb".parse().unwrap()
}

fn project(name: &str) -> ProjectName {
    name.parse().unwrap()
}

fn snapshot(id: &str) -> SnapshotId {
    id.parse().unwrap()
}

fn requests() -> Vec<RefusalReason> {
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
        (b"instance:testdb,session_idle_timeout:soon", b""),
        (b"instance:testdb,session_idle_timeout:0s", b""),
        (b"instance:testdb,role:", b""),
        (b"instance:testdb,gitref:%zz", b""),
        (b"instance:\xFF", b""),
        (b"app", b"-c multidb.instance=\xFF"),
    ];
    cases
        .iter()
        .map(|(user, options)| request::parse(user, Some(options)).unwrap_err().into())
        .chain([request::parse_login(b"staff", None, Some(b"multidb"))
            .unwrap_err()
            .into()])
        .collect()
}

fn packets() -> Vec<RefusalReason> {
    let cases: &[&[u8]] = &[
        b"\x00\x00\xFF\xFF",
        b"\x00\x00\x00\x08\x00\x03\x00\x00",
        b"\x00\x00\x00\x08\x00\x02\x00\x00",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1",
    ];
    let decoded = cases
        .iter()
        .map(|packet| decode_startup(&mut (*packet).into()).unwrap_err());
    let others = [
        WireError::CancelKeyLength { length: 1 },
        WireError::EarlyData { request: "SSL" },
        WireError::MessageLength {
            tag: b'p',
            length: 1,
        },
        WireError::MessageLayout { tag: b'p' },
    ];
    decoded.chain(others).map(RefusalReason::from).collect()
}

fn logins() -> Vec<RefusalReason> {
    vec![
        RefusalReason::TlsRequired,
        RefusalReason::UnexpectedMessage { tag: b'Q' },
        RefusalReason::LoginTimeout {
            limit: Duration::from_secs(60),
        },
        RefusalReason::TooManyConnections { max: 1000 },
        RefusalReason::Evicted,
        RefusalReason::InstanceKeepsVanishing {
            instance: instance(),
        },
        RefusalReason::BackendLost {
            instance: instance(),
        },
    ]
}

fn authentications() -> Vec<RefusalReason> {
    let of_scram = |error| AuthenticationError::of_scram("alice", false, error);
    let errors = [
        of_scram(ScramError::Denied),
        AuthenticationError::of_scram("staff", true, ScramError::Denied),
        of_scram(ScramError::Downgraded),
        of_scram(ScramError::Malformed("no nonce")),
        AuthenticationError::TooManyFailures {
            wait: Duration::from_millis(29_100),
        },
        AuthenticationError::CertificateMismatch {
            certificate: "alice".into(),
            user: "bob".into(),
        },
        AuthenticationError::UnknownCertificate {
            certificate: "mallory".into(),
        },
    ];
    errors.into_iter().map(RefusalReason::from).collect()
}

fn denials() -> Vec<AcquireError> {
    let user = || "alice".to_owned();
    let reasons = [
        DenyReason::ProjectNotAllowed {
            user: user(),
            project: project("shop"),
            allowed: vec![project("blog"), project("wiki")],
        },
        DenyReason::RoleNotAllowed {
            user: user(),
            role: "postgres".into(),
            allowed: vec!["app".into()],
        },
        DenyReason::TooManyInstances {
            user: user(),
            max: 5,
        },
        DenyReason::TooManyCreations {
            user: user(),
            max: 10,
        },
    ];
    reasons.into_iter().map(AcquireError::from).collect()
}

fn acquisitions() -> Vec<AcquireError> {
    let known = || vec![project("shop"), project("blog")];
    vec![
        AcquireError::ShuttingDown,
        AcquireError::NoSuchInstance {
            instance: instance(),
        },
        AcquireError::GivenUp {
            instance: instance(),
        },
        AcquireError::InstanceOfOtherProject {
            instance: instance(),
            project: project("shop"),
            requested: project("blog"),
        },
        ProjectError::NoProject.into(),
        ProjectError::NoSuchProject {
            project: project("shpo"),
            known: known(),
        }
        .into(),
        AcquireError::TtlTooLong {
            ttl: Duration::from_secs(40 * 86_400),
            retention: Duration::from_secs(30 * 86_400),
        },
        AcquireError::NoSuchParent {
            instance: instance(),
            parent: "live".parse().unwrap(),
        },
        AcquireError::Parent {
            instance: instance(),
            parent: "live".parse().unwrap(),
            error: Box::new(InstanceError::Stopped),
        },
        ProjectError::ProjectNeeded { known: known() }.into(),
        AcquireError::Unavailable {
            instance: instance(),
            unavailable: away(),
        },
        AcquireError::Unanswered,
    ]
}

fn away() -> Unavailable {
    Unavailable::Away {
        runtime: RuntimeKind::Docker,
        cause: RuntimeError {
            for_clients: false,
            message: "no engine at /secret".into(),
            hint: None,
        },
    }
}

fn disk(fault: &str) -> DiskError {
    DiskError::in_text(&format!("cannot write /secret: {fault}")).unwrap()
}

fn scratch() -> Vec<InstanceError> {
    vec![
        InstanceError::Start(StartError::EndedUncleanly),
        InstanceError::Renew {
            snapshot: snapshot("monday"),
            error: CloneError::SnapshotGone {
                snapshot: "monday".into(),
            },
        },
        InstanceError::Renew {
            snapshot: snapshot("monday"),
            error: CloneError::Failed {
                message: "cannot write /secret".into(),
            },
        },
    ]
}

fn instances() -> Vec<RefusalReason> {
    let runtime = || RuntimeError {
        for_clients: false,
        message: "container 0123456789ab at /secret".into(),
        hint: None,
    };
    let failed = || CloneError::Failed {
        message: "cannot write /secret".into(),
    };
    let exited = |log| {
        let exited = StartError::Exited {
            status: "exit code 1".into(),
            log,
            altered: Vec::new(),
        };
        InstanceError::Start(exited.with_disk_fault())
    };
    let others = [
        exited((1..=12).map(|n| format!("LOG:  line {n}")).collect()),
        exited(Vec::new()),
        InstanceError::Start(StartError::Exited {
            status: "exit code 1".into(),
            log: vec!["LOG:  could not map anonymous shared memory".into()],
            altered: vec!["line 3 of postgresql.auto.conf: shared_buffers = '900GB'".into()],
        }),
        InstanceError::Start(StartError::Runtime(runtime())),
        InstanceError::Start(StartError::Runtime(RuntimeError {
            for_clients: true,
            message: "the programs of PostgreSQL 9 are not installed".into(),
            hint: Some("Install them.".into()),
        })),
        exited(vec![
            "LOG:  starting".into(),
            "FATAL:  could not create lock file \"postmaster.pid\": No space left on device".into(),
        ]),
        InstanceError::Start(StartError::Disk(disk("Read-only file system"))),
        InstanceError::Stop(runtime()),
        InstanceError::Unknown(runtime()),
        InstanceError::Unavailable(away()),
        InstanceError::Unavailable(Unavailable::NotConfigured {
            runtime: RuntimeKind::Docker,
            configured: RuntimeKind::Process,
        }),
        InstanceError::StartTimeout {
            limit: Duration::from_secs(30),
        },
        InstanceError::Stopped,
        InstanceError::Deleted,
        InstanceError::Died,
        InstanceError::GivenUp,
        InstanceError::DataUnusable {
            why: "its directory is missing".to_owned(),
        },
        InstanceError::Storage(failed()),
        InstanceError::Delete(failed()),
    ];
    let clones = clones::clones()
        .into_iter()
        .map(InstanceError::Clone)
        .chain(scratch())
        .chain(limits::refusals());
    clones
        .chain(others)
        .map(|error| RefusalReason::Instance {
            instance: instance(),
            error,
        })
        .collect()
}

/// At least one of each variant of each domain error that refuses a login.
fn refusals() -> Vec<RefusalReason> {
    let choices = choices().into_iter().chain(revisions());
    let acquisitions = acquisitions()
        .into_iter()
        .chain(denials())
        .chain(choices.map(AcquireError::from));
    [
        requests(),
        packets(),
        logins(),
        authentications(),
        acquisitions.map(RefusalReason::from).collect(),
        instances(),
    ]
    .concat()
}

/// Each reason for which a session is terminated.
fn terminations() -> Vec<TerminationReason> {
    let limit = Duration::from_secs(900);
    vec![
        TerminationReason::IdleSession { limit },
        TerminationReason::IdleListener { limit },
        TerminationReason::IdleInCopy { limit },
        TerminationReason::IdleInTransaction {
            limit: Duration::from_secs(5400),
        },
        TerminationReason::Killed,
        TerminationReason::ShuttingDown,
        TerminationReason::OverLimit(limits::over()[0]),
        TerminationReason::OverLimit(limits::over()[1]),
        commanded(InstanceThen::Stopped),
        commanded(InstanceThen::Reset),
        commanded(InstanceThen::Removed),
    ]
}

fn commanded(then: InstanceThen) -> TerminationReason {
    TerminationReason::Commanded(EndingCommand {
        instance: "testdb".parse().unwrap(),
        then,
        by: "user \"staff\"".to_owned(),
    })
}

/// All errors that a client can get, by the code word of their reason.
fn all() -> Vec<(&'static str, ClientError)> {
    let refusals = refusals();
    let refused = refusals.iter().map(|reason| {
        let error = ClientError::from(reason).with_connection(17);
        (reason.code(), error)
    });
    let terminations = terminations();
    let terminated = terminations
        .iter()
        .map(|reason| (reason.code(), ClientError::from(reason)));
    refused.chain(terminated).collect()
}

#[test]
fn every_message() {
    let mut text = String::new();
    for (code, error) in all() {
        writeln!(text, "[{code}]\nFATAL {}:  {error}\n", error.sqlstate).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn messages_follow_postgres_style() {
    for (_, error) in all() {
        let message = &error.message;
        assert!(
            !message.ends_with('.') && !message.contains('\n'),
            "{message}"
        );
        // Names and abbreviations keep their capitals.
        let mut start = message.trim_start_matches('"').chars();
        let is_capitalized = start.next().is_some_and(char::is_uppercase)
            && start.next().is_some_and(char::is_lowercase);
        assert!(
            !is_capitalized || message.starts_with("Postgres"),
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

fn created() -> ClientNotice {
    ClientNotice::created(
        &instance(),
        &snapshot("monday"),
        Duration::from_secs(9 * 3600),
    )
}

#[test]
fn an_error_reaches_the_client_whole() {
    for (_, error) in all() {
        let mut out = BytesMut::new();
        error.encode(&mut out);
        let Ok(Some(frame)) = decode_backend(&mut out) else {
            panic!("not whole: {error}");
        };
        let BackendMessage::ErrorResponse(fields) = frame.message else {
            panic!("no error: {error}");
        };
        assert_eq!(fields.severity(), "FATAL");
        assert_eq!(fields.sqlstate(), error.sqlstate.as_str());
        assert_eq!(fields.message(), format!("multidb: {}", error.message));
        assert_eq!(fields.detail().as_deref(), error.detail.as_deref());
        assert_eq!(fields.hint().as_deref(), error.hint.as_deref());
    }
}

fn as_of_a_date() -> Source {
    Source::AsOf("2026-01-30T23:59:59.999999999Z".parse().unwrap())
}

fn guessed(origin: TakenAtOrigin) -> ClientNotice {
    let taken_at = Timestamp::constant(1_767_582_000, 0);
    let notice = created();
    notice.of_guessed_time(&snapshot("monday"), taken_at, origin)
}

#[test]
fn every_notice() {
    let source = Source::GitRef("main".into());
    let notices = [
        created(),
        created().took(Beginning {
            clone: Some(Duration::from_micros(63_400)),
            start: Duration::from_millis(71),
            renewed: false,
        }),
        ClientNotice::renewed(&testing::record("testdb", 1, multidb_store::Phase::Ready)),
        created().unconfirmed(
            "main",
            &"a".repeat(40),
            Unconfirmed {
                age: Some(Duration::from_secs(7_300)),
            },
        ),
        created().unconfirmed("main", &"a".repeat(40), Unconfirmed { age: None }),
        created().of_date(&as_of_a_date()),
        guessed(TakenAtOrigin::Known),
        guessed(TakenAtOrigin::AssumedZone),
        guessed(TakenAtOrigin::FileTime).of_date(&as_of_a_date()),
        guessed(TakenAtOrigin::ImportTime),
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
