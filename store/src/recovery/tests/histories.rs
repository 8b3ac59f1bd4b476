//! Random histories of a root: commands that succeed, fail or are cut off at each step, records that forget
//! their end or are restored from an earlier copy, damaged manifests; then a start.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A command, and how far it gets.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create { name: u8, until: u8 },
    Reset { name: u8, until: u8 },
    Remove { name: u8, until: u8 },
    Pin { name: u8, pin: Pin },
    Use { name: u8 },
    Rename { name: u8, to: u8, until: u8 },
    Restart,
}

/// How the records and the disk are found.
#[derive(Debug, Clone, Copy, Default)]
struct Damage {
    /// How many of the last writes of records are lost.
    lost_writes: usize,
    /// The clone whose manifest is damaged, by its position.
    damaged: Option<usize>,
}

/// A root, with all that was ever written to its records.
#[derive(Default)]
struct Root {
    /// The records after each write. The last one is the newest.
    versions: Vec<BTreeMap<String, InstanceRecord>>,
    clones: BTreeMap<InstanceUid, FoundClone>,
    trashed: Vec<InstanceUid>,
    epoch: u64,
    next: u64,
    /// The instances that clients were told of, by name.
    acknowledged: BTreeMap<String, InstanceRecord>,
    /// The names of which a command was cut off, so that either outcome is right.
    unsure: Vec<String>,
}

impl Root {
    fn records(&self) -> BTreeMap<String, InstanceRecord> {
        self.versions.last().cloned().unwrap_or_default()
    }

    fn put(&mut self, record: &InstanceRecord) {
        let mut records = self.records();
        records.insert(record.name.to_string(), record.clone());
        self.versions.push(records);
    }

    fn forget(&mut self, name: &str) {
        let mut records = self.records();
        records.remove(name);
        self.versions.push(records);
    }

    fn put_manifest(&mut self, record: &InstanceRecord, has_data: bool) {
        self.clones.insert(record.uid, clone_of(record, has_data));
    }

    /// A record with a new clone.
    fn fresh(&mut self, name: &str) -> InstanceRecord {
        self.next += 1;
        self.epoch += 1;
        InstanceRecord {
            sequence: 0,
            ..record(name, self.next, self.epoch, Phase::Ready)
        }
    }

    /// The instance, if a command can be given to it.
    fn live(&self, name: u8) -> Option<InstanceRecord> {
        let name = name_of(name);
        let record = self.acknowledged.get(&name).cloned();
        record.filter(|_| !self.unsure.contains(&name))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Create { name, until } => self.create(&name_of(name), until),
            Step::Restart => self.restart(),
            Step::Reset { name, .. }
            | Step::Remove { name, .. }
            | Step::Pin { name, .. }
            | Step::Rename { name, .. }
            | Step::Use { name } => {
                if let Some(live) = self.live(name) {
                    self.command(live, step);
                }
            }
        }
    }

    fn command(&mut self, mut live: InstanceRecord, step: Step) {
        live.sequence += 1;
        match step {
            Step::Create { .. } | Step::Restart => {}
            Step::Reset { until, .. } => self.reset(live, until),
            Step::Remove { until, .. } => self.remove(live, until),
            Step::Rename { to, until, .. } => self.rename(live, &name_of(to), until),
            Step::Pin { pin, .. } => {
                live.pin = pin;
                self.put(&live);
                self.put_manifest(&live, true);
                self.acknowledge(live);
            }
            Step::Use { .. } => {
                live.last_used_at += jiff::SignedDuration::from_secs(1);
                self.put(&live);
                self.acknowledge(live);
            }
        }
    }

    fn create(&mut self, name: &str, until: u8) {
        if self.acknowledged.contains_key(name) || self.unsure.iter().any(|other| other == name) {
            return;
        }
        let new = self.fresh(name);
        self.unsure.push(name.to_owned());
        self.put(&InstanceRecord {
            phase: Phase::Cloning,
            ..new.clone()
        });
        if until > 0 {
            self.put_manifest(&new, until > 1);
        }
        if until > 2 {
            self.put(&new);
            self.acknowledge(new);
        }
    }

    fn reset(&mut self, live: InstanceRecord, until: u8) {
        let new = InstanceRecord {
            sequence: live.sequence,
            pin: live.pin,
            ..self.fresh(live.name.as_str())
        };
        self.unsure.push(live.name.to_string());
        self.put_manifest(&new, until > 0);
        if until > 1 {
            self.put(&new);
            self.acknowledge(new);
        }
        if until > 2 {
            self.clones.remove(&live.uid);
        }
    }

    fn remove(&mut self, live: InstanceRecord, until: u8) {
        let name = live.name.to_string();
        self.put(&InstanceRecord {
            phase: Phase::Deleting,
            ..live.clone()
        });
        if until == 0 {
            // It failed, and a client goes on with the instance.
            self.acknowledge(live);
            return;
        }
        self.clones.remove(&live.uid);
        self.acknowledged.remove(&name);
        if until == 1 {
            self.unsure.push(name);
            self.trashed.push(live.uid);
        } else {
            self.forget(&name);
        }
    }

    fn rename(&mut self, live: InstanceRecord, to: &str, until: u8) {
        let is_taken =
            self.acknowledged.contains_key(to) || self.unsure.iter().any(|one| one == to);
        // A clone that the name has left is put aside before.
        let is_left = |clone: &FoundClone| {
            let record = clone.record().filter(|record| record.uid != live.uid);
            record.is_some_and(|record| record.name == live.name || record.name.as_str() == to)
        };
        if is_taken || self.clones.values().any(is_left) || until == 0 {
            return;
        }
        self.epoch += 1;
        let renamed = InstanceRecord {
            name: to.parse().unwrap(),
            epoch: self.epoch,
            ..live.clone()
        };
        let old = live.name.to_string();
        self.put_manifest(&renamed, true);
        self.acknowledged.remove(&old);
        self.unsure.extend([old.clone(), to.to_owned()]);
        if until > 1 {
            self.put(&renamed);
        }
        if until > 2 {
            self.forget(&old);
            self.unsure.retain(|name| *name != old);
            self.acknowledge(renamed);
        }
    }

    fn acknowledge(&mut self, record: InstanceRecord) {
        self.unsure.retain(|name| *name != record.name.as_str());
        self.acknowledged.insert(record.name.to_string(), record);
    }

    fn found(&self, damage: Damage) -> Found {
        let kept = self.versions.len().saturating_sub(damage.lost_writes);
        let records = kept.checked_sub(1).map(|last| self.versions[last].clone());
        let mut clones: Vec<_> = self.clones.values().cloned().collect();
        if let Some(position) = damage.damaged
            && let Some(clone) = clones.get_mut(position)
        {
            clone.manifest = FoundManifest::Damaged("damaged".to_owned());
        }
        Found {
            records: records.unwrap_or_default().into_values().collect(),
            clones,
            trashed: self.trashed.clone(),
            epoch: 0,
            last_use: LAST_USE,
        }
    }

    /// A start that finds all records.
    fn restart(&mut self) {
        let plan = plan(self.found(Damage::default()));
        self.carry_out(&plan);
    }

    fn carry_out(&mut self, plan: &Plan) {
        self.epoch = self.epoch.max(plan.epoch);
        for leftover in &plan.leftovers {
            self.clones.remove(&leftover.uid);
        }
        let named = |one: &Recovered| (one.record.name.to_string(), one.record.clone());
        self.versions
            .push(plan.instances.iter().map(named).collect());
        self.unsure.clear();
        self.trashed.clear();
        let usable = plan.instances.iter().filter(|one| one.unusable.is_none());
        self.acknowledged = usable.map(named).collect();
    }
}

fn name_of(name: u8) -> String {
    format!("i{name}")
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = 0..3_u8;
    let until = || prop_oneof![0..4_u8, Just(3)];
    let pin = prop_oneof![Just(Pin::None), Just(Pin::Forever)];
    prop_oneof![
        4 => (name.clone(), until()).prop_map(|(name, until)| Step::Create { name, until }),
        2 => (name.clone(), until()).prop_map(|(name, until)| Step::Reset { name, until }),
        2 => (name.clone(), until()).prop_map(|(name, until)| Step::Remove { name, until }),
        2 => (name.clone(), pin).prop_map(|(name, pin)| Step::Pin { name, pin }),
        2 => (name.clone(), 0..3_u8, until())
            .prop_map(|(name, to, until)| Step::Rename { name, to, until }),
        2 => name.prop_map(|name| Step::Use { name }),
        1 => Just(Step::Restart),
    ]
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let lost_writes = prop_oneof![Just(0), 0..6_usize, Just(1000)];
    let damaged = proptest::option::weighted(0.3, 0..4_usize);
    (lost_writes, damaged).prop_map(|(lost_writes, damaged)| Damage {
        lost_writes,
        damaged,
    })
}

/// Each complete clone is served, kept, or superseded by one of a higher epoch with the same name.
fn check_clones(found: &Found, plan: &Plan) {
    let usable = plan.instances.iter().filter(|one| one.unusable.is_none());
    let served: HashMap<_, _> = usable.map(|one| (one.record.uid, &one.record)).collect();
    for clone in found.clones.iter().filter(|clone| clone.has_data) {
        let leftover = plan.leftovers.iter().find(|one| one.uid == clone.uid);
        let is_left = plan.left_alone.iter().any(|(uid, _)| *uid == clone.uid);
        let decisions = [served.contains_key(&clone.uid), leftover.is_some(), is_left];
        assert_eq!(
            decisions.map(usize::from).iter().sum::<usize>(),
            1,
            "{clone:?}\n{plan:?}"
        );
        if leftover.is_some_and(|one| one.action == LeftoverAction::Delete) {
            let mut records = found.records.iter();
            let by_record = || records.find(|record| record.uid == clone.uid);
            let superseded = clone.record().or_else(by_record).expect("it has a name");
            let by = served
                .values()
                .find(|record| record.name == superseded.name);
            assert!(
                by.is_some_and(|by| by.epoch > superseded.epoch),
                "{clone:?}\n{plan:?}"
            );
        }
    }
}

/// An acknowledged clone is served as its client was told, or a cut-off reset of it. It is served under its old name or
/// kept where the manifest is damaged and no record names the clone, and where the records remember the deletion of a
/// newer clone.
fn check_acknowledged(root: &Root, found: &Found, plan: &Plan) {
    for (name, told) in &root.acknowledged {
        let clone = &found.clones.iter().find(|clone| clone.uid == told.uid);
        let is_damaged = clone.is_some_and(|clone| clone.record().is_none());
        let served = plan
            .instances
            .iter()
            .find(|one| one.record.name.as_str() == name);
        let is_reset =
            served.is_some_and(|one| one.record.epoch > told.epoch) && root.unsure.contains(name);
        let is_served =
            served.is_some_and(|one| one.record.uid == told.uid && one.unusable.is_none());
        let is_older = found
            .records
            .iter()
            .any(|record| record.name.as_str() == name && record.epoch > told.epoch);
        let is_kept = || {
            let leftover = plan.leftovers.iter().find(|one| one.uid == told.uid);
            leftover.is_some_and(|one| one.action != LeftoverAction::Delete)
        };
        // Nothing tells of a rename whose manifest is damaged and whose record is lost.
        let has_old_name = is_damaged
            && plan
                .instances
                .iter()
                .any(|one| one.record.uid == told.uid && one.unusable.is_none());
        assert!(
            is_served || is_reset || has_old_name || ((is_damaged || is_older) && is_kept()),
            "{told:?}\n{plan:?}"
        );
        if let Some(served) = served.filter(|_| is_served && !is_damaged) {
            assert_eq!(served.record.pin, told.pin, "{told:?}\n{plan:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_history_loses_data_or_a_pin(
        steps in prop::collection::vec(any_step(), 0..25), damage in any_damage()
    ) {
        let mut root = Root::default();
        for step in steps {
            root.take(step);
        }
        let found = root.found(damage);
        let plan = plan(found.clone());
        check_clones(&found, &plan);
        check_acknowledged(&root, &found, &plan);
        let epochs = found.clones.iter().filter_map(FoundClone::record).map(|one| one.epoch);
        prop_assert!(plan.epoch >= epochs.max().unwrap_or(0));
        // The next start has nothing to do, and finds the same instances.
        root.carry_out(&plan);
        let again = super::super::plan(root.found(Damage::default()));
        let served = |plan: &Plan| -> Vec<_> {
            plan.instances.iter().map(|one| (one.record.name.clone(), one.record.uid)).collect()
        };
        if damage.damaged.is_none() {
            prop_assert_eq!(served(&plan), served(&again));
            prop_assert_eq!(&again.leftovers, &[]);
            prop_assert_eq!(&again.removed, &[]);
        }
    }
}
