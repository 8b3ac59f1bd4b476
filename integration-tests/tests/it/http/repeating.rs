//! Requests that are sent again, and lists in pages.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use multidb_integration_tests::poll;
use serde_json::json;

use super::Served;

#[test]
fn request_with_a_key_is_carried_out_once() {
    let served = Served::secured(|daemon| daemon);
    let alice = |key: &str| served.of("alice").header("Idempotency-Key", key);
    let body = json!({"name": "a", "gitref": "main"});
    let created = alice("one").post("/v1/instances", &body).expect(200);
    let again = alice("one").post("/v1/instances", &body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(200), created);
    // Nothing but the key tells them apart.
    let other = alice("two").post("/v1/instances", &body);
    assert_eq!(other.expect(409)["code"], "instance_exists");
    assert_eq!(
        alice("two").post("/v1/instances", &body).expect(409)["code"],
        "instance_exists"
    );
    let reused = alice("one").post("/v1/instances", &json!({"name": "b", "gitref": "main"}));
    assert_eq!(reused.expect(422)["code"], "idempotency_key_reused");
    // The keys of others are others.
    let bob = served.of("bob").header("Idempotency-Key", "one");
    bob.post("/v1/instances", &json!({"name": "b", "gitref": "main"}))
        .expect(200);
    let deleted = alice("three").delete("/v1/instances/a").expect(200);
    assert_eq!(
        alice("three").delete("/v1/instances/a").expect(200),
        deleted
    );
    assert_eq!(served.of("alice").delete("/v1/instances/a").status, 404);
    for malformed in ["", "a b", &"k".repeat(256)] {
        let refused = alice(malformed).post("/v1/instances", &body);
        assert_eq!(
            refused.expect(400)["code"],
            "invalid_idempotency_key",
            "{malformed}"
        );
    }
}

#[test]
fn request_that_was_answered_is_not_carried_out_again_after_a_restart() {
    let served = Served::secured(|daemon| daemon);
    let alice = |key: &str| served.of("alice").header("Idempotency-Key", key);
    let body = json!({"name": "a", "gitref": "main"});
    let created = alice("one").post("/v1/instances", &body).expect(200);
    let refused = alice("two").post("/v1/instances", &body);
    assert_eq!(refused.expect(409)["code"], "instance_exists");
    let deleted = alice("three").delete("/v1/instances/a").expect(200);
    // A client that was told has its answer from any daemon after it.
    for kill in [true, false] {
        if kill {
            served.daemon.kill9();
        } else {
            assert!(served.daemon.stop().success());
        }
        served.daemon.start();
        let again = alice("three").delete("/v1/instances/a");
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.expect(200), deleted);
        assert_eq!(
            alice("one").post("/v1/instances", &body).expect(200),
            created
        );
        let refused_again = alice("two").post("/v1/instances", &body);
        assert_eq!(
            refused_again.header("content-type"),
            refused.header("content-type")
        );
        assert_eq!(refused_again.expect(409), refused.expect(409));
        assert_eq!(served.daemon.state("a"), "", "it is not made again");
        let reused = alice("one").post("/v1/instances", &json!({"name": "b", "gitref": "main"}));
        assert_eq!(reused.expect(422)["code"], "idempotency_key_reused");
    }
}

#[test]
fn request_goes_on_when_its_client_leaves_and_has_its_answer_later() {
    let served = Served::trusting(|daemon| daemon);
    let body = json!({"name": "a", "gitref": "main"}).to_string();
    let request = format!(
        "POST /v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Idempotency-Key: k\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(("127.0.0.1", served.port.number())).expect("it accepts");
    client.write_all(request.as_bytes()).expect("it reads");
    served.daemon.wait_log("command to create an instance");
    drop(client);
    let again = served.plain().header("Idempotency-Key", "k");
    let answered = poll("the answer is known", Duration::from_secs(60), || {
        let answered = again.ask("POST", "/v1/instances", Some(body.clone()));
        if answered.status == 409 {
            Err(format!("{answered:?}"))
        } else {
            Ok(answered)
        }
    });
    assert_eq!(answered.expect(200)["name"], "a");
    assert_eq!(answered.header("idempotency-replayed"), "true");
}

#[test]
fn lists_have_pages() {
    let served = Served::secured(|daemon| daemon);
    let alice = served.of("alice");
    for name in ["a", "b", "c"] {
        alice
            .post(
                "/v1/instances",
                &json!({"name": name, "snapshot": "latest"}),
            )
            .expect(200);
        alice
            .post(&format!("/v1/instances/{name}/stop"), &json!({}))
            .expect(200);
    }
    for (list, key) in [("instances", "name"), ("snapshots", "id")] {
        let whole = alice.get(&format!("/v1/{list}"));
        assert_eq!(whole.header("link"), "");
        let mut next = format!("/v1/{list}?limit=2");
        let mut pages = Vec::new();
        while !next.is_empty() {
            let page = alice.get(&next);
            let entries = page.expect(200);
            pages.extend(entries.as_array().expect("it is a list").clone());
            let link = page.header("link").trim_start_matches('<');
            next = link.split_once('>').map_or("", |(next, _)| next).to_owned();
            assert!(pages.len() < 10, "{pages:?}");
        }
        let keys = |all: &[serde_json::Value]| -> Vec<String> {
            all.iter().map(|one| one[key].to_string()).collect()
        };
        let whole = whole.json();
        assert_eq!(keys(&pages), keys(whole.as_array().expect("it is a list")));
    }
    let refused = alice.get("/v1/jobs?after=7&limit=1");
    assert_eq!(refused.status, 400, "{refused:?}");
}
