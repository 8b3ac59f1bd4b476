//! A daemon with the API over the network, its page, metrics and notifications: lists and the page with many instances,
//! its memory, and its processor time for each transaction, beside an older program's.

use std::time::Duration;

use multidb_integration_tests::{
    Authority, Browser, DaemonBuilder, Disk, Engine, HttpClient, Port,
};
use tokio::time::Instant;

use crate::environment::Environment;
use crate::memory;
use crate::options::Options;
use crate::proxies::{Route, through_multidb};
use crate::report::{Aim, Report, Samples, Unit, milliseconds};
use crate::rounds::{Round, interleaved};
use crate::say;
use crate::sleepers::copy_instances;
use crate::source::Source;
use crate::throughput::pgbench;

const INSTANCES: u32 = 1000;
const COPIED: &str = "copied";
const WORKED: &str = "worked";
const REQUESTS: usize = 20;
const LOADS: usize = 5;
const ROUNDS: usize = 5;
const CLIENTS: u32 = 8;

/// The most that each may take.
const LIST_MS_AIM: f64 = 30.0;
const SCRAPE_MS_AIM: f64 = 10.0;
const PAGE_MS_AIM: f64 = 150.0;
const LOADED_MS_AIM: f64 = 1000.0;
const MEMORY_MIB_AIM: f64 = 25.0;
/// The daemon gives freed memory back once a minute (`daemon/periodic.rs`).
const GIVEN_BACK: Duration = Duration::from_secs(65);

/// The daemon's web server, as its clients know it.
struct Web {
    port: Port,
    authority: Authority,
    certificates: tempfile::TempDir,
}

impl Web {
    fn new() -> Self {
        let certificates = tempfile::tempdir().expect("a directory can be made");
        Self {
            port: Port::take(),
            authority: Authority::create(certificates.path()),
            certificates,
        }
    }

    /// No client is asked for a password: the measured part is the service behind it.
    fn configure(&self, daemon: DaemonBuilder) -> DaemonBuilder {
        let own = self.authority.issue("localhost", &["localhost"]);
        let listen = format!("[\"127.0.0.1:{}\"]", self.port.number());
        let told = self.certificates.path().join("told");
        let command = format!("[\"/usr/bin/tee\", \"--append\", \"{}\"]", told.display());
        daemon
            .set_raw("http", "listen", &listen)
            .set("http", "cert", &own.cert.display().to_string())
            .set("http", "key", &own.key.display().to_string())
            .set_raw("[notify]", "on", "[\"job_failed\", \"instance_failed\"]")
            .set_raw("[notify]", "command", &command)
    }

    fn client(&self) -> HttpClient {
        HttpClient::over_tls(self.port.number(), &self.authority.cert())
    }
}

/// Measures all of it.
pub(crate) fn measure(
    options: &Options,
    (disk, engine): (Disk, Engine),
    source: &Source,
    report: &mut Report,
) {
    let web = Web::new();
    let prepare = |program, configure: &dyn Fn(DaemonBuilder) -> DaemonBuilder| {
        Environment::prepare(program, disk, engine, source, configure)
    };
    let environment = prepare(&options.multidb, &|daemon| web.configure(daemon));
    report.snapshot(environment.snapshot());
    let before = options.before.as_ref();
    let before = before.map(|program| prepare(program, &|daemon| daemon));
    transactions(options, before.as_ref(), &environment, report);
    drop(before);
    many_instances(&environment, &web, report);
}

/// pgbench through the older program and this one, by turns.
fn transactions(
    options: &Options,
    before: Option<&Environment>,
    now: &Environment,
    report: &mut Report,
) {
    say("processor time for each transaction");
    let programs = before.map(|environment| ("before", environment));
    let routes: Vec<Route> = programs
        .into_iter()
        .chain([("now", now)])
        .map(|(name, environment)| {
            environment.first_row(WORKED).0.close();
            through_multidb(name, environment, WORKED)
        })
        .collect();
    let seconds = options.pgbench_seconds;
    let rounds = interleaved(&routes, ROUNDS, |route| pgbench(route, CLIENTS, seconds));
    let section = format!("pgbench -S, clients: {CLIENTS} ({})", now.name());
    let mut first = None;
    for (route, rounds) in routes.iter().zip(&rounds) {
        let costs = Samples::new(rounds.iter().map(Round::microseconds_each).collect());
        let median = costs.median();
        let what = format!("{}, processor time per transaction", route.name);
        report.add(&section, &what, Unit::Microseconds, costs);
        match first {
            None => first = Some(median),
            Some(first) => report.ratio("of before", median / first, Aim::None),
        }
    }
}

fn many_instances(environment: &Environment, web: &Web, report: &mut Report) {
    say(&format!("the API and the page of {INSTANCES} instances"));
    environment.first_row(COPIED).0.close();
    environment.stop(COPIED);
    environment.daemon().stop();
    copy_instances(environment, COPIED, INSTANCES);
    // The first start takes the copies into the records.
    environment.daemon().start();
    let section = format!("{INSTANCES} instances, over TLS ({})", environment.name());
    let client = web.client();
    for (what, path, word, aim) in [
        ("list", "/v1/instances?limit=1000", "\"uid\":", LIST_MS_AIM),
        ("page", "/instances", "<tr id=", PAGE_MS_AIM),
        ("scrape", "/metrics", "multidb_", SCRAPE_MS_AIM),
    ] {
        let times = (0..REQUESTS).map(|_| {
            let begin = Instant::now();
            let answer = client.get(path);
            let elapsed = begin.elapsed();
            let found = answer.body.matches(word).count();
            assert!(found >= 100, "{path}: {}", answer.body);
            elapsed
        });
        let samples = Samples::of_times(times.collect::<Vec<_>>());
        add(report, &section, what, samples, aim);
    }
    let browser = Browser::start();
    let url = format!("https://localhost:{}/instances", web.port.number());
    let loads = (0..LOADS).map(|_| {
        let begin = Instant::now();
        browser.open(&url);
        browser.wait_text("#count", "instances");
        milliseconds(begin.elapsed())
    });
    let samples = Samples::new(loads.collect());
    add(report, &section, "page in Chromium", samples, LOADED_MS_AIM);
    drop(browser);
    std::thread::sleep(GIVEN_BACK);
    let resident = f64::from(memory::resident_kib(environment)) / 1024.0;
    let samples = Samples::new(vec![resident]);
    report.add(
        &section,
        "memory of the daemon, resident",
        Unit::MiB,
        samples,
    );
    report.ratio("MiB", resident, Aim::AtMost(MEMORY_MIB_AIM));
}

fn add(report: &mut Report, section: &str, what: &str, samples: Samples, aim: f64) {
    let median = samples.median();
    report.add(section, what, Unit::Milliseconds, samples);
    report.ratio("ms", median, Aim::AtMost(aim));
}
