//! What the world sees of clones and instances, against the promises.

use std::collections::BTreeSet;
use std::time::Duration;

use multidb_actors::instance::InstanceStatus;
use multidb_store::{InstanceName, InstanceUid, Pin};

use super::{Expectation, LAST_USE_TOLERANCE};
use crate::renames::Hello;
use crate::world::World;

impl World {
    /// The first query from a client of this instance to a server that runs since that time.
    pub fn served(&self, hello: &Hello, clone: InstanceUid, launched: Duration) {
        let observed = self.observed();
        self.trace(format_args!("{} is served by {clone}", hello.name));
        let mut oracle = self.oracle();
        oracle.counts.served += 1;
        let promised = oracle.writes.get(&clone).cloned().unwrap_or_default();
        *oracle.sessions.entry(clone).or_default() += 1;
        let home = oracle.name_of(clone);
        // Its session began before the instance got another name.
        let name = match &home {
            Some(home) if oracle.renames.had(clone, &hello.name, hello.asked) => home.clone(),
            _ => hello.name.clone(),
        };
        let name = &name;
        let is_moving = oracle.renames.is_at(clone, name);
        let other_home = home.filter(|home| home != name && !is_moving);
        let replaced = is_moving.then(|| oracle.move_to(clone, name)).flatten();
        let ended = self.daemons_ended();
        oracle.renames.seen(clone, ended);
        // A clone that has lost its name to this one has another.
        let before = oracle.promise(name).clone.filter(|before| *before != clone);
        let elsewhere = before.and_then(|before| oracle.renames.other_name(before, name));
        let mut replaced_there = None;
        if let (Some(before), Some(other)) = (before, elsewhere) {
            // It may have any of more names.
            let is_known = oracle.renames.names_of(before).len() == 2;
            replaced_there = oracle.move_to(before, &other).filter(|_| is_known);
        }
        let replaced = replaced.or(replaced_there);
        let was_ended = oracle.ended.contains(&clone);
        let promise = oracle.promise(name);
        promise.used = observed;
        promise.use_forgotten = false;
        let before = promise.clone;
        let licence = promise.licence;
        if before != Some(clone) {
            promise.clone = Some(clone);
        }
        if promise.outstanding == 0 && hello.asked > promise.end_answered {
            promise.licence = false;
        }
        if promise.stops == 0 && launched > promise.stop_answered {
            promise.may_be_stopped = false;
        }
        promise.changed();
        drop(oracle);
        if let Some(home) = other_home {
            self.violated(format_args!(
                "{name} is served by {clone}, which is that of {home}"
            ));
        }
        if let Some(replaced) = replaced {
            self.violated(format_args!(
                "{name} is served by {clone}, and {replaced} has lost its name to a rename"
            ));
        }
        if was_ended {
            self.violated(format_args!(
                "{name} is served by {clone}, whose end was acknowledged"
            ));
        }
        if let Some(before) = before
            && before != clone
            && !licence
        {
            self.violated(format_args!(
                "{name} is served by {clone} in place of {before}, whose end nobody asked for"
            ));
        }
        self.check_writes(name, clone, &promised);
    }

    fn check_writes(&self, name: &InstanceName, clone: InstanceUid, promised: &BTreeSet<u64>) {
        let has = self.disk().data(clone).map(|data| data.writes.clone());
        if !has.is_some_and(|has| has.is_superset(promised)) {
            self.violated(format_args!(
                "{name} is served by {clone} without its writes"
            ));
        }
    }

    /// A write was committed.
    pub fn committed(&self, clone: InstanceUid, write: u64) {
        let stored = self
            .disk()
            .data(clone)
            .map(|data| data.writes.insert(write));
        if stored.is_none() {
            self.violated(format_args!("{clone} has a server and no data"));
        }
        let mut oracle = self.oracle();
        oracle.counts.commits += 1;
        oracle.writes.entry(clone).or_default().insert(write);
    }

    /// The data of this clone was destroyed.
    pub fn destroyed(&self, clone: InstanceUid) {
        self.trace(format_args!("the data of {clone} is destroyed"));
        let observed = self.observed();
        let limits = &self.settings.limits;
        let least = limits.retention + limits.expiry_grace;
        let mut oracle = self.oracle();
        oracle.counts.destroyed += 1;
        oracle.destroyed.insert(clone);
        let licence = oracle.may_be_ended(clone);
        oracle.renames.forget(clone);
        let Some(name) = oracle.name_of(clone) else {
            return;
        };
        let pin = oracle.pin_of(&name);
        let sessions = oracle.sessions.get(&clone).copied().unwrap_or(0);
        let promise = oracle.promise(&name);
        let forgotten = promise.use_forgotten;
        let disuse = observed.saturating_sub(promise.used) + LAST_USE_TOLERANCE;
        let since_pin = observed.saturating_sub(promise.pinned) + LAST_USE_TOLERANCE;
        promise.clone = None;
        promise.pin = None;
        promise.changed();
        let mut since_expiry = None;
        if !licence {
            oracle.counts.expired += 1;
            // It may have been interrupted by a restart, or begun by a command that failed.
            let begun = oracle.begun.get(&clone).copied().unwrap_or(observed);
            since_expiry = oracle.last_expiry.and_then(|last| begun.checked_sub(last));
            oracle.last_expiry = oracle.last_expiry.max(Some(begun));
        }
        drop(oracle);
        if licence {
            return;
        }
        if pin.is_some_and(|pin| pin != Pin::None) {
            self.violated(format_args!(
                "{name}, {clone}, is destroyed though it is pinned"
            ));
        }
        if (disuse < least && !forgotten) || sessions > 0 {
            self.violated(format_args!(
                "{name}, {clone}, is destroyed, and nobody asked for that; unused for {disuse:?} \
                 of {least:?}, {sessions} sessions"
            ));
        }
        if since_pin < limits.expiry_grace && !forgotten {
            self.violated(format_args!(
                "{name}, {clone}, is destroyed {since_pin:?} after its pin was taken away"
            ));
        }
        // The time of the daemon's decision counts. A stop that fails delays the record of it.
        if let Some(since) = since_expiry
            && since < limits.expiry_window() * 2 / 3
        {
            self.violated(format_args!(
                "{name}, {clone}, expires {since:?} after another, and there are few instances"
            ));
        }
    }

    /// A restarted daemon has this instance, or none of the name.
    pub fn restored(
        &self,
        name: &InstanceName,
        expected: Expectation,
        status: Option<&InstanceStatus>,
    ) {
        let mut oracle = self.oracle();
        let Some(clone) = expected.clone else { return };
        if oracle.expectation(name) != expected {
            return;
        }
        let pin = oracle.pin_of(name);
        drop(oracle);
        let Some(status) = status else {
            return self.violated(format_args!("{name}, {clone}, is gone after a restart"));
        };
        let record = &status.record;
        if record.uid != clone {
            self.violated(format_args!(
                "{name} has the clone {} after a restart in place of {clone}",
                record.uid
            ));
        }
        let snapshot = self.disk().data(clone).map(|data| data.snapshot.clone());
        if snapshot.as_ref() != Some(&record.snapshot) {
            self.violated(format_args!(
                "{name}, {clone}, has the data of {snapshot:?} after a restart, not of {}",
                record.snapshot
            ));
        }
        if pin.is_some_and(|pin| pin != record.pin) {
            self.violated(format_args!(
                "{name} has the pin {:?} after a restart in place of {pin:?}",
                record.pin
            ));
        }
    }

    /// A restarted daemon has this clone, whose rename was interrupted, under one of its names.
    pub fn restored_under_one(
        &self,
        clone: InstanceUid,
        names: &BTreeSet<InstanceName>,
        found: usize,
    ) {
        if found != 1 {
            self.violated(format_args!(
                "{clone} has {found} of the names {names:?} after a restart"
            ));
        }
    }

    /// A client that named no source was told that the instance does not exist.
    pub fn denied(&self, name: &InstanceName, expected: Expectation) {
        let now = self.oracle().expectation(name);
        if expected == now
            && let Some(clone) = now.clone
        {
            self.violated(format_args!(
                "a client was told that {name}, {clone}, does not exist"
            ));
        }
    }
}
