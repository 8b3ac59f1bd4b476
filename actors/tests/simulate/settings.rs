//! The settings that a seed decides for a whole simulation: the daemon's limits, which kinds of faults there are, and
//! the pace of clients and administrators. A few kinds at a time find more than all at once.

use std::time::Duration;

use multidb_actors::limits::{IdleLimits, Limits};

use crate::entropy::Chance;

/// How often something fails, in cases of a million.
type Rate = u32;

#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: Limits,
    pub faults: Faults,
    pub pace: Pace,
}

/// The kinds of faults.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The daemon dies at a step of its work with the disk, the records or a server.
    pub crash: Rate,
    /// An operation of the disk fails.
    pub disk: Rate,
    /// A write of the records fails.
    pub records: Rate,
    /// A restart finds the end of the flushed records lost.
    pub records_lost: Rate,
    /// A restart finds an older copy of the records in their place.
    pub records_older: Rate,
    /// An operation of the disk or the records takes long.
    pub slow: Rate,
    pub start_fails: Rate,
    pub start_hangs: Rate,
    pub stop_fails: Rate,
    pub stop_hangs: Rate,
    /// The runtime cannot tell which servers run.
    pub find_fails: Rate,
    /// An answer of the runtime comes late.
    pub runtime_slow: Rate,
    /// Whether the runtime "docker" is away at times.
    pub engine_away: bool,
    /// Whether a daemon may be configured for another runtime than the one before.
    pub runtime_changes: bool,
    /// Whether the root is moved at times, while no daemon runs.
    pub root_moves: bool,
    /// A server exits by itself, at each question of its activity and once in a while.
    pub server_exits: Rate,
    pub git: Rate,
    pub probe: Rate,
    /// A server has no connection left for a question.
    pub full: Rate,
    /// The actor of an instance panics while it waits for its server. Any other code that calls a port panics, too, in
    /// a thirtieth of the cases.
    pub panics: Rate,
    /// Whether the wall clock jumps.
    pub jumps: bool,
    /// Whether the machine loses power at times.
    pub power_cuts: bool,
}

/// The pace of clients and administrators, and the times between restarts.
#[derive(Debug, Clone)]
pub struct Pace {
    pub clients: u64,
    pub administrators: u64,
    pub names: u64,
    pub lives: u64,
    /// The time that a daemon lives, in milliseconds.
    pub life: (u64, u64),
    /// The time between two visits of a client.
    pub visit: (u64, u64),
    /// The time between two commands.
    pub command: (u64, u64),
    /// The time between two queries of a session.
    pub think: (u64, u64),
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

impl Settings {
    pub fn new(chance: &mut Chance) -> Self {
        let pace = Pace::new(chance);
        let retention = if pace.visit.1 > HOUR {
            chance.time(2 * HOUR, 48 * HOUR)
        } else {
            chance.time(20 * MINUTE, 20 * HOUR)
        };
        let limits = Limits {
            idle: IdleLimits {
                session: chance.time(MINUTE, HOUR),
                transaction: chance.time(MINUTE, HOUR),
                ..IdleLimits::default()
            },
            instance_idle_timeout: chance.time(2_000, 20 * MINUTE),
            retention,
            expiry_grace: chance.time(10 * MINUTE, 10 * HOUR),
            start_timeout: chance.time(5_000, 60_000),
            login_timeout: Duration::from_secs(10),
            shutdown_grace: chance.time(100, 20_000),
            max_running: 1 + chance.below(4) as usize,
            memory_high_water: None,
            max_connections: 1000,
            max_unauthenticated: 1000,
        };
        Self {
            limits,
            faults: Faults::new(chance),
            pace,
        }
    }
}

impl Faults {
    fn new(chance: &mut Chance) -> Self {
        let mut rate = |most: u64| {
            let is_on = chance.below(2) == 0;
            let rate = 1 + chance.below(most) as u32;
            if is_on { rate } else { 0 }
        };
        Self {
            crash: rate(20_000),
            disk: rate(100_000),
            records: rate(100_000),
            records_lost: rate(300_000),
            records_older: rate(200_000),
            slow: rate(50_000),
            start_fails: rate(200_000),
            start_hangs: rate(100_000),
            stop_fails: rate(300_000),
            stop_hangs: rate(100_000),
            find_fails: rate(300_000),
            runtime_slow: rate(100_000),
            engine_away: rate(2) > 0,
            runtime_changes: rate(2) > 0,
            root_moves: rate(2) > 0,
            server_exits: rate(100_000),
            git: rate(200_000),
            probe: rate(200_000),
            full: rate(400_000),
            panics: rate(50_000),
            jumps: rate(2) > 0,
            power_cuts: rate(2) > 0,
        }
    }
}

impl Pace {
    fn new(chance: &mut Chance) -> Self {
        let is_busy = chance.below(3) > 0;
        let (clients, names) = (1 + chance.below(8), 1 + chance.below(6));
        if is_busy {
            Self {
                clients,
                administrators: chance.below(3),
                names,
                lives: 2 + chance.below(12),
                life: (100, 10 * MINUTE),
                visit: (10, 2 * MINUTE),
                command: (50, 3 * MINUTE),
                think: (1, 20_000),
            }
        } else {
            Self {
                clients,
                administrators: chance.below(3),
                names,
                lives: 2 + chance.below(10),
                life: (MINUTE, 72 * HOUR),
                visit: (MINUTE, 30 * HOUR),
                command: (10 * MINUTE, 30 * HOUR),
                think: (100, 20 * MINUTE),
            }
        }
    }
}
