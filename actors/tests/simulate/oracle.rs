//! The answers to clients and administrators, and so the promises on which they may rely.
//!
//! A clone that a server served to a client under a name is promised: it stays the clone of that name until a
//! deletion or a reset was asked for, or until it was unused for long enough. Such a *licence* ends where the
//! command was answered with an error, or not at all, and the clone was served again.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multidb_actors::instance::lifecycle::Command;
use multidb_store::{InstanceName, InstanceUid, Pin};

use crate::counts::Counts;
use crate::renames::{Rename, Renames};

/// The disuse that the daemon counts may be longer than the real one by the last use that a crash forgot.
const LAST_USE_TOLERANCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Oracle {
    promises: BTreeMap<InstanceName, Promise>,
    /// The clones whose instances may have got another name.
    renames: Renames,
    /// The open sessions of each clone.
    sessions: BTreeMap<InstanceUid, u32>,
    /// The committed writes of each clone.
    writes: BTreeMap<InstanceUid, BTreeSet<u64>>,
    /// The clones whose end was acknowledged.
    ended: BTreeSet<InstanceUid>,
    /// The clones whose data is gone.
    destroyed: BTreeSet<InstanceUid>,
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
    /// The deletions and resets that are not answered.
    outstanding: u32,
    /// Whether the clone may be destroyed or replaced.
    licence: bool,
    /// When such a command was last answered. One that failed may be carried out later, under a session that began before.
    end_answered: Duration,
    /// The commands by which its server may be stopped that are not answered.
    stops: u32,
    /// Whether its server may be stopped under its sessions.
    may_be_stopped: bool,
    /// When such a command was last answered. A failed command is carried out later all the same.
    stop_answered: Duration,
    /// Grows with each change of the promise.
    version: u64,
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
    /// Takes over what is promised of the clone of another name. The commands that are not answered stay with their names.
    fn take_over(&mut self, from: &mut Self) {
        self.clone = from.clone.take();
        // What was asked for before concerned another instance, or none.
        self.licence = from.licence || self.outstanding > 0;
        self.may_be_stopped = from.may_be_stopped || self.stops > 0;
        self.stop_answered = self.stop_answered.max(from.stop_answered);
        self.end_answered = self.end_answered.max(from.end_answered);
        self.used = self.used.max(from.used);
        self.use_forgotten |= from.use_forgotten;
        self.pin = from.pin.take();
        self.pinned = self.pinned.max(from.pinned);
        from.licence = from.outstanding > 0;
        self.changed();
        from.changed();
    }

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

    /// Whether the server of this clone may be stopped under its sessions.
    pub fn may_be_stopped(&self, clone: InstanceUid) -> bool {
        let name = self.name_of(clone);
        let promise = name.and_then(|name| self.promises.get(&name));
        promise.is_none_or(|promise| promise.may_be_stopped)
    }

    /// The promise to a client that asks for this instance.
    pub fn expectation(&mut self, name: &InstanceName) -> Expectation {
        let promise = self.promise(name);
        let (version, held) = (promise.version, promise.held());
        Expectation {
            version,
            clone: held.filter(|clone| !self.renames.is_moving(*clone)),
        }
    }

    /// The clones that have to be there now, by name.
    pub fn held(&self) -> Vec<(InstanceName, InstanceUid)> {
        let each = self.promises.iter();
        each.filter_map(|(name, promise)| Some((name.clone(), promise.held()?)))
            .collect()
    }

    pub fn session_ended(&mut self, clone: InstanceUid, observed: Duration) {
        let sessions = self.sessions.entry(clone).or_default();
        *sessions = sessions.saturating_sub(1);
        if let Some(name) = self.name_of(clone) {
            let promise = self.promise(&name);
            promise.used = promise.used.max(observed);
        }
    }

    /// A command was sent.
    pub fn asked(&mut self, name: &InstanceName, command: Command) -> Asked {
        self.counts.commands += 1;
        for clone in self.renames.at(name) {
            // It may be that of this name by now.
            if let Some(home) = self.name_of(clone) {
                let promise = self.promise(&home);
                promise.may_be_stopped |= command != Command::Start;
                promise.licence |= matches!(command, Command::Delete | Command::Reset);
                promise.changed();
            }
        }
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
        promise.end_answered = at;
        promise.changed();
        if answer != Answer::Done {
            return;
        }
        if let Some(clone) = asked.clone {
            if promise.clone == Some(clone) {
                promise.clone = None;
            }
            self.ended.insert(clone);
        }
        if asked.command == Command::Delete {
            self.promise(&asked.name).pin = None;
        }
    }

    /// Another name was asked for.
    pub fn rename_asked(&mut self, from: &InstanceName, to: &InstanceName, life: usize) -> Rename {
        self.counts.commands += 1;
        let mut clones: BTreeSet<_> = self.renames.at(from).into_iter().collect();
        clones.extend(self.promise(from).clone);
        for clone in &clones {
            self.renames.begin(*clone, from, to, life);
        }
        self.promise(from).changed();
        self.promise(to).changed();
        Rename {
            from: from.clone(),
            to: to.clone(),
            clones,
        }
    }

    /// The rename was answered, or never will be. Returns the clone that has lost its name by it, and must not.
    pub fn rename_answered(
        &mut self,
        rename: &Rename,
        answer: Answer,
        at: Duration,
    ) -> Option<InstanceUid> {
        let mut replaced = None;
        for clone in &rename.clones {
            let is_only = rename.clones.len() == 1;
            if answer == Answer::Done && is_only {
                if self.name_of(*clone).as_ref() == Some(&rename.from) {
                    replaced = self.move_to(*clone, &rename.to);
                }
                self.renames.left(*clone, &rename.from, at);
                self.counts.renamed += 1;
            }
            // Which of some clones had the name is not known.
            let is_known = is_only || answer == Answer::Failed;
            let answer = if is_known { answer } else { Answer::Unknown };
            self.renames.end(*clone, answer);
        }
        self.promise(&rename.from).changed();
        self.promise(&rename.to).changed();
        replaced
    }

    /// The instance of a clone has another name. Returns the clone that has lost that name by it, and must not.
    fn move_to(&mut self, clone: InstanceUid, to: &InstanceName) -> Option<InstanceUid> {
        let from = self.name_of(clone).filter(|from| from != to)?;
        let mut before = std::mem::take(self.promise(&from));
        let promise = self.promise(to);
        let replaced = promise.held();
        promise.take_over(&mut before);
        self.promises.insert(from, before);
        replaced.filter(|replaced| !self.renames.is_moving(*replaced))
    }

    /// The clones that have to be there under one of some names, with these.
    pub fn moving(&self) -> Vec<(InstanceUid, BTreeSet<InstanceName>)> {
        let all = self.renames.moving();
        let held = all.filter(|(clone, _)| !self.may_be_ended(*clone));
        held.map(|(clone, names)| (clone, names.clone())).collect()
    }

    /// Whether this clone may be destroyed or replaced, under whatever name it has.
    fn may_be_ended(&self, clone: InstanceUid) -> bool {
        let home = self.name_of(clone);
        let licence = home.and_then(|home| self.promises.get(&home));
        let names = self.renames.names_of(clone);
        let mut others = names.iter().filter_map(|name| self.promises.get(name));
        licence.is_none_or(|home| home.licence) || others.any(|other| other.outstanding > 0)
    }

    /// A recovery was asked for. Any of these quarantined clones may become that of the name, also one whose end was
    /// acknowledged.
    pub fn recovery_asked(&mut self, name: &InstanceName, quarantined: &[InstanceUid]) {
        self.counts.commands += 1;
        if quarantined.is_empty() {
            return;
        }
        self.ended.retain(|uid| !quarantined.contains(uid));
        let promise = self.promise(name);
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

    /// Whether the data of a clone is gone. Where its deletion panicked after that, its instance is still there, failed.
    pub fn is_destroyed(&self, clone: InstanceUid) -> bool {
        self.destroyed.contains(&clone)
    }

    /// The deletion of a clone is recorded.
    pub fn deletion_recorded(&mut self, clone: InstanceUid, observed: Duration) {
        self.begun.entry(clone).or_insert(observed);
    }

    pub fn pin_asked(&mut self, name: &InstanceName, pin: Pin) {
        for clone in self.renames.at(name) {
            // It may be that of this name by now, and which of two pins comes last is not known.
            if let Some(home) = self.name_of(clone) {
                self.promise(&home).pin = None;
            }
        }
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
