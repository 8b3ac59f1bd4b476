//! Why a Postgres without sessions should not be stopped yet, by its own word.

use std::fmt;

/// Something that Postgres does of its own accord, and that a stop would cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwakeReason {
    /// A worker of autovacuum, with what it does.
    Autovacuum(String),
    /// A replication slot that a receiver reads, by its name.
    ReplicationSlot(String),
    /// A worker of a subscription, by its kind.
    LogicalWorker(String),
    /// A prepared transaction, by its identifier.
    PreparedTransaction(String),
    /// A background worker of an extension, such as pg_cron, by its kind.
    BackgroundWorker(String),
}

impl fmt::Display for AwakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Autovacuum(what) if what.is_empty() => f.write_str("autovacuum"),
            Self::Autovacuum(what) | Self::LogicalWorker(what) => f.write_str(what),
            Self::ReplicationSlot(name) => write!(f, "replication slot \"{name}\" in use"),
            Self::PreparedTransaction(id) => write!(f, "prepared transaction \"{id}\""),
            Self::BackgroundWorker(kind) => write!(f, "background worker \"{kind}\""),
        }
    }
}

/// What the reasons come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awake {
    /// Nothing would be cut.
    Nothing,
    /// Only autovacuum, which begins again after the next start and loses little.
    Autovacuum,
    /// Work that somebody waits for, or transactions that somebody has to end.
    Work,
}

impl Awake {
    /// Of all reasons together.
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

    /// How often it may put off the stop of an instance without sessions, each time by one
    /// `instance_idle_timeout`. Bounded, since some background workers never end, and a forgotten
    /// prepared transaction does not either; it outlives the stop.
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
    fn the_weightiest_reason_counts() {
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
