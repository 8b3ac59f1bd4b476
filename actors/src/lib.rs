//! The actors of multidb, and the policies they carry out.
//!
//! | module | owns |
//! | --- | --- |
//! | [`supervisor`] | the map from an instance's name to its actor; creation, eviction, expiry |
//! | [`instance`] | one instance: its life cycle, its waiters, its Postgres |
//! | [`connection`] | one client connection: login, relay, idleness |
//! | [`console`] | the language of the console: statements and values |
//! | [`snapshot_index`] | the snapshots, and the choice of one for a new instance |
//! | [`clone_worker`] | the threads that clone, delete and write records |
//! | [`critical`] | the end of the process when a part dies that must not |
//! | [`instance_table`] | the status of every instance, with counts and orders |
//! | [`leftovers`] | the clones that bear an instance's name and are not its data |
//! | [`metrics`] | counters and timings of the actors |
//! | [`sessions`], [`slots`], [`limits`] | shared by the actors: open sessions, places to run, settings |
//! | [`project`] | the choice of a project for a request |
//! | [`request`] | the overloaded user name |
//! | [`auth`] | authentication, and the rights of users |
//! | [`wire`] | the part of Postgres' protocol that a proxy must speak |
//! | [`client_error`] | the only map from domain errors to a Postgres client's form |
//! | [`awake`] | the activity of a Postgres without sessions that a stop would interrupt |
//! | [`endpoint`] | connecting to a Postgres of ours |
//! | [`ports`] | the runtime, files, git and the clock, as traits |

pub mod auth;
pub mod awake;
pub mod by_address;
pub mod client_error;
pub mod clone_worker;
pub mod connection;
pub mod console;
pub mod critical;
pub mod endpoint;
pub mod history;
pub mod instance;
pub mod instance_table;
pub mod leftovers;
pub mod limits;
pub mod metrics;
pub mod observed_clock;
pub mod ports;
pub mod project;
pub mod request;
pub mod sessions;
pub mod slots;
pub mod snapshot_index;
pub mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
pub mod wire;

use multidb_store::InstanceUid;

/// A fresh identity for a clone.
fn new_uid() -> InstanceUid {
    InstanceUid::from_bits(rand::random())
}
