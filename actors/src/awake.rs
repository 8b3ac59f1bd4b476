//! The activity of a Postgres without sessions that a stop would interrupt, as Postgres itself reports it.

use std::fmt;

/// An activity of Postgres outside any session that a stop would interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwakeReason {
    /// A worker of autovacuum, with its activity.
    Autovacuum(String),
    /// A replication slot that a receiver reads, by name.
    ReplicationSlot(String),
    /// A worker of a subscription, by kind.
    LogicalWorker(String),
    /// A prepared transaction, by identifier.
    PreparedTransaction(String),
    /// A background worker of an extension, such as pg_cron, by kind.
    BackgroundWorker(String),
}

impl fmt::Display for AwakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Autovacuum(activity) if activity.is_empty() => f.write_str("autovacuum"),
            Self::Autovacuum(text) | Self::LogicalWorker(text) => f.write_str(text),
            Self::ReplicationSlot(name) => write!(f, "replication slot \"{name}\" in use"),
            Self::PreparedTransaction(id) => write!(f, "prepared transaction \"{id}\""),
            Self::BackgroundWorker(kind) => write!(f, "background worker \"{kind}\""),
        }
    }
}

/// The weight of all reasons together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awake {
    /// Nothing would be interrupted.
    Nothing,
    /// Only autovacuum, which resumes after the next start and loses little.
    Autovacuum,
    /// Work that a client may wait for, or transactions that a client must end.
    Work,
}

impl Awake {
    /// The greatest weight among the reasons.
    pub fn of(reasons: &[AwakeReason]) -> Self {
        let each = reasons.iter().map(|reason| match reason {
            AwakeReason::Autovacuum(_) => Self::Autovacuum,
            AwakeReason::ReplicationSlot(_)
            | AwakeReason::LogicalWorker(_)
            | AwakeReason::PreparedTransaction(_)
            | AwakeReason::BackgroundWorker(_) => Self::Work,
        });
        each.max().unwrap_or(Self::Nothing)
    }

    /// How many times the stop of an instance without sessions may be deferred, each time by one
    /// `instance_idle_timeout`. Bounded, since some background workers never end, and neither does a
    /// forgotten prepared transaction, which survives the stop.
    pub fn periods_max(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Autovacuum => 1,
            Self::Work => 12,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weightiest_reason_counts() {
        let autovacuum = AwakeReason::Autovacuum(String::new());
        let slot = AwakeReason::ReplicationSlot("s".to_owned());
        assert_eq!(Awake::of(&[]), Awake::Nothing);
        assert_eq!(
            Awake::of(std::slice::from_ref(&autovacuum)),
            Awake::Autovacuum
        );
        assert_eq!(Awake::of(&[slot, autovacuum]), Awake::Work);
    }
}
