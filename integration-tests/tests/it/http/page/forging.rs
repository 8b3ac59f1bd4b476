//! Things that other sites, other users and markup cannot do.

use multidb_integration_tests::{Browser, HttpClient};

use crate::http::Served;
use crate::http::page::token;

/// Markup that would be seen if it were taken for that.
const MARKUP: &str =
    "</td></pre><script>document.title='run'</script><img src=/x onerror=document.title='run'>";

#[test]
fn form_without_the_token_of_its_session_does_nothing() {
    let served = Served::secured(|daemon| daemon);
    drop(served.session("alice", "mine,gitref:main", "test"));
    let (alice, bob) = (served.logged_in("alice"), served.logged_in("bob"));
    let own = token(&alice.get("/instances/mine"));
    let foreign = token(&bob.get("/instances"));
    let post = |client: &HttpClient, path: &str, token: &str| {
        let body = format!("token={token}&for=&new_name=other&back=%2F%2Fother.test");
        client.ask("POST", path, Some(body))
    };
    for command in [
        "start", "stop", "reset", "pin", "unpin", "rename", "remove", "diff",
    ] {
        let path = format!("/instances/mine/{command}");
        for token in ["", "guessed", foreign.as_str()] {
            assert_eq!(post(&alice, &path, token).status, 403, "{path} {token}");
        }
        assert_eq!(
            post(&served.form_client(), &path, &own).status,
            401,
            "{path}"
        );
        // To bob, there is no such instance.
        let by_other = post(&bob, &path, &foreign);
        assert_eq!(by_other.status, 404, "{path} {by_other:?}");
    }
    for path in [
        "/snapshots/monday/remove",
        "/snapshots/monday/pin",
        "/jobs/refresh",
        "/jobs/1/cancel",
        "/sessions/1/end",
        "/logout",
    ] {
        assert_eq!(post(&alice, path, "").status, 403, "{path}");
    }
    // Even with it, a user has the rights of a user.
    assert_eq!(post(&alice, "/snapshots/monday/remove", &own).status, 403);
    assert_eq!(bob.get("/instances/mine").status, 404);
    assert_eq!(served.daemon.state("mine"), "running");

    let stopped = post(&alice, "/instances/mine/stop", &own);
    assert_eq!(
        (stopped.status, stopped.header("location")),
        (303, "/instances/mine")
    );
    let cross = alice.header("sec-fetch-site", "cross-site");
    assert_eq!(post(&cross, "/instances/mine/start", &own).status, 403);
    assert_eq!(served.daemon.state("mine"), "stopped");
}

#[test]
fn pages_are_for_their_own_origin() {
    let served = Served::secured(|daemon| daemon);
    let form = served.client().get("/login");
    let cookie = form.header("set-cookie");
    for part in ["__Host-", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    let alice = served.logged_in("alice");
    for path in [
        "/instances",
        "/instances/missing",
        "/nothing",
        "/assets/nothing",
        "/jobs/x",
        "/system",
    ] {
        let answer = alice.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path} {answer:?}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path} {answer:?}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    // A page that is older than its files still finds none, and no answer names the others.
    assert_eq!(served.client().get("/nothing").status, 303);

    // A login that was made without the form's cookie is that of another site.
    let body = format!("user=alice&password=secret&token={}", token(&form));
    let forged = served.form_client().ask("POST", "/login", Some(body));
    assert_eq!((forged.status, forged.header("set-cookie")), (403, ""));

    let browser = Browser::start();
    served.log_in(&browser, "alice");
    let frame = format!(
        "data:text/html,<iframe src='{}'></iframe>",
        served.url("/instances")
    );
    assert_eq!(browser.complaints(), [""; 0]);
    browser.open(&frame);
    browser.enter_frame();
    // Chromium's own page says that it was refused.
    let shown = browser.script("return location.protocol");
    assert_eq!(shown.as_str(), Some("chrome-error:"));
}

#[test]
fn markup_is_shown_as_text_and_run_nowhere() {
    let served = Served::secured(|daemon| daemon);
    let branch = "<img/src=x/onerror=document.title=1>";
    served.daemon.repository().git(&["branch", branch, "main"]);
    let encoded = branch.replace('=', "%3D");
    let session = served.session("alice", &format!("mine,gitref:{encoded}"), MARKUP);
    // Postgres logs the statement.
    assert!(session.query(&format!("select \"{MARKUP}\"")).is_err());
    let browser = Browser::start();
    served.log_in(&browser, "alice");
    let paths = [
        ("/instances", branch),
        ("/instances/mine", MARKUP),
        ("/instances/mine", branch),
        ("/instances/mine/remove", branch),
        ("/sessions", MARKUP),
    ];
    for (path, text) in paths {
        browser.open(&served.url(path));
        browser.wait_text("body", text);
        assert_eq!(
            browser.count("main img, main script, main iframe"),
            0,
            "{path}"
        );
        let title = browser.script("return document.title");
        assert!(
            title
                .as_str()
                .is_some_and(|title| title.ends_with("multidb")),
            "{path} {title}"
        );
    }
    // As a query, and in the text that the script puts into the page.
    let query = "%3C%2Ftd%3E%3Cscript%3Edocument.title%3D1%3C%2Fscript%3E%22%27";
    for path in [
        "/instances?q=",
        "/explain?gitref=",
        "/explain?project=",
        "/instances?sort=",
        "/nothing/",
    ] {
        browser.open(&served.url(&format!("{path}{query}")));
        assert_eq!(browser.count("main script"), 0, "{path}");
    }
    browser.open(&served.url("/sessions"));
    let second = served.session("alice", "mine", MARKUP);
    browser.wait_text("#content", "Session");
    multidb_integration_tests::eventually(
        "the second session is shown",
        std::time::Duration::from_secs(60),
        || browser.count("tr[id^=c-]") == 2,
    );
    assert_eq!(browser.count("main img, main script"), 0);
    drop((session, second));
    assert_eq!(browser.complaints(), [""; 0]);
}
