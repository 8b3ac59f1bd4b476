//! Webhooks, as GitHub and GitLab deliver them.

use std::time::Duration;

use multidb_integration_tests::{Daemon, DaemonBuilder, HttpAnswer, poll, run};
use serde_json::{Value, json};

use super::Served;

const SECRET: &str = "0123456789abcdef";

fn with_hook(daemon: DaemonBuilder) -> DaemonBuilder {
    daemon
        .set("http.hooks.demo", "repository", "acme/shop")
        .set("http.hooks.demo", "secret_file", "/proc/self/cwd/none")
        .set("http.hooks.demo", "user", "alice")
}

fn served() -> Served {
    let served = Served::secured(with_hook);
    let file = served.daemon.dir().join("hook.secret");
    std::fs::write(&file, format!("{SECRET}\n")).expect("it can be written");
    let named = file.to_str().expect("it is a text");
    served.daemon.stop();
    served.daemon.reconfigure("/proc/self/cwd/none", named);
    served.daemon.start();
    served
}

/// The HMAC of a body, by another program.
fn signature(daemon: &Daemon, secret: &str, body: &str) -> String {
    let file = daemon.dir().join("body");
    std::fs::write(&file, body).expect("it can be written");
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args(["dgst", "-sha256", "-r", "-hmac", secret])
        .arg(&file);
    let digest = run(&mut openssl).ok().to_owned();
    let digest = digest.split(' ').next().unwrap_or_default();
    format!("sha256={digest}")
}

fn github_body(number: u64, action: &str, seconds: i64) -> Value {
    let closed_at = run(std::process::Command::new("date").args([
        "--utc",
        &format!("--date={seconds} seconds ago"),
        "+%Y-%m-%dT%H:%M:%SZ",
    ]));
    json!({
        "action": action,
        "number": number,
        "pull_request": {"number": number, "closed_at": closed_at.ok()},
        "repository": {"full_name": "acme/shop"},
    })
}

fn github(served: &Served, secret: &str, body: &Value) -> HttpAnswer {
    let body = body.to_string();
    let signature = signature(&served.daemon, secret, &body);
    let client = served.client().header("X-Hub-Signature-256", &signature);
    let client = client.header("X-GitHub-Event", "pull_request");
    client.ask("POST", "/v1/hooks/github", Some(body))
}

fn names(served: &Served) -> String {
    let listed = served.daemon.json(&["instance", "ls"]);
    let listed = listed.as_array().expect("it is a list").clone();
    let names: Vec<&str> = listed
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    names.join(" ")
}

#[test]
fn closed_pull_request_removes_its_instances_and_no_others() {
    let served = served();
    for (user, name) in [
        ("alice", "pr-1"),
        ("alice", "pr-1-web"),
        ("alice", "pr-12"),
        ("bob", "pr-1-bob"),
    ] {
        let body = json!({"name": name, "snapshot": "latest"});
        served.of(user).post("/v1/instances", &body).expect(200);
    }
    served
        .of("alice")
        .post("/v1/instances/pr-1/pin", &json!({}))
        .expect(200);
    let opened = github(&served, SECRET, &github_body(1, "opened", 0)).expect(202);
    assert_eq!(opened["removing"], json!([]));
    let closed = github_body(1, "closed", 10);
    let removing = github(&served, SECRET, &closed).expect(202);
    assert_eq!(removing["removing"], json!(["pr-1", "pr-1-web"]));
    poll("they are gone", Duration::from_secs(60), || {
        let left = names(&served);
        if left == "pr-1-bob pr-12" {
            Ok(())
        } else {
            Err(left)
        }
    });
    // The pull request is opened again, and an old delivery comes once more.
    let again = json!({"name": "pr-1", "snapshot": "latest"});
    served.of("alice").post("/v1/instances", &again).expect(200);
    let replayed = github(&served, SECRET, &closed).expect(409);
    assert_eq!(replayed["code"], "delivery_replayed");
    let stale = github(&served, SECRET, &github_body(1, "closed", 90_000)).expect(409);
    assert_eq!(stale["code"], "stale_delivery");
    assert_eq!(names(&served), "pr-1 pr-1-bob pr-12");

    let merged = json!({
        "object_kind": "merge_request",
        "object_attributes": {"iid": 12, "action": "merge"},
        "project": {"path_with_namespace": "acme/shop"},
    });
    let gitlab = served.client().header("X-Gitlab-Token", SECRET);
    let removing = gitlab.post("/v1/hooks/gitlab", &merged).expect(202);
    assert_eq!(removing["removing"], json!(["pr-12"]));
}

#[test]
fn delivery_without_the_secret_does_nothing() {
    let served = served();
    let body = json!({"name": "pr-1", "snapshot": "latest"});
    served.of("alice").post("/v1/instances", &body).expect(200);
    let closed = github_body(1, "closed", 10);
    let text = closed.to_string();
    let right = signature(&served.daemon, SECRET, &text);
    for forged in [
        "",
        "sha256=",
        "sha256=00",
        &right["sha256=".len()..],
        &right[..right.len() - 2],
    ] {
        let client = served.client().header("X-Hub-Signature-256", forged);
        let client = client.header("X-GitHub-Event", "pull_request");
        let refused = client.ask("POST", "/v1/hooks/github", Some(text.clone()));
        assert_eq!(refused.expect(401)["code"], "bad_signature", "{forged}");
    }
    let other = github(&served, "fedcba9876543210", &closed);
    assert_eq!(other.status, 401, "{other:?}");
    for token in ["", "0123456789abcdeg"] {
        let gitlab = served.client().header("X-Gitlab-Token", token);
        assert_eq!(gitlab.post("/v1/hooks/gitlab", &closed).status, 401);
    }
    let mut foreign = closed.clone();
    foreign["repository"]["full_name"] = json!("acme/other");
    assert_eq!(
        github(&served, SECRET, &foreign).expect(404)["code"],
        "no_such_hook"
    );
    let long = "x".repeat((1 << 20) + 1);
    let refused = served.client().ask("POST", "/v1/hooks/github", Some(long));
    assert_eq!(refused.status, 413, "{refused:?}");
    assert_eq!(names(&served), "pr-1");
}
