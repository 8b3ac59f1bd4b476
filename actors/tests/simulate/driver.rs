//! The course of a simulation: lives of the daemon and their ends, then a calm end at which everything has to
//! come to rest.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::Duration;

use actix::Addr;
use futures_util::FutureExt;
use jiff::SignedDuration;
use multidb_actors::instance::lifecycle::State;
use multidb_actors::supervisor::{CountInstances, GetInstance, ListInstances, Supervisor};
use multidb_store::InstanceName;
use tokio::task::LocalSet;

use crate::administrator;
use crate::client::{self, Client, Reply};
use crate::counts::Counts;
use crate::daemon::Daemon;
use crate::entropy::{Chance, seed_thread};
use crate::ports::PANIC;
use crate::runtime::KINDS;
use crate::settings::Settings;
use crate::trace::Recorder;
use crate::world::{Life, World, lock};

/// The time in which everything comes to rest once nothing fails: longer than each delay of a retry, and than
/// the idle time.
const REST: Duration = Duration::from_secs(2 * 3600);

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// The result of a simulation.
pub struct Report {
    pub failure: Option<String>,
    pub simulated: Duration,
    pub events: u64,
    pub hash: u64,
    pub tail: Vec<String>,
    pub counts: Counts,
}

/// Runs one seed, on a thread of its own.
pub fn simulate(seed: u64) -> Report {
    // One at a time, since the servers' sockets have the same names in each.
    static RUNNING: Mutex<()> = Mutex::new(());
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let _one = lock(&RUNNING);
    DIRECTORY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        // Relative paths are short, and the same in each run.
        std::env::set_current_dir(directory.path()).expect("a new directory can be entered");
        directory
    });
    std::fs::create_dir("r0").expect("it was removed");
    let thread = std::thread::spawn(move || on_this_thread(seed));
    let report = thread.join();
    let entries = std::fs::read_dir(".").expect("it can be read");
    for entry in entries {
        let entry = entry.expect("it can be read");
        std::fs::remove_dir_all(entry.path()).expect("it can be removed");
    }
    report.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn on_this_thread(seed: u64) -> Report {
    seed_thread(seed);
    let mut chance = Chance::new(seed);
    let settings = Settings::new(&mut chance);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime is built");
    let world = {
        let _entered = runtime.enter();
        World::new(settings, chance)
    };
    note_panics(&world);
    let recorder = Recorder(Arc::downgrade(&world));
    let recorded = tracing::subscriber::set_default(recorder);
    // Outside a runtime the clock is the machine's.
    runtime.block_on(async {
        world.trace(format_args!("{:?}", world.settings));
        tokio::select! {
            biased;
            () = world.failed() => {}
            () = course(&world) => {}
        }
        world.end_time();
    });
    world.set_daemon(None);
    // Before the world goes, since its tasks log as they end.
    drop(recorded);
    drop(runtime);
    let trace = world.trace_log();
    Report {
        failure: world.failure(),
        simulated: world.elapsed(),
        events: trace.count,
        hash: trace.hash(),
        tail: trace.tail(),
        counts: world.oracle().counts,
    }
}

thread_local! {
    static WORLD: std::cell::RefCell<std::sync::Weak<World>> = const { std::cell::RefCell::new(std::sync::Weak::new()) };
}

/// A panic that is not part of the simulation is a fault.
fn note_panics(world: &Arc<World>) {
    static HOOK: Once = Once::new();
    WORLD.set(Arc::downgrade(world));
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let world = WORLD.try_with(|world| world.borrow().upgrade());
            match world {
                Ok(Some(world)) => {
                    if panic.payload().downcast_ref::<&str>() != Some(&PANIC) {
                        world.violated(format_args!("panic: {panic}"));
                        // It may be one that ends the simulation.
                        before(panic);
                    }
                }
                _ => before(panic),
            }
        }));
    });
}

async fn course(world: &Arc<World>) {
    let names = (0..world.settings.pace.names).map(|number| format!("i{number}"));
    let names: Vec<InstanceName> = names
        .map(|name| name.parse().expect("it is a name"))
        .collect();
    for _ in 0..world.settings.pace.clients {
        tokio::spawn(client::live(world.clone(), names.clone()));
    }
    for _ in 0..world.settings.pace.administrators {
        tokio::spawn(administrator::live(world.clone(), names.clone()));
    }
    tokio::spawn(weather(world.clone()));
    for number in 1..=world.settings.pace.lives {
        configure(world);
        live(world, number).await;
        between_lives(world).await;
    }
    world.trace(format_args!("nothing fails from now on"));
    world.calm_down();
    world.servers().away = false;
    // A daemon for the instances of each runtime.
    for kind in KINDS {
        world.configure(kind);
        rest(world).await;
    }
}

/// Changes of the configuration while no daemon runs.
fn configure(world: &World) {
    let faults = &world.settings.faults;
    if faults.runtime_changes && world.chance().below(3) == 0 {
        let kind = *world.chance().pick(&KINDS);
        world.configure(kind);
    }
    if faults.root_moves && world.chance().below(4) == 0 {
        world.move_root();
    }
}

/// Faults of the machine and the servers, whether a daemon runs or not.
async fn weather(world: Arc<World>) {
    let most = world.settings.pace.life.1;
    loop {
        tokio::time::sleep(world.time(500, most)).await;
        if world.is_calm() {
            return;
        }
        let faults = &world.settings.faults;
        let choice = world.chance().below(4);
        match choice {
            0 if faults.jumps => {
                let least = *world.chance().pick(&[1, DAY]);
                let millis = world.time(least, 90 * DAY).as_millis() as i64;
                let sign = if world.chance().below(2) == 0 { 1 } else { -1 };
                world.jump(SignedDuration::from_millis(sign * millis));
            }
            1 if faults.engine_away => {
                world.trace(format_args!("the engine is away"));
                world.servers().away = true;
                tokio::time::sleep(world.time(100, 600_000)).await;
                world.servers().away = false;
                world.trace(format_args!("the engine is back"));
            }
            2 if world.fails(faults.server_exits.saturating_mul(5)) => {
                let uids: Vec<_> = world.servers().by_uid.keys().copied().collect();
                if !uids.is_empty() {
                    let uid = *world.chance().pick(&uids);
                    world.trace(format_args!("the server on {uid} crashes"));
                    world.end_server(uid);
                }
            }
            _ => world.records().copy(),
        }
    }
}

/// One process of the daemon, from its start to its end.
async fn live(world: &Arc<World>, number: u64) {
    let life = Life::new();
    world.oracle().counts.lives += 1;
    world.trace(format_args!("daemon {number} starts"));
    let (least, most) = world.settings.pace.life;
    let lifetime = world.time(least, most);
    let is_killed = world.chance().below(3) > 0;
    let tasks = LocalSet::new();
    world.daemon_begins();
    let living = tasks.run_until(async {
        let daemon = tokio::select! {
            biased;
            () = life.over() => None,
            daemon = Daemon::start(world, &life) => daemon,
        };
        let Some(daemon) = daemon else { return };
        tokio::select! {
            biased;
            () = life.over() => return,
            () = tokio::time::sleep(lifetime) => {}
        }
        if !is_killed {
            world.trace(format_args!("the daemon is told to stop"));
            life.drain();
            tokio::select! {
                biased;
                () = life.over() => {}
                () = daemon.drain() => {}
                // systemd's patience.
                () = tokio::time::sleep(Duration::from_secs(90)) => {}
            }
        }
    });
    // A panic outside of the actors ends the process.
    if AssertUnwindSafe(living).catch_unwind().await.is_err() {
        world.trace(format_args!("the daemon panics as it starts"));
    }
    life.end();
    world.set_daemon(None);
    drop(tasks);
    world.daemon_ends();
    world.trace(format_args!("daemon {number} has ended"));
    let mut chance = world.chance();
    world.records().crash(&mut chance);
}

/// Faults of the records and the machine while no daemon runs.
async fn between_lives(world: &Arc<World>) {
    let faults = &world.settings.faults;
    if faults.power_cuts && world.chance().below(3) == 0 {
        world.trace(format_args!("the machine loses power"));
        let uids: Vec<_> = world.servers().by_uid.keys().copied().collect();
        uids.into_iter().for_each(|uid| world.end_server(uid));
        world.disk().lose_power(|| world.chance().next());
        world.reboot();
    }
    if world.fails(faults.records_lost) {
        let lost = world.records().lose_tail(&mut world.chance());
        world.trace(format_args!("the last {lost} writes of records are lost"));
        world.oracle().uses_forgotten();
    }
    if world.fails(faults.records_older) {
        world.records().restore(&mut world.chance());
        world.trace(format_args!("the records are restored from an older copy"));
        world.oracle().uses_forgotten();
        world.oracle().pins_may_be_back();
    }
    if world.chance().below(2) == 0 {
        // The daemon before had emptied it in the background.
        world.disk().trash.clear();
    }
    let down = world.time(10, 60_000);
    tokio::time::sleep(down).await;
}

/// The end: a daemon without faults, at which everything comes to rest and everything promised is served.
async fn rest(world: &Arc<World>) {
    let life = Life::new();
    let tasks = LocalSet::new();
    world.daemon_begins();
    let resting = tasks.run_until(async {
        let Some(daemon) = Daemon::start(world, &life).await else {
            return world.violated(format_args!("the daemon does not start"));
        };
        tokio::time::sleep(REST).await;
        check_rest(world, &daemon.supervisor).await;
        serve_all(world, &daemon.supervisor).await;
        tokio::time::sleep(REST).await;
        check_rest(world, &daemon.supervisor).await;
    });
    resting.await;
    life.end();
    world.set_daemon(None);
    drop(tasks);
    world.daemon_ends();
}

/// Nothing runs, nothing is under way, the counts are right, and each directory has its record.
async fn check_rest(world: &Arc<World>, supervisor: &Addr<Supervisor>) {
    let kind = world.runtime();
    let servers = world.servers().by_uid.clone();
    let running = servers.values().filter(|server| server.runtime == kind);
    let running: Vec<_> = running.map(|server| server.uid).collect();
    if !running.is_empty() {
        world.violated(format_args!("servers run at rest: {running:?}"));
    }
    let listed = supervisor.send(ListInstances::default()).await;
    let counts = supervisor.send(CountInstances).await;
    let (Ok(listed), Ok(counts)) = (listed, counts) else {
        return world.violated(format_args!("the supervisor does not answer"));
    };
    let mut recount = std::collections::BTreeMap::new();
    for status in &listed {
        *recount.entry(status.state.into()).or_insert(0_usize) += 1;
        let is_other = status.record.runtime != Some(kind);
        let is_at_rest = match status.state {
            State::Stopped | State::Failed => !is_other,
            State::Unavailable { .. } => is_other,
            _ => false,
        };
        if !is_at_rest {
            world.violated(format_args!(
                "{} is {:?} at rest",
                status.record.name, status.state
            ));
        }
        if status.sessions > 0 || !status.unused {
            world.violated(format_args!("{} has sessions at rest", status.record.name));
        }
    }
    // A server of the other runtime keeps its directory.
    if world.servers().by_uid.is_empty() {
        let directories: Vec<_> = world.disk().instances.keys().copied().collect();
        for uid in directories {
            if !listed.iter().any(|status| status.record.uid == uid) {
                world.violated(format_args!("{uid} has no instance at rest"));
            }
        }
    }
    if recount != counts.by_state {
        world.violated(format_args!(
            "the counts {:?} are not those of a recount, {recount:?}",
            counts.by_state
        ));
    }
}

/// Each instance of the configured runtime is served, as many at a time as there are slots.
async fn serve_all(world: &Arc<World>, supervisor: &Addr<Supervisor>) {
    let Ok(mut listed) = supervisor.send(ListInstances::default()).await else {
        return world.violated(format_args!("the supervisor does not answer"));
    };
    listed.retain(|status| status.record.runtime == Some(world.runtime()));
    for some in listed.chunks(world.settings.limits.max_running) {
        let served = some
            .iter()
            .map(|status| serve(world, supervisor, &status.record.name));
        futures_util::future::join_all(served).await;
    }
}

async fn serve(world: &Arc<World>, supervisor: &Addr<Supervisor>, name: &InstanceName) {
    let expected = world.oracle().expectation(name);
    let user = client::user(name, None);
    let asked = world.elapsed();
    let Some(mut client) = Client::connect(world, &user).await else {
        return world.violated(format_args!("nobody serves at rest"));
    };
    let mut reply = client.logged_in().await;
    if reply == Reply::Ready {
        reply = client.hello(name, asked).await;
    }
    // It may have expired in the meantime.
    let is_promised = expected.clone.is_some() && world.oracle().expectation(name) == expected;
    // Records that are older than the data may name data that was deleted since.
    let listed = supervisor.send(GetInstance(name.clone())).await;
    let listed = listed.ok().flatten().map(|status| status.record.uid);
    let has_data = listed.is_some_and(|clone| !world.oracle().is_destroyed(clone));
    let is_whole = has_data && !world.oracle().records_were_lost();
    if reply != Reply::Ready && (is_promised || is_whole) {
        world.violated(format_args!("{name} is not served at rest: {reply:?}"));
    }
    // The others need their slots at the same time.
    tokio::time::sleep(Duration::from_secs(1)).await;
}
