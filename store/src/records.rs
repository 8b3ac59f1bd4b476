//! The durable types: a record for each instance and each job, a manifest for each snapshot.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{InstanceName, InstanceUid, ProjectName, SnapshotId};

mod job;

pub use self::job::{JobFailure, JobKind, JobRecord, JobState};

/// One instance, stored in sled and again in the manifest in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The name that clients use.
    pub name: InstanceName,
    /// The identity of its clone; a reset changes it.
    pub uid: InstanceUid,
    /// The number of its clone in the root's order of creation. Each creation and each reset takes a higher one
    /// than any before, also of deleted instances, so of two clones with one name the one with the higher epoch
    /// is current. Manifests of the first version call it `generation`.
    #[serde(alias = "generation")]
    pub epoch: u64,
    /// Grows by one with each change that is written. Of two copies of the record of one clone, the one with the
    /// higher sequence number is newer.
    #[serde(default)]
    pub sequence: u64,
    /// The operation on the clone, written before it begins.
    pub phase: Phase,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// The snapshot that it was cloned from.
    pub snapshot: SnapshotId,
    /// The revision that the client named at creation, if any.
    pub gitref: Option<String>,
    /// The commit of that revision at creation, as 40 hexadecimal digits.
    pub commit: Option<String>,
    /// The multidb user who created it.
    pub created_by: String,
    /// The major version of Postgres that its data needs.
    pub postgres_major: u16,
    /// A superuser role of the cluster, for multidb's own queries.
    pub superuser: String,
    /// When it was created; a reset does not change it.
    pub created_at: Timestamp,
    /// When a session last began or ended, or was last seen open, or an administrator last asked for it. For
    /// people: the clock may have been wrong. Never goes back.
    pub last_used_at: Timestamp,
    /// The same moment in observed time, by which it expires.
    #[serde(default)]
    pub last_used_observed: ObservedTime,
    /// Set while it is marked as expired.
    #[serde(default)]
    pub marked: Option<Mark>,
    /// Whether retention may delete it.
    pub pin: Pin,
    /// The runtime of its Postgres. `None` in a record of the first version, until a start has decided it.
    #[serde(default)]
    pub runtime: Option<RuntimeKind>,
    /// It expires after this time without use, if that is shorter than the retention time. Whole milliseconds.
    #[serde(default, rename = "ttl_ms", with = "ttl_millis")]
    pub ttl: Option<Duration>,
    /// How safely its data is kept.
    #[serde(default)]
    pub class: Class,
    /// The instance that it was cloned from, if it was made from one.
    #[serde(default)]
    pub parent: Option<InstanceName>,
}

/// A [`InstanceRecord::ttl`] in a manifest, in milliseconds.
mod ttl_millis {
    use super::{Deserialize, Duration};

    pub(super) fn serialize<S: serde::Serializer>(
        ttl: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        serde::Serialize::serialize(&millis, serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.map(Duration::from_millis))
    }
}

/// How safely an instance's data is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A commit survives a crash.
    #[default]
    Durable,
    /// Postgres runs without fsync. After an unclean end the instance is cloned afresh.
    Scratch,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::Durable, Self::Scratch];

    /// The word of user names and of JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Scratch => "scratch",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A moment in observed time: the time that daemons of this root have spent running, by the boot-time clock.
/// It never jumps, even if the wall clock does, and stands still while no daemon runs and while the
/// machine sleeps.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ObservedTime(u64);

impl ObservedTime {
    /// The moment after this many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The milliseconds before this moment.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for ObservedTime {
    type Output = Self;

    /// Saturates.
    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// The first phase of an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was marked, for people.
    pub at: Timestamp,
    /// The same moment in observed time.
    pub observed: ObservedTime,
}

/// The way to run an instance's Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// A container.
    Docker,
    /// A local process.
    Process,
}

impl RuntimeKind {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

impl std::fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The progress of an instance's clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The clone is being made; no client has been told of it.
    Cloning,
    /// The clone is complete.
    Ready,
    /// The clone is being deleted.
    Deleting,
}

/// Whether retention may delete an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pin {
    /// It expires after the retention time without use.
    None,
    /// It never expires.
    Forever,
    /// It does not expire before this time.
    Until(Timestamp),
}

/// One snapshot: the manifest in its directory, which is its only record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// When its data was taken from the source database.
    pub taken_at: Timestamp,
    /// How that time is known.
    #[serde(default)]
    pub taken_at_origin: TakenAtOrigin,
    /// When the import ended.
    pub imported_at: Timestamp,
    /// The major version of Postgres that wrote it.
    pub postgres_major: u16,
    /// A superuser role of the cluster.
    pub superuser: String,
    /// The sum of its files' sizes, in bytes.
    pub bytes: u64,
    /// The number of its files, which determines the duration of a clone by reflink.
    pub files: u64,
    /// The applied migrations, sorted, each once.
    pub migrations: Vec<String>,
    /// Its origin, for people: `dump /backups/monday.dump`.
    pub source: String,
    /// The errors of the dump's statements that the import went past.
    #[serde(default)]
    pub passed_errors: PassedErrors,
    /// The preparations that ran on its data, in their order.
    #[serde(default)]
    pub prepared_by: Vec<Prepared>,
    /// Whether the rule of its project may delete it.
    #[serde(default)]
    pub pin: SnapshotPin,
    /// The instance that it was made from, if it was made from one.
    #[serde(default)]
    pub from_instance: Option<FromInstance>,
    /// The extensions in its databases, sorted, each once; without plpgsql, which comes with Postgres. None are known
    /// of snapshots that earlier versions made.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// The instance that a snapshot was made from, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromInstance {
    /// Its name.
    pub instance: InstanceName,
    /// The snapshot that it was a clone of.
    pub snapshot: SnapshotId,
    /// The commit for which that was chosen, if any.
    pub commit: Option<String>,
    /// Whether nobody asked for the snapshot: it is *derived*, from an instance that ran migrations and stopped.
    #[serde(default)]
    pub derived: bool,
}

impl SnapshotRecord {
    /// Whether it is derived: made from an instance by itself, so that fresh ones are preferred to it.
    pub fn is_derived(&self) -> bool {
        self.from_instance.as_ref().is_some_and(|from| from.derived)
    }
}

/// Whether the rule of its project may delete a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPin {
    /// It may.
    #[default]
    None,
    /// It may not.
    Forever,
    /// It may not before both: so a wall clock that jumps ends no pin.
    Until {
        /// By the wall clock.
        at: Timestamp,
        /// In observed time.
        observed: ObservedTime,
    },
}

impl SnapshotPin {
    /// Whether it holds at this moment.
    pub fn holds(self, wall: Timestamp, observed_now: ObservedTime) -> bool {
        match self {
            Self::None => false,
            Self::Forever => true,
            Self::Until { at, observed } => wall < at || observed_now < observed,
        }
    }
}

/// A preparation that ran on the data of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prepared {
    /// What ran, for people: `sql /etc/multidb/mask.sql`.
    pub name: String,
    /// The SHA-256 of what ran, in hexadecimal digits: of the SQL, or of the command line with the files that it
    /// names.
    pub sha256: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// How the time at which a snapshot's data was taken is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenAtOrigin {
    /// It was given, or the data has it.
    #[default]
    Known,
    /// The dump has it without a time zone, and that of the importing machine was assumed.
    AssumedZone,
    /// It is when the dump's file was changed last.
    FileTime,
    /// It is when the dump was imported.
    ImportTime,
}

/// The errors that the restore of a dump went past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedErrors {
    /// How many there were.
    pub count: u64,
    /// The first of them, up to [`PASSED_ERRORS_MAX`].
    pub errors: Vec<PassedError>,
}

/// The errors that a record keeps.
pub const PASSED_ERRORS_MAX: usize = 1000;

/// An error of a dump's statement that the restore went past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassedError {
    /// What the statement is about: `privileges`, `ownership`, `comment`, …
    pub kind: String,
    /// Where it is in the dump: `line 12, TABLE public.polls`.
    pub place: String,
    /// Its beginning, on one line.
    pub statement: String,
    /// What Postgres said.
    pub error: String,
}

impl PassedErrors {
    /// The same without the values of rows: a preparation may have removed them from the snapshot.
    #[must_use]
    pub fn without_rows(mut self) -> Self {
        for error in self.errors.iter_mut().filter(|error| error.kind == "data") {
            error.statement = "not kept, since the data was prepared".to_owned();
            error.error = error.statement.clone();
        }
        self
    }

    /// Adds an error. Beyond the limit it is only counted.
    pub fn add(&mut self, error: PassedError) {
        self.count += 1;
        if self.errors.len() < PASSED_ERRORS_MAX {
            self.errors.push(error);
        }
    }
}
