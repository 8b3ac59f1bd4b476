//! House rules that no lint checks.

mod dependencies;
mod documents;
mod names;
mod reference;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};

/// The longest that a Rust file may be, with its tests.
const FILE_LINES_MAX: usize = 500;

/// The longest that a file of scenarios may be.
const SCENARIO_LINES_MAX: usize = 400;

fn repository() -> PathBuf {
    // The scenarios are a test of the root package.
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory of the repository whose names have this suffix, with their texts.
fn files(directory: &str, suffix: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(&repository().join(directory), suffix, &mut found);
    assert!(!found.is_empty(), "{directory} has no {suffix}");
    found
}

fn collect(directory: &Path, suffix: &str, found: &mut Vec<(PathBuf, String)>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, suffix, found);
        } else if path.to_string_lossy().ends_with(suffix) {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push((path, text));
        }
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    [
        "src",
        "actors/src",
        "actors/tests",
        "store/src",
        "integration-tests",
    ]
    .into_iter()
    .flat_map(|directory| files(directory, ".rs"))
    .collect()
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = rust_files()
        .iter()
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            let scenario = path.starts_with(repository().join("integration-tests/tests"));
            let most = if scenario {
                SCENARIO_LINES_MAX
            } else {
                FILE_LINES_MAX
            };
            (lines > most).then(|| format!("{}: {lines} lines, at most {most}", path.display()))
        })
        .collect();
    assert_none("files that are too long", &long);
}

#[test]
fn every_module_has_a_module_comment() {
    let silent: Vec<String> = rust_files()
        .iter()
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("files that do not begin with //!", &silent);
}

#[test]
fn dependencies_point_one_way() {
    let manifest = |path: &str| fs::read_to_string(repository().join(path)).expect("it is there");
    let store = manifest("store/Cargo.toml");
    let actors = manifest("actors/Cargo.toml");
    let harness = manifest("integration-tests/Cargo.toml");
    let mut wrong = Vec::new();
    for (name, text, banned) in [
        (
            "store",
            &store,
            &["multidb-actors", "actix", "tokio", "bollard", "gix"][..],
        ),
        (
            "actors",
            &actors,
            &["bollard", "gix", "clap", "toml", "rustix"],
        ),
        (
            "integration-tests",
            &harness,
            &["multidb-actors", "multidb-store", "actix", "bollard"],
        ),
    ] {
        for line in text.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if banned.contains(&dependency) {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    assert_none("edges between crates that must not be", &wrong);
}

#[test]
fn wire_imports_nothing_of_its_crate_nor_of_actix_or_tokio() {
    let mut wrong = Vec::new();
    let mut wire = files("actors/src/wire", ".rs");
    wire.extend(files("actors/src", "/wire.rs"));
    for (path, text) in wire {
        for (number, line) in text.lines().enumerate() {
            let foreign = ["actix", "tokio::", "multidb_store"]
                .iter()
                .any(|name| line.contains(name));
            let upward = line.contains("crate::") && !line.contains("crate::wire");
            if (foreign || upward) && !line.trim_start().starts_with("//") {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("imports that wire must not have", &wrong);
}

/// Domain errors are mapped to SQLSTATEs in `client_error` alone, to HTTP statuses in `admin`. Tests observe
/// the wire, and a fake Postgres sends SQLSTATEs of its own.
#[test]
fn only_wire_and_client_error_name_sqlstates() {
    let codes = fs::read_to_string(repository().join("actors/src/wire/sqlstate.rs"));
    let codes = codes.expect("wire has its list of SQLSTATEs");
    let codes: Vec<String> = codes
        .split("SqlState(\"")
        .filter_map(|rest| Some(format!("\"{}\"", rest.split_once("\")")?.0)))
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    let mut wrong = Vec::new();
    for directory in ["actors/src", "src/admin"] {
        for (path, text) in files(directory, ".rs") {
            let shown = path.display().to_string();
            let exempt = ["/wire", "/client_error", "/tests", "/testing/"];
            if exempt.iter().any(|part| shown.contains(part)) {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let named = line.contains("sqlstate::") || codes.iter().any(|c| line.contains(c));
                if named && !line.trim_start().starts_with("//") {
                    wrong.push(format!("{shown}:{}: {line}", number + 1));
                }
            }
        }
    }
    assert_none("SQLSTATEs outside wire and client_error", &wrong);
}

#[test]
fn actors_read_the_date_through_their_clock() {
    let mut wrong = Vec::new();
    for (path, text) in files("actors/src", ".rs") {
        for (number, line) in text.lines().enumerate() {
            if line.contains("Timestamp::now") || line.contains("SystemTime::now") {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("dates that no test can set: use ports::Clock", &wrong);
}

/// tokio chooses among ready branches by chance that a simulation cannot seed.
#[test]
fn actors_select_in_a_fixed_order() {
    let mut wrong = Vec::new();
    for (path, text) in files("actors/src", ".rs") {
        let is_test = ["/tests", "/testing/"];
        if is_test
            .iter()
            .any(|part| path.to_string_lossy().contains(part))
        {
            continue;
        }
        for (at, _) in text.match_indices("select! {") {
            let mut rest = text[at..].lines().skip(1).map(str::trim);
            let first = rest.find(|line| !line.starts_with("//"));
            if first != Some("biased;") {
                let line = text[..at].lines().count();
                wrong.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert_none("select! without biased", &wrong);
}

#[test]
fn work_to_be_done_names_its_issue() {
    // Split, so that this file does not match itself.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["X", "XX"].concat(),
    ];
    let mut wrong = Vec::new();
    let mut texts = rust_files();
    texts.extend(files("scripts", ".sh"));
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            if marks
                .iter()
                .any(|mark| words(line).any(|word| word == mark))
                && !line.contains("issue ")
            {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("work to be done without \"issue NUMBER\"", &wrong);
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[test]
fn no_test_is_ignored_and_no_module_is_a_mod_rs() {
    let mark = ["#[ig", "nore"].concat();
    let wrong: Vec<String> = rust_files()
        .iter()
        .filter(|(path, text)| text.contains(&mark) || path.ends_with("mod.rs"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("ignored tests or files called mod.rs", &wrong);
}

/// In ARCHITECTURE.md an invariant ends with its guard: `Test: \`name\``.
#[test]
fn every_test_that_the_architecture_names_exists() {
    let architecture =
        fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let sources = rust_files();
    let missing: Vec<String> = guards(&architecture)
        .filter(|name| {
            let function = format!("fn {name}(");
            let scenario = format!("{name},");
            !sources
                .iter()
                .any(|(_, text)| text.contains(&function) || text.contains(&scenario))
        })
        .map(str::to_owned)
        .collect();
    assert_none("tests that ARCHITECTURE.md names and nobody has", &missing);
}

/// The names in backticks after `Test:` or `Tests:`, to the end of the paragraph's line.
fn guards(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| {
            line.split_once("Test: ")
                .or_else(|| line.split_once("Tests: "))
        })
        .flat_map(|(_, names)| names.split('`').skip(1).step_by(2))
        .map(|name| name.rsplit("::").next().unwrap_or(name))
}

/// Its filter refuses openat2 (systemd.exec(5), RestrictSUIDSGID=, and seccomp_restrict_suid_sgid of systemd's seccomp-util.c),
/// without which the daemon does not start.
#[test]
fn units_do_not_refuse_openat2() {
    for (path, text) in files("packaging", ".service") {
        let line = text
            .lines()
            .find(|line| line.starts_with("RestrictSUIDSGID="));
        assert_eq!(line, None, "{}", path.display());
    }
}
