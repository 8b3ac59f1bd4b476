//! The harness of multidb's scenarios.
//!
//! It depends on none of multidb's crates: it sees what a user sees, which is the program, its
//! sockets, its files, its log and the processes that it starts.
//!
//! | module | owns |
//! | --- | --- |
//! | `daemon` | one `multidb serve` with a directory of its own, from its start to the proof that nothing of it is left |
//! | `disk` | the file systems that `scripts/test.sh` mounts |
//! | `fixture` | snapshots that are imported once for all tests, the dumps behind them, a git repository |
//! | `session` | one connection through multidb, by tokio-postgres, with blocking calls |
//! | `plain_postgres` | a Postgres without multidb, to compare with |
//! | `raw` | one connection byte by byte, for clients that misbehave |
//! | `simulated_backends` | backends for more sessions than Postgres has memory for |
//! | `programs` | psql, pg_dump and the like, as a user runs them |
//! | `engine_relay` | a way to take the Docker engine away from one daemon |
//! | `dice` | chance that can be repeated |
//! | `certificates` | certificates, by an authority of their own |
//! | `poll` | waiting for a condition, with a limit |
//!
//! The benchmark, `src/bin/bench`, stands on the same harness.
//!
//! A test that cannot run because something is missing fails, with a word about what to do: tests
//! never skip themselves.

mod certificates;
mod daemon;
mod dice;
mod disk;
mod engine_relay;
mod fixture;
mod plain_postgres;
mod poll;
mod ports;
mod processes;
mod programs;
mod raw;
mod session;
mod simulated_backends;
mod terminal;

pub use certificates::{Authority, Identity};
pub use daemon::{CliOutput, Daemon, DaemonBuilder, Engine};
pub use dice::Dice;
pub use disk::Disk;
pub use engine_relay::EngineRelay;
pub use fixture::{Fixture, MONDAY_ROWS, Repository, TUESDAY_ROWS};
pub use plain_postgres::PlainPostgres;
pub use poll::{eventually, poll};
pub use ports::Port;
pub use processes::{is_alive, kill, kill_servers_of, postmaster_pid, raise_file_limit};
pub use programs::{ProgramOutput, postgres_bin, postgres_ids, run, run_as_postgres};
pub use raw::{RawClient, startup_packet};
pub use session::{PendingQuery, PgFailure, Session};
pub use simulated_backends::SimulatedBackends;
pub use terminal::run_on_terminal;
