//! The description of the API, and whether the answers are as described.

use std::path::Path;
use std::process::Command;

use multidb_integration_tests::run;

use super::{Served, text};

/// Made by `scripts/lib/packages.sh`.
const SCHEMATHESIS: &str = "/usr/local/share/multidb-tests/schemathesis/bin/schemathesis";

#[test]
fn schemathesis_finds_nothing() {
    assert!(
        Path::new(SCHEMATHESIS).exists(),
        "{SCHEMATHESIS} is missing; scripts/test.sh installs it"
    );
    let served = Served::secured(|daemon| daemon);
    // Requests that nothing can carry out, such as a refresh without a source, end as jobs that fail.
    served.daemon.expect_log("the job failed");
    // It sees that each operation refuses a wrong password.
    served.daemon.expect_log("too many failed logins");
    let token = served.token("root", &["--scope", "admin"]);
    let token = token["token"].as_str().expect("it is a text");
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let mut command = Command::new(SCHEMATHESIS);
    command
        .current_dir(directory.path())
        .env("REQUESTS_CA_BUNDLE", served.authority.cert())
        .arg("run")
        .arg(format!(
            "https://localhost:{}/v1/openapi.json",
            served.port.number()
        ))
        .arg(format!("--header=Authorization: Bearer {token}"))
        .arg(format!("--tls-verify={}", text(&served.authority.cert())))
        .args(["--checks=all", "--phases=examples,coverage,fuzzing"])
        // A revision or a snapshot of the right form need not exist.
        .arg("--exclude-checks=positive_data_acceptance")
        .args(["--max-examples=10", "--max-time=30", "--seed=1"])
        .args(["--generation-database=none", "--suppress-health-check=all"])
        .args(["--warnings=off", "--request-timeout=60", "--no-color"]);
    let found = run(&mut command);
    assert_eq!(found.code, Some(0), "{}\n{}", found.stdout, found.stderr);
}

#[test]
fn description_is_for_anybody_and_tells_nothing_of_the_daemon() {
    let served = Served::secured(|daemon| daemon);
    let described = served.client().get("/v1/openapi.json").expect(200);
    assert_eq!(described["openapi"], "3.1.0");
    assert_eq!(described["info"]["version"], "1");
    let paths = described["paths"].as_object().expect("it has paths");
    assert!(paths.contains_key("/v1/instances/{name}"), "{paths:?}");
    let version = served.daemon.json(&["status"])["version"].clone();
    let version = version.as_str().expect("it is a text");
    let text = described["info"].to_string();
    assert!(!text.contains(version), "{text}");
}
