//! Long work that outlives the command that began it.
//!
//! ```text
//! start ──▶ queued ──▶ running ──▶ done | failed | cancelled
//!               └─────────────────────────────▲
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`Registry`] | all jobs: the queue, the running ones and the history |
//! | `run` | one job, from the queue to its last record |
//! | `context` | the reports of a job about itself |
//! | `history` | the records of earlier jobs, read at the start of the daemon |
//! | `import` | the import of a snapshot as a job |
//!
//! A job belongs to the daemon: it ends by itself, by [`Registry::cancel`] or with the daemon.
//! Its state is durable when it is queued, when it begins and before anyone is told of its end. A
//! job that was not ended when the daemon died is failed after the next start, unless its snapshot
//! had been published; its leftovers are removed by the clean-up of the start, which knows nothing of jobs.

mod context;
mod error;
mod history;
mod import;
mod registry;
mod run;
#[cfg(test)]
mod tests;

pub use self::context::JobContext;
pub use self::error::{JobError, WorkError};
pub use self::import::import;
pub use self::registry::{NewJob, Registry};
