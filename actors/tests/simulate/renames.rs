//! Renames: the names that an instance may have by now.

use std::collections::{BTreeMap, BTreeSet};
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use multidb_store::{InstanceName, InstanceUid};

use crate::oracle::Answer;

/// The clones whose instances were given other names.
#[derive(Default)]
pub struct Renames {
    moving: BTreeMap<InstanceUid, Moving>,
    /// The names that clones no longer have, and since when.
    former: BTreeMap<(InstanceUid, InstanceName), Duration>,
}

/// An instance that may have any of some names.
struct Moving {
    names: BTreeSet<InstanceName>,
    /// The renames that are not answered.
    outstanding: u32,
    /// Whether one never will be. It may be carried out as long as its daemon lives.
    is_unknown: bool,
    /// How many daemons had ended when the last one was asked for.
    life: usize,
}

/// A rename, and the clones that it may concern.
pub struct Rename {
    pub from: InstanceName,
    pub to: InstanceName,
    pub clones: BTreeSet<InstanceUid>,
}

/// The first query of a client.
pub struct Hello {
    /// The name by which it asked for an instance.
    pub name: InstanceName,
    /// When it did.
    pub asked: Duration,
}

impl FromStr for Hello {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, asked) = text.split_once(' ').unwrap_or((text, "0"));
        Ok(Self {
            name: name.parse().expect("a client names its instance"),
            asked: Duration::from_nanos(asked.parse()?),
        })
    }
}

impl Renames {
    /// The clones that may have this name by a rename.
    pub fn at(&self, name: &InstanceName) -> Vec<InstanceUid> {
        let all = self.moving.iter();
        let found = all.filter(|(_, moving)| moving.names.contains(name));
        found.map(|(clone, _)| *clone).collect()
    }

    pub fn is_at(&self, clone: InstanceUid, name: &InstanceName) -> bool {
        let moving = self.moving.get(&clone);
        moving.is_some_and(|moving| moving.names.contains(name))
    }

    pub fn is_moving(&self, clone: InstanceUid) -> bool {
        self.moving.contains_key(&clone)
    }

    pub fn moving(&self) -> impl Iterator<Item = (InstanceUid, &BTreeSet<InstanceName>)> {
        self.moving.iter().map(|(clone, one)| (*clone, &one.names))
    }

    pub fn names_of(&self, clone: InstanceUid) -> BTreeSet<InstanceName> {
        let moving = self.moving.get(&clone);
        moving
            .map(|moving| moving.names.clone())
            .unwrap_or_default()
    }

    /// Another name that a clone may have.
    pub fn other_name(&self, clone: InstanceUid, name: &InstanceName) -> Option<InstanceName> {
        self.names_of(clone).into_iter().find(|other| other != name)
    }

    pub fn begin(
        &mut self,
        clone: InstanceUid,
        from: &InstanceName,
        to: &InstanceName,
        life: usize,
    ) {
        let moving = self.moving.entry(clone).or_insert_with(|| Moving {
            names: BTreeSet::new(),
            outstanding: 0,
            is_unknown: false,
            life,
        });
        moving.names.extend([from.clone(), to.clone()]);
        moving.outstanding += 1;
        moving.life = life;
        self.former.remove(&(clone, to.clone()));
    }

    pub fn end(&mut self, clone: InstanceUid, answer: Answer) {
        let Some(moving) = self.moving.get_mut(&clone) else {
            return;
        };
        moving.outstanding -= 1;
        moving.is_unknown |= answer == Answer::Unknown;
        if moving.outstanding == 0 && !moving.is_unknown {
            self.moving.remove(&clone);
        }
    }

    /// The clone no longer has this name.
    pub fn left(&mut self, clone: InstanceUid, name: &InstanceName, at: Duration) {
        self.former.insert((clone, name.clone()), at);
    }

    /// Whether a client that asked for a name at this time could get this clone, which has lost that name since.
    pub fn had(&self, clone: InstanceUid, name: &InstanceName, asked: Duration) -> bool {
        let left = self.former.get(&(clone, name.clone()));
        left.is_some_and(|left| asked <= *left)
    }

    /// The clone has been served under its name, when so many daemons had ended. Another daemon carries out no rename of
    /// the one before.
    pub fn seen(&mut self, clone: InstanceUid, life: usize) {
        let settled = |moving: &Moving| moving.outstanding == 0 && life > moving.life;
        if self.moving.get(&clone).is_some_and(settled) {
            self.moving.remove(&clone);
        }
    }

    pub fn forget(&mut self, clone: InstanceUid) {
        self.moving.remove(&clone);
    }
}
