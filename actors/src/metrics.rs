//! Counters and timings of the actors. One [`Metrics`] is shared by all of them; the daemon serves it with its own
//! (`src/metrics.rs`).
//!
//! Each event is counted where it is decided, once. The bytes of sessions are not counted here: the
//! [`SessionTable`](crate::sessions::SessionTable) adds them up from the statistics that the relay keeps anyway.
//!
//! Labels are enums ([`labels`]), so a metric never has more series than the source names. All of them exist from the
//! start, with the value 0, so that the first event is an increase.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

mod family;
pub mod labels;

pub use crate::label;

pub use self::family::{Counters, Gauges, Histograms, InQueue, Label, LabelSet, One};

use self::labels::{
    ConnectionOutcome, LoginOutcome, LoginPath, LoginPhase, Outcome, Reason, Revival, SessionEnd,
    StartKind, StartOutcome, StopCause,
};
use crate::clone_worker::Lane;
use crate::connection::RefusalReason;

/// The bounds of the histograms of logins, in seconds: from a session on a running instance to a start after a crash.
const LOGIN_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The metrics of the actors.
#[derive(Debug)]
pub struct Metrics {
    /// Connections by their outcome.
    pub connections: Counters<ConnectionOutcome>,
    /// Authentications.
    pub logins: Counters<LoginOutcome>,
    /// Clients that were refused, by the code of the error.
    pub refusals: Counters<Reason>,
    /// The ends of sessions.
    pub session_ends: Counters<SessionEnd>,
    /// From the accepted connection to the session.
    pub login_seconds: Histograms<LoginPath>,
    /// The parts of that.
    pub login_phase_seconds: Histograms<LoginPhase>,
    /// Clones of instances.
    pub clones: Counters<Outcome>,
    /// Starts of Postgres.
    pub starts: Counters<(StartKind, StartOutcome)>,
    /// Ends of running Postgres.
    pub stops: Counters<StopCause>,
    /// Deletions of instances.
    pub deletions: Counters<Outcome>,
    /// Changes of records.
    pub records_written: Counters<Outcome>,
    /// Work that waits for a thread of the CloneWorker.
    pub waiting_work: Gauges<Lane>,
    /// Actors of instances that panicked.
    pub revivals: Counters<Revival>,
    /// Panics of any thread.
    pub panics: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Counters::default(),
            logins: Counters::default(),
            refusals: Counters::default(),
            session_ends: Counters::default(),
            login_seconds: Histograms::new(LOGIN_SECONDS),
            login_phase_seconds: Histograms::new(LOGIN_SECONDS),
            clones: Counters::default(),
            starts: Counters::default(),
            stops: Counters::default(),
            deletions: Counters::default(),
            records_written: Counters::default(),
            waiting_work: Gauges::default(),
            revivals: Counters::default(),
            panics: Counter::default(),
        }
    }
}

impl Metrics {
    /// Metrics of which nothing has happened yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts a client that is refused.
    pub fn refused(&self, reason: &RefusalReason) {
        self.refusals.count(Reason::of(reason));
    }

    /// Enters all metrics into a registry, which adds the prefix of their names.
    pub fn register(&self, registry: &mut Registry) {
        self.register_connections(registry);
        self.register_instances(registry);
        registry.register(
            "records_written",
            "Changes of the records of instances that were made durable, or were not",
            self.records_written.family(),
        );
        registry.register(
            "waiting_work",
            "Blocking work that waits for a thread, by kind: clones is the queue of new instances",
            self.waiting_work.family(),
        );
        registry.register(
            "actor_revivals",
            "Actors of instances that panicked, and were rebuilt or given up",
            self.revivals.family(),
        );
        registry.register(
            "panics",
            "Panics in any thread of the daemon, each a defect",
            self.panics.clone(),
        );
    }

    fn register_connections(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Client connections, by what became of them",
            self.connections.family(),
        );
        registry.register("logins", "Authentications of clients", self.logins.family());
        registry.register(
            "refusals",
            "Clients that were refused, by the code of the error, which the log has as reason",
            self.refusals.family(),
        );
        registry.register(
            "session_ends",
            "Sessions that ended, by cause",
            self.session_ends.family(),
        );
        registry.register_with_unit(
            "login",
            "Time from the accepted connection to the session with an instance, by what the instance needed",
            Unit::Seconds,
            self.login_seconds.family(),
        );
        registry.register_with_unit(
            "login_phase",
            "Time that the phases of logins took; a phase that a login had no need of is not counted",
            Unit::Seconds,
            self.login_phase_seconds.family(),
        );
    }

    fn register_instances(&self, registry: &mut Registry) {
        registry.register(
            "instance_clones",
            "Clones for new instances, and for resets",
            self.clones.family(),
        );
        registry.register(
            "instance_starts",
            "Starts of Postgres; a start of kind wake is one on data that was there",
            self.starts.family(),
        );
        registry.register(
            "instance_stops",
            "Ends of running instances, by cause",
            self.stops.family(),
        );
        registry.register(
            "instance_deletions",
            "Deletions of instances",
            self.deletions.family(),
        );
    }
}

/// How long the parts of a login took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoginTimes {
    /// The handshake and the authentication.
    pub authenticate: Duration,
    /// The choice of the snapshot, without the fetch.
    pub choose: Option<Duration>,
    /// The question to the git remote.
    pub fetch: Option<Duration>,
    /// The clone.
    pub clone: Option<Duration>,
    /// The start of Postgres.
    pub start: Option<Duration>,
    /// The login to Postgres.
    pub connect: Duration,
    /// Everything, with the waits for a turn.
    pub total: Duration,
}

impl LoginTimes {
    /// The phases that the login had. The rest of the total is waiting.
    pub fn phases(&self) -> impl Iterator<Item = (LoginPhase, Duration)> {
        let known = [
            (LoginPhase::Authenticate, Some(self.authenticate)),
            (LoginPhase::Choose, self.choose),
            (LoginPhase::Fetch, self.fetch),
            (LoginPhase::Clone, self.clone),
            (LoginPhase::Start, self.start),
            (LoginPhase::Connect, Some(self.connect)),
        ];
        let spent: Duration = known.iter().filter_map(|(_, time)| *time).sum();
        let wait = (LoginPhase::Wait, Some(self.total.saturating_sub(spent)));
        let all = known.into_iter().chain([wait]);
        all.filter_map(|(phase, time)| Some((phase, time?)))
    }

    /// The path of the login: whether its instance was created, woken or running.
    pub fn path(&self) -> LoginPath {
        match (self.clone, self.choose, self.start) {
            (Some(_), ..) | (_, Some(_), _) => LoginPath::Created,
            (None, None, Some(_)) => LoginPath::Woken,
            (None, None, None) => LoginPath::Running,
        }
    }
}

impl Metrics {
    /// Notes how long a login took that led to a session.
    pub fn logged_in(&self, times: &LoginTimes) {
        self.login_seconds.observe(times.path(), times.total);
        for (phase, time) in times.phases() {
            self.login_phase_seconds.observe(phase, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_a_login_add_up_to_its_total() {
        let ms = Duration::from_millis;
        let times = LoginTimes {
            authenticate: ms(1),
            choose: Some(ms(2)),
            fetch: None,
            clone: Some(ms(30)),
            start: Some(ms(100)),
            connect: ms(4),
            total: ms(150),
        };
        let phases: Vec<_> = times.phases().collect();
        let sum: Duration = phases.iter().map(|(_, time)| *time).sum();
        assert_eq!(sum, ms(150));
        assert!(phases.contains(&(LoginPhase::Wait, ms(13))), "{phases:?}");
        assert!(!phases.iter().any(|(phase, _)| *phase == LoginPhase::Fetch));
    }

    #[test]
    fn every_series_exists_before_its_first_event() {
        let mut registry = Registry::with_prefix("multidb");
        let metrics = Metrics::new();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        for series in [
            "multidb_connections_total{outcome=\"session\"} 0",
            "multidb_instance_starts_total{kind=\"wake\",outcome=\"done\"} 0",
            "multidb_login_phase_seconds_count{phase=\"fetch\"} 0",
            "multidb_waiting_work{kind=\"clones\"} 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series}\n{text}");
        }
    }
}
