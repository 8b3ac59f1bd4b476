//! Startup packets.

use super::*;

const SSL: &str = "00000008 04D2162F";
const GSS: &str = "00000008 04D21630";
const PLAIN: &str = "0000001D 00030000 'user' 00 'instance:x' 00 'a' 00 'b' 00 00 'extra'";

fn startup(text: &str) -> StartupMessage {
    match first(decode_startup, &bytes(text)) {
        Ok(Some(StartupRequest::Startup(message))) => message,
        other => panic!("no startup message but {other:?}"),
    }
}

/// A startup packet of these parameters.
fn packet(version: (u16, u16), parameters: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<(&[u8], &[u8])> = parameters
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    let version = ProtocolVersion {
        major: version.0,
        minor: version.1,
    };
    super::super::startup::encode_startup(version, &pairs)
        .expect("a short packet")
        .to_vec()
}

fn message(version: (u16, u16), parameters: &[(&str, &str)]) -> StartupMessage {
    match first(decode_startup, &packet(version, parameters)) {
        Ok(Some(StartupRequest::Startup(message))) => message,
        other => panic!("no startup message but {other:?}"),
    }
}

#[test]
fn requests_are_distinguished_and_faults_named() {
    let table: &[(&str, &str)] = &[
        ("", "None"),
        ("000000", "None"),
        ("00000008 04D2", "None"),
        (SSL, "Some(Ssl)"),
        (GSS, "Some(GssEnc)"),
        (
            "00000010 04D2162E 0000002A 01020304",
            "Some(Cancel(CancelRequest { process_id: 42, .. }))",
        ),
        (
            "00000009 00030000 00",
            "Some(Startup(StartupMessage { version: ProtocolVersion { major: 3, minor: 0 }, parameters: [] }))",
        ),
        ("00000000", "invalid length of startup packet"),
        ("00000007", "invalid length of startup packet"),
        ("00002715", "invalid length of startup packet"),
        ("FFFFFFFF", "invalid length of startup packet"),
        ("0000000A 04D2162F 0000", "invalid length of startup packet"),
        ("0000000A 04D21630 0000", "invalid length of startup packet"),
        (
            "0000000F 04D2162E 0000002A 010203",
            "invalid length 3 of cancel key",
        ),
        (
            "00000008 00020000",
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
        ),
        (
            "00000008 00040000",
            "unsupported frontend protocol 4.0: server supports 3.0 to 3.2",
        ),
        (
            "00000008 00030000",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            "0000000A 00030000 0000",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            "0000000B 00030000 'a' 00 00",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            "0000000C 00030000 'a' 00 'b' 00",
            "invalid startup packet layout: expected terminator as last byte",
        ),
        (
            "16030100 C4",
            "received a direct TLS handshake, which this port does not accept",
        ),
        (
            "'GET / HTTP/1.1'",
            "received an HTTP request on a Postgres port",
        ),
    ];
    for (input, expected) in table {
        let input = bytes(input);
        let result = match first(decode_startup, &input) {
            Ok(request) => format!("{request:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(&result, expected, "{input:02X?}");
        check_every_split(decode_startup, &input);
    }
    check_every_split(decode_startup, &bytes(PLAIN));
}

#[test]
fn bytes_after_a_packet_stay_in_the_buffer() {
    let mut buffer = BytesMut::from(&bytes(PLAIN)[..]);
    assert!(matches!(decode_startup(&mut buffer), Ok(Some(_))));
    assert_eq!(&buffer[..], b"extra");
}

#[test]
fn longest_packet_is_accepted_and_one_byte_more_is_not() {
    let value = "v".repeat(10_000 - 4 - 2 - 2);
    let longest = packet((3, 0), &[("n", &value)]);
    assert_eq!(longest.len(), 10_004);
    assert!(matches!(first(decode_startup, &longest), Ok(Some(_))));
    let longer = bytes("00002715 00030000");
    let error = first(decode_startup, &longer).expect_err("too long");
    assert_eq!(error.refusal(), Refusal::ErrorResponse);
}

#[test]
fn cancel_keys_have_4_to_256_bytes() {
    for (length, valid) in [
        (0_u32, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        let mut input = (12 + length).to_be_bytes().to_vec();
        input.extend(bytes("04D2162E 00000001"));
        input.resize(input.len() + usize::try_from(length).expect("small"), 7);
        let request = first(decode_startup, &input);
        assert_eq!(request.is_ok(), valid, "{length}");
        if let Ok(Some(StartupRequest::Cancel(request))) = request {
            let mut encoded = BytesMut::new();
            encode_cancel_request(&mut encoded, &request);
            assert_eq!(&encoded[..], &input[..]);
        }
    }
}

#[test]
fn each_encryption_request_is_admitted_once_and_alone() {
    let mut requests = EncryptionRequests::default();
    let ssl = StartupRequest::Ssl;
    assert_eq!(requests.admit(&ssl, b""), Ok(()));
    assert_eq!(requests.admit(&StartupRequest::GssEnc, b""), Ok(()));
    let again = requests.admit(&ssl, b"").expect_err("a second one");
    assert_eq!(
        again.to_string(),
        "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2"
    );
    let early = EncryptionRequests::default()
        .admit(&StartupRequest::GssEnc, b"x")
        .expect_err("early data");
    assert_eq!(
        early.to_string(),
        "received unencrypted data after GSSAPI encryption request"
    );
    let plain = StartupRequest::Startup(startup(PLAIN));
    assert_eq!(requests.admit(&plain, b"x"), Ok(()));
}

#[test]
fn parameters_keep_their_order_and_the_last_of_a_name_counts() {
    let message = message((3, 0), &[("user", "a"), ("x", ""), ("user", "b")]);
    let names: Vec<&[u8]> = message.parameters().iter().map(|(n, _)| &n[..]).collect();
    assert_eq!(names, [&b"user"[..], b"x", b"user"]);
    assert_eq!(message.get_str("user"), Some("b"));
    assert_eq!(message.get_str("x"), Some(""));
    assert_eq!(message.get("y"), None);
    let not_utf8 = startup("00000010 00030000 'user' 00 FF 00 00");
    assert_eq!(not_utf8.user().map(|user| &user[..]), Some(&[0xFF][..]));
    assert_eq!(not_utf8.get_str("user"), None);
}

#[test]
fn negotiation_is_sent_only_if_something_changes() {
    type Case = (
        (u16, u16),
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );
    let cases: &[Case] = &[
        ((3, 0), &[], None),
        ((3, 2), &[], None),
        ((3, 3), &[], Some("76 0000000C 00030002 00000000")),
        ((3, 9999), &[], Some("76 0000000C 00030002 00000000")),
        (
            (3, 0),
            &[("_pq_.a", "1"), ("user", "u"), ("_pq_.b", "2")],
            Some("76 0000001A 00030000 00000002 '_pq_.a' 00 '_pq_.b' 00"),
        ),
    ];
    for (version, parameters, expected) in cases {
        let negotiation = message(*version, parameters).negotiation();
        let encoded = negotiation.map(|negotiation| {
            let mut out = BytesMut::new();
            encode_negotiate_protocol_version(&mut out, &negotiation);
            out.to_vec()
        });
        assert_eq!(encoded, expected.map(bytes), "{version:?} {parameters:?}");
    }
}

#[test]
fn backend_gets_the_startup_packet_with_its_own_user_database_and_options() {
    let client = message(
        (3, 9),
        &[
            ("application_name", "psql"),
            ("user", "instance:x,gitref:y"),
            ("options", "-c multidb.instance=x -c geqo=off"),
            ("_pq_.new", "on"),
            ("DateStyle", "ISO"),
            ("DateStyle", "German"),
        ],
    );
    let encoded = client
        .encode_for_backend(&BackendStartup {
            user: b"postgres",
            default_database: b"shop",
            options: Some(b"-c geqo=off"),
        })
        .expect("a short packet");
    let expected = packet(
        (3, 2),
        &[
            ("user", "postgres"),
            ("database", "shop"),
            ("options", "-c geqo=off"),
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("DateStyle", "German"),
        ],
    );
    assert_eq!(&encoded[..], &expected[..]);
}

#[test]
fn database_that_repeats_the_overloaded_user_name_counts_as_none() {
    let database = |user: &str, database: &str, role: &str| {
        let message = message((3, 0), &[("user", user), ("database", database)]);
        message.database(role.as_bytes()).cloned()
    };
    assert_eq!(database("instance:x", "instance:x", "postgres"), None);
    assert_eq!(database("instance:x", "", "postgres"), None);
    let kept = Some("postgres".into());
    assert_eq!(database("instance:x", "postgres", "postgres"), kept);
    assert_eq!(database("postgres", "postgres", "postgres"), kept);
}

#[test]
fn too_long_startup_packet_is_not_encoded() {
    let long = "v".repeat(9_980);
    let client = message((3, 0), &[("u", &long)]);
    let result = client.encode_for_backend(&BackendStartup {
        user: b"postgres",
        default_database: b"postgres",
        options: None,
    });
    assert!(matches!(result, Err(WireError::StartupLength { .. })));
}

#[test]
fn zero_byte_cannot_inject_a_parameter() {
    let client = message((3, 0), &[]);
    let encoded = client
        .encode_for_backend(&BackendStartup {
            user: b"a\0replication\0true",
            default_database: b"d",
            options: None,
        })
        .expect("a short packet");
    let Ok(Some(StartupRequest::Startup(backend))) = first(decode_startup, &encoded) else {
        panic!("no startup message");
    };
    assert_eq!(backend.get_str("user"), Some("areplicationtrue"));
    assert_eq!(backend.get("replication"), None);
}

#[test]
fn other_protocols_are_refused_in_their_own_form() {
    let refusal = |input: &[u8]| {
        first(decode_startup, input)
            .expect_err("another protocol")
            .refusal()
    };
    assert_eq!(refusal(b"\x16\x03\x01"), Refusal::TlsAlert);
    assert_eq!(refusal(b"GET / HTTP/1.1"), Refusal::Close);
    assert_eq!(refusal(b"SSH-2.0-x"), Refusal::Close);
    assert_eq!(refusal(&bytes("00000007")), Refusal::Close);
    assert_eq!(refusal(&bytes("00000008 00040000")), Refusal::ErrorResponse);
    let old = bytes("00000008 00020000");
    assert_eq!(refusal(&old), Refusal::OldErrorResponse);
}
