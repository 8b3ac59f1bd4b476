//! Answers to multidb's own queries.

use super::*;

const BODY_MAX: u32 = 1000;

fn decoder(buffer: &mut BytesMut) -> Result<Option<AnswerMessage>, WireError> {
    decode_answer(buffer, BODY_MAX)
}

#[test]
fn rows_are_decoded_and_forged_ones_are_faults() {
    let table: &[(&str, &str)] = &[
        ("44 00000006 0000", "Some(Row([]))"),
        (
            "44 00000010 0002 00000002 '42' FFFFFFFF",
            r#"Some(Row([Some(b"42"), None]))"#,
        ),
        ("5A 00000005 49", "Some(Ready)"),
        ("43 0000000D 'SELECT 1' 00", "Some(Other { tag: 67 })"),
        ("54 00000006 FFFF", "Some(Other { tag: 84 })"),
        // A count, a length and a message that are longer than their bytes.
        ("44 00000006 FFFF", "invalid layout of message \"D\""),
        (
            "44 0000000A 0001 7FFFFFFF",
            "invalid layout of message \"D\"",
        ),
        (
            "44 0000000A 0001 FFFFFFFE",
            "invalid layout of message \"D\"",
        ),
        (
            "44 7FFFFFFF 0001",
            "invalid length 2147483647 of message \"D\"",
        ),
        ("44 00000007 0000 00", "invalid layout of message \"D\""),
        ("45 00000005 'M'", "invalid layout of message \"E\""),
        ("5A 00000004", "invalid layout of message \"Z\""),
        // A COPY, a request for a password.
        ("47 00000007 00 0000", "invalid layout of message \"G\""),
        ("52 00000008 00000003", "invalid layout of message \"R\""),
    ];
    for (input, expected) in table {
        let input = bytes(input);
        check_every_split(decoder, &input);
        let shown = match first(decoder, &input) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, *expected);
    }
}

#[test]
fn own_startup_and_query_keep_zero_bytes_out() {
    let packet = encode_own_startup(&[("user", "a\0b"), ("search_path", "")]).expect("short");
    let Ok(Some(StartupRequest::Startup(message))) = first(decode_startup, &packet) else {
        panic!("no startup message");
    };
    assert_eq!(message.version, ProtocolVersion::V3_0);
    assert_eq!(message.get_str("user"), Some("ab"));
    assert_eq!(message.get_str("search_path"), Some(""));
    let mut query = BytesMut::new();
    encode_query(&mut query, "select '\0'");
    assert_eq!(query, bytes("51 0000000E 'select ' 27 27 00"));
}

proptest! {
    #[test]
    fn any_answer_decodes_alike_in_pieces(
        input in nearly_messages(),
        at in any::<prop::sample::Index>(),
    ) {
        let (start, end) = input.split_at(at.index(input.len() + 1));
        let whole = decode_all(decoder, &[&input]);
        prop_assert_eq!(decode_all(decoder, &[start, end]), whole);
        check_every_split(decoder, &input);
    }
}
