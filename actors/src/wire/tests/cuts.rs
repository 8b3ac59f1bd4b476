//! Whole logins, cut at every byte.

use super::*;

/// The largest capacity of a decoder's buffer, as a multiple of the input.
const SPARE_FACTOR: usize = 2;

/// Feeds a stream of messages up to each byte, then the rest. The messages equal those of the whole,
/// and the buffer's capacity is bounded by the input, for any length that a message claims.
fn check_every_cut<T: Debug + PartialEq>(decoder: Decoder<T>, stream: &[u8]) {
    let whole = decode_all(decoder, &[stream]);
    for at in 0..=stream.len() {
        let (start, end) = stream.split_at(at);
        assert_eq!(decode_all(decoder, &[start, end]), whole, "cut at {at}");
        let mut buffer = BytesMut::from(start);
        while let Ok(Some(_)) = decoder(&mut buffer) {}
        assert!(
            buffer.capacity() <= SPARE_FACTOR * stream.len(),
            "cut at {at}: {} bytes are held",
            buffer.capacity()
        );
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1..=u8::MAX, 1..12)
}

/// A startup packet of a supported version, possibly damaged.
fn startup_packet() -> impl Strategy<Value = Vec<u8>> {
    let pairs = proptest::collection::vec((text(), text()), 0..6);
    let damage = proptest::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (0_u16..5, pairs, damage).prop_map(|(minor, pairs, damage)| {
        let version = ProtocolVersion { major: 3, minor };
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        let packet = super::super::startup::encode_startup(version, &pairs);
        let mut packet = packet.expect("a short packet").to_vec();
        if let Some((at, byte)) = damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet
    })
}

/// A sequence of packets that clients send before a session.
fn client_stream() -> impl Strategy<Value = Vec<u8>> {
    let key = proptest::collection::vec(any::<u8>(), 0..300);
    let cancel = (any::<i32>(), key).prop_map(|(process_id, key)| {
        let mut out = BytesMut::new();
        encode_cancel_request(&mut out, &CancelRequest { process_id, key });
        out.to_vec()
    });
    let packet = prop_oneof![
        Just(bytes("00000008 04D2162F")),
        Just(bytes("00000008 04D21630")),
        cancel,
        startup_packet(),
    ];
    proptest::collection::vec(packet, 1..4).prop_map(|packets| packets.concat())
}

/// Messages of a server during a login, with bodies that may not fit their tags.
fn server_stream() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let any_message = (any::<prop::sample::Index>(), body).prop_map(|(tag, body)| {
        let tag = b"RKEvNSZA"[tag.index(8)];
        let mut out = BytesMut::new();
        super::super::frame::encode_frame(&mut out, tag, &body);
        out.to_vec()
    });
    let setting = (text(), text()).prop_map(|(name, value)| {
        let body = [&name[..], b"\0", &value, b"\0"].concat();
        let mut out = BytesMut::new();
        super::super::frame::encode_frame(&mut out, b'S', &body);
        out.to_vec()
    });
    let message = prop_oneof![
        Just(bytes("52 00000008 00000000")),
        Just(bytes("4B 0000000C 0000002A 61626364")),
        Just(bytes("5A 00000005 49")),
        setting,
        any_message,
    ];
    proptest::collection::vec(message, 1..6).prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn client_login_cut_at_any_byte_decodes_the_same(stream in client_stream()) {
        check_every_cut(decode_startup, &stream);
    }

    #[test]
    fn server_login_cut_at_any_byte_decodes_the_same(stream in server_stream()) {
        check_every_cut(decode_backend, &stream);
    }
}

#[test]
fn longest_packet_cut_at_any_byte_allocates_no_more_than_its_limit() {
    let value = "v".repeat(9_980);
    let longest = [&bytes("00002714 00030000")[..], b"user\0", value.as_bytes()].concat();
    for at in (0..longest.len()).step_by(7) {
        let mut buffer = BytesMut::from(&longest[..at]);
        let before = buffer.capacity();
        assert_eq!(decode_startup(&mut buffer), Ok(None), "cut at {at}");
        assert_eq!((buffer.len(), buffer.capacity()), (at, before));
    }
    // A claim beyond the limit is refused before any of its bytes arrive.
    for claim in ["00002715", "7FFFFFFF", "FFFFFFFF"] {
        assert!(first(decode_startup, &bytes(claim)).is_err(), "{claim}");
    }
}
