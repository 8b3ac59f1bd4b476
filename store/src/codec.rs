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
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::records::{InstanceRecord, ObservedTime};

mod instance;
mod job;

use self::instance::{InstanceRecordV1, InstanceRecordV2, InstanceRecordV3};
pub use self::job::{decode_job, encode_job};

const MAGIC: [u8; 4] = *b"mdb\x1a";
const HEADER_BYTES: usize = 10;
/// The largest record. Real ones have some hundred bytes.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// The version that is written.
const VERSION: u16 = 3;

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
    seal(VERSION, &InstanceRecordV3::from(record.clone()))
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
        2 => Ok(envelope.decode::<InstanceRecordV2>()?.into()),
        3 => Ok(envelope.decode::<InstanceRecordV3>()?.into()),
        version => Err(CodecError::Version {
            version,
            newest: VERSION,
        }),
    }
}

/// The version of a moment's payload, its milliseconds.
const TIME_VERSION: u16 = 1;

/// A moment in its envelope.
///
/// # Errors
///
/// None in practice: a moment has eight bytes.
pub fn encode_time(time: ObservedTime) -> Result<Vec<u8>, CodecError> {
    seal(TIME_VERSION, &time.as_millis())
}

/// The moment in these bytes.
///
/// # Errors
///
/// The bytes are not a whole, undamaged moment of a version that is known.
pub fn decode_time(bytes: &[u8]) -> Result<ObservedTime, CodecError> {
    let envelope = open(bytes)?;
    match envelope.version {
        TIME_VERSION => Ok(ObservedTime::from_millis(envelope.decode()?)),
        version => Err(CodecError::Version {
            version,
            newest: TIME_VERSION,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    pub(crate) use crate::codec::job::tests::example_job;
    use crate::ids::InstanceUid;
    use crate::records::{Class, Mark, ObservedTime, Phase, Pin, RuntimeKind};

    pub(crate) fn example() -> InstanceRecord {
        InstanceRecord {
            name: "testdb".parse().unwrap(),
            uid: "0123456789ab".parse().unwrap(),
            epoch: 3,
            sequence: 8,
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
            last_used_observed: ObservedTime::from_millis(60_000),
            marked: Some(Mark {
                at: Timestamp::from_second(1_700_000_070).unwrap(),
                observed: ObservedTime::from_millis(70_000),
            }),
            pin: Pin::Until(Timestamp::from_second(1_800_000_000).unwrap()),
            runtime: Some(RuntimeKind::Docker),
            ttl: Some(Duration::from_secs(7_200)),
            class: Class::Scratch,
            parent: Some("seed".parse().unwrap()),
        }
    }

    pub(super) fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.split_whitespace().flat_map(str::bytes).collect();
        hex::decode(digits).unwrap()
    }

    /// Written by the first release. If this fails, records on users' disks cannot be read.
    const GOLDEN_V1: &str = include_str!("codec/instance-v1.hex");
    const GOLDEN_V2: &str = include_str!("codec/instance-v2.hex");

    const GOLDEN_V3: &str = include_str!("codec/instance-v3.hex");

    /// The example as the second version has it.
    fn second() -> InstanceRecord {
        InstanceRecord {
            ttl: None,
            class: Class::Durable,
            parent: None,
            ..example()
        }
    }

    #[test]
    fn the_first_version_is_read_for_ever() {
        let first = InstanceRecord {
            sequence: 0,
            last_used_observed: ObservedTime::default(),
            marked: None,
            runtime: None,
            ..second()
        };
        assert_eq!(decode(&unhex(GOLDEN_V1)).unwrap(), first);
    }

    #[test]
    fn the_second_version_is_read_for_ever() {
        assert_eq!(decode(&unhex(GOLDEN_V2)).unwrap(), second());
    }

    #[test]
    fn the_third_version_is_read_and_written_for_ever() {
        let golden: String = GOLDEN_V3.split_whitespace().collect();
        assert_eq!(hex::encode(encode(&example()).unwrap()), golden);
        assert_eq!(decode(&unhex(GOLDEN_V3)).unwrap(), example());
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        let payload = &encode(&example()).unwrap()[HEADER_BYTES..];
        let version = (VERSION + 1).to_le_bytes();
        let bytes = [&MAGIC[..], &version, &checksum(version, payload), payload].concat();
        let error = decode(&bytes).unwrap_err();
        assert!(
            matches!(
                error,
                CodecError::Version {
                    version: 4,
                    newest: VERSION
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
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
        let identity = (name, numbers, phase, name, name);
        let mark = (any_time(), any::<u64>()).prop_map(|(at, millis)| Mark {
            at,
            observed: ObservedTime::from_millis(millis),
        });
        let runtime = prop_oneof![Just(RuntimeKind::Docker), Just(RuntimeKind::Process)];
        let times = (
            any_time(),
            any_time(),
            any::<u64>(),
            prop::option::of(mark),
            prop::option::of(runtime),
        );
        let class = prop_oneof![Just(Class::Durable), Just(Class::Scratch)];
        let ttl = prop::option::of(any::<u64>().prop_map(Duration::from_millis));
        let parent = prop::option::of(name.prop_map(|name: String| name.parse().unwrap()));
        let creation = (pin, ttl, class, parent);
        let details = (
            prop::option::of(".{0,40}"),
            prop::option::of("[0-9a-f]{40}"),
            ".{0,20}",
            any::<u16>(),
            ".{0,20}",
        );
        (identity, details, times, creation).prop_map(|(identity, details, times, creation)| {
            InstanceRecord {
                name: identity.0.parse().unwrap(),
                uid: InstanceUid::from_bits(identity.1.0),
                epoch: identity.1.1,
                sequence: identity.1.2,
                phase: identity.2,
                project: identity.3.parse().unwrap(),
                snapshot: identity.4.parse().unwrap(),
                gitref: details.0,
                commit: details.1,
                created_by: details.2,
                postgres_major: details.3,
                superuser: details.4,
                created_at: times.0,
                last_used_at: times.1,
                last_used_observed: ObservedTime::from_millis(times.2),
                marked: times.3,
                pin: creation.0,
                runtime: times.4,
                ttl: creation.1,
                class: creation.2,
                parent: creation.3,
            }
        })
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
