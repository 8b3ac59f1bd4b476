//! The first connection creates the right database.

use multidb_integration_tests::{Daemon, MONDAY_ROWS, TUESDAY_ROWS, run};

use crate::daemon;

/// Asserts that psql is told that there is no such database, and which one there is.
#[track_caller]
fn assert_no_such_database(daemon: &Daemon, user: &str) {
    let mut psql = daemon.client_program("psql", user);
    let refused = run(psql.args(["--no-psqlrc", "--dbname=wrongdb", "--command=select 1"]));
    let said = &refused.stderr;
    assert!(
        said.contains("database \"wrongdb\" does not exist"),
        "{said}"
    );
    let hint = "The database of project \"demo\" is \"app\".";
    assert!(said.contains(hint), "{said}");
}

#[test]
fn wrong_database_is_told_the_right_one_and_leaves_no_instance_that_was_made_for_it() {
    let daemon = daemon().start();
    assert_no_such_database(&daemon, "instance:x,gitref:main");
    assert_eq!(daemon.json(&["instance", "ls"]), serde_json::json!([]));
    let session = daemon.connect("instance:x,gitref:main");
    assert_no_such_database(&daemon, "instance:x,gitref:main");
    assert_eq!(session.one("select 1"), "1");
    drop(session);
    // Another client has used it.
    assert_no_such_database(&daemon, "instance:x");
    assert_eq!(daemon.json(&["instance", "ls"])[0]["name"], "x");
}

#[test]
fn gitref_may_be_a_branch_a_tag_or_a_commit_full_or_abbreviated() {
    let daemon = daemon().start();
    let main = daemon.repository().rev_parse("main");
    let v1 = daemon.repository().rev_parse("v1");
    for (index, (gitref, commit, snapshot)) in [
        ("main", &main, "tuesday"),
        ("v1", &v1, "monday"),
        (main.as_str(), &main, "tuesday"),
        (&v1[..10], &v1, "monday"),
        (
            "feature/tags",
            &daemon.repository().rev_parse("feature/tags"),
            "tuesday",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("by-ref-{index}");
        drop(daemon.connect(&format!("instance:{name},gitref:{gitref}")));
        let instance = daemon.instance(&name);
        assert_eq!(instance["snapshot"], snapshot, "{gitref}");
        assert_eq!(instance["commit"], commit.as_str(), "{gitref}");
        assert_eq!(instance["gitref"], gitref, "{gitref}");
    }
}

#[test]
fn snapshot_and_asof_choose_without_git() {
    let daemon = daemon().start();
    for (name, choice, snapshot) in [
        ("a", "snapshot:monday", "monday"),
        ("b", "snapshot:tuesday", "tuesday"),
        ("c", "snapshot:latest", "tuesday"),
        ("d", "asof:2026-01-05", "monday"),
        ("e", "asof:2026-01-06", "tuesday"),
        ("f", "asof:2026-01-06T02%3A59%3A59Z", "monday"),
        ("g", "asof:2026-01-06T03:00:00Z", "tuesday"),
    ] {
        let session = daemon.connect(&format!("{choice},instance:{name}"));
        session.one("select 1");
        let notices = format!("{:?}", session.notices());
        assert_eq!(daemon.instance(name)["snapshot"], snapshot, "{choice}");
        // A date is a guess about the time zone.
        let is_date = ["d", "e"].contains(&name);
        let told = notices.contains("is the end of that day in UTC");
        assert_eq!(told, is_date, "{choice}: {notices}");
    }
}

#[test]
fn equals_signs_are_accepted_for_colons() {
    let daemon = daemon().start();
    let session = daemon.connect("instance=x,gitref=v1,role=postgres,project=demo");
    assert_eq!(
        session.one("select count(*) from polls_question"),
        MONDAY_ROWS.to_string()
    );
    assert_eq!(session.one("select current_user"), "postgres");
    assert_eq!(session.one("select session_user"), "postgres");
    assert_eq!(session.one("select current_database()"), "app");
}

#[test]
fn existing_instance_accepts_the_same_url_with_a_notice_if_the_choice_changed() {
    let daemon = daemon().start();
    let first = daemon.connect("instance:stack,gitref:v1");
    first.one("select 1");
    let created = first.notices();
    assert_eq!(created.len(), 1, "{created:?}");
    assert!(created[0].message.contains("created"), "{created:?}");
    let same = daemon.connect("instance:stack,gitref:v1");
    same.one("select 1");
    assert!(same.notices().is_empty(), "{:?}", same.notices());
    let other = daemon.connect("instance:stack,gitref:main");
    assert_eq!(
        other.one("select count(*) from polls_question"),
        MONDAY_ROWS.to_string()
    );
    let notices = other.notices();
    let [notice] = notices.as_slice() else {
        panic!("one notice was expected: {notices:?}")
    };
    assert!(notice.message.contains("monday"), "{notice:?}");
    let all = format!("{notice:?}");
    assert!(all.contains("tuesday"), "{notice:?}");
}

#[test]
fn branch_that_moved_is_seen_at_the_next_creation() {
    let daemon = daemon().start();
    let repository = daemon.repository();
    repository.git(&["branch", "moving", "v1"]);
    drop(daemon.connect("instance:before,gitref:moving"));
    repository.git(&["branch", "--force", "moving", "main"]);
    drop(daemon.connect("instance:after,gitref:moving"));
    assert_eq!(daemon.instance("before")["snapshot"], "monday");
    assert_eq!(daemon.instance("after")["snapshot"], "tuesday");
}

#[test]
fn instance_is_writable_and_the_snapshot_stays_as_it_is() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:w,snapshot:tuesday");
    session
        .query("delete from polls_choice; delete from polls_question; checkpoint")
        .expect("it is writable");
    drop(session);
    let other = daemon.connect("instance:other,snapshot:tuesday");
    assert_eq!(
        other.one("select count(*) from polls_question"),
        TUESDAY_ROWS.to_string()
    );
}
