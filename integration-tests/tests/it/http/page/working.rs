//! Work that takes its time: jobs, comparisons, the doctor; and the life of an instance.

use std::fs;

use multidb_integration_tests::Browser;
use serde_json::{Value, json};

use crate::http::Served;

/// A source that never comes to an end.
const ENDLESS: &str = r#"{ command = ["/bin/sleep", "1000"] }"#;

#[test]
fn refresh_is_begun_and_cancelled_by_buttons() {
    let served =
        Served::secured(|daemon| daemon.set_raw("project.demo.refresh", "source", ENDLESS));
    let browser = Browser::start();
    served.log_in(&browser, "alice");
    browser.open(&served.url("/jobs"));
    // A user without the right has no button.
    assert_eq!(browser.count("main form button"), 0);
    browser.press("Log out");
    served.log_in(&browser, "root");
    browser.open(&served.url("/jobs"));
    browser.press("Refresh demo");
    browser.wait_text("h1", "refresh");
    browser.wait_text("#facts", "running");
    let job = browser.path();
    browser.press("Cancel the job …");
    browser.wait_path(&format!("{job}/cancel"));
    browser.press("Cancel");
    browser.wait_path(&job);
    browser.press("Cancel the job …");
    browser.press("Cancel the job");
    browser.wait_path(&job);
    browser.wait_text("#facts", "cancelled");
    assert_eq!(browser.count("main .buttons"), 0);
    browser.open(&served.url("/jobs"));
    browser.wait_text("tbody", "cancelled");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn difference_of_an_instance_is_shown() {
    let served = Served::secured(|daemon| daemon);
    let session = served.session("alice", "mine,gitref:main", "test");
    let markup =
        "create table \"<b>made</b>\" (k int); insert into \"<b>made</b>\" values (1), (2)";
    session.query(markup).expect("it can be made");
    drop(session);
    drop(served.session("alice", "other,gitref:main", "test"));
    let browser = Browser::start();
    served.log_in(&browser, "alice");
    browser.open(&served.url("/instances/mine"));
    browser.press("Compare");
    browser.wait_path("/instances/mine/diff");
    browser.wait_text("main", "compared with snapshot");
    browser.wait_text("main", "<b>made</b> – only in this one");
    browser.wait_text("main", "1 table of");
    assert_eq!(browser.count("main b"), 0);

    browser.open(&served.url("/instances/other"));
    browser.fill("input[name=with]", "mine");
    browser.press("Compare");
    browser.wait_text("main", "compared with instance mine");
    browser.wait_text("main", "only in the other one");
    browser.open(&served.url("/instances/other"));
    browser.fill("input[name=with]", "missing");
    browser.press("Compare");
    browser.wait_text(".problem", "instance \"missing\" does not exist");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn doctor_tells_administrators_the_same_on_the_page_and_on_the_machine() {
    let served = Served::secured(|daemon| daemon);
    let stranger = served.daemon.root().join("quarantine/stranger");
    fs::create_dir_all(stranger).expect("it can be made");
    let browser = Browser::start();
    served.log_in(&browser, "root");
    browser.open(&served.url("/system"));
    browser.press("Run the checks");
    browser.wait_path("/system/doctor");
    browser.wait_text("#count", "0 failures");
    browser.wait_text("tbody", "Move it away.");

    // The command checks more: the configuration file, and the daemon from outside.
    let of_machine = served.daemon.json(&["doctor"]);
    let of_api = served.of("root").get("/v1/doctor").expect(200);
    let parts = |found: &Value| -> Vec<String> {
        let all = found.as_array().cloned().unwrap_or_default().into_iter();
        let parts = all.map(|one| format!("{} {}", one["level"], one["subject"]));
        parts.filter(|one| !one.contains("configuration")).collect()
    };
    assert_eq!(parts(&of_machine), parts(&of_api));
    let page = browser.text("tbody");
    let all = of_api.as_array().cloned().unwrap_or_default();
    let told = |one: &Value| one["what"].as_str().is_some_and(|what| page.contains(what));
    let still = ["git", "clones", "quarantine", "users"];
    let still = all
        .iter()
        .filter(|one| still.iter().any(|part| one["subject"] == *part));
    assert_eq!(still.clone().count(), 4, "{all:?}");
    assert!(still.into_iter().all(told), "{page}\n{all:?}");

    served.of("alice").get("/v1/doctor").expect(403);
    let read_only = served.token("root", &["--scope", "read"]);
    let read_only = served
        .client()
        .token(read_only["token"].as_str().unwrap_or_default());
    read_only.get("/v1/doctor").expect(403);
    browser.press("Log out");
    served.log_in(&browser, "alice");
    browser.open(&served.url("/system"));
    browser.wait_text("main", "Limits");
    assert_eq!(browser.count("#doctor"), 0);
    browser.open(&served.url("/system/doctor"));
    browser.wait_text(".problem", "may not run the doctor");
}

#[test]
fn life_of_an_instance_is_told_also_after_a_restart() {
    let served = Served::secured(|daemon| daemon);
    let daemon = &served.daemon;
    drop(served.session("alice", "mine,gitref:main", "test"));
    daemon.cli(&["instance", "stop", "mine"]).ok();
    daemon.cli(&["instance", "start", "mine"]).ok();
    daemon.restart();
    drop(served.session("alice", "mine", "test"));
    daemon.cli(&["instance", "reset", "mine", "--yes"]).ok();
    daemon.cli(&["instance", "rename", "mine", "renamed"]).ok();
    drop(served.session("alice", "renamed", "test"));
    daemon.kill9();
    daemon.start();
    let shown = daemon.json(&["instance", "show", "renamed"]);
    let word = |one: &Value, field: &str| one[field].as_str().unwrap_or("-").to_owned();
    let all = shown["history"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> = all
        .iter()
        .map(|one| {
            ["what", "cause", "by"]
                .map(|field| word(one, field))
                .join(" ")
        })
        .collect();
    let expected = [
        "created - -",
        "started login alice",
        "stopped command -",
        "started command -",
        "stopped daemon -",
        "started login alice",
        "reset - -",
        "renamed - -",
        "started login alice",
    ];
    assert_eq!(told, expected, "{all:?}");
    let text = daemon.cli(&["instance", "show", "renamed"]).ok().to_owned();
    assert!(text.contains("stopped with the daemon\n"), "{text}");
    assert_eq!(daemon.json(&["instance", "ls"])[0]["history"], json!(null));

    let browser = Browser::start();
    served.log_in(&browser, "alice");
    browser.open(&served.url("/instances/renamed"));
    browser.wait_text("#life", "created by alice");
    browser.wait_text("#life", "started for a login of alice");
    browser.wait_text("#life", "renamed from mine");
    // A new instance of the name has nothing of it.
    daemon.cli(&["instance", "rm", "renamed", "--yes"]).ok();
    drop(served.session("alice", "renamed,gitref:main", "test"));
    let shown = daemon.json(&["instance", "show", "renamed"]);
    assert_eq!(
        shown["history"].as_array().map(Vec::len),
        Some(2),
        "{shown}"
    );
}
