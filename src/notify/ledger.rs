//! The occurrences that were told, and the ones that are to be told now: pure.
//!
//! It is shown everything that is the case, again and again. An occurrence is told when it is first seen, and not again
//! before it was away for [`REST`]: a disk at its mark, or an instance that each client starts in vain, comes and goes.
//! Many of one kind are told together, once no more come.
//!
//! An occurrence is *settled* once no target waits for it any more. Only these are kept across a restart, so that an
//! occurrence that a daemon could not deliver is told by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::message::Occurrence;
use crate::config::NotifyEvent;

/// An occurrence that was away for this time is a new one.
const REST: Duration = Duration::from_secs(600);
/// So many of one kind are told one by one, and at once.
const SINGLE_MAX: usize = 3;
/// The longest time for which more of a kind are awaited.
const GATHERING_MAX: Duration = Duration::from_secs(30);

/// The occurrences that were told.
#[derive(Debug)]
pub struct Ledger {
    /// When each occurrence was last seen, by its key.
    told: BTreeMap<String, Instant>,
    settled: BTreeSet<String>,
    gathering: BTreeMap<NotifyEvent, Gathering>,
}

/// Occurrences of a kind that more may be added to.
#[derive(Debug)]
struct Gathering {
    since: Instant,
    keys: BTreeSet<String>,
}

impl Ledger {
    /// A ledger in which these were told and settled.
    pub fn new(settled: BTreeSet<String>, now: Instant) -> Self {
        Self {
            told: settled.iter().map(|key| (key.clone(), now)).collect(),
            settled,
            gathering: BTreeMap::new(),
        }
    }

    /// Takes an occurrence for told and settled.
    pub fn skip(&mut self, key: String, now: Instant) {
        self.settled.insert(key.clone());
        self.told.insert(key, now);
    }

    /// Takes everything that is the case now. Returns the occurrences that are to be told, grouped by message.
    pub fn look(&mut self, current: Vec<Occurrence>, now: Instant) -> Vec<Vec<Occurrence>> {
        let mut fresh: BTreeMap<NotifyEvent, Vec<Occurrence>> = BTreeMap::new();
        for occurrence in current {
            match self.told.get_mut(&occurrence.key) {
                Some(seen) => *seen = now,
                None => fresh.entry(occurrence.event).or_default().push(occurrence),
            }
        }
        self.told.retain(|_, seen| now.duration_since(*seen) < REST);
        self.settled.retain(|key| self.told.contains_key(key));
        self.gathering.retain(|event, _| fresh.contains_key(event));
        let mut messages = Vec::new();
        for (event, occurrences) in fresh {
            if self.gathers(event, &occurrences, now) {
                continue;
            }
            self.gathering.remove(&event);
            let keys = occurrences.iter().map(|one| (one.key.clone(), now));
            self.told.extend(keys);
            if occurrences.len() <= SINGLE_MAX {
                messages.extend(occurrences.into_iter().map(|one| vec![one]));
            } else {
                messages.push(occurrences);
            }
        }
        messages
    }

    /// Whether more of this kind are awaited.
    fn gathers(&mut self, event: NotifyEvent, occurrences: &[Occurrence], now: Instant) -> bool {
        if occurrences.len() <= SINGLE_MAX && !self.gathering.contains_key(&event) {
            return false;
        }
        let keys = occurrences.iter().map(|one| one.key.clone());
        let keys: BTreeSet<String> = keys.collect();
        let gathering = self.gathering.entry(event).or_insert_with(|| Gathering {
            since: now,
            keys: BTreeSet::new(),
        });
        let have_come = !keys.is_subset(&gathering.keys);
        gathering.keys = keys;
        have_come && now.duration_since(gathering.since) < GATHERING_MAX
    }

    /// Whether this occurrence was told lately.
    pub fn is_told(&self, key: &str) -> bool {
        self.told.contains_key(key)
    }

    /// Notes that no target waits for these any more.
    pub fn settle(&mut self, keys: Vec<String>) {
        let told = keys.into_iter().filter(|key| self.told.contains_key(key));
        self.settled.extend(told);
    }

    /// The keys of the settled occurrences.
    pub fn settled(&self) -> &BTreeSet<String> {
        &self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Subject;
    use super::*;

    fn all(event: NotifyEvent, keys: std::ops::Range<usize>) -> Vec<Occurrence> {
        let one = |key| Occurrence {
            key: format!("{}/{key}", event.name()),
            event,
            subject: Subject::default(),
            message: String::new(),
            action: String::new(),
        };
        keys.map(one).collect()
    }

    fn lengths(messages: &[Vec<Occurrence>]) -> Vec<usize> {
        messages.iter().map(Vec::len).collect()
    }

    #[test]
    fn occurrence_is_told_once_and_again_after_a_rest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ledger = Ledger::new(BTreeSet::new(), start);
        let disk = || all(NotifyEvent::DiskHigh, 0..1);
        assert_eq!(lengths(&ledger.look(disk(), at(0))), [1]);
        assert!(ledger.look(disk(), at(5)).is_empty());
        assert!(ledger.look(Vec::new(), at(10)).is_empty());
        assert!(ledger.look(disk(), at(500)).is_empty());
        assert!(ledger.look(Vec::new(), at(1099)).is_empty());
        assert!(ledger.look(Vec::new(), at(1100)).is_empty());
        assert_eq!(lengths(&ledger.look(disk(), at(1105))), [1]);
    }

    #[test]
    fn many_are_gathered_until_no_more_come() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let event = NotifyEvent::Expiring;
        let mut ledger = Ledger::new(BTreeSet::new(), start);
        assert_eq!(lengths(&ledger.look(all(event, 0..3), at(0))), [1, 1, 1]);
        assert!(ledger.look(all(event, 0..200), at(5)).is_empty());
        assert!(ledger.look(all(event, 0..400), at(10)).is_empty());
        assert_eq!(lengths(&ledger.look(all(event, 0..400), at(15))), [397]);
        assert!(ledger.look(all(event, 0..400), at(20)).is_empty());
        // Occurrences that never stop coming are told from time to time.
        for n in 0..6 {
            let messages = ledger.look(all(event, 400..410 + n), at(25 + 5 * n as u64));
            assert!(messages.is_empty(), "{n}");
        }
        assert_eq!(lengths(&ledger.look(all(event, 400..420), at(55))), [20]);
        // Occurrences of other kinds do not wait.
        let mut both = all(event, 500..600);
        both.extend(all(NotifyEvent::JobFailed, 0..1));
        assert_eq!(lengths(&ledger.look(both, at(60))), [1]);
        // All but two were used meanwhile.
        assert_eq!(lengths(&ledger.look(all(event, 500..502), at(65))), [1, 1]);
    }

    #[test]
    fn only_what_is_settled_is_not_told_by_the_next_daemon() {
        let start = Instant::now();
        let event = NotifyEvent::JobFailed;
        let mut ledger = Ledger::new(BTreeSet::new(), start);
        ledger.look(all(event, 0..2), start);
        ledger.settle(vec!["job_failed/1".to_owned(), "job_failed/9".to_owned()]);
        ledger.skip("job_failed/7".to_owned(), start);
        let settled: Vec<_> = ledger.settled().iter().cloned().collect();
        assert_eq!(settled, ["job_failed/1", "job_failed/7"]);
        let mut next = Ledger::new(ledger.settled().clone(), start);
        let messages = next.look(all(event, 0..8), start);
        assert!(messages.is_empty());
        let messages = next.look(all(event, 0..8), start);
        assert_eq!(lengths(&messages), [6]);
        // An occurrence that is away for long enough is forgotten.
        let later = start + REST;
        next.look(Vec::new(), later);
        assert!(next.settled().is_empty());
    }
}
