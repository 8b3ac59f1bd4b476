//! The stored forms of a job's record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CodecError, open, seal};
use crate::ids::{JobId, ProjectName, SnapshotId};
use crate::records::{JobFailure, JobKind, JobRecord, JobState};

/// The version that is written.
const VERSION: u16 = 3;

/// The form of a job's record. Frozen: never change it, add another one. The versions differ in the kinds that
/// there are.
#[derive(Serialize, Deserialize)]
struct StoredJob<Kind> {
    id: JobId,
    kind: Kind,
    project: ProjectName,
    snapshot: Option<SnapshotId>,
    state: StateV1,
    step: Option<String>,
    bytes_done: u64,
    bytes_total: Option<u64>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    failure: Option<FailureV1>,
    warnings: Vec<String>,
}

/// The kinds of the first version. Frozen.
#[derive(Serialize, Deserialize)]
enum KindV1 {
    Import,
}

/// The kinds of the second version. Frozen.
#[derive(Serialize, Deserialize)]
enum KindV2 {
    Import,
    Dedup,
}

/// The kinds of the third version. Frozen.
#[derive(Serialize, Deserialize)]
enum KindV3 {
    Import,
    Dedup,
    Refresh,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
struct FailureV1 {
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<KindV1> for JobKind {
    fn from(kind: KindV1) -> Self {
        match kind {
            KindV1::Import => Self::Import,
        }
    }
}

impl From<KindV2> for JobKind {
    fn from(kind: KindV2) -> Self {
        match kind {
            KindV2::Import => Self::Import,
            KindV2::Dedup => Self::Dedup,
        }
    }
}

impl From<KindV3> for JobKind {
    fn from(kind: KindV3) -> Self {
        match kind {
            KindV3::Import => Self::Import,
            KindV3::Dedup => Self::Dedup,
            KindV3::Refresh => Self::Refresh,
        }
    }
}

impl From<JobRecord> for StoredJob<KindV3> {
    fn from(record: JobRecord) -> Self {
        Self {
            id: record.id,
            kind: match record.kind {
                JobKind::Import => KindV3::Import,
                JobKind::Dedup => KindV3::Dedup,
                JobKind::Refresh => KindV3::Refresh,
            },
            project: record.project,
            snapshot: record.snapshot,
            state: match record.state {
                JobState::Queued => StateV1::Queued,
                JobState::Running => StateV1::Running,
                JobState::Done => StateV1::Done,
                JobState::Failed => StateV1::Failed,
                JobState::Cancelled => StateV1::Cancelled,
            },
            step: record.step,
            bytes_done: record.bytes_done,
            bytes_total: record.bytes_total,
            started_at: record.started_at,
            ended_at: record.ended_at,
            failure: record.failure.map(|failure| FailureV1 {
                code: failure.code,
                message: failure.message,
                detail: failure.detail,
                hint: failure.hint,
            }),
            warnings: record.warnings,
        }
    }
}

impl<Kind: Into<JobKind>> From<StoredJob<Kind>> for JobRecord {
    fn from(record: StoredJob<Kind>) -> Self {
        Self {
            id: record.id,
            kind: record.kind.into(),
            project: record.project,
            snapshot: record.snapshot,
            state: match record.state {
                StateV1::Queued => JobState::Queued,
                StateV1::Running => JobState::Running,
                StateV1::Done => JobState::Done,
                StateV1::Failed => JobState::Failed,
                StateV1::Cancelled => JobState::Cancelled,
            },
            step: record.step,
            bytes_done: record.bytes_done,
            bytes_total: record.bytes_total,
            started_at: record.started_at,
            ended_at: record.ended_at,
            failure: record.failure.map(|failure| JobFailure {
                code: failure.code,
                message: failure.message,
                detail: failure.detail,
                hint: failure.hint,
            }),
            warnings: record.warnings,
        }
    }
}

/// A job's record in its envelope.
///
/// # Errors
///
/// The record is larger than any should be.
pub fn encode_job(record: &JobRecord) -> Result<Vec<u8>, CodecError> {
    seal(VERSION, &StoredJob::from(record.clone()))
}

/// The job's record in these bytes.
///
/// # Errors
///
/// The bytes are not a whole, undamaged record of a version that is known.
pub fn decode_job(bytes: &[u8]) -> Result<JobRecord, CodecError> {
    let envelope = open(bytes)?;
    match envelope.version {
        1 => Ok(envelope.decode::<StoredJob<KindV1>>()?.into()),
        2 => Ok(envelope.decode::<StoredJob<KindV2>>()?.into()),
        3 => Ok(envelope.decode::<StoredJob<KindV3>>()?.into()),
        version => Err(CodecError::Version {
            version,
            newest: VERSION,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_time, unhex};
    use super::*;

    pub(crate) fn example_job() -> JobRecord {
        JobRecord {
            id: JobId::from_number(7),
            kind: JobKind::Import,
            project: "mathspace".parse().unwrap(),
            snapshot: Some("monday".parse().unwrap()),
            state: JobState::Failed,
            step: Some("restoring the dump".to_owned()),
            bytes_done: 1 << 20,
            bytes_total: None,
            started_at: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            ended_at: Some(Timestamp::from_second(1_700_000_060).unwrap()),
            failure: Some(JobFailure {
                code: "import_failed".to_owned(),
                message: "psql failed: division by zero".to_owned(),
                detail: None,
                hint: Some("Make the dump again.".to_owned()),
            }),
            warnings: vec!["settings made by ALTER SYSTEM are left out: port".to_owned()],
        }
    }

    /// Written by the first release with jobs. If this fails, records on users' disks cannot be read.
    const GOLDEN_V1: &str = include_str!("job-v1.hex");
    /// Likewise, by the first one with de-duplication.
    const GOLDEN_V2: &str = include_str!("job-v2.hex");
    /// Likewise, by the first one with refreshes.
    const GOLDEN_V3: &str = include_str!("job-v3.hex");

    #[test]
    fn versions_of_a_job_record_keep_their_bytes() {
        assert_eq!(decode_job(&unhex(GOLDEN_V1)).unwrap(), example_job());
        let job = JobRecord {
            kind: JobKind::Dedup,
            ..example_job()
        };
        assert_eq!(decode_job(&unhex(GOLDEN_V2)).unwrap(), job);
        let job = JobRecord {
            kind: JobKind::Refresh,
            ..example_job()
        };
        let golden: String = GOLDEN_V3.split_whitespace().collect();
        assert_eq!(hex::encode(encode_job(&job).unwrap()), golden);
        assert_eq!(decode_job(&unhex(GOLDEN_V3)).unwrap(), job);
    }

    #[test]
    fn newer_job_record_is_refused_by_its_version() {
        let bytes = seal(4, &StoredJob::from(example_job())).unwrap();
        let error = decode_job(&bytes).unwrap_err();
        assert!(
            matches!(error, CodecError::Version { version: 4, .. }),
            "{error}"
        );
    }

    fn any_job() -> impl Strategy<Value = JobRecord> {
        let name = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}";
        let state = prop_oneof![
            Just(JobState::Queued),
            Just(JobState::Running),
            Just(JobState::Done),
            Just(JobState::Failed),
            Just(JobState::Cancelled),
        ];
        let text = || prop::option::of(".{0,40}");
        let kind = prop_oneof![
            Just(JobKind::Import),
            Just(JobKind::Dedup),
            Just(JobKind::Refresh)
        ];
        let identity = (any::<u64>(), kind, name, prop::option::of(name), state);
        let progress = (text(), any::<u64>(), any::<Option<u64>>());
        let times = (prop::option::of(any_time()), prop::option::of(any_time()));
        let failure = prop::option::of(("[a-z_]{0,20}", ".{0,40}", text(), text()));
        let warnings = prop::collection::vec(".{0,40}", 0..4);
        (identity, progress, times, failure, warnings).prop_map(
            |(identity, progress, times, failure, warnings)| JobRecord {
                id: JobId::from_number(identity.0),
                kind: identity.1,
                project: identity.2.parse().unwrap(),
                snapshot: identity.3.map(|name| name.parse().unwrap()),
                state: identity.4,
                step: progress.0,
                bytes_done: progress.1,
                bytes_total: progress.2,
                started_at: times.0,
                ended_at: times.1,
                failure: failure.map(|(code, message, detail, hint)| JobFailure {
                    code,
                    message,
                    detail,
                    hint,
                }),
                warnings,
            },
        )
    }

    proptest! {
        #[test]
        fn encoded_job_is_decoded(record in any_job()) {
            prop_assert_eq!(decode_job(&encode_job(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn damaged_byte_of_a_job_is_always_noticed(
            record in any_job(), at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let mut bytes = encode_job(&record).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode_job(&bytes).is_err());
        }
    }
}
