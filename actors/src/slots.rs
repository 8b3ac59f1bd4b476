//! The `max_running` slots of running instances, of which none is given while too much of the memory is used.
//!
//! An instance acquires a slot before its start and releases it when its Postgres has stopped. If all
//! are taken, it asks the Supervisor to stop the least recently used instance without sessions, and
//! repeats that until a slot is free, since that instance may just have got a client.
//!
//! Waiting instances get slots in the order in which they began to wait. Each instance keeps its slot for a
//! residency: six busy instances in five slots otherwise start and stop most of the time.
//!
//! Above `memory_high_water` an instance that is to start waits likewise, also where slots are free: the least recently
//! used one stops, and the memory is looked at again. The memory that a start will need is not known, so starts
//! under way at the same time, two for each processor, may bring it above the mark together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;
use crate::ports::Memory;

/// The interval of requests to the Supervisor while an instance waits for a slot.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// The shortest residency, in which a running instance is not stopped for another one.
const RESIDENCY_MIN: Duration = Duration::from_millis(250);
/// The longest residency, for an instance whose start was slow by chance.
const RESIDENCY_MAX: Duration = Duration::from_secs(2);

/// The residency of an instance whose start took this long: it serves for at least twice the time.
pub(crate) fn residency(start: Duration) -> Duration {
    (start * 2).clamp(RESIDENCY_MIN, RESIDENCY_MAX)
}

/// How many servers start at once for each processor. A start is bound by processors; more at once would not end
/// sooner, and would leave less of them to sessions at work.
const STARTS_PER_PROCESSOR: usize = 2;
/// After this time a start no longer counts: it waits for a disk or an engine, or recovers after a crash.
const START_COUNTED: Duration = Duration::from_secs(1);

/// One slot, released on drop.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// All slots, shared by the instances.
#[derive(Clone)]
pub struct Slots {
    semaphore: Arc<Semaphore>,
    max: usize,
    memory: Option<MemoryMark>,
    /// Held by the instance that gets the next slot, while it waits for memory.
    turn: Arc<Mutex<()>>,
    wanted: Arc<AtomicUsize>,
    /// The permits of starts.
    starts: Arc<Semaphore>,
}

/// How much of the memory may be used at a start.
#[derive(Clone)]
struct MemoryMark {
    memory: Arc<dyn Memory>,
    percent: u8,
}

/// Why an instance gets no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// So many instances run already.
    Running(usize),
    /// Too much of the memory is used.
    Memory {
        /// The used part, in percent.
        used_percent: u8,
        /// `memory_high_water`.
        mark_percent: u8,
    },
}

/// Asks the Supervisor to stop an unused instance.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FreeSlot;

impl Slots {
    /// `max` free slots, without a look at the memory.
    pub fn new(max: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(max)),
            max,
            memory: None,
            turn: Arc::default(),
            wanted: Arc::new(AtomicUsize::new(0)),
            starts: Arc::new(Semaphore::new(starts_max())),
        }
    }

    /// The slots by these limits.
    pub fn of(limits: &Limits, memory: Arc<dyn Memory>) -> Self {
        let mark = limits.memory_high_water;
        Self {
            memory: mark.map(|percent| MemoryMark { memory, percent }),
            ..Self::new(limits.max_running)
        }
    }

    /// The number of slots.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The number of instances that wait for a slot.
    pub fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// A slot for a server that runs already, if one is free now.
    pub fn try_acquire(&self) -> Option<Slot> {
        self.semaphore.clone().try_acquire_owned().ok().map(Slot)
    }

    /// A slot for a start, if one is free now, there is memory, and no other instance waits for that.
    pub fn try_start(&self) -> Option<Slot> {
        let _turn = self.turn.try_lock().ok()?;
        match self.lacking_memory() {
            None => self.try_acquire(),
            Some(_) => None,
        }
    }

    /// A slot for a start, or the reason that there is none after `limit`.
    pub async fn acquire(
        &self,
        limit: Duration,
        supervisor: Recipient<FreeSlot>,
    ) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.try_start() {
            return Ok(slot);
        }
        let _wanted = Wanted::count(&self.wanted);
        let ask = async {
            loop {
                if let Err(error) = supervisor.send(FreeSlot).await {
                    tracing::debug!(%error, "supervisor did not answer a request for a slot");
                }
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        };
        let acquired = tokio::select! {
            biased;
            slot = self.in_turn() => slot,
            () = ask => None,
            () = tokio::time::sleep(limit) => None,
        };
        acquired.ok_or_else(|| self.lacking_memory().unwrap_or(NoSlot::Running(self.max)))
    }

    /// The next slot once there is memory. `None` at the end of all slots.
    async fn in_turn(&self) -> Option<Slot> {
        let _turn = self.turn.lock().await;
        let permit = self.semaphore.clone().acquire_owned().await;
        while self.lacking_memory().is_some() {
            tokio::time::sleep(ASK_INTERVAL).await;
        }
        permit.ok().map(Slot)
    }

    /// The error while the memory is above its mark; `None` if instances may start.
    fn lacking_memory(&self) -> Option<NoSlot> {
        let MemoryMark { memory, percent } = self.memory.as_ref()?;
        let used_percent = memory.usage()?.percent();
        (used_percent > *percent).then_some(NoSlot::Memory {
            used_percent,
            mark_percent: *percent,
        })
    }
}

impl Slots {
    /// Runs a start when fewer than [`STARTS_PER_PROCESSOR`] others run, in the order of the calls.
    pub(crate) async fn start_in_turn<T>(&self, start: impl Future<Output = T>) -> T {
        let permit = self.starts.clone().acquire_owned().await;
        tokio::pin!(start);
        tokio::select! {
            biased;
            started = &mut start => return started,
            () = tokio::time::sleep(START_COUNTED) => drop(permit),
        }
        start.await
    }
}

fn starts_max() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors * STARTS_PER_PROCESSOR
}

/// Counts a waiting instance until it is dropped.
struct Wanted(Arc<AtomicUsize>);

impl Wanted {
    fn count(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter.clone())
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;
    use crate::testing::paused;

    #[test]
    fn starts_take_turns_unless_they_are_slow() {
        paused(async {
            let slots = Slots::new(100);
            let begun = Cell::new(0);
            let starts = (0..=starts_max()).map(|_| {
                slots.start_in_turn(async {
                    begun.set(begun.get() + 1);
                    pending::<()>().await;
                })
            });
            let mut all = futures_util::future::join_all(starts);
            let _pending = tokio::time::timeout(START_COUNTED / 2, &mut all).await;
            assert_eq!(begun.get(), starts_max());
            let _pending = tokio::time::timeout(START_COUNTED, &mut all).await;
            assert_eq!(begun.get(), starts_max() + 1);
        });
    }
}
