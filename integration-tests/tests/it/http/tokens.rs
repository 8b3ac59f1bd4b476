//! Tokens, as their users make and lose them.

use serde_json::{Value, json};

use super::Served;

impl Served {
    /// Makes a token of this user.
    pub(super) fn token(&self, user: &str, more: &[&str]) -> Value {
        self.daemon
            .json(&[&["user", "token", "add", user], more].concat())
    }
}

fn text(made: &Value) -> &str {
    made["token"].as_str().expect("it is a text")
}

#[test]
fn token_has_its_scope_until_it_is_removed() {
    let served = Served::secured(|daemon| daemon);
    let daemon = &served.daemon;
    let made = |user: &str, scope: &str| served.token(user, &["--scope", scope]);
    let (read, using, admin) = (
        made("root", "read"),
        made("root", "use"),
        made("root", "admin"),
    );
    let of_alice = served.token("alice", &["--scope", "admin", "--label", "<b>ci</b>"]);
    let client = |token: &Value| served.client().token(text(token));
    let body = |name: &str| json!({"name": name, "gitref": "main"});
    client(&of_alice)
        .post("/v1/instances", &body("a"))
        .expect(200);
    let denied = client(&read).post("/v1/instances", &body("b"));
    assert_eq!(denied.status, 403, "{denied:?}");
    assert!(denied.body.contains("with a token to read"), "{denied:?}");
    client(&using).post("/v1/instances", &body("b")).expect(200);
    for (token, sees) in [(&read, 1), (&using, 1), (&admin, 2), (&of_alice, 1)] {
        let listed = client(token).get("/v1/instances").expect(200);
        assert_eq!(listed.as_array().map(Vec::len), Some(sees), "{token}");
    }
    for (token, path, status) in [
        (&read, "/v1/instances/b/stop", 403),
        (&read, "/v1/instances/a/stop", 404),
        (&using, "/v1/instances/a/stop", 404),
        (&using, "/v1/users/reload", 403),
        (&of_alice, "/v1/users/reload", 403),
        (&using, "/v1/instances/b/stop", 200),
        (&admin, "/v1/users/reload", 200),
    ] {
        let answered = client(token).post(path, &json!({}));
        assert_eq!(answered.status, status, "{path}: {answered:?}");
    }

    let listed = daemon.json(&["user", "token", "ls", "alice"]);
    assert_eq!(listed[0]["label"], "<b>ci</b>");
    assert!(!listed.to_string().contains("secret"), "{listed}");
    let users = std::fs::read_to_string(daemon.root().join("state/users.toml"));
    // The secret may have the separator in it.
    let secret = text(&of_alice).splitn(3, '_').nth(2);
    let secret = secret.expect("it has a secret");
    assert!(!users.expect("it is there").contains(secret));
    let id = of_alice["id"].as_str().expect("it is a text");
    daemon.cli(&["user", "token", "rm", "alice", id]).ok();
    let revoked = client(&of_alice).get("/v1/instances");
    assert_eq!(revoked.status, 401, "{revoked:?}");
    assert!(revoked.body.contains("unknown_token"), "{revoked:?}");
    // Tokens of other users stay, until their user is removed.
    client(&using).get("/v1/instances").expect(200);
    daemon.cli(&["user", "rm", "root"]).ok();
    assert_eq!(client(&using).get("/v1/instances").status, 401);
}

#[test]
fn token_that_is_none_or_has_ended_is_refused() {
    let served = Served::secured(|daemon| daemon);
    let short = served.token("alice", &["--expires", "1s"]);
    let limit = std::time::Duration::from_secs(20);
    multidb_integration_tests::eventually("the token ends", limit, || {
        let refused = served.client().token(text(&short)).get("/v1/status");
        refused.status == 401 && refused.body.contains("expired_token")
    });
    let endless = served.token("alice", &["--expires", "never"]);
    let mut foreign = text(&endless).to_owned();
    foreign.replace_range(foreign.len() - 8.., "AAAAAAAA");
    for (token, code) in [
        ("", "not_authenticated"),
        ("secret", "malformed_token"),
        ("ghp_0123456789abcdef", "malformed_token"),
        (&foreign, "unknown_token"),
    ] {
        let refused = served.client().token(token).get("/v1/status");
        assert_eq!(refused.status, 401, "{token}: {refused:?}");
        assert!(refused.body.contains(code), "{token}: {refused:?}");
    }
    served
        .client()
        .token(text(&endless))
        .get("/v1/status")
        .expect(200);
    let lower = format!("bearer {}", text(&endless));
    let lower = served.client().header("Authorization", &lower);
    lower.get("/v1/status").expect(200);
    // A token is no password.
    let as_password = served.client().user("alice", text(&endless));
    assert_eq!(as_password.get("/v1/status").status, 401);
    for (args, said) in [
        (vec!["user", "token", "add", "nobody"], "no user \"nobody\""),
        (vec!["user", "token", "rm", "alice", "x"], "no token \"x\""),
        (
            vec!["user", "token", "add", "alice", "--expires", "0s"],
            "at least one second",
        ),
    ] {
        let refused = served.daemon.cli(&args);
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
}
