//! The CloneWorker over an executor that runs work when the test says so, and its threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use multidb_store::{InstanceName, StoreError};

use super::executor::Work;
use super::*;
use crate::testing::{self, FakeCatalog, FakeCloner, paused, record, uncritical};

/// Keeps work until the test runs it.
#[derive(Default)]
struct HeldWork(Mutex<Vec<(Lane, Work)>>);

impl HeldWork {
    fn lanes(&self) -> Vec<Lane> {
        let held = self.0.lock().unwrap();
        held.iter().map(|(lane, _)| *lane).collect()
    }

    /// Runs the work of this lane that there is now, and returns how much it was.
    fn run_lane(&self, lane: Lane) -> usize {
        let held = std::mem::take(&mut *self.0.lock().unwrap());
        let (chosen, kept) = held.into_iter().partition(|(of, _)| *of == lane);
        self.0.lock().unwrap().extend::<Vec<_>>(kept);
        let chosen: Vec<_> = chosen;
        let count = chosen.len();
        // The fakes block, which this thread must not.
        std::thread::scope(|scope| {
            for (_, work) in chosen {
                scope.spawn(work).join().unwrap();
            }
        });
        count
    }
}

impl Executor for HeldWork {
    fn run(&self, lane: Lane, work: Work) {
        self.0.lock().unwrap().push((lane, work));
    }
}

/// Records that count their writes and refuse a name.
#[derive(Default)]
struct CountedRecords {
    writes: Mutex<Vec<Vec<RecordChange>>>,
    refused: Option<InstanceName>,
}

impl Records for CountedRecords {
    fn put(&self, record: &InstanceRecord) -> Result<(), StoreError> {
        self.write(&[RecordChange::put(record)])
    }

    fn remove(&self, name: &InstanceName, uid: InstanceUid) -> Result<(), StoreError> {
        self.write(&[RecordChange::Remove(name.clone(), uid)])
    }

    fn put_time(&self, which: StoredTime, time: ObservedTime) -> Result<(), StoreError> {
        self.write(&[RecordChange::PutTime(which, time)])
    }

    fn write(&self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let name = |change: &RecordChange| match change {
            RecordChange::Put(record) => Some(record.name.clone()),
            RecordChange::Remove(name, _) => Some(name.clone()),
            RecordChange::PutTime(..) => None,
        };
        self.writes.lock().unwrap().push(changes.to_vec());
        if self.refused.is_some() && changes.iter().any(|change| name(change) == self.refused) {
            let message = "refused".to_owned();
            return Err(StoreError::Panicked { message });
        }
        Ok(())
    }
}

struct World {
    worker: Addr<CloneWorker>,
    work: Arc<HeldWork>,
    records: Arc<CountedRecords>,
    cloner: Arc<FakeCloner>,
}

fn world(refused: Option<&str>) -> World {
    let work = Arc::new(HeldWork::default());
    let cloner = Arc::new(FakeCloner::default());
    let records = Arc::new(CountedRecords {
        refused: refused.map(|name| name.parse().unwrap()),
        ..CountedRecords::default()
    });
    let worker = CloneWorker::new(CloneWorkerDeps {
        cloner: cloner.clone(),
        catalog: Arc::new(FakeCatalog),
        records: records.clone(),
        executor: work.clone(),
        metrics: Metrics::new(),
    });
    World {
        worker: worker.start(),
        work,
        records,
        cloner,
    }
}

impl World {
    /// Sends a message, whose first work is held when this returns.
    async fn send<M>(&self, message: M) -> LocalBoxFuture<'static, Result<M::Result, MailboxError>>
    where
        M: Message + Send + Unpin + 'static,
        M::Result: Send,
        CloneWorker: Handler<M>,
    {
        let before = self.work.lanes().len();
        let mut request = self.worker.send(message).boxed_local();
        while self.work.lanes().len() == before {
            assert!(futures_util::poll!(&mut request).is_pending());
            tokio::task::yield_now().await;
        }
        request
    }

    async fn until_held(&self, lane: Lane) {
        while !self.work.lanes().contains(&lane) {
            tokio::task::yield_now().await;
        }
    }
}

fn ready(name: &str) -> InstanceRecord {
    record(name, 1, Phase::Ready)
}

#[test]
fn changes_that_wait_are_written_together_and_in_order() {
    paused(async {
        let world = world(None);
        let mut sent = Vec::new();
        for name in ["a", "b", "a"] {
            let persist = Persist(ready(name), Copies::Database);
            sent.push(world.send(persist).await);
        }
        assert_eq!(world.work.run_lane(Lane::Records), 3);
        for request in sent {
            request.await.unwrap().unwrap();
        }
        let expected = ["a", "b", "a"].map(|name| RecordChange::put(&ready(name)));
        let writes = world.records.writes.lock().unwrap();
        assert_eq!(*writes, [expected.to_vec()]);
    });
}

#[test]
fn change_that_cannot_be_written_fails_alone() {
    paused(async {
        let world = world(Some("b"));
        let mut sent = Vec::new();
        for name in ["a", "b", "c"] {
            let persist = Persist(ready(name), Copies::Database);
            sent.push(world.send(persist).await);
        }
        world.work.run_lane(Lane::Records);
        let mut results = Vec::new();
        for request in sent {
            results.push(request.await.unwrap().is_ok());
        }
        assert_eq!(results, [true, false, true]);
    });
}

#[test]
fn records_are_written_beside_clones_deletions_and_measurements() {
    paused(async {
        let world = world(None);
        let made = world.send(MakeClone {
            record: ready("a"),
            replaces: true,
            source: CloneSource::Snapshot,
        });
        let made = made.await;
        let discarded = DiscardClone {
            uid: ready("b").uid,
            name: None,
        };
        let deleted = world.send(discarded).await;
        let measured = world.send(Measure(ready("c").uid)).await;
        let lanes = [Lane::Clones, Lane::Deletions, Lane::Measurements];
        assert_eq!(world.work.lanes(), lanes);
        let pinned = Persist(ready("d"), Copies::DatabaseAndManifest);
        let pinned = world.send(pinned).await;
        world.work.run_lane(Lane::Records);
        world.until_held(Lane::Manifests).await;
        world.work.run_lane(Lane::Manifests);
        pinned.await.unwrap().unwrap();
        assert_eq!(
            measured.await.unwrap(),
            None,
            "a question does not wait for a measurement"
        );
        assert!(world.cloner.made.lock().unwrap().is_empty());
        drop((made, deleted));
    });
}

#[test]
fn measurement_is_answered_with_the_last_one_if_it_takes_long() {
    paused(async {
        let world = world(None);
        let uid = ready("a").uid;
        let measured = world.send(Measure(uid)).await;
        world.work.run_lane(Lane::Measurements);
        assert_eq!(measured.await.unwrap(), Some(0));
        let (first, second) = tokio::join!(
            world.worker.send(Measure(uid)),
            world.worker.send(Measure(uid))
        );
        assert_eq!((first.unwrap(), second.unwrap()), (Some(0), Some(0)));
        assert_eq!(world.work.run_lane(Lane::Measurements), 1, "one for both");
        let deleted = world.send(DiscardClone { uid, name: None }).await;
        world.work.run_lane(Lane::Deletions);
        deleted.await.unwrap().unwrap();
        assert_eq!(world.worker.send(Measure(uid)).await.unwrap(), None);
    });
}

#[test]
fn record_that_a_failed_creation_left_goes_with_its_clone() {
    paused(async {
        let actors = testing::Harness::new(testing::limits());
        let [left, other] = [1, 2].map(|uid| testing::record("a", uid, Phase::Ready));
        actors.store.put(&left).unwrap();
        for (discarded, records) in [(&other, vec![left.clone()]), (&left, vec![])] {
            let discard = DiscardClone {
                uid: discarded.uid,
                name: Some(discarded.name.clone()),
            };
            actors.worker.send(discard).await.unwrap().unwrap();
            assert_eq!(actors.store.instances().unwrap(), records);
        }
    });
}

#[test]
fn new_instance_is_recorded_before_and_after_its_clone() {
    paused(async {
        let world = world(None);
        let made = world.send(MakeClone {
            record: ready("a"),
            replaces: false,
            source: CloneSource::Snapshot,
        });
        let made = made.await;
        assert_eq!(world.work.lanes(), [Lane::Records]);
        world.work.run_lane(Lane::Records);
        world.until_held(Lane::Clones).await;
        world.work.run_lane(Lane::Clones);
        world.until_held(Lane::Records).await;
        world.work.run_lane(Lane::Records);
        let second = InstanceRecord {
            sequence: 1,
            ..ready("a")
        };
        assert_eq!(made.await.unwrap().unwrap().0, second);
        let writes = world.records.writes.lock().unwrap().concat();
        let records = [record("a", 1, Phase::Cloning), second];
        assert_eq!(writes, records.map(|record| RecordChange::put(&record)));
    });
}

#[test]
fn work_that_panics_is_answered_and_the_next_work_is_done() {
    paused(async {
        let deps = CloneWorkerDeps {
            cloner: Arc::new(FakeCloner::default()),
            catalog: Arc::new(FakeCatalog),
            records: Arc::new(CountedRecords::default()),
            executor: Arc::new(WorkerThreads::start(&uncritical(), Metrics::new())),
            metrics: Metrics::new(),
        };
        for lane in [Lane::Records, Lane::Measurements] {
            let panicked = deps.run::<()>(lane, || panic!("of the test"));
            assert_eq!(panicked.await, Err(worker_ended()));
            assert_eq!(deps.run(lane, || Ok(1)).await, Ok(1));
        }
    });
}

#[test]
fn no_lane_waits_for_another() {
    let threads = WorkerThreads::start(&uncritical(), Metrics::new());
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        for lane in [Lane::Clones, Lane::Deletions, Lane::Measurements] {
            let (gate, begun) = (gate.clone(), begun.clone());
            let blocked = move || {
                begun.fetch_add(1, Ordering::Relaxed);
                assert!(gate.lock().unwrap().recv().is_err());
            };
            threads.run(lane, Box::new(blocked));
        }
    }
    let (done, answer) = mpsc::channel();
    threads.run(Lane::Records, Box::new(move || done.send(()).unwrap()));
    answer.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(begun.load(Ordering::Relaxed) < 300);
    drop(release);
}
