//! The errors that clients receive.

use crate::daemon;

/// A user name, the SQLSTATE that it gets, a part of the message, and a part of DETAIL or HINT.
const REFUSALS: &[(&str, &str, &str, &str)] = &[
    ("postgres", "22023", "", "instance:"),
    ("instance", "22023", "", "instance="),
    ("instance:", "22023", "instance", ""),
    ("instance:-bad", "22023", "instance", ""),
    ("instance:a/b", "22023", "instance", ""),
    ("instance:x,instance:y", "22023", "instance", ""),
    ("instance:x,colour:red", "22023", "colour", "gitref"),
    ("instance:x,gitref:main,snapshot:latest", "22023", "", ""),
    ("instance:x,asof:yesterday", "22023", "yesterday", ""),
    ("instance:x,gitref:%zz", "22023", "", ""),
    (
        "instance:x,gitref:no-such-branch",
        "22023",
        "no-such-branch",
        "push",
    ),
    ("instance:x,gitref:unlisted", "22023", "migrations.txt", ""),
    (
        "instance:x,gitref:ancient",
        "55000",
        "ancient",
        "polls.0001_initial",
    ),
    ("instance:unknown", "3D000", "unknown", "gitref"),
    (
        "instance:x,snapshot:sunday",
        "3D000",
        "sunday",
        "snapshot ls",
    ),
    (
        "instance:x,asof:2025-12-31",
        "3D000",
        "2025-12-31",
        "2026-01-05",
    ),
    (
        "instance:x,project:other,gitref:main",
        "3D000",
        "other",
        "demo",
    ),
];

#[test]
fn each_refusal_has_its_sqlstate_and_a_hint() {
    let daemon = daemon().start();
    let mut wrong = Vec::new();
    for &(user, sqlstate, message, advice) in REFUSALS {
        let failure = daemon.refused(user);
        let more = format!(
            "{} {}",
            failure.detail.as_deref().unwrap_or_default(),
            failure.hint.as_deref().unwrap_or_default()
        );
        if failure.sqlstate() != sqlstate
            || !failure.message.contains(message)
            || !more.contains(advice)
        {
            wrong.push(format!("{user}: {failure:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let instances = daemon.json(&["instance", "ls"]);
    assert_eq!(instances.as_array().map(Vec::len), Some(0), "{instances}");
}

#[test]
fn psql_shows_detail_and_hint() {
    let daemon = daemon().start();
    let output = daemon.psql("instance:x,gitref:ancient", "select 1");
    assert_eq!(output.code, Some(2));
    for part in ["FATAL:  multidb: no snapshot", "DETAIL:  ", "HINT:  "] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
}

#[test]
fn ambiguous_abbreviation_lists_the_candidates() {
    let daemon = daemon().start();
    let repository = daemon.repository();
    // Of a few hundred commits two share their first four digits.
    let tree = repository.git(&["rev-parse", "main^{tree}"]);
    let mut seen = std::collections::HashSet::new();
    let ambiguous = (0..3000).find_map(|number| {
        let message = number.to_string();
        let commit = repository.git(&["commit-tree", "-m", &message, &tree]);
        let prefix = commit[..4].to_owned();
        (!seen.insert(prefix.clone())).then_some(prefix)
    });
    let prefix = ambiguous.expect("two of 3,000 commits share four digits");
    let failure = daemon.refused(&format!("instance:x,gitref:{prefix}"));
    assert_eq!(failure.sqlstate(), "22023", "{failure:?}");
    assert!(failure.message.contains("ambiguous"), "{failure:?}");
}

#[test]
fn errors_of_postgres_pass_unchanged() {
    let daemon = daemon().start();
    drop(daemon.connect("instance:x,gitref:main"));
    let failure = daemon.refused("instance:x,role:nobody");
    assert_eq!(failure.sqlstate(), "28000", "{failure:?}");
    assert_eq!(failure.message, "role \"nobody\" does not exist");
    let mut config = daemon.config("instance:x");
    config.dbname("missing");
    let failure = multidb_integration_tests::Session::connect(&config)
        .err()
        .expect("there is no such database");
    assert_eq!(failure.message, "database \"missing\" does not exist");
}

#[test]
fn postgres_that_does_not_start_shows_the_end_of_its_log() {
    let daemon = daemon()
        .set(
            "postgres.settings",
            "shared_preload_libraries",
            "no_such_library",
        )
        .start();
    daemon.expect_log("");
    let failure = daemon.refused("instance:x,gitref:main");
    assert_eq!(failure.sqlstate(), "58000", "{failure:?}");
    let detail = failure.detail.unwrap_or_default();
    assert!(detail.contains("no_such_library"), "{detail}");
}

#[test]
fn library_that_lets_nobody_in_is_told_with_the_way_out() {
    let daemon = daemon().start();
    let session = daemon.connect("instance:x,gitref:main");
    let set = "alter database app set session_preload_libraries = 'no_such_library'";
    session.query(set).expect("it can be set");
    drop(session);
    let failure = daemon.refused("instance:x");
    assert_eq!(failure.sqlstate(), "58P01", "{failure:?}");
    assert!(failure.message.contains("no_such_library"), "{failure:?}");
    let hint = failure.hint.unwrap_or_default();
    let way_out = "-c session_preload_libraries= -c local_preload_libraries=";
    assert!(hint.contains(way_out), "{hint}");
    let shown = daemon.instance("x");
    let fault = shown["login_fault"].as_str().unwrap_or_default();
    let whose = "role \"postgres\" cannot log in to database \"app\": could not access file";
    assert!(fault.starts_with(whose), "{shown}");
    for command in [&["instance", "show", "x"][..], &["doctor"]] {
        let told = daemon.cli(command);
        assert!(told.stdout.contains(whose), "{told:?}");
        assert!(told.stdout.contains(way_out), "{told:?}");
    }
    let mut psql = daemon.client_program("psql", "instance:x");
    psql.env("PGOPTIONS", way_out);
    let reset = "alter database app reset session_preload_libraries";
    psql.args(["--no-psqlrc", "--dbname", "app", "--command", reset]);
    let output = psql.output().expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    daemon.connect("instance:x").one("select 1");
    assert!(daemon.instance("x")["login_fault"].is_null());
}
