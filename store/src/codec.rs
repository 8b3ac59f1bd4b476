//! The encoding of stored records.
//!
//! ```text
//! offset  bytes
//!      0      4  magic "mdb\x1a"
//!      4      2  version of the payload's type, little endian
//!      6      4  crc32 of version and payload, little endian
//!     10      …  payload: bincode 1.3, fixed-size integers, little endian
//! ```
//!
//! bincode does not support evolution: a new field misreads old bytes, and a reordered enum decodes to another
//! variant. So each version has one frozen type here, and the rest of the program has only the newest
//! form. A new version is a new type beside the old ones, and a conversion.

use bincode::Options;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, InstanceUid, ProjectName, SnapshotId};
use crate::records::{InstanceRecord, Phase, Pin};

mod job;

pub use self::job::{decode_job, encode_job};

const MAGIC: [u8; 4] = *b"mdb\x1a";
const HEADER_BYTES: usize = 10;
/// The largest record. Real ones have some hundred bytes.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// The version that is written.
const VERSION: u16 = 1;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// They do not begin with [`MAGIC`].
    #[error("it is not a multidb record")]
    Magic,
    /// There are too many or too few of them.
    #[error("a record cannot have {bytes} bytes")]
    Length {
        /// The number of bytes.
        bytes: usize,
    },
    /// They were damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// They were written by a newer multidb.
    #[error("its version {version} is newer than {newest}, the newest one that this multidb reads")]
    Version {
        /// Their version.
        version: u16,
        /// The newest version that this multidb knows.
        newest: u16,
    },
    /// They are the record of another key.
    #[error("it belongs to another key")]
    Key,
    /// Their payload is not of their version.
    #[error("its payload cannot be decoded")]
    Payload(#[source] bincode::Error),
}

/// The first form of an instance's record. Frozen: never change it, add a second one.
#[derive(Serialize, Deserialize)]
struct InstanceRecordV1 {
    name: InstanceName,
    uid: InstanceUid,
    generation: u64,
    phase: PhaseV1,
    project: ProjectName,
    snapshot: SnapshotId,
    gitref: Option<String>,
    commit: Option<String>,
    created_by: String,
    postgres_major: u16,
    superuser: String,
    created_at: Timestamp,
    last_used_at: Timestamp,
    pin: PinV1,
}

#[derive(Serialize, Deserialize)]
enum PhaseV1 {
    Cloning,
    Ready,
    Deleting,
}

#[derive(Serialize, Deserialize)]
enum PinV1 {
    None,
    Forever,
    Until(Timestamp),
}

impl From<InstanceRecord> for InstanceRecordV1 {
    fn from(record: InstanceRecord) -> Self {
        Self {
            name: record.name,
            uid: record.uid,
            generation: record.generation,
            phase: match record.phase {
                Phase::Cloning => PhaseV1::Cloning,
                Phase::Ready => PhaseV1::Ready,
                Phase::Deleting => PhaseV1::Deleting,
            },
            project: record.project,
            snapshot: record.snapshot,
            gitref: record.gitref,
            commit: record.commit,
            created_by: record.created_by,
            postgres_major: record.postgres_major,
            superuser: record.superuser,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            pin: match record.pin {
                Pin::None => PinV1::None,
                Pin::Forever => PinV1::Forever,
                Pin::Until(until) => PinV1::Until(until),
            },
        }
    }
}

impl From<InstanceRecordV1> for InstanceRecord {
    fn from(record: InstanceRecordV1) -> Self {
        Self {
            name: record.name,
            uid: record.uid,
            generation: record.generation,
            phase: match record.phase {
                PhaseV1::Cloning => Phase::Cloning,
                PhaseV1::Ready => Phase::Ready,
                PhaseV1::Deleting => Phase::Deleting,
            },
            project: record.project,
            snapshot: record.snapshot,
            gitref: record.gitref,
            commit: record.commit,
            created_by: record.created_by,
            postgres_major: record.postgres_major,
            superuser: record.superuser,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            pin: match record.pin {
                PinV1::None => Pin::None,
                PinV1::Forever => Pin::Forever,
                PinV1::Until(until) => Pin::Until(until),
            },
        }
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(RECORD_BYTES_MAX as u64)
        .reject_trailing_bytes()
}

fn checksum(version: [u8; 2], payload: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version);
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

/// A payload taken out of its envelope.
struct Envelope<'a> {
    version: u16,
    payload: &'a [u8],
}

/// Puts a frozen record into its envelope.
fn seal(version: u16, frozen: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let payload = options().serialize(frozen).map_err(CodecError::Payload)?;
    let version = version.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version);
    bytes.extend_from_slice(&checksum(version, &payload));
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// Checks the envelope; the payload is not decoded yet.
fn open(bytes: &[u8]) -> Result<Envelope<'_>, CodecError> {
    let length = CodecError::Length { bytes: bytes.len() };
    if bytes.len() > HEADER_BYTES + RECORD_BYTES_MAX {
        return Err(length);
    }
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(length);
    };
    let [m0, m1, m2, m3, v0, v1, sum @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(CodecError::Magic);
    }
    if checksum([v0, v1], payload) != sum {
        return Err(CodecError::Checksum);
    }
    let version = u16::from_le_bytes([v0, v1]);
    Ok(Envelope { version, payload })
}

impl Envelope<'_> {
    /// Decodes the payload as the frozen type of its version.
    fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        options()
            .deserialize(self.payload)
            .map_err(CodecError::Payload)
    }
}

/// The record in its envelope.
///
/// # Errors
///
/// The record is larger than any should be.
pub fn encode(record: &InstanceRecord) -> Result<Vec<u8>, CodecError> {
    seal(VERSION, &InstanceRecordV1::from(record.clone()))
}

/// The record in these bytes.
///
/// # Errors
///
/// The bytes are not a whole, undamaged record of a version that is known.
pub fn decode(bytes: &[u8]) -> Result<InstanceRecord, CodecError> {
    let envelope = open(bytes)?;
    match envelope.version {
        1 => Ok(envelope.decode::<InstanceRecordV1>()?.into()),
        version => Err(CodecError::Version {
            version,
            newest: VERSION,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    pub(crate) use crate::codec::job::tests::example_job;

    pub(crate) fn example() -> InstanceRecord {
        InstanceRecord {
            name: "testdb".parse().unwrap(),
            uid: "0123456789ab".parse().unwrap(),
            generation: 3,
            phase: Phase::Ready,
            project: "mathspace".parse().unwrap(),
            snapshot: "monday".parse().unwrap(),
            gitref: Some("main".to_owned()),
            commit: None,
            created_by: "staff".to_owned(),
            postgres_major: 15,
            superuser: "postgres".to_owned(),
            created_at: Timestamp::from_second(1_700_000_000).unwrap(),
            last_used_at: Timestamp::from_second(1_700_000_060).unwrap(),
            pin: Pin::Until(Timestamp::from_second(1_800_000_000).unwrap()),
        }
    }

    pub(super) fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.split_whitespace().flat_map(str::bytes).collect();
        let pairs = digits
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap());
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    }

    /// Written by the first release. If this fails, records on users' disks cannot be read.
    const GOLDEN: &str = include_str!("codec/instance-v1.hex");

    #[test]
    fn the_first_version_is_read_and_written_for_ever() {
        let golden: String = GOLDEN.split_whitespace().collect();
        assert_eq!(hex(&encode(&example()).unwrap()), golden);
        assert_eq!(decode(&unhex(GOLDEN)).unwrap(), example());
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let payload = &encode(&example()).unwrap()[HEADER_BYTES..];
        let version = 2u16.to_le_bytes();
        let bytes = [&MAGIC[..], &version, &checksum(version, payload), payload].concat();
        let error = decode(&bytes).unwrap_err();
        assert!(
            matches!(
                error,
                CodecError::Version {
                    version: 2,
                    newest: 1
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn bytes_behind_the_record_are_refused() {
        let mut payload = encode(&example()).unwrap()[HEADER_BYTES..].to_vec();
        payload.push(0);
        let version = VERSION.to_le_bytes();
        let bytes = [&MAGIC[..], &version, &checksum(version, &payload), &payload].concat();
        assert!(matches!(decode(&bytes), Err(CodecError::Payload(_))));
    }

    pub(super) fn any_time() -> impl Strategy<Value = Timestamp> {
        (-100_000_000_000i64..200_000_000_000, 0i32..1_000_000_000)
            .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
    }

    pub(crate) fn any_record() -> impl Strategy<Value = InstanceRecord> {
        let name = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}";
        let phase = prop_oneof![
            Just(Phase::Cloning),
            Just(Phase::Ready),
            Just(Phase::Deleting)
        ];
        let pin = prop_oneof![
            Just(Pin::None),
            Just(Pin::Forever),
            any_time().prop_map(Pin::Until)
        ];
        let identity = (name, any::<u64>(), any::<u64>(), phase, name, name);
        let details = (
            prop::option::of(".{0,40}"),
            prop::option::of("[0-9a-f]{40}"),
            ".{0,20}",
            any::<u16>(),
            ".{0,20}",
        );
        (identity, details, any_time(), any_time(), pin).prop_map(
            |(identity, details, created_at, last_used_at, pin)| InstanceRecord {
                name: identity.0.parse().unwrap(),
                uid: InstanceUid::from_bits(identity.1),
                generation: identity.2,
                phase: identity.3,
                project: identity.4.parse().unwrap(),
                snapshot: identity.5.parse().unwrap(),
                gitref: details.0,
                commit: details.1,
                created_by: details.2,
                postgres_major: details.3,
                superuser: details.4,
                created_at,
                last_used_at,
                pin,
            },
        )
    }

    proptest! {
        #[test]
        fn encoded_record_is_decoded(record in any_record()) {
            prop_assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn a_damaged_byte_is_always_noticed(
            record in any_record(), at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let mut bytes = encode(&record).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_truncated_record_is_refused(record in any_record(), at in any::<prop::sample::Index>()) {
            let bytes = encode(&record).unwrap();
            prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
