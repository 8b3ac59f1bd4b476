//! The records of earlier jobs, read at the start of the daemon.

use std::collections::HashSet;

use jiff::Timestamp;
use multidb_store::store::StoredJobs;
use multidb_store::{JobFailure, JobRecord, JobState, SnapshotId, Store, StoreError, error_chain};

/// All jobs. Jobs that had not ended have failed: their work ended with the last daemon. Nothing here is
/// an error, since the daemon serves its clients without a history as well.
///
/// An import whose snapshot is there was done: it published the snapshot and was killed before its record
/// was written. No job starts for the id of an existing snapshot.
pub(super) fn load(
    store: &Store,
    stored: Result<StoredJobs, StoreError>,
    snapshots: &HashSet<SnapshotId>,
) -> Vec<JobRecord> {
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(
                error = error_chain(&error),
                "the history of jobs cannot be read, it starts anew"
            );
            return Vec::new();
        }
    };
    for damaged in &stored.damaged {
        let error = error_chain(&damaged.error);
        tracing::warn!(error, "a damaged job record is removed");
    }
    if !stored.damaged.is_empty() {
        warn_if_failed(store.remove_damaged_jobs(&stored.damaged));
    }
    let mut records = stored.records;
    for record in &mut records {
        if !record.state.is_ended() {
            let published = |id: &SnapshotId| snapshots.contains(id);
            if record.snapshot.as_ref().is_some_and(published) {
                record.end(JobState::Done, Timestamp::now());
            } else {
                fail(record);
            }
            let state = record.state.name();
            tracing::info!(job = %record.id, kind = record.kind.name(), state, "a job ended with the last daemon");
            warn_if_failed(store.put_job(record));
        }
    }
    records
}

fn fail(record: &mut JobRecord) {
    let failure = JobFailure {
        code: "daemon_stopped".to_owned(),
        message: "the daemon stopped before the job had ended".to_owned(),
        detail: Some(
            "The daemon was killed or crashed. Nothing is left of the job's work.".to_owned(),
        ),
        hint: Some("Start the job again.".to_owned()),
    };
    record.fail(failure, Timestamp::now());
}

fn warn_if_failed(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(
            error = error_chain(&error),
            "the history of jobs cannot be written"
        );
    }
}
