//! The answers to clients and administrators, and so the promises on which they may rely.
//!
//! A clone that a server served to a client under a name is promised: it stays the clone of that name until a
//! deletion or a reset was asked for, or until it was unused for long enough. Such a *licence* ends where the
//! command was answered with an error, or not at all, and the clone was served again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multidb_actors::instance::InstanceStatus;
use multidb_actors::instance::lifecycle::Command;
use multidb_store::{InstanceName, InstanceUid, Pin};

use crate::counts::Counts;
use crate::world::World;

/// The disuse that the daemon counts may be longer than the real one by the last use that a crash forgot.
const LAST_USE_TOLERANCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Oracle {
    promises: BTreeMap<InstanceName, Promise>,
    /// The committed writes of each clone.
    writes: BTreeMap<InstanceUid, BTreeSet<u64>>,
    /// When the deletion of a clone was first recorded, in the time that daemons have run.
    begun: BTreeMap<InstanceUid, Duration>,
    /// When a deletion by expiry last began, likewise.
    last_expiry: Option<Duration>,
    /// Whether the records were ever older than the data.
    records_were_lost: bool,
    pub counts: Counts,
}

#[derive(Debug, Default, Clone)]
struct Promise {
    /// The clone that was served last, unless it was destroyed in order.
    clone: Option<InstanceUid>,
    /// The clones whose end was acknowledged.
    ended: BTreeSet<InstanceUid>,
    /// The deletions and resets that are not answered.
    outstanding: u32,
    /// Whether the clone may be destroyed or replaced.
    licence: bool,
    /// The commands by which its server may be stopped that are not answered.
    stops: u32,
    /// Whether its server may be stopped under its sessions.
    may_be_stopped: bool,
    /// When such a command was last answered. A failed command is carried out later all the same.
    stop_answered: Duration,
    /// Grows with each change of the promise.
    version: u64,
    /// Open sessions.
    sessions: u32,
    /// The last use, in the time that daemons have run.
    used: Duration,
    /// Whether the records that say so are lost since.
    use_forgotten: bool,
    pin: Option<PinPromise>,
    /// When a pin was last set or taken away.
    pinned: Duration,
}

/// A pin that was asked for.
#[derive(Debug, Clone, Copy)]
struct PinPromise {
    pin: Pin,
    /// The clone that its instance had then.
    clone: Option<InstanceUid>,
    acknowledged: bool,
}

/// A command, and the clone that it may end.
pub struct Asked {
    name: InstanceName,
    command: Command,
    clone: Option<InstanceUid>,
}

/// The promise for a name at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    version: u64,
    pub clone: Option<InstanceUid>,
}

/// The answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Failed,
    /// The daemon died, or the caller left.
    Unknown,
}

impl Promise {
    fn changed(&mut self) {
        self.version += 1;
    }

    /// The clone that has to be there.
    fn held(&self) -> Option<InstanceUid> {
        if self.licence { None } else { self.clone }
    }
}

impl Oracle {
    fn promise(&mut self, name: &InstanceName) -> &mut Promise {
        self.promises.entry(name.clone()).or_default()
    }

    /// Whether the server of this instance may be stopped under its sessions.
    pub fn may_be_stopped(&self, name: &InstanceName) -> bool {
        let promise = self.promises.get(name);
        promise.is_none_or(|promise| promise.may_be_stopped)
    }

    /// The promise to a client that asks for this instance.
    pub fn expectation(&mut self, name: &InstanceName) -> Expectation {
        let promise = self.promise(name);
        Expectation {
            version: promise.version,
            clone: promise.held(),
        }
    }

    /// The clones that have to be there now, by name.
    pub fn held(&self) -> Vec<(InstanceName, InstanceUid)> {
        let each = self.promises.iter();
        each.filter_map(|(name, promise)| Some((name.clone(), promise.held()?)))
            .collect()
    }

    pub fn session_ended(&mut self, name: &InstanceName, observed: Duration) {
        let promise = self.promise(name);
        promise.sessions = promise.sessions.saturating_sub(1);
        promise.used = promise.used.max(observed);
    }

    /// A command was sent.
    pub fn asked(&mut self, name: &InstanceName, command: Command) -> Asked {
        self.counts.commands += 1;
        let promise = self.promise(name);
        if command != Command::Start {
            promise.stops += 1;
            promise.may_be_stopped = true;
        }
        if matches!(command, Command::Delete | Command::Reset) {
            promise.outstanding += 1;
            promise.licence = true;
            promise.changed();
        }
        Asked {
            name: name.clone(),
            command,
            clone: promise.clone,
        }
    }

    /// A command was answered, or never will be.
    pub fn answered(&mut self, asked: &Asked, answer: Answer, at: Duration, observed: Duration) {
        let promise = self.promise(&asked.name);
        if answer == Answer::Done && matches!(asked.command, Command::Start | Command::Reset) {
            promise.used = observed;
        }
        if asked.command != Command::Start {
            promise.stops -= 1;
            promise.stop_answered = at;
        }
        if !matches!(asked.command, Command::Delete | Command::Reset) {
            return;
        }
        promise.outstanding -= 1;
        promise.changed();
        if answer != Answer::Done {
            return;
        }
        if let Some(clone) = asked.clone {
            promise.ended.insert(clone);
            if promise.clone == Some(clone) {
                promise.clone = None;
            }
        }
        if asked.command == Command::Delete {
            promise.pin = None;
        }
    }

    /// A recovery was asked for. Any of these quarantined clones may become that of the name, also one whose end was
    /// acknowledged.
    pub fn recovery_asked(&mut self, name: &InstanceName, quarantined: &[InstanceUid]) {
        self.counts.commands += 1;
        if quarantined.is_empty() {
            return;
        }
        let promise = self.promise(name);
        promise.ended.retain(|uid| !quarantined.contains(uid));
        promise.outstanding += 1;
        promise.licence = true;
        promise.changed();
    }

    /// The recovery was answered, or never will be.
    pub fn recovery_answered(&mut self, name: &InstanceName, quarantined: &[InstanceUid]) {
        if quarantined.is_empty() {
            return;
        }
        let promise = self.promise(name);
        promise.outstanding -= 1;
        promise.changed();
    }

    /// The records with the last uses may be lost. Then only the grace protects unused instances.
    pub fn uses_forgotten(&mut self) {
        self.last_expiry = None;
        self.records_were_lost = true;
        for promise in self.promises.values_mut() {
            promise.use_forgotten = true;
        }
    }

    /// The records are older ones, which may know of pins that were taken away since. Their sequence numbers count
    /// changes that were lost, so that the daemon cannot tell which copy is newer, and the stronger pin counts.
    pub fn pins_may_be_back(&mut self) {
        for promise in self.promises.values_mut() {
            promise.pin = promise.pin.filter(|promised| promised.pin != Pin::None);
        }
    }

    pub fn records_were_lost(&self) -> bool {
        self.records_were_lost
    }

    /// The deletion of a clone is recorded.
    pub fn deletion_recorded(&mut self, clone: InstanceUid, observed: Duration) {
        self.begun.entry(clone).or_insert(observed);
    }

    pub fn pin_asked(&mut self, name: &InstanceName, pin: Pin) {
        let promise = self.promise(name);
        promise.pin = Some(PinPromise {
            pin,
            clone: promise.clone,
            acknowledged: false,
        });
    }

    /// A pin was acknowledged. Another one that was asked for meanwhile may have come after it.
    pub fn pin_done(&mut self, name: &InstanceName, pin: Pin, observed: Duration) {
        let promise = self.promise(name);
        promise.pinned = observed;
        if let Some(promised) = &mut promise.pin
            && promised.pin == pin
        {
            promised.acknowledged = true;
        }
    }

    /// The pin that an instance has to have.
    fn pin_of(&self, name: &InstanceName) -> Option<Pin> {
        let promise = self.promises.get(name)?;
        let promised = promise.pin?;
        let is_known = promised.acknowledged && promised.clone == promise.clone;
        is_known.then_some(promised.pin)
    }

    /// The name under which this clone is promised.
    fn name_of(&self, clone: InstanceUid) -> Option<InstanceName> {
        let mut promises = self.promises.iter();
        let found = promises.find(|(_, promise)| promise.clone == Some(clone));
        found.map(|(name, _)| name.clone())
    }
}

impl World {
    /// The first query from a client of this instance to a server that runs since that time.
    pub fn served(&self, name: &InstanceName, clone: InstanceUid, launched: Duration) {
        let observed = self.observed();
        self.trace(format_args!("{name} is served by {clone}"));
        let mut oracle = self.oracle();
        oracle.counts.served += 1;
        let promised = oracle.writes.get(&clone).cloned().unwrap_or_default();
        let promise = oracle.promise(name);
        promise.sessions += 1;
        promise.used = observed;
        promise.use_forgotten = false;
        let before = promise.clone;
        let (was_ended, licence) = (promise.ended.contains(&clone), promise.licence);
        if before != Some(clone) {
            promise.clone = Some(clone);
        }
        if promise.outstanding == 0 {
            promise.licence = false;
        }
        if promise.stops == 0 && launched > promise.stop_answered {
            promise.may_be_stopped = false;
        }
        promise.changed();
        drop(oracle);
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
        let has = self.disk().data(clone).map(|data| data.writes.clone());
        if !has.is_some_and(|has| has.is_superset(&promised)) {
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
        let Some(name) = oracle.name_of(clone) else {
            return;
        };
        let pin = oracle.pin_of(&name);
        let promise = oracle.promise(&name);
        let forgotten = promise.use_forgotten;
        let disuse = observed.saturating_sub(promise.used) + LAST_USE_TOLERANCE;
        let since_pin = observed.saturating_sub(promise.pinned) + LAST_USE_TOLERANCE;
        let sessions = promise.sessions;
        let licence = promise.licence;
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
