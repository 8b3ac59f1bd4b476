//! The harness of multidb's scenarios.
//!
//! It depends on none of multidb's crates and uses only the public interfaces: the program, its
//! sockets, its files, its log and its child processes.
//!
//! | module | owns |
//! | --- | --- |
//! | `daemon` | one `multidb serve` with its own directory, from its start to the check for leftovers |
//! | `disk` | the file systems that `scripts/test.sh` mounts |
//! | `fixture` | snapshots that are imported once for all tests, the dumps behind them, a git repository |
//! | `session` | one connection through multidb, by tokio-postgres, with blocking calls |
//! | `plain_postgres` | a Postgres without multidb, to compare with |
//! | `raw` | one connection byte by byte, for malformed input |
//! | `simulated_backends` | backends with little memory, for 10,000 sessions |
//! | `programs` | psql, pg_dump and the like, as a user runs them |
//! | `engine_relay` | a relay that disconnects one daemon from the Docker engine |
//! | `random_delays` | reproducible random delays |
//! | `certificates` | certificates, signed by a test authority |
//! | `browser` | Chromium, driven by WebDriver |
//! | `http` | a client of the API over the network |
//! | `webhook` | a receiver of notifications |
//! | `poll` | waiting for a condition, with a limit |
//!
//! The benchmark, `src/bin/bench`, uses the same harness.
//!
//! A test with a missing dependency fails with a hint about the remedy: tests never skip
//! themselves.

mod browser;
mod certificates;
mod daemon;
mod disk;
mod engine_relay;
mod fixture;
mod held_sockets;
mod http;
mod plain_postgres;
mod poll;
mod ports;
mod processes;
mod programs;
mod random_delays;
mod raw;
mod session;
mod simulated_backends;
mod terminal;
mod wall_clock;
mod webhook;

pub use browser::Browser;
pub use certificates::{Authority, Identity};
pub use daemon::{CliOutput, Daemon, DaemonBuilder, Engine};
pub use disk::Disk;
pub use engine_relay::EngineRelay;
pub use fixture::{Fixture, MONDAY_ROWS, Repository, TUESDAY_ROWS};
pub use held_sockets::HeldSockets;
pub use http::{HttpAnswer, HttpClient, HttpFailure};
pub use plain_postgres::PlainPostgres;
pub use poll::{eventually, poll};
pub use ports::Port;
pub use processes::{
    is_alive, kill, kill_all_using, kill_servers_of, postmaster_pid, raise_file_limit,
};
pub use programs::{
    OTHER_MAJORS, ProgramOutput, other_postgres_bin, path_with, postgres_bin, postgres_ids, run,
    run_as_postgres,
};
pub use random_delays::RandomDelays;
pub use raw::{RawClient, startup_packet};
pub use session::{PendingQuery, PgFailure, Session};
pub use simulated_backends::SimulatedBackends;
pub use terminal::{Terminal, run_on_terminal};
pub use wall_clock::WallClock;
pub use webhook::{Received, Webhook, WebhookAnswer};
