//! The import of a snapshot as a job.

use std::sync::Arc;

use multidb_store::{JobFailure, error_chain};

use super::{JobContext, WorkError};
use crate::import::{ImportError, ImportRequest, Importer, Progress};

/// Imports a snapshot, and reports its progress as that of the job.
///
/// # Errors
///
/// The import failed or was cancelled. Nothing is left of it.
pub async fn import(
    importer: Arc<Importer>,
    request: ImportRequest,
    context: JobContext,
) -> Result<(), WorkError> {
    let report = |progress| match progress {
        Progress::Step(step) => context.step(step.label()),
        Progress::Bytes { done, total } => context.bytes(done, total),
        Progress::Preparation {
            number,
            count,
            name,
        } => context.step(&format!("preparation {number} of {count}: {name}")),
        Progress::Warning(warning) => context.warn(&warning),
    };
    let cancelled = context.cancelled().clone();
    match importer.import(request, report, cancelled).await {
        Ok(_) => Ok(()),
        Err(ImportError::Cancelled) => Err(WorkError::Cancelled),
        Err(error) => Err(WorkError::Failed(JobFailure {
            code: error.code().to_owned(),
            message: error_chain(&error),
            detail: error.detail(),
            hint: error.hint(),
        })),
    }
}
