//! The pictures behind `scripts/screenshots.sh`: a daemon with some instances, its web page in Chromium, a PNG for each
//! page, width and look.
//!
//! usage: `screenshots PROGRAM DIRECTORY [all]`. Without `all`, only the pictures of the documents.

#![expect(clippy::print_stderr, reason = "it is a program")]

use std::path::Path;

use multidb_integration_tests::{Browser, Daemon, DaemonBuilder, Disk, Engine, Port, Session};

/// The pages with the names of their pictures, and whether the documents show them.
const PAGES: [(&str, &str, bool); 11] = [
    ("instances", "/instances", true),
    ("instance", "/instances/pr-1207", false),
    ("remove", "/instances/pr-1207/remove", false),
    ("snapshots", "/snapshots", false),
    ("snapshot", "/snapshots/tuesday", false),
    ("explain", "/explain?gitref=main", true),
    ("jobs", "/jobs", false),
    ("sessions", "/sessions", false),
    ("system", "/system", false),
    ("doctor", "/system/doctor", false),
    ("missing", "/instances/missing", false),
];

/// The instances: names, sources, and the application that stays connected.
const INSTANCES: [(&str, &str, Option<&str>); 9] = [
    ("pr-1207", "gitref:main", Some("gunicorn")),
    ("pr-1207-masked", "from:pr-1207", None),
    ("pr-1211", "gitref:main", Some("psql")),
    ("staging", "snapshot:monday", Some("puma: worker 1")),
    ("march-figures", "asof:2026-01-05", None),
    ("ci-4411", "gitref:main", None),
    ("ci-4412", "gitref:main", None),
    ("anna", "gitref:main", Some("DBeaver")),
    ("anna-try", "from:anna", None),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, directory, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: screenshots PROGRAM DIRECTORY [all]");
        std::process::exit(2);
    };
    let all = rest.iter().any(|argument| argument == "all");
    let port = Port::take();
    let listen = format!("[\"127.0.0.1:{}\"]", port.number());
    let daemon = DaemonBuilder::new(program, Disk::Xfs, Engine::Process)
        .set_raw("http", "listen", &listen)
        .set_raw("auth.users.staff", "admin", "true")
        .set("auth.users.staff", "verifier", VERIFIER)
        .set_raw("auth.users.staff", "roles", "[\"postgres\"]")
        .start();
    // Nobody is asked for a password, so that the user's has no effect.
    daemon.expect_log("auth.users");
    let _sessions = make(&daemon);
    let browser = Browser::start();
    let url = format!("http://localhost:{}", port.number());
    let looks = [
        (1280, 900, "light"),
        (390, 844, "light"),
        (1280, 900, "dark"),
    ];
    let looks = if all { &looks[..] } else { &looks[..1] };
    for &(width, height, look) in looks {
        browser.prefer(look);
        for (name, path, is_shown) in PAGES {
            if !all && !is_shown {
                continue;
            }
            browser.resize(width, height);
            browser.open(&format!("{url}{path}"));
            if all {
                // The whole page.
                let whole = browser.script("return document.documentElement.scrollHeight");
                let whole = whole.as_u64().and_then(|height| u32::try_from(height).ok());
                browser.resize(width, whole.unwrap_or(height).clamp(height, 3000));
            }
            let file = match all {
                true => format!("{name}-{width}-{look}.png"),
                false => format!("web-{name}.png"),
            };
            let path = Path::new(directory).join(file);
            std::fs::write(&path, browser.screenshot()).expect("a picture can be written");
        }
    }
}

/// Of no password in particular: nobody is asked for one.
const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
    ZVZk5K0fJ3NVZl5xJk0x0fPp1oJr3fZ2S5yQyFq3v3E=:ZVZk5K0fJ3NVZl5xJk0x0fPp1oJr3fZ2S5yQyFq3v3E=";

/// The sessions that stay.
fn make(daemon: &Daemon) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (name, source, application) in INSTANCES {
        let mut config = daemon.config(&format!("instance:{name},{source}"));
        config.application_name(application.unwrap_or("psql"));
        let session = Session::connect(&config).expect("an instance is made");
        if application.is_some() {
            sessions.push(session);
        }
    }
    daemon.cli(&["instance", "stop", "ci-4411"]).ok();
    daemon.cli(&["instance", "pin", "staging"]).ok();
    daemon.cli(&["snapshot", "pin", "monday"]).ok();
    sessions
}
