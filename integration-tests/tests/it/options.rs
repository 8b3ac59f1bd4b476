//! The `options` parameter, for clients with a fixed user name.

use multidb_integration_tests::{MONDAY_ROWS, Session};

use crate::daemon;

#[test]
fn options_supply_keys_that_the_user_name_lacks() {
    let daemon = daemon().start();
    let mut config = daemon.config("postgres");
    config.options("-c multidb.instance=byoptions -c multidb.gitref=v1 -c work_mem=7MB");
    let session = Session::connect(&config).expect("it connects");
    assert_eq!(
        session.one("select count(*) from polls_question"),
        MONDAY_ROWS.to_string()
    );
    assert_eq!(session.one("show work_mem"), "7MB");
    assert_eq!(daemon.instance("byoptions")["snapshot"], "monday");
}

#[test]
fn options_and_user_name_that_agree_are_no_conflict() {
    let daemon = daemon().start();
    let mut config = daemon.config("instance:both,snapshot:monday");
    config.options("-c multidb.instance=both");
    drop(Session::connect(&config).expect("it connects"));
}

#[test]
fn options_and_user_name_that_disagree_are_refused() {
    let daemon = daemon().start();
    let mut config = daemon.config("instance:one,snapshot:monday");
    config.options("-c multidb.instance=two");
    let failure = Session::connect(&config).err().expect("it is refused");
    assert_eq!(failure.sqlstate(), "22023", "{failure:?}");
}

#[test]
fn other_options_reach_postgres_unchanged() {
    let daemon = daemon().start();
    let mut config = daemon.config("instance:o,snapshot:monday");
    config
        .options("-c search_path=\"a\\ b\" --statement_timeout=12s")
        .application_name("an app, with a comma");
    let session = Session::connect(&config).expect("it connects");
    assert_eq!(session.one("show search_path"), "\"a b\"");
    assert_eq!(session.one("show statement_timeout"), "12s");
    assert_eq!(session.one("show application_name"), "an app, with a comma");
}
