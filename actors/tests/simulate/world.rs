//! The world around the daemon, which goes on while the daemon is dead: time, chance, the disk, the records, the
//! servers, and the answers to clients and administrators.
//!
//! Everything is on one thread. The locks only satisfy the ports' bounds, and none is held across an await.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use jiff::{SignedDuration, Timestamp};
use multidb_actors::connection::DetachedSocket;
use multidb_actors::supervisor::Supervisor;
use multidb_actors::testing::FakeSource;
use multidb_store::RuntimeKind;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::entropy::Chance;
use crate::oracle::Oracle;
use crate::records::RecordLog;
use crate::servers::Servers;
use crate::settings::Settings;
use crate::trace::Trace;

/// The date at which each simulation begins.
const START: Timestamp = Timestamp::constant(1_768_000_000, 0);

pub struct World {
    pub settings: Settings,
    /// The repository of each project.
    pub source: FakeSource,
    /// Where the root is.
    root: Mutex<Root>,
    chance: Mutex<Chance>,
    trace: Mutex<Trace>,
    /// The first violation.
    failure: Mutex<Option<String>>,
    disk: Mutex<Disk>,
    records: Mutex<RecordLog>,
    servers: Mutex<Servers>,
    oracle: Mutex<Oracle>,
    clocks: Mutex<Clocks>,
    /// How to reach the daemon, while one serves.
    daemon: Mutex<Option<Reachable>>,
    /// Whether nothing fails by itself any more.
    calm: AtomicBool,
    failed: watch::Sender<bool>,
    /// Counts the panics that are part of the simulation.
    panics: watch::Sender<u64>,
}

/// The root's place, and the runtime of its daemon.
struct Root {
    moves: u64,
    runtime: RuntimeKind,
}

struct Clocks {
    began: Instant,
    booted: Instant,
    /// How far the wall clock is ahead of the time that has passed.
    ahead: SignedDuration,
    /// The time that daemons have run, up to the current one's beginning.
    observed: Duration,
    /// Likewise at the end of each daemon.
    ends: Vec<Duration>,
    /// When the current daemon began.
    daemon_began: Option<Instant>,
    /// The time at the end.
    ended: Option<Duration>,
}

/// A daemon that accepts clients.
#[derive(Clone)]
pub struct Reachable {
    pub life: Arc<Life>,
    pub supervisor: Addr<Supervisor>,
    pub clients: mpsc::UnboundedSender<DetachedSocket>,
}

/// One process of the daemon.
pub struct Life {
    /// Wakes waiters in their order. A watch channel wakes them in one of tokio's own chance, which no seed decides.
    died: CancellationToken,
    /// Whether it was told to stop.
    is_draining: AtomicBool,
}

impl Life {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            died: CancellationToken::new(),
            is_draining: AtomicBool::new(false),
        })
    }

    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process has ended: nothing that it does counts any more.
    pub fn is_over(&self) -> bool {
        self.died.is_cancelled()
    }

    pub fn end(&self) {
        self.died.cancel();
    }

    /// Resolves when the process has ended.
    pub async fn over(&self) {
        self.died.cancelled().await;
    }
}

impl World {
    pub fn new(settings: Settings, chance: Chance) -> Arc<Self> {
        let now = Instant::now();
        let clocks = Clocks {
            began: now,
            booted: now,
            ahead: SignedDuration::ZERO,
            observed: Duration::ZERO,
            ends: Vec::new(),
            daemon_began: None,
            ended: None,
        };
        Arc::new(Self {
            settings,
            source: FakeSource::filled(),
            root: Mutex::new(Root {
                moves: 0,
                runtime: RuntimeKind::Docker,
            }),
            chance: Mutex::new(chance),
            trace: Mutex::default(),
            failure: Mutex::default(),
            disk: Mutex::default(),
            records: Mutex::default(),
            servers: Mutex::default(),
            oracle: Mutex::default(),
            clocks: Mutex::new(clocks),
            daemon: Mutex::default(),
            calm: AtomicBool::new(false),
            failed: watch::channel(false).0,
            panics: watch::channel(0).0,
        })
    }

    /// The directory of the servers' sockets, relative to the working directory.
    pub fn sockets(&self) -> PathBuf {
        PathBuf::from(format!("r{}", lock(&self.root).moves))
    }

    /// The root is moved to another path. Servers run on.
    pub fn move_root(&self) {
        let from = self.sockets();
        lock(&self.root).moves += 1;
        let to = self.sockets();
        std::fs::rename(&from, &to).expect("a directory can be renamed");
        self.trace(format_args!(
            "the root is moved from {} to {}",
            from.display(),
            to.display()
        ));
    }

    /// The kind that the daemon is configured for.
    pub fn runtime(&self) -> RuntimeKind {
        lock(&self.root).runtime
    }

    pub fn configure(&self, runtime: RuntimeKind) {
        let before = std::mem::replace(&mut lock(&self.root).runtime, runtime);
        if before != runtime {
            self.trace(format_args!("the runtime is configured to be {runtime}"));
        }
    }

    /// Notes a panic that is part of the simulation.
    pub fn note_panic(&self) {
        self.panics.send_modify(|panics| *panics += 1);
    }

    pub fn panics(&self) -> watch::Receiver<u64> {
        self.panics.subscribe()
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub fn records(&self) -> MutexGuard<'_, RecordLog> {
        lock(&self.records)
    }

    pub fn servers(&self) -> MutexGuard<'_, Servers> {
        lock(&self.servers)
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    pub fn chance(&self) -> MutexGuard<'_, Chance> {
        lock(&self.chance)
    }

    pub fn trace(&self, line: fmt::Arguments<'_>) {
        lock(&self.trace).add(self.elapsed(), line);
    }

    pub fn trace_log(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    /// Notes that an invariant is broken, which ends the simulation.
    pub fn violated(&self, invariant: fmt::Arguments<'_>) {
        self.trace(format_args!("VIOLATED: {invariant}"));
        lock(&self.failure).get_or_insert_with(|| invariant.to_string());
        self.failed.send_replace(true);
    }

    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Resolves at the first violation.
    pub async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // The sender is in this struct.
        let _open = failed.wait_for(|failed| *failed).await;
    }

    /// Whether something fails that does in this many cases of a million.
    pub fn fails(&self, of_million: u32) -> bool {
        of_million > 0 && !self.is_calm() && self.chance().happens(of_million)
    }

    pub fn time(&self, from: u64, to: u64) -> Duration {
        self.chance().time(from, to)
    }

    /// From now on nothing fails by itself.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn daemon(&self) -> Option<Reachable> {
        lock(&self.daemon).clone()
    }

    /// Whether the daemon was told to stop.
    pub fn is_draining(&self) -> bool {
        let daemon = self.daemon();
        daemon.is_some_and(|daemon| daemon.life.is_draining.load(Ordering::Relaxed))
    }

    /// The daemon dies at times, so much more often than at each of its steps.
    pub fn may_kill_daemon(&self, times: u32) {
        let rate = self.settings.faults.crash.saturating_mul(times);
        if let Some(daemon) = self.daemon()
            && self.fails(rate)
        {
            self.trace(format_args!("the daemon dies as a client is served"));
            daemon.life.end();
        }
    }

    pub fn set_daemon(&self, daemon: Option<Reachable>) {
        let before = std::mem::replace(&mut *lock(&self.daemon), daemon);
        drop(before);
    }
}

/// Time.
impl World {
    /// The time since the beginning, which never jumps.
    pub fn elapsed(&self) -> Duration {
        let clocks = lock(&self.clocks);
        clocks.ended.unwrap_or_else(|| clocks.began.elapsed())
    }

    /// No time passes any more.
    pub fn end_time(&self) {
        let mut clocks = lock(&self.clocks);
        clocks.ended = Some(clocks.began.elapsed());
    }

    /// The time of the wall clock.
    pub fn wall(&self) -> Timestamp {
        let clocks = lock(&self.clocks);
        let elapsed = SignedDuration::try_from(clocks.began.elapsed());
        let since = elapsed.unwrap_or(SignedDuration::MAX) + clocks.ahead;
        START.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    pub fn since_boot(&self) -> Duration {
        // A machine has run for a while when its daemon starts.
        lock(&self.clocks).booted.elapsed() + Duration::from_secs(20)
    }

    pub fn jump(&self, by: SignedDuration) {
        let mut clocks = lock(&self.clocks);
        clocks.ahead += by;
        drop(clocks);
        self.trace(format_args!("the wall clock jumps by {by:#}"));
    }

    pub fn reboot(&self) {
        lock(&self.clocks).booted = Instant::now();
    }

    /// The time that daemons have run so far.
    pub fn observed(&self) -> Duration {
        let clocks = lock(&self.clocks);
        clocks.observed
            + clocks
                .daemon_began
                .map_or(Duration::ZERO, |at| at.elapsed())
    }

    pub fn daemon_begins(&self) {
        lock(&self.clocks).daemon_began = Some(Instant::now());
    }

    pub fn daemon_ends(&self) {
        let mut clocks = lock(&self.clocks);
        if let Some(began) = clocks.daemon_began.take() {
            clocks.observed += began.elapsed();
        }
        let observed = clocks.observed;
        clocks.ends.push(observed);
    }

    /// The number of daemons that have ended so far.
    pub fn daemons_ended(&self) -> usize {
        lock(&self.clocks).ends.len()
    }

    /// As [`Self::observed`], up to the end of the daemon that served while so many had ended.
    pub fn observed_by(&self, ended: usize) -> Duration {
        let end = lock(&self.clocks).ends.get(ended).copied();
        end.unwrap_or_else(|| self.observed())
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
