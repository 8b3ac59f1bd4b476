use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::*;
use crate::cli::top::state::Tab;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-10T12:00:00Z")
}

fn instance(name: &str, state: &str, sessions: usize, used: &str, bytes: Option<u64>) -> Value {
    json!({
        "name": name, "project": "shop", "state": state, "waiting_for": null, "snapshot": "shop-20260309-030000",
        "gitref": "feature/cart", "commit": null, "created_at": "2026-03-01T00:00:00Z",
        "last_used_at": format!("2026-03-{used}:00:00Z"), "expires_at": "2026-04-09T12:00:00Z", "marked_at": null,
        "pinned": false, "pinned_until": null, "connections": sessions, "postgres_major": 15,
        "runtime": "docker", "data_dir": "/d", "uid": "0123456789ab", "epoch": 1, "created_by": "ada",
        "failure": null, "exclusive_bytes": bytes,
    })
}

fn job(id: u64, state: &str, done: u64, error: Option<&str>) -> Value {
    let error =
        error.map(|message| json!({"code": "x", "message": message, "detail": null, "hint": null}));
    json!({
        "id": id, "kind": "import", "project": "shop", "snapshot": "tuesday", "state": state,
        "step": "restoring the dump", "bytes_done": done, "bytes_total": 3_u64 << 30,
        "started_at": "2026-03-10T11:58:00Z", "ended_at": null, "error": error, "warnings": [],
    })
}

fn connection(id: u64, instance: Option<&str>, application: &str) -> Value {
    json!({
        "id": id, "peer": "192.0.2.7:50312", "tls": "TLSv1.3", "user": "ada", "instance": instance,
        "database": "shop", "role": "app", "application_name": application, "state": "idle in transaction",
        "connected_at": "2026-03-10T11:00:00Z", "idle_seconds": 75, "client_bytes": 1, "backend_bytes": 2,
    })
}

fn facts() -> Answers {
    let status = json!({
        "version": "0.1.0", "pid": 4711, "started_at": "2026-03-07T09:00:00Z", "listen": [], "root": "/r",
        "runtime": "docker", "instances": BTreeMap::from([("running", 2), ("stopped", 2)]), "connections": 5,
        "snapshots": 3, "jobs": 1, "clone_method": "reflink", "disk_free_bytes": 107_374_182_400_u64,
        "disk_used_percent": 71, "disk_high_water": 85, "memory_used_percent": 40, "memory_high_water": 90,
        "disk_fault": null, "marked": 1, "expiry_paused_seconds": null, "waiting_logins": [], "refresh": {},
    });
    let instances = json!([
        instance("basket", "running", 3, "10T11", Some(5 << 20)),
        instance("evil\u{1b}[2J\u{202e}", "stopped", 0, "09T11", None),
        instance("login", "running", 12, "08T11", Some(7 << 30)),
        instance("zebra", "stopped", 0, "07T11", Some(1 << 10)),
    ]);
    let jobs = json!([
        job(6, "failed", 0, Some("no such file\u{9b}2J")),
        job(7, "running", 3 << 29, None),
    ]);
    let connections = json!([
        connection(1, Some("basket"), "psql\u{1b}]0;title\u{7}"),
        connection(2, None, ""),
    ]);
    Answers {
        status: serde_json::from_value(status).unwrap(),
        instances: serde_json::from_value(instances).unwrap(),
        jobs: serde_json::from_value(jobs).unwrap(),
        connections: serde_json::from_value(connections).unwrap(),
        at: now(),
    }
}

fn drawn(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::draw(frame, app, now() + jiff::SignedDuration::from_secs(7)))
        .unwrap();
    let text = terminal.backend().to_string();
    assert!(
        !text.contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}']),
        "{text}"
    );
    text
}

/// Asserts that one line has all of these.
#[track_caller]
fn assert_line(text: &str, words: &[&str]) {
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(text.lines().any(has_all), "{words:?}:\n{text}");
}

fn press(app: &mut App, keys: &str) -> bool {
    let keys = keys.chars().map(|key| match key {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\u{1b}' => KeyCode::Esc,
        '\u{8}' => KeyCode::Backspace,
        key => KeyCode::Char(key),
    });
    let presses = keys.map(|key| app.press(KeyEvent::new(key, KeyModifiers::NONE)));
    presses.filter(|ends| *ends).count() > 0
}

fn shown() -> App {
    let mut app = App::default();
    app.take(facts());
    app
}

#[test]
fn lists_are_drawn_on_narrow_and_wide_terminals() {
    let mut app = shown();
    let text = drawn(&mut app, 80, 16);
    for words in [
        &["multidb 0.1.0, up 3 days"][..],
        &["4 instances: 2 running, 2 stopped, 1 marked; 3 snapshots"],
        &["disk 71% of 85%, 100.0 GiB free", "memory 40% of 90%"],
        &["1 Instances (4)", "2 Jobs (2)", "3 Connections (2)"],
        &["basket", "running", "3", "1 hour", "5.0 MiB"],
        &["evil\\u{1b}[2J", "stopped", "1 day"],
        &["job 7 import tuesday: restoring the dump [#####     ] 50%"],
    ] {
        assert_line(&text, words);
    }
    assert!(!text.contains("EXPIRES"), "{text}");
    let text = drawn(&mut app, 200, 16);
    assert_line(&text, &["basket", "29 days", "feature/cart", "ada"]);
    press(&mut app, "2");
    let text = drawn(&mut app, 80, 12);
    assert_line(
        &text,
        &["7", "import", "tuesday", "running", "[#####     ] 50%"],
    );
    assert_line(&text, &["6", "failed", "no such file\\u"]);
    press(&mut app, "\t");
    let text = drawn(&mut app, 140, 12);
    let of_psql = [
        "basket",
        "192.0.2.7:50312",
        "1 minute",
        "psql\\u{1b}]0;title",
    ];
    assert_line(&text, &of_psql);
    assert_line(&text, &["2", "(console)", "idle in transaction"]);
    // However small, it does not panic.
    for (width, height) in [(1, 1), (10, 3), (80, 5), (20, 50), (200, 2)] {
        for tab in ["1", "2", "3"] {
            press(&mut app, tab);
            drawn(&mut app, width, height);
        }
    }
}

#[test]
fn small_terminal_shows_the_list_and_what_is_wrong() {
    let mut app = shown();
    assert!(drawn(&mut app, 40, 7).contains("multidb 0.1.0"));
    for width in [10, 23, 24, 39, 53, 65, 77] {
        let text = drawn(&mut app, width, 7);
        assert!(text.contains("basket"), "{width}:\n{text}");
    }
    app.lose("lost".to_owned());
    let text = drawn(&mut app, 40, 7);
    assert!(text.contains("NOT ANSWERING"), "{text}");
    assert!(text.contains("basket"), "{text}");
}

#[test]
fn many_instances_are_scrolled() {
    let mut app = App::default();
    let mut facts = facts();
    let one = |n| instance(&format!("i{n:04}"), "stopped", 0, "09T11", None);
    let many: Vec<Value> = (0..1000).map(one).collect();
    facts.instances = serde_json::from_value(many.into()).unwrap();
    app.take(facts.clone());
    let text = drawn(&mut app, 80, 24);
    assert!(
        text.contains("1 Instances (1000)") && text.contains("i0000"),
        "{text}"
    );
    app.press(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    let text = drawn(&mut app, 80, 24);
    assert!(text.contains("i0999") && !text.contains("i0900"), "{text}");
    // More room is used.
    drawn(&mut app, 80, 14);
    let text = drawn(&mut app, 80, 40);
    assert!(text.contains("i0999") && text.contains("i0970"), "{text}");
    press(&mut app, "r");
    let text = drawn(&mut app, 80, 24);
    assert!(text.contains("i0000") && !text.contains("i0999"), "{text}");
    // The list becomes shorter than where it was scrolled to.
    facts.instances.truncate(3);
    app.take(facts);
    assert!(drawn(&mut app, 80, 24).contains("i0002"));
}

#[test]
fn what_is_waited_for_and_what_is_wrong_is_told() {
    let mut app = App::default();
    let mut facts = facts();
    facts.instances[0].waiting_for = Some("slot".to_owned());
    app.take(facts.clone());
    let text = drawn(&mut app, 80, 24);
    assert!(
        text.contains("1 waiting for room")
            && text.contains("basket   ")
            && text.contains("waiting "),
        "{text}"
    );
    facts.status.waiting_logins = serde_json::from_value(json!([
        {"user": "ada\u{1b}", "address": "192.0.2.7", "seconds": 8},
        {"user": null, "address": "192.0.2.8", "seconds": 9},
    ]))
    .unwrap();
    let wrong = |facts: &Answers, text: &str| {
        let mut app = App::default();
        app.take(facts.clone());
        let shown = drawn(&mut app, 120, 24);
        assert!(shown.contains(text), "{text}:\n{shown}");
    };
    wrong(
        &facts,
        "ada\\u{1b} at 192.0.2.7 waits for 8 seconds, and 1 more",
    );
    facts.status.over_limit = vec!["big".to_owned()];
    wrong(&facts, "! over a limit of disk space: big");
    facts.status.memory_used_percent = Some(91);
    wrong(&facts, "! the memory is above its mark: no instance starts");
    facts.status.disk_pressure = serde_json::from_value(json!({
        "since": "2026-03-10T11:00:00Z", "bytes_above": 5, "steps": [], "nothing_left": true,
    }))
    .unwrap();
    wrong(&facts, "! the disk is above its mark: nothing is left");
}

#[test]
fn daemon_that_does_not_answer_is_told_with_the_age_of_what_is_shown() {
    let mut app = App::default();
    insta::assert_snapshot!("top_begin", drawn(&mut app, 80, 8));
    app.lose("the daemon is not running: no answer at /run/multidb/admin.sock".to_owned());
    assert!(drawn(&mut app, 100, 8).contains("NOT ANSWERING: the daemon is not running"));
    app.take(facts());
    app.lose("lost".to_owned());
    let text = drawn(&mut app, 80, 16);
    assert!(
        text.contains("NOT ANSWERING, what is shown is 7 seconds old: lost"),
        "{text}"
    );
    assert!(text.contains("basket"), "{text}");
    app.take(facts());
    assert!(!drawn(&mut app, 80, 16).contains("NOT ANSWERING"));
}

#[test]
fn keys_sort_filter_and_end() {
    let mut app = shown();
    let names = |app: &App| -> Vec<char> {
        let all = app.instances();
        all.iter()
            .filter_map(|one| one.name.chars().next())
            .collect()
    };
    for (keys, expected) in [
        ("", "belz"),
        ("s", "blez"),
        ("s", "lbez"),
        ("s", "belz"),
        ("s", "lbze"),
        ("r", "ezbl"),
        ("sr", "belz"),
        ("/bas\n", "b"),
        // It is part of the filter while that is typed.
        ("/q\u{8}\n", "b"),
        ("\u{1b}", "belz"),
        ("/STOPPED\n", "ez"),
        ("/\u{1b}", "belz"),
        ("/feature", "belz"),
        ("x", ""),
        ("\u{1b}", "belz"),
    ] {
        assert!(!press(&mut app, keys), "{keys}");
        assert_eq!(names(&app), expected.chars().collect::<Vec<_>>(), "{keys}");
    }
    assert!(press(&mut shown(), "q"));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(shown().press(control_c));
    press(&mut app, "/");
    assert!(app.press(control_c));
}

#[test]
fn selection_stays_within_the_list() {
    let mut app = shown();
    for _ in 0..10 {
        app.press(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE));
    }
    drawn(&mut app, 80, 16);
    assert_eq!(app.table.selected(), Some(3));
    for key in [KeyCode::PageUp, KeyCode::Up] {
        app.press(KeyEvent::new(key, KeyModifiers::NONE));
        drawn(&mut app, 80, 16);
    }
    assert_eq!(app.table.selected(), Some(0));
    press(&mut app, "3");
    assert_eq!((app.tab, app.table.selected()), (Tab::Connections, None));
}
