//! Login, each action, and the ends of a login.

use multidb_integration_tests::Browser;
use serde_json::json;

use crate::authenticating::user;
use crate::http::Served;

#[test]
fn who_logs_in_commands_own_instances_and_logs_out() {
    let served = Served::secured(|daemon| daemon);
    drop(served.session("alice", "mine,gitref:main", "test"));
    drop(served.session("bob", "others,gitref:main", "test"));
    let browser = Browser::start();

    // The requested page comes after the login.
    browser.open(&served.url("/instances/mine"));
    browser.wait_path("/login?next=%2Finstances%2Fmine");
    browser.fill("#user", "alice");
    browser.fill("#password", "wrong");
    browser.press("Log in");
    browser.wait_text(".problem", "password");
    browser.fill("#password", "secret");
    browser.press("Log in");
    browser.wait_path("/instances/mine");
    browser.wait_text("header", "alice");

    start_and_stop(&served, &browser);
    pin_and_rename(&served, &browser);
    lose_data(&served, &browser);

    // A user does not learn of the instances of others.
    browser.open(&served.url("/instances/others"));
    browser.wait_text("main", "instance \"others\" does not exist");
    browser.open(&served.url("/instances"));
    browser.wait_text("#count", "0 instances");

    browser.press("Log out");
    browser.wait_path("/login");
    browser.open(&served.url("/instances"));
    browser.wait_path("/login");
    assert_eq!(served.daemon.state("others"), "running");
}

fn start_and_stop(served: &Served, browser: &Browser) {
    browser.press("Stop");
    browser.wait_text("#facts", "stopped");
    assert_eq!(served.daemon.state("mine"), "stopped");
    browser.press("Start");
    browser.wait_text("#facts", "running");
    // The buttons of the list come back to it, as it was.
    browser.open(&served.url("/instances?q=mine&sort=used"));
    browser.click("tr[id] .actions button");
    served.daemon.wait_state("mine", "stopped");
    browser.wait_path("/instances?q=mine&sort=used");
    browser.wait_text("tbody", "stopped");
}

fn pin_and_rename(served: &Served, browser: &Browser) {
    browser.open(&served.url("/instances/mine"));
    browser.press("Pin …");
    browser.click("#pin form button");
    browser.wait_text("#facts", "pinned");
    assert_eq!(served.daemon.instance("mine")["pinned"], json!(true));
    browser.press("Unpin");
    browser.wait_text("#buttons", "Pin …");
    assert_eq!(served.daemon.instance("mine")["pinned"], json!(false));

    browser.press("Rename …");
    browser.fill("#rename input[name=new_name]", "renamed");
    browser.click("#rename form button");
    browser.wait_path("/instances/renamed");
    assert_eq!(served.daemon.state("mine"), "");
}

fn lose_data(served: &Served, browser: &Browser) {
    let session = served.session("alice", "renamed", "test");
    session
        .query("create table made_here ()")
        .expect("it can be made");
    drop(session);
    browser.press("Reset …");
    browser.wait_path("/instances/renamed/reset");
    browser.press("Cancel");
    browser.wait_path("/instances/renamed");
    browser.press("Reset …");
    browser.press("Reset it");
    browser.wait_path("/instances/renamed");
    let session = served.session("alice", "renamed", "test");
    assert_eq!(session.one("select to_regclass('made_here') is null"), "t");
    drop(session);

    browser.press("Remove …");
    browser.press("Remove it");
    browser.wait_path("/instances");
    assert_eq!(served.daemon.state("renamed"), "");
}

#[test]
fn administrator_pins_and_removes_snapshots_and_ends_sessions() {
    let served = Served::secured(|daemon| daemon);
    let session = served.session("alice", "used,snapshot:tuesday", "an application");
    let browser = Browser::start();
    served.log_in(&browser, "root");

    browser.open(&served.url("/snapshots/monday"));
    browser.press("Pin …");
    browser.click("#pin form button");
    browser.wait_text("#facts", "pinned until");
    browser.press("Unpin");
    browser.wait_text("#facts", "its project has no keep");
    browser.press("Remove …");
    browser.press("Remove it");
    browser.wait_path("/snapshots");
    assert_eq!(browser.count("tr[id^=s-]"), 1);

    // A snapshot in use is removed only when the form says so.
    browser.open(&served.url("/snapshots/tuesday/remove"));
    browser.press("Remove it");
    browser.wait_text("main", "snapshot \"tuesday\" is in use");

    browser.open(&served.url("/explain?gitref=main"));
    browser.wait_text("#decision", "An instance of it is cloned from tuesday");
    browser.fill("#gitref", "no-such-branch");
    browser.press("Explain");
    browser.wait_text(".problem", "no-such-branch");

    browser.open(&served.url("/instances/used"));
    browser.wait_text("#sessions", "an application");
    browser.wait_text("#facts", "1 session");
    browser.press("End …");
    browser.press("End the session");
    browser.wait_path("/sessions");
    assert!(session.query("select 1").is_err());

    browser.open(&served.url("/system"));
    browser.wait_text("#disk", "Used of the disk");
    browser.open(&served.url("/jobs"));
    browser.wait_text("main", "None yet");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn login_ends_with_the_password_and_with_the_user() {
    let served = Served::secured(|daemon| daemon);
    let status = |client: &multidb_integration_tests::HttpClient| client.get("/instances").status;
    let (alice, bob) = (served.logged_in("alice"), served.logged_in("bob"));
    assert_eq!((status(&alice), status(&bob)), (200, 200));
    let changed = user(&served.daemon, &["passwd", "alice"], "other");
    assert_eq!(changed.code, Some(0), "{changed:?}");
    served.daemon.cli(&["user", "rm", "bob"]).ok();
    multidb_integration_tests::eventually(
        "the logins have ended",
        std::time::Duration::from_secs(60),
        || (status(&alice), status(&bob)) == (303, 303),
    );
}
