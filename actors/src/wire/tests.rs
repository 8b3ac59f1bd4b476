//! Checks each decoder by a table of inputs in hexadecimal, by every split of these inputs, and by
//! random bytes.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails may panic"
)]

mod answer;
mod cuts;
mod login;
mod startup;
mod tail;

use std::fmt::Debug;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// Bytes from hexadecimal digits; white space is ignored, `'...'` is text.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u8> = part.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        bytes.extend(hex::decode(digits).expect("pairs of digits"));
    }
    bytes
}

type Decoder<T> = fn(&mut BytesMut) -> Result<Option<T>, WireError>;

/// Decodes the first message of an input, given in one piece.
fn first<T>(decoder: Decoder<T>, input: &[u8]) -> Result<Option<T>, WireError> {
    decoder(&mut BytesMut::from(input))
}

/// Feeds an input byte by byte: nothing may be consumed before the message is whole, and the result
/// equals that of the whole input.
fn check_every_split<T: Debug + PartialEq>(decoder: Decoder<T>, input: &[u8]) {
    let whole = first(decoder, input);
    let mut buffer = BytesMut::new();
    for (index, byte) in input.iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        match decoder(&mut buffer) {
            Ok(None) => assert_eq!(buffer.len(), index + 1, "a partial message was consumed"),
            done => return assert_eq!(done, whole, "after {} bytes", index + 1),
        }
    }
    assert_eq!(whole, Ok(None), "only the whole was decoded");
}

/// Decodes to the end: returns the messages, and the error that ended decoding, if any. Checks that
/// the buffer never outgrows its input, and that a message consumes something.
fn decode_all<T>(decoder: Decoder<T>, chunks: &[&[u8]]) -> (Vec<T>, Option<WireError>) {
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let before = (buffer.len(), buffer.capacity());
            match decoder(&mut buffer) {
                Ok(Some(message)) => {
                    assert!(buffer.len() < before.0);
                    messages.push(message);
                }
                Ok(None) => {
                    assert_eq!((buffer.len(), buffer.capacity()), before);
                    break;
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Bytes that often begin like a message.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..64);
    let framed = (any::<u8>(), 0_u32..40, noise.clone()).prop_map(|(tag, length, body)| {
        let tag = b"RKEvNSZp"[usize::from(tag % 8)];
        [&[tag], &length.to_be_bytes()[..], &body].concat()
    });
    let versions = prop_oneof![
        Just(0x0003_0000_u32),
        Just(0x0003_0002),
        Just(80_877_102),
        Just(80_877_103),
        any::<u32>()
    ];
    let startup = (0_u32..40, versions, noise.clone()).prop_map(|(length, version, body)| {
        [&length.to_be_bytes()[..], &version.to_be_bytes(), &body].concat()
    });
    prop_oneof![noise, framed, startup]
}

proptest! {
    #[test]
    fn two_pieces_decode_as_the_whole(input in nearly_messages(), at in any::<prop::sample::Index>()) {
        let (start, end) = input.split_at(at.index(input.len() + 1));
        let whole = decode_all(decode_startup, &[&input]);
        prop_assert_eq!(decode_all(decode_startup, &[start, end]), whole);
        let whole = decode_all(decode_backend, &[&input]);
        prop_assert_eq!(decode_all(decode_backend, &[start, end]), whole);
        check_every_split(decode_startup, &input);
        check_every_split(decode_backend, &input);
    }
}
