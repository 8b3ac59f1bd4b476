//! The expiry of instances, as a pure function.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use multidb_store::{InstanceRecord, Pin};

/// When the instance expires if it stays unused; `None` for one that never does.
pub fn expires_at(record: &InstanceRecord, retention: Duration) -> Option<Timestamp> {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    let unused = record.last_used_at.checked_add(retention);
    let unused = unused.unwrap_or(Timestamp::MAX);
    match record.pin {
        Pin::None => Some(unused),
        Pin::Until(until) => Some(unused.max(until)),
        Pin::Forever => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pin: Pin) -> InstanceRecord {
        InstanceRecord {
            name: "a".parse().unwrap(),
            uid: "0123456789ab".parse().unwrap(),
            epoch: 1,
            sequence: 0,
            phase: multidb_store::Phase::Ready,
            project: "p".parse().unwrap(),
            snapshot: "s".parse().unwrap(),
            gitref: None,
            commit: None,
            created_by: "staff".to_owned(),
            postgres_major: 15,
            superuser: "postgres".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            last_used_at: Timestamp::UNIX_EPOCH,
            last_used_observed: multidb_store::ObservedTime::default(),
            marked: None,
            pin,
            runtime: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn unpinned_instance_expires_after_the_retention() {
        let expires = expires_at(&record(Pin::None), Duration::from_secs(60));
        assert_eq!(expires, Some(at(60)));
    }

    #[test]
    fn pin_only_delays_the_expiry() {
        let retention = Duration::from_secs(60);
        assert_eq!(
            expires_at(&record(Pin::Until(at(90))), retention),
            Some(at(90))
        );
        assert_eq!(
            expires_at(&record(Pin::Until(at(30))), retention),
            Some(at(60))
        );
        assert_eq!(expires_at(&record(Pin::Forever), retention), None);
    }

    #[test]
    fn retention_is_capped_at_the_last_timestamp() {
        let expires = expires_at(&record(Pin::None), Duration::MAX);
        assert_eq!(expires, Some(Timestamp::MAX));
    }
}
