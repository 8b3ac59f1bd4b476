//! The screen: live, searched, sorted, and fit for a phone.

use std::time::Duration;

use multidb_integration_tests::{Browser, eventually};
use serde_json::json;

use crate::http::Served;

#[test]
fn page_keeps_itself_up_to_date_and_leaves_what_is_typed_and_open() {
    let served = Served::secured(|daemon| daemon);
    drop(served.session("alice", "first,gitref:main", "test"));
    let browser = Browser::start();
    served.log_in(&browser, "alice");
    browser.wait_text("#count", "1 instance");
    browser.fill("#q", "half a na");
    browser.script("window.seen = document.querySelector('tr[id]')");
    drop(served.session("alice", "second,gitref:main", "test"));
    browser.wait_text("#count", "2 instances");
    let kept = browser.script(
        "return [document.activeElement.id, document.getElementById('q').value, window.seen.isConnected]",
    );
    assert_eq!(kept, json!(["q", "half a na", true]));
    served.daemon.cli(&["instance", "stop", "second"]).ok();
    browser.wait_text("tbody", "stopped");

    // An open menu stays open, and its field keeps the typed text.
    browser.open(&served.url("/instances/first"));
    browser.press("Rename …");
    browser.fill("#rename input[name=new_name]", "typed");
    served.daemon.cli(&["instance", "stop", "first"]).ok();
    browser.wait_text("#facts", "stopped");
    let kept = browser
        .script("return [document.getElementById('rename').open, document.activeElement.value]");
    assert_eq!(kept, json!([true, "typed"]));

    // Nothing changes while it is paused.
    browser.open(&served.url("/instances"));
    browser.press("Pause");
    served
        .daemon
        .cli(&["instance", "rm", "second", "--yes"])
        .ok();
    assert_eq!(browser.count("tr[id^=i-]"), 2);
    browser.press("Go on");
    browser.wait_text("#count", "1 instance");

    // A login that ends is told.
    served.daemon.restart();
    browser.wait_text("#live", "logged out");
}

#[test]
fn instances_are_searched_and_sorted_and_clones_stand_below_their_origin() {
    let served = Served::secured(|daemon| daemon);
    for creation in ["zoo,gitref:main", "copy,from:zoo", "apple,snapshot:monday"] {
        drop(served.session("alice", creation, "test"));
    }
    let browser = Browser::start();
    served.log_in(&browser, "root");
    let names = || {
        browser.script(
            "return [...document.querySelectorAll('tbody tr')].map(row => row.querySelector('a').textContent)",
        )
    };
    assert_eq!(names(), json!(["apple", "zoo", "copy"]));
    browser.press("Instance");
    browser.wait_path("/instances?sort=name&desc=true");
    assert_eq!(names(), json!(["zoo", "copy", "apple"]));
    browser.fill("#q", "MONDAY");
    browser.press("Show");
    eventually("apple alone is shown", Duration::from_secs(60), || {
        names() == json!(["apple"])
    });
    browser.wait_text("#count", "1 of 3 instances");
    browser.press("Show all");
    browser.wait_text("#count", "3 instances");
}

#[test]
fn pages_fit_a_phone_and_have_names_for_who_does_not_see_them() {
    let served = Served::secured(|daemon| daemon);
    let _session = served.session(
        "alice",
        &format!("{}.pr-1234,gitref:main", "long-name-".repeat(4)),
        "test",
    );
    let browser = Browser::start();
    browser.resize(360, 800);
    browser.open(&served.url("/login"));
    check(&browser, "/login");
    served.log_in(&browser, "root");
    let name = format!("/instances/{}.pr-1234", "long-name-".repeat(4));
    let name = name.as_str();
    let pages = [
        "/instances",
        name,
        &format!("{name}/reset"),
        "/snapshots",
        "/snapshots/monday",
        "/explain?gitref=main",
        "/jobs",
        "/sessions",
        "/system",
    ];
    for path in pages {
        browser.open(&served.url(path));
        check(&browser, path);
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// No page scrolls sideways; each field, button and link has a name, each table its headers.
#[track_caller]
fn check(browser: &Browser, path: &str) {
    let width = browser.script("return document.documentElement.scrollWidth");
    assert!(
        width.as_u64().is_some_and(|width| width <= 360),
        "{path} is {width} wide"
    );
    let nameless = browser.script(
        "const name = (e) => e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length;
         return [...document.querySelectorAll('a, button, input:not([type=hidden]), select, th')]
             .filter(e => !name(e)).map(e => e.outerHTML)",
    );
    assert_eq!(nameless, json!([]), "{path}");
    let facts = browser.script(
        "return [document.documentElement.lang, document.querySelectorAll('h1').length,
                 [...document.querySelectorAll('table')].every(t => t.querySelector('th[scope=col]'))]",
    );
    assert_eq!(facts, json!(["en", 1, true]), "{path}");
}
