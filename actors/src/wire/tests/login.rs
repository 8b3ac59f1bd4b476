//! Messages of a backend during a login, and those of the proxy in their place.

use super::*;

fn decode(text: &str) -> Result<Option<BackendMessage>, WireError> {
    let input = bytes(text);
    check_every_split(decode_backend, &input);
    first(decode_backend, &input).map(|frame| frame.map(|frame| frame.message))
}

#[test]
fn login_messages_are_decoded_and_faults_named() {
    let table: &[(&str, &str)] = &[
        ("", "None"),
        ("52 00000008 000000", "None"),
        ("52 00000008 00000000", "Some(AuthenticationOk)"),
        (
            "52 0000000C 00000005 01020304",
            "Some(AuthenticationRequest { kind: 5 })",
        ),
        (
            "53 00000008 'a' 00 'b' 00",
            r#"Some(ParameterStatus { name: b"a", value: b"b" })"#,
        ),
        (
            "4B 0000000C 0000002A 61626364",
            r#"Some(BackendKeyData { process_id: 42, key: b"abcd" })"#,
        ),
        ("5A 00000005 49", "Some(ReadyForQuery { status: Idle })"),
        (
            "5A 00000005 54",
            "Some(ReadyForQuery { status: InTransaction })",
        ),
        ("5A 00000005 45", "Some(ReadyForQuery { status: Failed })"),
        (
            "76 0000000C 00030000 00000000",
            "Some(NegotiateProtocolVersion { version: ProtocolVersion { major: 3, minor: 0 }, unsupported: [] })",
        ),
        (
            "76 00000010 00030000 00000001 '_.a' 00",
            r#"Some(NegotiateProtocolVersion { version: ProtocolVersion { major: 3, minor: 0 }, unsupported: [b"_.a"] })"#,
        ),
        ("41 00000004", "Some(Other { tag: 65 })"),
        ("52 00000003", "invalid length 3 of message \"R\""),
        ("52 FFFFFFFF", "invalid length 4294967295 of message \"R\""),
        ("4E 00010005", "invalid length 65541 of message \"N\""),
        ("00 00000000", "invalid length 0 of message \"\\u{0}\""),
        ("52 00000004", "invalid layout of message \"R\""),
        ("52 00000009 00000000 00", "invalid layout of message \"R\""),
        (
            "4B 0000000B 0000002A 616263",
            "invalid layout of message \"K\"",
        ),
        ("5A 00000004", "invalid layout of message \"Z\""),
        ("5A 00000005 00", "invalid layout of message \"Z\""),
        ("5A 00000006 4949", "invalid layout of message \"Z\""),
        ("53 00000007 'a' 00 'b'", "invalid layout of message \"S\""),
        // More names than the body can hold.
        (
            "76 0000000C 00030000 FFFFFFFF",
            "invalid layout of message \"v\"",
        ),
        ("45 00000004", "invalid layout of message \"E\""),
        ("45 00000007 'Sx' 00", "invalid layout of message \"E\""),
        ("45 00000006 00 00", "invalid layout of message \"E\""),
    ];
    for (input, expected) in table {
        let result = match decode(input) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(&result, expected, "{input}");
    }
}

#[test]
fn frame_keeps_its_original_bytes() {
    let input = bytes("53 00000008 'a' 00 'b' 00 5A 00000005 49");
    let (frames, error) = decode_all(decode_backend, &[&input]);
    assert_eq!(error, None);
    let raw: Vec<u8> = frames.iter().flat_map(|frame| frame.raw.to_vec()).collect();
    assert_eq!(raw, input);
}

fn fields_of(report: &Report<'_>) -> (ErrorFields, usize) {
    let mut out = BytesMut::new();
    encode_error_response(&mut out, report);
    let length = out.len();
    match decode_backend(&mut out) {
        Ok(Some(BackendFrame {
            message: BackendMessage::ErrorResponse(fields),
            ..
        })) => (fields, length),
        other => panic!("no error but {other:?}"),
    }
}

#[test]
fn error_response_round_trips() {
    let report = Report {
        severity: "FATAL",
        sqlstate: sqlstate::INVALID_CATALOG_NAME,
        message: "no",
        detail: None,
        hint: Some("Try."),
    };
    let mut out = BytesMut::new();
    encode_error_response(&mut out, &report);
    let expected = "45 00000024 'SFATAL' 00 'VFATAL' 00 'C3D000' 00 'Mno' 00 'HTry.' 00 00";
    assert_eq!(out.to_vec(), bytes(expected));
    let (fields, _) = fields_of(&report);
    assert_eq!(fields.severity(), "FATAL");
    assert_eq!(fields.sqlstate(), "3D000");
    assert_eq!(fields.message(), "no");
    assert_eq!(fields.detail(), None);
    assert_eq!(fields.hint().as_deref(), Some("Try."));
}

#[test]
fn long_texts_are_cut_to_what_libpq_accepts() {
    let long = "ä".repeat(50_000);
    let (fields, length) = fields_of(&Report {
        severity: "FATAL",
        sqlstate: sqlstate::SYSTEM_ERROR,
        message: &long,
        detail: Some(&long),
        hint: Some("a\0b"),
    });
    assert!(length < 30_000, "{length}");
    assert!(fields.message().ends_with("ä…"));
    assert_eq!(fields.hint().as_deref(), Some("ab"));
}

#[test]
fn small_messages_have_the_specified_bytes() {
    let mut out = BytesMut::new();
    encode_authentication_ok(&mut out);
    encode_terminate(&mut out);
    assert_eq!(out.to_vec(), bytes("52 00000008 00000000 58 00000004"));
    let mut out = BytesMut::new();
    encode_old_error(&mut out, "FATAL", "too\0 old");
    assert_eq!(&out[..], b"EFATAL:  too old\n\0");
    let mut out = BytesMut::new();
    encode_notice_response(
        &mut out,
        &Report {
            severity: "NOTICE",
            sqlstate: sqlstate::SUCCESSFUL_COMPLETION,
            message: "m",
            detail: None,
            hint: None,
        },
    );
    assert_eq!(out.first(), Some(&b'N'));
}

#[test]
fn frame_longer_than_its_limit_is_refused() {
    let input = bytes("70 00000008 'abc' 00");
    let frame = decode_frame(&mut BytesMut::from(&input[..]), 4);
    assert_eq!(
        frame,
        Ok(Some(Frame {
            tag: b'p',
            body: "abc\0".into(),
            raw: input.clone().into(),
        }))
    );
    let error = decode_frame(&mut BytesMut::from(&input[..]), 3);
    let (tag, length) = (b'p', 8);
    assert_eq!(error, Err(WireError::MessageLength { tag, length }));
    let unbounded = decode_frame(&mut BytesMut::from(&input[..]), u32::MAX);
    assert!(matches!(unbounded, Ok(Some(_))));
}

proptest! {
    #[test]
    fn any_texts_survive_in_an_error(message in "[^\0]{0,200}", detail in proptest::option::of("[^\0]{0,200}")) {
        let (fields, _) = fields_of(&Report {
            severity: "ERROR",
            sqlstate: sqlstate::INTERNAL_ERROR,
            message: &message,
            detail: detail.as_deref(),
            hint: None,
        });
        prop_assert_eq!(fields.message(), message);
        prop_assert_eq!(fields.detail().map(|d| d.into_owned()), detail);
    }
}
