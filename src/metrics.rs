//! The metrics of the daemon, in the text formats of Prometheus and OpenMetrics.
//!
//! Events are counted where they happen: by the actors ([`multidb_actors::metrics`]), the jobs and the fetches. The
//! present state, such as the instances by state, is asked of [`Control`] at a scrape ([`gauges`]); that reads known
//! values and measures nothing, so that a scrape costs the same with many instances.
//!
//! [`routes`] is the whole service: each face that has [`Control`] mounts it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, get, web};
use multidb_actors::label;
use multidb_actors::metrics::{Counters, Histograms, Metrics};
use multidb_store::{JobKind, JobState};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::{Registry, Unit};

use crate::admin::server::document::{Paths, Problems};
use crate::admin::server::failure::Failure;
use crate::control::{Caller, Control, ControlError};

pub mod gauges;
mod process;

pub use self::gauges::Gauges;
pub use self::process::Process;

/// The content type of Prometheus' own format, which is the default.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of OpenMetrics, for those who accept it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The bounds of the durations of fetches, in seconds.
const FETCH_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

label! {
    /// The kind of a job.
    JobLabel as "kind" {
        /// The import of a snapshot.
        Import = "import",
        /// A refresh.
        Refresh = "refresh",
        /// A deduplication.
        Dedup = "dedup",
    }
}

impl From<JobKind> for JobLabel {
    fn from(kind: JobKind) -> Self {
        match kind {
            JobKind::Import => Self::Import,
            JobKind::Refresh => Self::Refresh,
            JobKind::Dedup => Self::Dedup,
        }
    }
}

label! {
    /// How a job ended.
    JobOutcome as "outcome" {
        /// It did its work.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

label! {
    /// How an exchange with a git remote ended.
    FetchOutcome as "outcome" {
        /// The remote had what was asked for.
        Done = "done",
        /// It answered, and does not have it or does not give it.
        Absent = "absent",
        /// It did not answer, or the mirror could not be written.
        Failed = "failed",
    }
}

/// The exchanges with git remotes.
#[derive(Debug)]
pub struct Fetches {
    outcomes: Counters<FetchOutcome>,
    times: Histograms<FetchOutcome>,
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            outcomes: Counters::default(),
            times: Histograms::new(FETCH_SECONDS),
        }
    }
}

impl Fetches {
    /// Counts an exchange that took this long.
    pub fn count(&self, outcome: FetchOutcome, time: Duration) {
        self.outcomes.count(outcome);
        self.times.observe(outcome, time);
    }
}

/// The ended jobs.
#[derive(Debug, Default)]
pub struct EndedJobs(Counters<(JobLabel, JobOutcome)>);

impl EndedJobs {
    /// Counts a job that has ended.
    pub fn count(&self, kind: JobKind, state: JobState) {
        let outcome = match state {
            JobState::Queued | JobState::Running => return,
            JobState::Done => JobOutcome::Done,
            JobState::Failed => JobOutcome::Failed,
            JobState::Cancelled => JobOutcome::Cancelled,
        };
        self.0.count((kind.into(), outcome));
    }
}

/// All that is counted, and the registry of it.
#[derive(Debug)]
pub struct DaemonMetrics {
    /// What the actors count.
    pub actors: Arc<Metrics>,
    /// The exchanges with git remotes.
    pub fetches: Arc<Fetches>,
    /// The ended jobs.
    pub jobs: Arc<EndedJobs>,
    registry: Registry,
}

impl DaemonMetrics {
    /// Metrics of which nothing has happened yet.
    pub fn new() -> Arc<Self> {
        let actors = Metrics::new();
        let (fetches, jobs): (Arc<Fetches>, Arc<EndedJobs>) = Default::default();
        let mut registry = Registry::with_prefix(PREFIX);
        actors.register(&mut registry);
        registry.register(
            "jobs",
            "Jobs that ended, by kind and outcome",
            jobs.0.family(),
        );
        registry.register(
            "git_fetches",
            "Exchanges with git remotes",
            fetches.outcomes.family(),
        );
        registry.register_with_unit(
            "git_fetch",
            "Time that exchanges with git remotes took",
            Unit::Seconds,
            fetches.times.family(),
        );
        Arc::new(Self {
            actors,
            fetches,
            jobs,
            registry,
        })
    }

    /// Counts panics from now on, in all threads.
    pub fn count_panics(&self) {
        let panics = self.actors.panics.clone();
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            panics.inc();
            report(panic);
        }));
    }

    /// Everything that was counted, and these gauges, in a format.
    fn text(&self, gauges: &Gauges, format: Format) -> Result<String, std::fmt::Error> {
        let gauges = gauges.registry();
        let mut out = String::with_capacity(32 << 10);
        match format {
            Format::Prometheus => {
                prometheus_text::encode(&mut out, &self.registry)?;
                for registry in &gauges {
                    prometheus_text::encode(&mut out, registry)?;
                }
            }
            Format::OpenMetrics => {
                text::encode_registry(&mut out, &self.registry)?;
                for registry in &gauges {
                    text::encode_registry(&mut out, registry)?;
                }
                text::encode_eof(&mut out)?;
            }
        }
        Ok(out)
    }
}

/// The prefix of the names of all metrics that are multidb's own.
const PREFIX: &str = "multidb";

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Prometheus,
    OpenMetrics,
}

/// `GET /metrics`, for whoever may see the status: the answer names no instance, user or revision, but the projects.
pub(crate) fn routes(routes: &mut Paths<'_>) {
    routes.service(scrape);
}

/// Shows the metrics, for Prometheus
#[utoipa::path(operation_id = "metrics", tag = "daemon", responses((status = 200, body = String, content_type = "text/plain", description = "The metrics, in the text format of Prometheus, or in that of OpenMetrics where it is accepted."), Problems))]
#[get("/metrics")]
async fn scrape(
    request: HttpRequest,
    caller: Caller,
    control: web::Data<Control>,
) -> Result<HttpResponse, Failure> {
    let accepted = request.headers().get(ACCEPT);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    let (format, content_type) = match accepted {
        Some(accepted) if accepted.contains("application/openmetrics-text") => {
            (Format::OpenMetrics, OPEN_METRICS)
        }
        _ => (Format::Prometheus, PROMETHEUS_TEXT),
    };
    let gauges = control.gauges(&caller).await?;
    let text = control.metrics().text(&gauges, format);
    // Only a String is written to.
    let text = text.map_err(|_| ControlError::ActorEnded)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .body(text))
}

#[cfg(test)]
mod tests;
