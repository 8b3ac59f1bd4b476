//! The present state of the daemon, as it was asked for a scrape.

use std::fmt;

use multidb_actors::instance::lifecycle::StateName;
use multidb_actors::sessions::TransferredBytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::PREFIX;
use super::process::Process;

/// The state of the daemon, of which metrics are made.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// The version of multidb.
    pub version: &'static str,
    /// When the daemon started, in seconds since 1970.
    pub started_at: f64,
    /// For how long it has run, in seconds.
    pub uptime_seconds: f64,
    /// The process.
    pub process: Option<Process>,
    /// The number of instances in each state.
    pub instances: Vec<(StateName, usize)>,
    /// `max_running`.
    pub running_max: usize,
    /// The instances that wait for a slot.
    pub waiting_for_slot: usize,
    /// The instances that are marked as expired.
    pub marked: usize,
    /// The instances that may not take more of the disk.
    pub over_limit: usize,
    /// The number of snapshots.
    pub snapshots: usize,
    /// The open sessions.
    pub sessions: usize,
    /// `max_connections`.
    pub sessions_max: usize,
    /// The unauthenticated connections.
    pub unauthenticated: usize,
    /// The bytes of sessions so far.
    pub transferred: TransferredBytes,
    /// The jobs that wait.
    pub jobs_queued: usize,
    /// The jobs that run.
    pub jobs_running: usize,
    /// The refreshes, by project.
    pub refreshes: Vec<Refresh>,
    /// The disk; none if it could not be asked.
    pub disk: Option<Disk>,
    /// Whether records cannot be written.
    pub disk_fault: bool,
    /// The used part of the memory, from 0 to 1.
    pub memory_used_ratio: Option<f64>,
}

/// The refreshes of one project.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// The project.
    pub project: String,
    /// The time since the last one that made a snapshot.
    pub age_seconds: Option<f64>,
    /// The age of the data of the newest snapshot.
    pub data_age_seconds: Option<f64>,
    /// The longest time between two of them by the schedule.
    pub period_seconds: Option<u64>,
    /// Those that failed since the last one that did not.
    pub failures: usize,
}

/// The disk.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// The free bytes.
    pub free_bytes: u64,
    /// `disk_reserve`.
    pub reserve_bytes: u64,
    /// The bytes that there are.
    pub total_bytes: u64,
    /// What is saved against full copies, once measured.
    pub saved_bytes: Option<u64>,
    /// What instances and snapshots have alone, once measured.
    pub exclusive_bytes: Option<u64>,
}

/// A label with a value that is known at a scrape: a name of the source, or a project's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct By(&'static str, String);

impl EncodeLabelSet for By {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        EncodeLabelSet::encode(&[(self.0, self.1.as_str())], encoder)
    }
}

/// A gauge whose value may be a fraction.
type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// A family of one scrape.
fn by_label(
    key: &'static str,
    values: impl Iterator<Item = (String, f64)>,
) -> Family<By, FloatGauge> {
    let family = Family::<By, FloatGauge>::default();
    for (value, number) in values {
        family.get_or_create(&By(key, value)).set(number);
    }
    family
}

/// A gauge of one number.
fn gauge(number: usize) -> ConstGauge<f64> {
    ConstGauge::new(number as f64)
}

impl Gauges {
    /// The registries of multidb's own metrics, and of those that every process has under the same names.
    pub(super) fn registry(&self) -> [Registry; 2] {
        let mut own = Registry::with_prefix(PREFIX);
        self.daemon(&mut own);
        self.instances(&mut own);
        self.connections(&mut own);
        self.jobs(&mut own);
        self.disk(&mut own);
        let mut process = Registry::with_prefix("process");
        self.process(&mut process);
        [own, process]
    }

    fn daemon(&self, registry: &mut Registry) {
        let version = std::iter::once((self.version.to_owned(), 1.0));
        registry.register(
            "build_info",
            "The version of the daemon; always 1",
            by_label("version", version),
        );
        registry.register_with_unit(
            "uptime",
            "Time since the daemon started",
            Unit::Seconds,
            ConstGauge::new(self.uptime_seconds),
        );
        if let Some(ratio) = self.memory_used_ratio {
            registry.register(
                "memory_used_ratio",
                "Used part of the memory that servers share, from 0 to 1",
                ConstGauge::new(ratio),
            );
        }
    }

    fn instances(&self, registry: &mut Registry) {
        let in_state = |state: StateName| {
            let counted = self.instances.iter().find(|(counted, _)| *counted == state);
            counted.map_or(0, |(_, count)| *count)
        };
        let states = StateName::ALL.into_iter();
        let states = states.map(|state| (state.to_string(), in_state(state) as f64));
        registry.register(
            "instances",
            "Instances, by state",
            by_label("state", states),
        );
        registry.register(
            "running_max",
            "The limit max_running",
            gauge(self.running_max),
        );
        registry.register(
            "instances_waiting_for_slot",
            "Instances that wait to start, since max_running others run or the memory is used",
            gauge(self.waiting_for_slot),
        );
        registry.register(
            "instances_marked",
            "Instances that are marked as expired, and are deleted unless they are used",
            gauge(self.marked),
        );
        registry.register(
            "instances_over_limit",
            "Instances that may not take more of the disk",
            gauge(self.over_limit),
        );
        registry.register("snapshots", "Snapshots", gauge(self.snapshots));
    }

    fn connections(&self, registry: &mut Registry) {
        registry.register("sessions", "Open sessions", gauge(self.sessions));
        registry.register(
            "sessions_max",
            "The limit max_connections",
            gauge(self.sessions_max),
        );
        registry.register(
            "unauthenticated_connections",
            "Connections that have not authenticated yet",
            gauge(self.unauthenticated),
        );
        let directions = [
            ("from_clients", self.transferred.from_clients),
            ("to_clients", self.transferred.to_clients),
        ];
        let family = Family::<By, prometheus_client::metrics::counter::Counter>::default();
        for (direction, bytes) in directions {
            let by = By("direction", direction.to_owned());
            family.get_or_create(&by).inc_by(bytes);
        }
        registry.register_with_unit(
            "session",
            "Bytes of sessions after their login, each way",
            Unit::Bytes,
            family,
        );
    }

    fn jobs(&self, registry: &mut Registry) {
        registry.register(
            "jobs_queued",
            "Jobs that wait for others to end",
            gauge(self.jobs_queued),
        );
        registry.register("jobs_running", "Jobs that run", gauge(self.jobs_running));
        let of_projects = |value: fn(&Refresh) -> Option<f64>| {
            let values = self.refreshes.iter();
            let values = values.filter_map(|one| Some((one.project.clone(), value(one)?)));
            by_label("project", values)
        };
        registry.register_with_unit(
            "refresh_age",
            "Time since the last refresh of a project that made a snapshot",
            Unit::Seconds,
            of_projects(|one| one.age_seconds),
        );
        registry.register_with_unit(
            "refresh_period",
            "Longest time between two refreshes of a project by its schedule",
            Unit::Seconds,
            of_projects(|one| one.period_seconds.map(|seconds| seconds as f64)),
        );
        registry.register_with_unit(
            "snapshot_age",
            "Age of the data of a project's newest snapshot",
            Unit::Seconds,
            of_projects(|one| one.data_age_seconds),
        );
        registry.register(
            "refresh_failures",
            "Refreshes of a project that failed since the last one that did not; 0 if the last one made a snapshot",
            of_projects(|one| Some(one.failures as f64)),
        );
    }

    fn disk(&self, registry: &mut Registry) {
        registry.register(
            "disk_fault",
            "Whether records cannot be written: the disk is full, read-only or damaged",
            gauge(usize::from(self.disk_fault)),
        );
        let Some(disk) = &self.disk else {
            return;
        };
        for (name, help, bytes) in [
            (
                "disk_free",
                "Free bytes on the disk of the root",
                Some(disk.free_bytes),
            ),
            (
                "disk_reserve",
                "The limit disk_reserve, below which nothing is cloned",
                Some(disk.reserve_bytes),
            ),
            (
                "disk_size",
                "Bytes of the disk of the root",
                Some(disk.total_bytes),
            ),
            (
                "disk_saved",
                "Bytes that full copies would take more, as last measured",
                disk.saved_bytes,
            ),
            (
                "disk_exclusive",
                "Bytes that instances and snapshots share with no other, as last measured",
                disk.exclusive_bytes,
            ),
        ] {
            if let Some(bytes) = bytes {
                registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes as f64));
            }
        }
    }

    fn process(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "start_time",
            "Start of the daemon, since 1970",
            Unit::Seconds,
            ConstGauge::new(self.started_at),
        );
        let Some(process) = &self.process else {
            return;
        };
        registry.register_with_unit(
            "cpu",
            "Processor time of the daemon, without the servers",
            Unit::Seconds,
            ConstCounter::new(process.cpu_seconds),
        );
        registry.register_with_unit(
            "resident_memory",
            "Memory of the daemon, without the servers",
            Unit::Bytes,
            ConstGauge::new(process.resident_bytes as f64),
        );
        registry.register(
            "open_fds",
            "Open files of the daemon",
            ConstGauge::new(process.open_files as f64),
        );
        registry.register(
            "max_fds",
            "The most files that the daemon may have open",
            ConstGauge::new(process.max_files as f64),
        );
    }
}
