//! The clients that are let in, and the requests that are carried out.

use std::time::Duration;

use multidb_integration_tests::{HttpClient, eventually};
use serde_json::{Value, json};

use super::Served;

/// As of `auth/attempts.rs`.
const FAILURES_MAX: usize = 20;

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("it is a list");
    list.iter()
        .filter_map(|instance| instance["name"].as_str())
        .collect()
}

#[test]
fn api_shows_users_their_own_instances_and_administrators_all() {
    let served = Served::secured(|daemon| daemon);
    let (alice, bob, root) = (served.of("alice"), served.of("bob"), served.of("root"));
    let body = |name: &str| json!({"name": name, "gitref": "main"});
    let created = alice.post("/v1/instances", &body("a")).expect(200);
    assert_eq!(created["created_by"], "alice");
    bob.post("/v1/instances", &body("b")).expect(200);
    let list = |client: &HttpClient, query: &str| {
        let listed = client.get(&format!("/v1/instances{query}")).expect(200);
        names(&listed).join(" ")
    };
    assert_eq!(list(&alice, ""), "a");
    assert_eq!(list(&bob, ""), "b");
    assert_eq!(list(&alice, "?created_by=bob"), "");
    assert_eq!(list(&root, ""), "a b");

    for hidden in [
        bob.get("/v1/instances/a"),
        bob.delete("/v1/instances/a"),
        bob.post("/v1/instances/a/stop", &json!({})),
        bob.get("/v1/instances/a/logs"),
    ] {
        assert_eq!(hidden.status, 404, "{hidden:?}");
        assert!(!hidden.body.contains("alice"), "{hidden:?}");
    }
    for denied in [
        alice.post("/v1/users/reload", &json!({})),
        alice.post("/v1/dedup/pause", &json!({})),
        alice.delete("/v1/snapshots/monday"),
    ] {
        assert_eq!(denied.status, 403, "{denied:?}");
    }
    root.post("/v1/instances/a/stop", &json!({})).expect(200);
    root.delete("/v1/instances/b").expect(200);
    assert_eq!(list(&root, ""), "a");
    alice.delete("/v1/instances/a").expect(200);
}

#[test]
fn without_the_right_password_there_is_nothing() {
    let served = Served::secured(|daemon| daemon);
    let nobody = served.client();
    assert_eq!(nobody.get("/healthz").body, "ok\n");
    for (client, code) in [
        (nobody.clone(), "not_authenticated"),
        (nobody.clone().user("alice", "wrong"), "wrong_password"),
        (nobody.clone().user("carol", "secret"), "wrong_password"),
        (
            nobody.clone().header("Authorization", "Basic %"),
            "not_authenticated",
        ),
    ] {
        for path in ["/v1/status", "/v1/instances/a", "/v1/nowhere"] {
            let refused = client.get(path);
            assert_eq!(refused.status, 401, "{path}: {refused:?}");
            assert!(refused.body.contains(code), "{path}: {refused:?}");
            assert!(refused.header("www-authenticate").starts_with("Basic "));
        }
    }
    // Plain HTTP on this port is not served.
    assert!(served.plain().try_ask("GET", "/healthz", None).is_err());

    served.daemon.expect_log("too many failed logins");
    let guessing = nobody.user("alice", "guess");
    for _ in 0..FAILURES_MAX {
        guessing.get("/v1/status");
    }
    let refused = served.of("alice").get("/v1/status");
    assert_eq!(refused.status, 429, "{refused:?}");
    served.of("bob").get("/v1/status").expect(200);
}

#[test]
fn changed_certificate_is_shown_to_new_clients() {
    let served = Served::secured(|daemon| daemon);
    served.of("alice").get("/v1/status").expect(200);
    served.authority.issue("localhost", &["other.internal"]);
    let limit = Duration::from_secs(30);
    eventually("the new certificate is shown", limit, || {
        let refused = served.client().try_ask("GET", "/healthz", None).err();
        refused.is_some_and(|error| error.to_string().contains("only valid for"))
    });
}

#[test]
fn browsers_act_for_no_other_origin() {
    let served = Served::trusting(|daemon| daemon);
    let plain = || served.plain();
    plain().get("/v1/instances").expect(200);
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        for path in ["/healthz", "/v1/instances", "/nowhere"] {
            let refused = plain().header("Host", host).get(path);
            assert_eq!(refused.status, 403, "{refused:?}");
            assert!(refused.body.contains("unknown_host"), "{refused:?}");
        }
    }
    let body = json!({"name": "a", "gitref": "main"});
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
    ] {
        let foreign = plain().header(name, value);
        let refused = foreign.post("/v1/instances", &body);
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("cross_site"), "{refused:?}");
        foreign.get("/v1/instances").expect(200);
    }
    // A form of another page needs no header that the browser would ask for first.
    let form = plain().header("Content-Type", "text/plain");
    let refused = form.post("/v1/instances", &body);
    assert_eq!(refused.status, 415, "{refused:?}");
    assert_eq!(plain().get("/v1/instances").expect(200), json!([]));
    let own = plain().header("Sec-Fetch-Site", "same-origin");
    own.post("/v1/instances", &body).expect(200);
}
