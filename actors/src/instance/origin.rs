//! How an instance comes into memory: decided by its record, its Postgres and a free slot. Pure.
//!
//! A record is a claim, and the runtime's answer is the truth. Without an answer Postgres may run on the data,
//! so it is stopped before anything else is done: a stop that fails is tried again, and so asks again.
//!
//! | record | Postgres | slot | the instance |
//! | --- | --- | --- | --- |
//! | ready | runs | free | goes on running |
//! | ready | runs | none | is stopped |
//! | ready | does not run | any | is stopped already |
//! | ready | unknown | any | is stopped |
//! | cloning or deleting | does not run | any | is deleted |
//! | cloning or deleting | runs, or unknown | any | is stopped, then deleted |
//!
//! No client was told of an instance that is still `cloning`.

use multidb_store::{InstanceRecord, Phase};

use crate::instance::lifecycle::AfterStop;
use crate::ports::RunningPostgres;
use crate::slots::Slot;

/// How an instance comes into memory.
pub enum Origin {
    /// It is new: its clone is to be made.
    Create,
    /// Its data is complete and nothing runs on it.
    Stopped,
    /// Its data cannot be used, for this reason.
    Unusable(String),
    /// Its Postgres runs and has a slot.
    Adopt(RunningPostgres, Slot),
    /// Its Postgres runs, or may run, and has to stop.
    Stop(AfterStop),
    /// Its deletion, or its first clone, was interrupted.
    Delete,
}

/// The runtime's answer about an instance's Postgres.
pub enum Found {
    /// It runs.
    Running(RunningPostgres),
    /// Nothing runs on the data.
    NotRunning,
    /// The runtime could not tell.
    Unknown,
}

/// How an instance with this record comes into memory.
pub fn origin(record: &InstanceRecord, found: Found, slot: Option<Slot>) -> Origin {
    match (record.phase, found, slot) {
        (Phase::Ready, Found::Running(postgres), Some(slot)) => Origin::Adopt(postgres, slot),
        (Phase::Ready, Found::Running(_), None) => Origin::Stop(AfterStop::Stopped),
        (Phase::Ready, Found::Unknown, _) => Origin::Stop(AfterStop::Stopped),
        (Phase::Ready, Found::NotRunning, _) => Origin::Stopped,
        (Phase::Cloning | Phase::Deleting, Found::Running(_) | Found::Unknown, _) => {
            Origin::Stop(AfterStop::Delete)
        }
        (Phase::Cloning | Phase::Deleting, Found::NotRunning, _) => Origin::Delete,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ports::Endpoint;
    use crate::slots::Slots;
    use crate::testing;

    const PHASES: [Phase; 3] = [Phase::Cloning, Phase::Ready, Phase::Deleting];
    const FOUND: [&str; 3] = ["running", "not running", "unknown"];

    fn found(name: &str) -> Found {
        match name {
            "running" => Found::Running(RunningPostgres {
                endpoint: Endpoint::Unix("/run/postgres".into()),
                exited: Box::pin(std::future::pending()),
            }),
            "not running" => Found::NotRunning,
            _ => Found::Unknown,
        }
    }

    fn decide(phase: Phase, server: &str, slot: Option<Slot>) -> Origin {
        origin(&testing::record("i", 1, phase), found(server), slot)
    }

    fn name(origin: &Origin) -> &'static str {
        match origin {
            Origin::Create => "create",
            Origin::Stopped => "stopped",
            Origin::Unusable(_) => "unusable",
            Origin::Adopt(..) => "adopt",
            Origin::Stop(AfterStop::Stopped) => "stop",
            Origin::Stop(AfterStop::Reset) => "stop, reset",
            Origin::Stop(AfterStop::Delete) => "stop, delete",
            Origin::Delete => "delete",
        }
    }

    #[test]
    fn each_combination_has_its_origin() {
        let mut table = Vec::new();
        for phase in PHASES {
            for server in FOUND {
                for slots in [1, 0] {
                    let slot = Slots::new(slots).try_acquire();
                    table.push((phase, server, slots, name(&decide(phase, server, slot))));
                }
            }
        }
        let expected = [
            (Phase::Cloning, "running", 1, "stop, delete"),
            (Phase::Cloning, "running", 0, "stop, delete"),
            (Phase::Cloning, "not running", 1, "delete"),
            (Phase::Cloning, "not running", 0, "delete"),
            (Phase::Cloning, "unknown", 1, "stop, delete"),
            (Phase::Cloning, "unknown", 0, "stop, delete"),
            (Phase::Ready, "running", 1, "adopt"),
            (Phase::Ready, "running", 0, "stop"),
            (Phase::Ready, "not running", 1, "stopped"),
            (Phase::Ready, "not running", 0, "stopped"),
            (Phase::Ready, "unknown", 1, "stop"),
            (Phase::Ready, "unknown", 0, "stop"),
            (Phase::Deleting, "running", 1, "stop, delete"),
            (Phase::Deleting, "running", 0, "stop, delete"),
            (Phase::Deleting, "not running", 1, "delete"),
            (Phase::Deleting, "not running", 0, "delete"),
            (Phase::Deleting, "unknown", 1, "stop, delete"),
            (Phase::Deleting, "unknown", 0, "stop, delete"),
        ];
        assert_eq!(table, expected);
    }

    proptest! {
        /// Instances that come into memory one after the other share the slots.
        #[test]
        fn data_is_untouched_until_nothing_runs_on_it_and_slots_suffice(
            slots in 0_usize..4,
            instances in prop::collection::vec(
                (prop::sample::select(&PHASES[..]), prop::sample::select(&FOUND[..])), 0..12)
        ) {
            let slots = Slots::new(slots);
            let mut adopted = Vec::new();
            for (phase, server) in instances {
                let free = slots.try_acquire();
                let is_free = free.is_some();
                let origin = decide(phase, server, free);
                if server != "not running" {
                    prop_assert!(matches!(origin, Origin::Adopt(..) | Origin::Stop(_)));
                }
                if phase == Phase::Ready {
                    prop_assert!(!matches!(origin, Origin::Delete | Origin::Stop(AfterStop::Delete)));
                } else {
                    prop_assert!(matches!(origin, Origin::Delete | Origin::Stop(AfterStop::Delete)));
                }
                if let Origin::Adopt(_, slot) = origin {
                    prop_assert!(is_free && server == "running");
                    adopted.push(slot);
                    prop_assert!(adopted.len() <= slots.max());
                } else {
                    // A slot that is not needed is given back.
                    prop_assert_eq!(slots.try_acquire().is_some(), is_free);
                }
            }
        }
    }
}
