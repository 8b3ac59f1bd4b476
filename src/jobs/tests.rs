//! The registry over a real store, with work that ends on command.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{JobFailure, JobId, JobKind, JobRecord, JobState, Layout, SnapshotId, Store};
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::registry::{HISTORY_MAX, QUEUED_MAX, RUNNING_MAX};
use super::*;

/// A job of the tests never takes longer to reach a state.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A registry over a store in a directory of its own.
struct Fixture {
    directory: tempfile::TempDir,
    registry: Registry,
    /// The pieces of work that run at this moment.
    working: Arc<AtomicUsize>,
}

/// How a piece of work ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Done,
    Failed,
    Panicked,
}

type Started = Result<(JobId, oneshot::Sender<End>), JobError>;

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            registry: reopened(open(&directory), &HashSet::new()),
            directory,
            working: Arc::default(),
        }
    }

    /// Starts a job that works until the sender says how it ends, or until it is cancelled.
    async fn start(&self, snapshot: Option<&str>) -> Started {
        let (end, ended) = oneshot::channel();
        let working = self.working.clone();
        let work = move |context: JobContext| async move {
            let before = working.fetch_add(1, Ordering::SeqCst);
            assert!(before < RUNNING_MAX, "{before} others run");
            let end = tokio::select! {
                end = ended => Some(end.unwrap_or(End::Done)),
                () = context.cancelled().cancelled() => None,
            };
            working.fetch_sub(1, Ordering::SeqCst);
            match end {
                Some(End::Done) => Ok(()),
                Some(End::Failed) => Err(WorkError::Failed(failure())),
                Some(End::Panicked) => panic!("as the test wants it"),
                None => Err(WorkError::Cancelled),
            }
        };
        let job = self.registry.start(new_job(snapshot), work).await?;
        Ok((job.id, end))
    }

    async fn started(&self) -> (JobId, oneshot::Sender<End>) {
        self.start(None).await.unwrap()
    }

    /// Runs one job to its end.
    async fn run(&self, end: End) -> JobRecord {
        let (id, ends) = self.started().await;
        ends.send(end).unwrap();
        self.ended(id).await
    }

    async fn ended(&self, id: JobId) -> JobRecord {
        let ended = tokio::time::timeout(TIMEOUT, self.registry.wait(id));
        ended.await.expect("it ends").unwrap()
    }

    async fn running(&self, id: JobId) {
        let mut status = self.registry.subscribe(id).unwrap();
        let runs = status.wait_for(|job| job.state == JobState::Running);
        tokio::time::timeout(TIMEOUT, runs)
            .await
            .expect("it runs")
            .unwrap();
    }

    fn state(&self, id: JobId) -> JobState {
        self.registry.get(id).unwrap().state
    }

    /// The records on the disk.
    fn stored(&self) -> Vec<JobRecord> {
        self.registry.store().jobs().unwrap().records
    }

    /// Stops the daemon and starts the next one on the same directory.
    async fn restarted(self) -> Self {
        self.registry.stop().await;
        drop(self.registry);
        Self {
            registry: reopened(open(&self.directory), &HashSet::new()),
            directory: self.directory,
            working: self.working,
        }
    }
}

fn open(directory: &tempfile::TempDir) -> Store {
    let layout = Layout::new(directory.path());
    Store::open_or_rebuild(&layout).unwrap().store
}

fn reopened(store: Store, snapshots: &HashSet<SnapshotId>) -> Registry {
    let stored = store.jobs();
    Registry::open(store, stored, Handle::current(), snapshots, Arc::default())
}

fn new_job(snapshot: Option<&str>) -> NewJob {
    NewJob {
        kind: JobKind::Import,
        project: "polls".parse().unwrap(),
        snapshot: snapshot.map(|id| id.parse().unwrap()),
    }
}

fn failure() -> JobFailure {
    JobFailure {
        code: "import_failed".to_owned(),
        message: "psql failed".to_owned(),
        detail: Some("It said nothing.".to_owned()),
        hint: Some("Try again.".to_owned()),
    }
}

#[tokio::test]
async fn job_is_recorded_from_its_start_to_its_end() {
    let fixture = Fixture::new();
    let (end, ended) = oneshot::channel();
    let work = |context: JobContext| async move {
        context.step("copying files");
        context.bytes(10, Some(20));
        context.warn("nothing to worry about");
        context.step("finishing");
        context.bytes(3, None);
        ended.await.unwrap();
        Ok(())
    };
    let new = new_job(Some("monday"));
    let queued = fixture.registry.start(new, work).await.unwrap();
    assert_eq!((queued.id, queued.state), (JobId::FIRST, JobState::Queued));
    assert_eq!(queued.started_at, None);
    let mut status = fixture.registry.subscribe(queued.id).unwrap();
    let told = status
        .wait_for(|job| job.bytes_done == 3)
        .await
        .unwrap()
        .clone();
    assert_eq!(told.state, JobState::Running);
    assert!(told.started_at.is_some() && told.ended_at.is_none());
    assert_eq!(told.step.as_deref(), Some("finishing"));
    assert_eq!(told.bytes_total, None);
    assert_eq!(told.warnings, ["nothing to worry about"]);
    assert_eq!(fixture.registry.running(), 1);
    assert_eq!(fixture.stored()[0].state, JobState::Running);
    end.send(()).unwrap();
    let last = fixture.ended(queued.id).await;
    assert_eq!(last.state, JobState::Done);
    assert!(last.ended_at >= last.started_at);
    assert_eq!(last.snapshot.as_ref().unwrap().as_str(), "monday");
    assert_eq!(fixture.stored(), std::slice::from_ref(&last));
    assert_eq!(fixture.registry.list(), [last]);
}

#[tokio::test]
async fn failure_and_panic_are_told() {
    let fixture = Fixture::new();
    let failed = fixture.run(End::Failed).await;
    assert_eq!(failed.state, JobState::Failed);
    assert_eq!(failed.failure, Some(failure()));
    let panicked = fixture.run(End::Panicked).await;
    assert_eq!(panicked.state, JobState::Failed);
    assert_eq!(
        panicked.failure.unwrap().message,
        "the job ended unexpectedly"
    );
    assert_eq!(fixture.run(End::Done).await.state, JobState::Done);
}

#[tokio::test]
async fn job_beyond_the_limit_is_queued_until_another_ends() {
    let fixture = Fixture::new();
    let mut running = Vec::new();
    for _ in 0..RUNNING_MAX {
        let (id, end) = fixture.started().await;
        fixture.running(id).await;
        running.push((id, end));
    }
    let (second, _second_ends) = fixture.started().await;
    let (third, _third_ends) = fixture.started().await;
    assert_eq!(fixture.state(second), JobState::Queued);
    let (first, end) = running.remove(0);
    end.send(End::Done).unwrap();
    fixture.running(second).await;
    assert_eq!(fixture.state(first), JobState::Done);
    assert_eq!(fixture.state(third), JobState::Queued);
    let cancelled = fixture.registry.cancel(third).await.unwrap();
    assert_eq!(
        (cancelled.state, cancelled.started_at),
        (JobState::Cancelled, None)
    );
    assert_eq!(fixture.registry.running(), RUNNING_MAX);
}

#[tokio::test]
async fn full_queue_refuses_a_job() {
    let fixture = Fixture::new();
    let mut held = Vec::new();
    for _ in 0..RUNNING_MAX {
        let (id, end) = fixture.started().await;
        fixture.running(id).await;
        held.push(end);
    }
    for _ in 0..QUEUED_MAX {
        held.push(fixture.started().await.1);
    }
    let refused = fixture.start(None).await.unwrap_err();
    assert!(matches!(refused, JobError::QueueFull { limit: QUEUED_MAX }));
    fixture.registry.stop().await;
}

#[tokio::test]
async fn cancel_returns_when_the_work_has_cleaned_up() {
    let fixture = Fixture::new();
    let (cleaned, is_clean) = oneshot::channel();
    let work = |context: JobContext| async move {
        context.cancelled().cancelled().await;
        tokio::task::yield_now().await;
        cleaned.send(()).unwrap();
        Err(WorkError::Cancelled)
    };
    let job = fixture.registry.start(new_job(None), work).await.unwrap();
    fixture.running(job.id).await;
    let cancelled = fixture.registry.cancel(job.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!({ is_clean }.try_recv().is_ok());
    let again = fixture.registry.cancel(job.id).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "job 1 has already ended: it is cancelled"
    );
    let unknown = JobId::from_number(99);
    let error = fixture.registry.cancel(unknown).await.unwrap_err();
    assert!(matches!(error, JobError::NotFound { id } if id == unknown));
}

#[tokio::test]
async fn job_that_finishes_while_it_is_cancelled_has_ended() {
    let fixture = Fixture::new();
    let work = |context: JobContext| async move {
        context.cancelled().cancelled().await;
        Ok(())
    };
    let job = fixture.registry.start(new_job(None), work).await.unwrap();
    fixture.running(job.id).await;
    let error = fixture.registry.cancel(job.id).await.unwrap_err();
    let state = JobState::Done;
    assert!(matches!(error, JobError::Ended { state: ended, .. } if ended == state));
}

#[tokio::test]
async fn two_jobs_do_not_make_one_snapshot() {
    let fixture = Fixture::new();
    let (first, end) = fixture.start(Some("monday")).await.unwrap();
    let refused = fixture.start(Some("monday")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "job 1 already makes snapshot \"monday\""
    );
    let (other, _end) = fixture.start(Some("tuesday")).await.unwrap();
    end.send(End::Failed).unwrap();
    fixture.ended(first).await;
    let (again, _end) = fixture.start(Some("monday")).await.unwrap();
    assert_eq!(again, other.next());
    fixture.registry.stop().await;
}

#[tokio::test]
async fn stop_records_every_job_as_failed_and_refuses_new_ones() {
    let fixture = Fixture::new();
    let mut held = Vec::new();
    for _ in 0..=RUNNING_MAX {
        held.push(fixture.started().await.1);
    }
    fixture.registry.stop().await;
    for job in fixture.stored() {
        assert_eq!(job.state, JobState::Failed);
        assert_eq!(job.failure.unwrap().message, "the daemon was stopped");
    }
    assert_eq!(fixture.working.load(Ordering::SeqCst), 0);
    let refused = fixture.start(None).await.unwrap_err();
    assert!(matches!(refused, JobError::Stopping));
}

#[tokio::test]
async fn job_that_a_killed_daemon_left_has_failed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for number in [1, 2] {
        let new = new_job(None);
        let id = JobId::from_number(number);
        let mut record = JobRecord::queued(id, new.kind, new.project, None);
        if number == 1 {
            record.begin(Timestamp::now());
        }
        store.put_job(&record).unwrap();
    }
    let registry = reopened(store, &HashSet::new());
    for id in [1, 2].map(JobId::from_number) {
        let job = registry.wait(id).await.unwrap();
        assert_eq!(job.state, JobState::Failed);
        assert!(job.ended_at.is_some());
        let message = job.failure.unwrap().message;
        assert_eq!(message, "the daemon stopped before the job had ended");
    }
    let stored = registry.store().jobs().unwrap().records;
    assert!(stored.iter().all(|job| job.state == JobState::Failed));
}

#[tokio::test]
async fn job_whose_snapshot_a_killed_daemon_published_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for (number, snapshot) in [(1, "published"), (2, "interrupted")] {
        let new = new_job(Some(snapshot));
        let id = JobId::from_number(number);
        let mut record = JobRecord::queued(id, new.kind, new.project, new.snapshot);
        record.begin(Timestamp::now());
        store.put_job(&record).unwrap();
    }
    let snapshots = HashSet::from(["published".parse().unwrap()]);
    let registry = reopened(store, &snapshots);
    let states: Vec<_> = registry.list().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Done, JobState::Failed]);
}

#[tokio::test]
async fn history_survives_a_restart_and_numbers_go_on() {
    let fixture = Fixture::new();
    fixture.run(End::Done).await;
    fixture.run(End::Failed).await;
    let (cancelled, _end) = fixture.started().await;
    fixture.registry.cancel(cancelled).await.unwrap();
    let before = fixture.registry.list();
    let fixture = fixture.restarted().await;
    assert_eq!(fixture.registry.list(), before);
    assert_eq!(fixture.run(End::Done).await.id, cancelled.next());
}

#[tokio::test]
async fn history_keeps_the_jobs_that_ended_last() {
    let fixture = Fixture::new();
    let (long, end) = fixture.started().await;
    for _ in 0..HISTORY_MAX + 5 {
        fixture.run(End::Done).await;
    }
    end.send(End::Done).unwrap();
    fixture.ended(long).await;
    let ids: Vec<_> = fixture.registry.list().iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), HISTORY_MAX);
    assert_eq!(ids[0], long, "it ended last");
    assert_eq!(ids[1], JobId::from_number(8));
    let error = fixture.registry.get(JobId::from_number(7)).unwrap_err();
    assert_eq!(error.to_string(), "job 7 does not exist");
    let fixture = fixture.restarted().await;
    let after: Vec<_> = fixture.stored().iter().map(|job| job.id).collect();
    assert_eq!(after, ids);
}

/// A step of a random sequence. Numbers choose among the jobs that have not ended.
#[derive(Debug, Clone)]
enum Action {
    Start { snapshot: u8 },
    End { which: usize, end: End },
    Cancel { which: usize },
    Yield,
}

fn any_action() -> impl Strategy<Value = Action> {
    let end = prop_oneof![Just(End::Done), Just(End::Failed), Just(End::Panicked)];
    prop_oneof![
        4 => (0u8..12).prop_map(|snapshot| Action::Start { snapshot }),
        3 => (any::<usize>(), end).prop_map(|(which, end)| Action::End { which, end }),
        2 => any::<usize>().prop_map(|which| Action::Cancel { which }),
        2 => Just(Action::Yield),
    ]
}

/// The jobs of a random sequence that have not been told to end.
type Open = BTreeMap<JobId, oneshot::Sender<End>>;

fn pick(open: &mut Open, which: usize) -> Option<(JobId, oneshot::Sender<End>)> {
    let nth = which.checked_rem(open.len())?;
    let id = *open.keys().nth(nth)?;
    open.remove_entry(&id)
}

async fn act(fixture: &Fixture, open: &mut Open, action: Action) {
    match action {
        Action::Start { snapshot } => match fixture.start(Some(&format!("s{snapshot}"))).await {
            Ok((id, end)) => assert!(open.insert(id, end).is_none(), "job {id} twice"),
            Err(JobError::SnapshotBusy { id, .. }) => assert!(!fixture.state(id).is_ended()),
            Err(error) => panic!("{error}"),
        },
        Action::End { which, end } => {
            if let Some((_, ends)) = pick(open, which) {
                ends.send(end).unwrap();
            }
        }
        Action::Cancel { which } => {
            if let Some((id, _held)) = pick(open, which) {
                let cancelled = tokio::time::timeout(TIMEOUT, fixture.registry.cancel(id));
                let cancelled = cancelled.await.expect("a cancelled job ends").unwrap();
                assert_eq!(cancelled.state, JobState::Cancelled);
            }
        }
        Action::Yield => tokio::task::yield_now().await,
    }
}

fn check(jobs: &[JobRecord]) {
    let count = |is_counted: &dyn Fn(JobState) -> bool| {
        let states = jobs.iter().map(|job| job.state);
        states.filter(|state| is_counted(*state)).count()
    };
    assert!(count(&|state| state == JobState::Running) <= RUNNING_MAX);
    assert!(count(&JobState::is_ended) <= HISTORY_MAX);
    for job in jobs {
        assert_eq!(job.state.is_ended(), job.ended_at.is_some(), "{job:?}");
        assert_eq!(
            job.state == JobState::Failed,
            job.failure.is_some(),
            "{job:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_jobs_keep_the_limits_and_all_end(
        actions in prop::collection::vec(any_action(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let mut open = Open::new();
            for action in actions {
                act(&fixture, &mut open, action).await;
                check(&fixture.registry.list());
            }
            for (_, end) in open {
                end.send(End::Done).unwrap();
            }
            for job in fixture.registry.list() {
                assert!(fixture.ended(job.id).await.state.is_ended());
            }
            let last = fixture.registry.list();
            let fixture = fixture.restarted().await;
            prop_assert_eq!(fixture.registry.list(), last);
            Ok(())
        })?;
    }
}
