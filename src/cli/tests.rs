use std::path::PathBuf;

use clap::CommandFactory;
use jiff::Timestamp;

mod parsing;
mod pressure;

use super::*;
use crate::admin::api::ErrorInfo;
use crate::admin::client::AdminError;
use crate::control::model::{
    ConnectionView, ExplainView, HappeningView, InstanceView, JobErrorView, NotifyView,
    PrewarmedView, RefreshView, SnapshotView, StatusView, UnconfirmedView, VerdictView,
    WaitingLoginView,
};

/// The help of a command and of all below it, as `--help` prints them.
fn help(command: &mut clap::Command, path: &str, text: &mut String) {
    let rendered = command.render_help().to_string();
    text.push_str(&format!("=== {path} --help\n{}\n\n", rendered.trim_end()));
    for below in command.get_subcommands_mut() {
        if below.get_name() != "help" {
            let path = format!("{path} {}", below.get_name());
            help(below, &path, text);
        }
    }
}

#[test]
fn help_describes_each_command() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    help(&mut command, "multidb", &mut text);
    insta::assert_snapshot!("help", text);
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-10T12:00:00Z")
}

fn instance() -> InstanceView {
    InstanceView {
        name: "testdb".to_owned(),
        project: "polls".to_owned(),
        state: "running".to_owned(),
        waiting_for: None,
        snapshot: "monday".to_owned(),
        parent: None,
        resets_to: None,
        class: Default::default(),
        ttl_seconds: None,
        gitref: Some("feature/tags".to_owned()),
        commit: Some("abcde12345".repeat(4)),
        created_at: at("2026-03-08T11:00:00Z"),
        last_used_at: at("2026-03-10T11:57:30.25Z"),
        expires_at: Some(at("2026-04-09T11:57:30Z")),
        marked_at: None,
        pinned: false,
        pinned_until: None,
        connections: 2,
        postgres_major: 15,
        runtime: "process".to_owned(),
        data_dir: PathBuf::from("/var/lib/multidb/instances/00000000002a/data"),
        uid: "00000000002a".to_owned(),
        epoch: 1,
        created_by: "staff".to_owned(),
        failure: None,
        hint: None,
        exclusive_bytes: Some(2_621_440),
        login_fault: None,
        awake_because: Some(vec![
            "2 sessions".to_owned(),
            "prepared transaction \"move\"".to_owned(),
        ]),
        history: Some(vec![HappeningView {
            at: at("2026-03-10T11:00:00Z"),
            what: "started".to_owned(),
            cause: Some("login".to_owned()),
            by: Some("staff".to_owned()),
            text: "started for a login of staff".to_owned(),
        }]),
        sessions_ended: None,
    }
}

fn pinned() -> InstanceView {
    InstanceView {
        name: "a".to_owned(),
        state: "failed".to_owned(),
        gitref: None,
        commit: None,
        expires_at: None,
        pinned: true,
        connections: 0,
        failure: Some("the instance's data cannot be used: its data is missing".to_owned()),
        hint: Some("\"multidb instance recover a\" uses it again.".to_owned()),
        awake_because: Some(Vec::new()),
        exclusive_bytes: None,
        ..instance()
    }
}

fn waiting() -> InstanceView {
    InstanceView {
        name: "b".to_owned(),
        state: "starting".to_owned(),
        waiting_for: Some("slot".to_owned()),
        connections: 0,
        ..instance()
    }
}

fn marked() -> InstanceView {
    InstanceView {
        name: "old".to_owned(),
        state: "stopped".to_owned(),
        expires_at: Some(at("2026-03-11T11:00:00Z")),
        marked_at: Some(at("2026-03-10T11:00:00Z")),
        connections: 0,
        ..instance()
    }
}

fn snapshot() -> SnapshotView {
    SnapshotView {
        id: "monday".to_owned(),
        project: "polls".to_owned(),
        taken_at: at("2026-03-09T04:00:00Z"),
        imported_at: at("2026-03-09T06:00:00Z"),
        postgres_major: 15,
        bytes: 16_106_127_360,
        exclusive_bytes: Some(3 << 20),
        files: 1684,
        migrations: 2,
        instances: 3,
        data_dir: PathBuf::from("/var/lib/multidb/snapshots/monday/data"),
        source: "dump /backups/monday.dump".to_owned(),
        from_instance: None,
        derived: false,
        applied: Some(vec![
            "polls.0001_initial".to_owned(),
            "polls.0002_tags".to_owned(),
        ]),
        errors_passed: 1,
        passed_errors: Some(vec![multidb_store::PassedError {
            kind: "privileges".to_owned(),
            place: "line 12, ACL public.TABLE polls".to_owned(),
            statement: "GRANT SELECT ON TABLE public.polls TO pg_maintain".to_owned(),
            error: "role \"pg_maintain\" does not exist".to_owned(),
        }]),
        prepared_by: vec!["5feceb66ffc86f38d952786c6d696c79".repeat(2)],
        preparations: Some(vec![multidb_store::Prepared {
            name: "sql /etc/multidb/mask.sql".to_owned(),
            sha256: "5feceb66ffc86f38d952786c6d696c79".repeat(2),
            millis: 1234,
        }]),
        pinned: false,
        pinned_until: None,
        kept_because: vec![
            "newest".to_owned(),
            "day 2026-11-02 (until 14 newer days)".to_owned(),
        ],
    }
}

#[test]
fn instances_are_shown() {
    insta::assert_snapshot!(
        "instance_ls",
        instance::text::list(&[instance(), pinned(), waiting(), marked()], now(), None)
    );
    insta::assert_snapshot!("instance_ls_empty", instance::text::list(&[], now(), None));
    insta::assert_snapshot!("instance_show", instance::text::one(&instance(), now()));
    insta::assert_snapshot!(
        "instance_show_failed",
        instance::text::one(&pinned(), now())
    );
}

#[test]
fn destructive_commands_name_the_loss() {
    use confirm::Destructive;
    let (used, unused) = (
        instance(),
        InstanceView {
            connections: 0,
            ..instance()
        },
    );
    let ask = |command: Destructive, instance| command.question(instance).unwrap_or_default();
    let reset = "Replace the data of instance testdb with a fresh clone of snapshot monday";
    for (command, question, of_unused) in [
        (
            Destructive::Stop,
            "Stop instance testdb and end 2 sessions?",
            "",
        ),
        (
            Destructive::Reset,
            &format!("{reset} and end 2 sessions?"),
            &format!("{reset}?"),
        ),
        (
            Destructive::Remove,
            "Delete instance testdb with its data and end 2 sessions?",
            "Delete instance testdb with its data?",
        ),
    ] {
        assert_eq!(ask(command, &used), question);
        assert_eq!(ask(command, &unused), of_unused);
    }
}

#[test]
fn snapshots_are_shown() {
    let tuesday = SnapshotView {
        id: "tuesday-with-a-longer-name".to_owned(),
        bytes: 4096,
        ..snapshot()
    };
    insta::assert_snapshot!(
        "snapshot_ls",
        snapshot::list(&[snapshot(), tuesday], now(), None)
    );
    insta::assert_snapshot!("snapshot_show", snapshot::one(&snapshot(), now()));
    insta::assert_snapshot!("snapshot_imported", import::summary(&snapshot()));
}

#[test]
fn choice_is_explained() {
    let verdict = |id: &str, missing: &[&str], total| VerdictView {
        id: id.to_owned(),
        taken_at: at("2026-03-09T04:00:00Z"),
        compatible: total == 0,
        missing_total: total,
        missing: missing.iter().map(|m| (*m).to_owned()).collect(),
        hint: None,
        passed_over_for: None,
    };
    let mut explained = ExplainView {
        project: "polls".to_owned(),
        gitref: "main".to_owned(),
        commit: "abcde12345".repeat(4),
        listing: "1".repeat(40),
        unconfirmed: None,
        defined: 12,
        chosen: Some("monday".to_owned()),
        snapshots: vec![
            verdict("tuesday", &["polls.0003_votes", "polls.0004_more"], 7),
            VerdictView {
                passed_over_for: Some("monday".to_owned()),
                ..verdict("demo-derived", &[], 0)
            },
            verdict("monday", &[], 0),
        ],
    };
    insta::assert_snapshot!("explain", snapshot::explain(&explained, now()));
    explained.unconfirmed = Some(UnconfirmedView { age_s: Some(7300) });
    explained.chosen = None;
    explained.snapshots.truncate(1);
    insta::assert_snapshot!("explain_none", snapshot::explain(&explained, now()));
}

#[test]
fn connections_are_shown_with_control_characters_escaped() {
    let connection = ConnectionView {
        id: 17,
        peer: "127.0.0.1:50412".to_owned(),
        tls: Some("TLSv1.3".to_owned()),
        user: "staff".to_owned(),
        instance: Some("testdb".to_owned()),
        database: "polls".to_owned(),
        role: Some("postgres".to_owned()),
        application_name: "evil\u{1b}[2J\nname".to_owned(),
        state: "idle in transaction".to_owned(),
        connected_at: at("2026-03-10T11:00:00Z"),
        idle_seconds: 75,
        client_bytes: 1,
        backend_bytes: 2,
    };
    let unnamed = ConnectionView {
        id: 3,
        application_name: String::new(),
        state: "active".to_owned(),
        idle_seconds: 0,
        ..connection.clone()
    };
    let mut console = unnamed.clone();
    (console.id, console.instance, console.role) = (4, None, None);
    console.database = "multidb".to_owned();
    insta::assert_snapshot!(
        "connection_ls",
        connection::text(&[connection, unnamed, console], now(), None)
    );
}

fn refresh(next_at: Option<&str>, last_success_at: Option<&str>) -> RefreshView {
    RefreshView {
        last_success_at: last_success_at.map(at),
        last_error: None,
        next_at: next_at.map(at),
        failures: 0,
        newest_taken_at: last_success_at.map(at),
        period_seconds: next_at.map(|_| 86_400),
    }
}

#[test]
fn old_snapshots_and_failed_refreshes_are_found() {
    let on_time = RefreshView {
        period_seconds: Some(86_400),
        ..refresh(None, Some("2026-03-09T16:00:00Z"))
    };
    let old = RefreshView {
        newest_taken_at: Some(at("2026-03-01T16:00:00Z")),
        ..on_time.clone()
    };
    let failed = RefreshView {
        last_error: Some(JobErrorView {
            code: "source_unreachable".to_owned(),
            message: "cannot copy from postgres://h/: refused".to_owned(),
            detail: None,
            hint: Some("Start it.".to_owned()),
        }),
        ..on_time.clone()
    };
    let none = refresh(Some("2026-03-11T03:00:00Z"), None);
    let by_command = refresh(None, None);
    let all = [on_time, old, failed, none, by_command];
    let found = all.map(|refresh| crate::doctor::refreshes::finding("shop", &refresh, now()));
    insta::assert_snapshot!("doctor_refreshes", doctor::text(&found));
}

#[test]
fn status_is_shown() {
    let status = StatusView {
        version: "0.1.0".to_owned(),
        pid: 4711,
        started_at: at("2026-03-10T09:00:00Z"),
        listen: vec!["[::1]:6432".into(), "/run/multidb/.s.PGSQL.6432".into()],
        root: PathBuf::from("/var/lib/multidb"),
        runtime: "docker".to_owned(),
        instances: [("running".to_owned(), 2), ("stopped".to_owned(), 40)].into(),
        connections: 5,
        snapshots: 3,
        jobs: 1,
        clone_method: "reflink".to_owned(),
        exclusive_bytes: Some(5 << 30),
        disk_saved_bytes: Some(600 << 30),
        over_limit: vec!["shop-pr-7".to_owned()],
        memory_used_percent: Some(71),
        memory_high_water: Some(80),
        disk_fault: None,
        disk_free_bytes: 107_374_182_400,
        disk_used_percent: 87,
        disk_high_water: Some(85),
        disk_pressure: Some(pressure::pressure(true)),
        marked: 3,
        expiry_paused_seconds: Some(3000),
        waiting_logins: vec![WaitingLoginView {
            address: "192.0.2.1".to_owned(),
            user: Some("staff".to_owned()),
            seconds: 42,
        }],
        refresh: [
            ("shop", None, Some("2026-03-09T16:00:00Z")),
            ("wiki", Some("2026-03-11T03:00:00Z"), None),
        ]
        .map(|(name, next, last)| (name.to_owned(), refresh(next, last)))
        .into(),
        prewarmed: [(
            "shop".to_owned(),
            PrewarmedView {
                wanted: 3,
                ready: 2,
                snapshot: Some("monday".parse().unwrap()),
                exclusive_bytes: 8192,
            },
        )]
        .into(),
        notify: vec![NotifyView {
            target: "https://chat.internal/***".to_owned(),
            on: vec!["expiring".to_owned()],
            queued: 2,
            sent: 7,
            failed: 1,
            dropped: 0,
            last_sent_at: None,
            last_error: Some("cannot connect".to_owned()),
        }],
    };
    insta::assert_snapshot!("status", status::text(&status, now()));
}

#[test]
fn findings_are_shown() {
    use crate::doctor::{Finding, Level};
    let findings = [
        Finding::new(Level::Ok, "git", "git version 2.39.5"),
        Finding::new(Level::Warn, "daemon", "not running").hint("Start it."),
        Finding::new(
            Level::Fail,
            "configuration",
            "2 faults:\n  listen: is empty\n  root: is short",
        ),
    ];
    insta::assert_snapshot!("doctor", doctor::text(&findings));
}

#[test]
fn error_is_shown_with_causes_detail_and_hint() {
    let refused = AdminError::Refused(ErrorInfo {
        code: "no_such_instance".to_owned(),
        message: "no such instance \"x\"".to_owned(),
        detail: Some("There are 3 others.".to_owned()),
        hint: Some("See \"multidb instance ls\".".to_owned()),
    });
    insta::assert_snapshot!(errors::text(&refused.into()), @r#"
    multidb: no such instance "x"
    detail: There are 3 others.
    hint: See "multidb instance ls".
    "#);
    let other = anyhow::anyhow!("disk full").context("cannot write");
    insta::assert_snapshot!(errors::text(&other), @"multidb: cannot write: disk full");
}
