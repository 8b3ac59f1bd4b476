//! How an instance comes into memory: decided by its record, its Postgres and a free slot. Pure.
//!
//! A record is a claim, and the runtime's answer is the truth. Without an answer Postgres may run on the data, so
//! nothing is done to it before there is one: the instance is unavailable, and its server is looked for again. Data is
//! deleted only after a stop, which looks for the server once more.
//!
//! | record | Postgres | slot | the instance |
//! | --- | --- | --- | --- |
//! | ready | runs | free | goes on running |
//! | ready | runs | none | is stopped |
//! | ready | does not run | any | is stopped already |
//! | ready | unknown | any | is unavailable |
//! | cloning or deleting | runs, or not | any | is stopped, then deleted |
//! | cloning or deleting | unknown | any | is unavailable, then deleted |
//!
//! No client was told of an instance that is still `cloning`.

use multidb_store::{InstanceRecord, Phase};

use crate::instance::lifecycle::AfterStop;
use crate::instance::{InstanceError, Lease, RunLeases};
use crate::ports::RunningPostgres;

/// How an instance comes into memory.
pub enum Origin {
    /// It is new: its clone is to be made.
    Create,
    /// It is new, a clone of the instance whose Postgres this is.
    CloneOf(Lease),
    /// Its data is complete and nothing runs on it.
    Stopped,
    /// Its data cannot be used, for this reason.
    Unusable(String),
    /// Its Postgres runs and has a slot.
    Adopt(RunningPostgres, RunLeases),
    /// Its Postgres runs, or may run, and has to stop.
    Stop(AfterStop),
    /// Its Postgres may run or not.
    Unavailable(AfterStop, InstanceError),
}

/// The runtime's answer about an instance's Postgres.
pub enum Found {
    /// It runs.
    Running(RunningPostgres),
    /// Nothing runs on the data.
    NotRunning,
    /// The runtime could not tell.
    Unknown(InstanceError),
}

/// How an instance with this record comes into memory. `run` is the run that an earlier actor of it had, with its
/// slot, or a new one in a free slot.
pub fn origin(record: &InstanceRecord, found: Found, run: Option<RunLeases>) -> Origin {
    match (record.phase, found, run) {
        (Phase::Ready, Found::Running(postgres), Some(run)) => Origin::Adopt(postgres, run),
        (Phase::Ready, Found::Running(_), None) => Origin::Stop(AfterStop::Stopped),
        (Phase::Ready, Found::Unknown(why), _) => Origin::Unavailable(AfterStop::Stopped, why),
        (Phase::Ready, Found::NotRunning, _) => Origin::Stopped,
        (Phase::Cloning | Phase::Deleting, Found::Running(_) | Found::NotRunning, _) => {
            Origin::Stop(AfterStop::Delete)
        }
        (Phase::Cloning | Phase::Deleting, Found::Unknown(why), _) => {
            Origin::Unavailable(AfterStop::Delete, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ports::{Endpoint, RuntimeError};
    use crate::slots::{Slot, Slots};
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
            _ => Found::Unknown(unknown()),
        }
    }

    fn unknown() -> InstanceError {
        InstanceError::Unknown(RuntimeError {
            for_clients: false,
            message: "no answer".to_owned(),
            hint: None,
        })
    }

    fn decide(phase: Phase, server: &str, slot: Option<Slot>) -> Origin {
        let run = slot.map(RunLeases::new);
        origin(&testing::record("i", 1, phase), found(server), run)
    }

    fn name(origin: &Origin) -> &'static str {
        match origin {
            Origin::Create | Origin::CloneOf(_) => "create",
            Origin::Stopped => "stopped",
            Origin::Unusable(_) => "unusable",
            Origin::Adopt(..) => "adopt",
            Origin::Stop(AfterStop::Stopped) => "stop",
            Origin::Stop(AfterStop::Reset) => "stop, reset",
            Origin::Stop(AfterStop::Renew) => "stop, renew",
            Origin::Stop(AfterStop::Delete) => "stop, delete",
            Origin::Unavailable(AfterStop::Stopped, _) => "unavailable",
            Origin::Unavailable(AfterStop::Reset, _) => "unavailable, reset",
            Origin::Unavailable(AfterStop::Renew, _) => "unavailable, renew",
            Origin::Unavailable(AfterStop::Delete, _) => "unavailable, delete",
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
            (Phase::Cloning, "not running", 1, "stop, delete"),
            (Phase::Cloning, "not running", 0, "stop, delete"),
            (Phase::Cloning, "unknown", 1, "unavailable, delete"),
            (Phase::Cloning, "unknown", 0, "unavailable, delete"),
            (Phase::Ready, "running", 1, "adopt"),
            (Phase::Ready, "running", 0, "stop"),
            (Phase::Ready, "not running", 1, "stopped"),
            (Phase::Ready, "not running", 0, "stopped"),
            (Phase::Ready, "unknown", 1, "unavailable"),
            (Phase::Ready, "unknown", 0, "unavailable"),
            (Phase::Deleting, "running", 1, "stop, delete"),
            (Phase::Deleting, "running", 0, "stop, delete"),
            (Phase::Deleting, "not running", 1, "stop, delete"),
            (Phase::Deleting, "not running", 0, "stop, delete"),
            (Phase::Deleting, "unknown", 1, "unavailable, delete"),
            (Phase::Deleting, "unknown", 0, "unavailable, delete"),
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
                match server {
                    "running" => {
                        prop_assert!(matches!(origin, Origin::Adopt(..) | Origin::Stop(_)));
                    }
                    "unknown" => prop_assert!(matches!(origin, Origin::Unavailable(..))),
                    _ => {}
                }
                let is_deleted = matches!(
                    origin,
                    Origin::Stop(AfterStop::Delete) | Origin::Unavailable(AfterStop::Delete, _)
                );
                prop_assert_eq!(is_deleted, phase != Phase::Ready);
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
