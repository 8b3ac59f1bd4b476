//! The web page, in a real browser.
//!
//! Each test is a process with a browser of its own, which takes a second to start; so the scenarios are long.

mod acting;
mod forging;
mod looking;
mod many;
mod working;

use multidb_integration_tests::{Browser, HttpAnswer, HttpClient, Session};

use super::Served;

impl Served {
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port.number())
    }

    /// Connects to an instance, which is created by that if it does not exist.
    #[track_caller]
    fn session(&self, user: &str, instance: &str, application_name: &str) -> Session {
        let name = format!("instance:{instance},user:{user}");
        let mut config = self.daemon.config(&name);
        config.password("secret").application_name(application_name);
        Session::connect(&config).unwrap_or_else(|failure| panic!("{name}: {failure:?}"))
    }

    /// Logs in by the form, in a browser.
    #[track_caller]
    fn log_in(&self, browser: &Browser, user: &str) {
        browser.open(&self.url("/login"));
        browser.fill("#user", user);
        browser.fill("#password", "secret");
        browser.press("Log in");
        browser.wait_path("/instances");
    }

    /// Logs in by the form, as a program would, and returns a client with the session's cookie.
    #[track_caller]
    fn logged_in(&self, user: &str) -> HttpClient {
        let form = self.client().get("/login");
        let of_form = cookie(&form);
        let body = format!("user={user}&password=secret&token={}", token(&form));
        let client = self.form_client().header("cookie", &of_form);
        let answer = client.ask("POST", "/login", Some(body));
        assert_eq!(answer.status, 303, "{answer:?}");
        self.form_client().header("cookie", &cookie(&answer))
    }

    /// A client whose bodies are forms.
    fn form_client(&self) -> HttpClient {
        self.client()
            .header("content-type", "application/x-www-form-urlencoded")
    }
}

/// The name and the value of the cookie that an answer sets.
fn cookie(answer: &HttpAnswer) -> String {
    let set = answer.header("set-cookie");
    set.split(';').next().unwrap_or_default().to_owned()
}

/// The token of the first form of a page.
#[track_caller]
fn token(page: &HttpAnswer) -> String {
    let (_, rest) = page
        .body
        .split_once("name=\"token\" value=\"")
        .unwrap_or_else(|| panic!("the page has no form: {page:?}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}
