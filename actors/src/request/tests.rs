//! Tests of the user name and the options, by tables and by properties.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;
use crate::client_error::ClientError;

type Parsed = Result<(ConnectRequest, Option<Vec<u8>>), RequestError>;

fn parse_both(user: &str, options: Option<&str>) -> Parsed {
    parse(user.as_bytes(), options.map(str::as_bytes))
}

/// A result on one line.
fn text(result: Parsed) -> String {
    let (request, rest) = match result {
        Ok(parsed) => parsed,
        Err(error) => return error.to_string(),
    };
    let mut text = format!("instance:{}", request.instance);
    let source = request.source.map(|source| source.to_string());
    text.extend(source.map(|source| format!(" {source}")));
    text.extend(request.project.map(|project| format!(" project:{project}")));
    text.extend(request.role.map(|role| format!(" role:{role}")));
    text.extend(request.user.map(|user| format!(" user:{user}")));
    text.extend(request.ttl.map(|ttl| format!(" ttl:{}s", ttl.as_secs())));
    text.extend(request.class.map(|class| format!(" class:{class}")));
    text.extend(rest.map(|rest| format!(" | {}", String::from_utf8_lossy(&rest))));
    text
}

const USER_NAMES: &[(&str, &str)] = &[
    ("instance:testdb", "instance:testdb"),
    ("instance=testdb", "instance:testdb"),
    (
        "instance:x,gitref:abcde12345",
        "instance:x gitref:abcde12345",
    ),
    ("gitref=main,instance=x", "instance:x gitref:main"),
    (
        "instance:x,gitref:feature/a%2Cb",
        "instance:x gitref:feature/a,b",
    ),
    ("instance:x,gitref:a=b:c", "instance:x gitref:a=b:c"),
    ("instance:x,gitref:%C3%A4", "instance:x gitref:ä"),
    ("instance:x,gitref:a+b", "instance:x gitref:a+b"),
    ("instance:x,snapshot:latest", "instance:x snapshot:latest"),
    ("instance:x,snapshot:monday", "instance:x snapshot:monday"),
    ("instance:x,asof:2026-01-31", "instance:x asof:2026-01-31"),
    (
        "instance:x,asof:2026-01-31T12:30:00Z",
        "instance:x asof:2026-01-31T12:30:00Z",
    ),
    (
        "instance:x,asof=2026-01-31T12:30:00%2B02:00",
        "instance:x asof:2026-01-31T10:30:00Z",
    ),
    (
        "instance:x,asof:2026-01-31T12:30:00-05:30",
        "instance:x asof:2026-01-31T18:00:00Z",
    ),
    (
        "user:bob,role:app rw,project:shop,instance:x",
        "instance:x project:shop role:app rw user:bob",
    ),
    (
        "instance:x,ttl:2h30m,class:scratch",
        "instance:x ttl:9000s class:scratch",
    ),
    ("instance:x,class=durable", "instance:x class:durable"),
    (
        "instance:x,class:cheap",
        "invalid value \"cheap\" for \"class\": it must be \"durable\" or \"scratch\"",
    ),
    (
        "instance:x,ttl:100ms",
        "invalid value \"100ms\" for \"ttl\": it must be at least one second",
    ),
    (
        "instance:x,ttl:soon",
        "invalid value \"soon\" for \"ttl\": it must be a duration such as 30s or 15m",
    ),
    ("postgres", "user name \"postgres\" names no instance"),
    ("", "user name \"\" names no instance"),
    ("instance", "user name \"instance\" names no instance"),
    ("gitref:main", "no instance is named"),
    (
        "instance:x,",
        "\"\" in the user name is not a key:value pair",
    ),
    (
        "instance:x,main",
        "\"main\" in the user name is not a key:value pair",
    ),
    (
        "instance:x,branch:main",
        "unknown key \"branch\" in the user name",
    ),
    ("Instance:x", "unknown key \"Instance\" in the user name"),
    ("instance:x,:y", "unknown key \"\" in the user name"),
    (
        "instance:x,instance:x",
        "key \"instance\" is repeated in the user name",
    ),
    (
        "instance:x,gitref:a,snapshot:b",
        "\"gitref\" and \"snapshot\" cannot be combined",
    ),
    (
        "instance:x,asof:2026-01-31,gitref:a",
        "\"gitref\" and \"asof\" cannot be combined",
    ),
    (
        "instance:",
        "invalid value \"\" for \"instance\": it is empty",
    ),
    (
        "instance:-x",
        "invalid value \"-x\" for \"instance\": it must start with a letter or a digit",
    ),
    (
        "instance:a/b",
        "invalid value \"a/b\" for \"instance\": only letters, digits, '.', '_' and '-' are allowed",
    ),
    (
        "instance:x,gitref:",
        "invalid value \"\" for \"gitref\": it is empty",
    ),
    (
        "instance:x,gitref:--upload-pack",
        "invalid value \"--upload-pack\" for \"gitref\": it must not start with '-'",
    ),
    (
        "instance:x,gitref:a%0Ab",
        "invalid value \"a\\nb\" for \"gitref\": it contains a control character",
    ),
    (
        "instance:x,role:a%00b",
        "invalid value \"a\\u{0}b\" for \"role\": it contains a control character",
    ),
    (
        "instance:x,role:",
        "invalid value \"\" for \"role\": it is empty",
    ),
    (
        "instance:x,gitref:100%",
        "invalid value \"100%\" for \"gitref\": a '%' must be followed by two hexadecimal digits (a '%' itself is %25)",
    ),
    (
        "instance:x,gitref:%FF",
        "invalid value \"%FF\" for \"gitref\": it is not valid UTF-8 once decoded",
    ),
    (
        "instance:x,asof:yesterday",
        "invalid value \"yesterday\" for \"asof\": it must be a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z",
    ),
    (
        "instance:x,asof:2026-02-30",
        "invalid value \"2026-02-30\" for \"asof\": it must be a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z",
    ),
];

#[test]
fn user_names_are_parsed() {
    for (user, expected) in USER_NAMES {
        assert_eq!(&text(parse_both(user, None)), expected, "{user}");
    }
}

#[test]
fn too_long_revisions_and_roles_are_refused() {
    for (key, max) in [("gitref", GITREF_LENGTH_MAX), ("role", ROLE_LENGTH_MAX)] {
        let user = |length| format!("instance:x,{key}:{}", "a".repeat(length));
        assert!(parse_both(&user(max), None).is_ok());
        let error = parse_both(&user(max + 1), None).unwrap_err();
        let message = error.to_string();
        assert!(message.ends_with(&format!("it is longer than {max} bytes")));
        assert!(message.len() < 200, "{message}");
    }
}

#[test]
fn timeouts_are_durations_longer_than_zero() {
    let idle = |value: &str| {
        let options = format!("-c multidb.session_idle_timeout={value}");
        let parsed = parse(b"instance:a", Some(options.as_bytes()));
        parsed.map(|(request, _)| request.idle.session)
    };
    assert_eq!(idle("1h30m"), Ok(Some(Duration::from_secs(5400))));
    assert_eq!(idle("250ms"), Ok(Some(Duration::from_millis(250))));
    for wrong in [
        "",
        "0s",
        "soon",
        "15",
        "-1s",
        "101years",
        "99999999999999999999s",
    ] {
        assert!(idle(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    assert_eq!(
        parse(b"instance:\xFF", None),
        Err(RequestError::UserNameEncoding)
    );
    assert_eq!(
        parse(b"app", Some(b"-c multidb.instance=\xFF")),
        Err(RequestError::OptionsEncoding)
    );
}

#[test]
fn date_means_its_last_instant_in_utc() {
    let (request, _) = parse_both("instance:x,asof:2026-01-31", None).unwrap();
    let end = "2026-01-31T23:59:59.999999999Z".parse().unwrap();
    assert_eq!(request.source, Some(Source::AsOf(end)));
}

const OPTIONS: &[(&str, &str, &str)] = &[
    ("", "-c multidb.instance=x", "instance:x"),
    ("app", "-c multidb.instance=x", "instance:x role:app"),
    (
        "app",
        "-cmultidb.instance=x --multidb.gitref=y",
        "instance:x gitref:y role:app",
    ),
    ("app", "-c MultiDB.Instance=x", "instance:x role:app"),
    (
        "app",
        "  -c\tmultidb.instance=x\u{b}",
        "instance:x role:app",
    ),
    (
        "app",
        "-c multidb.instance=x -c multidb.role=app",
        "instance:x role:app",
    ),
    (
        "app",
        "-c multidb.instance=x -c multidb.gitref=a%2Cb",
        "instance:x gitref:a,b role:app",
    ),
    (
        "app",
        "-c geqo=off -c  multidb.instance=x  -c search_path=a\\ b",
        "instance:x role:app | -c geqo=off -c search_path=a\\ b",
    ),
    (
        "app",
        "--multidb.instance=x -c a=\\\\\\  -B 5",
        "instance:x role:app | -c a=\\\\\\  -B 5",
    ),
    // A backslash escapes the next byte, also within multidb's settings.
    (
        "app",
        "-c multi\\db.instance=x -c a=1",
        "instance:x role:app | -c a=1",
    ),
    // The argument of another switch is not a setting.
    (
        "instance:x",
        "-B -cmultidb.gitref=y",
        "instance:x | -B -cmultidb.gitref=y",
    ),
    (
        "instance:x",
        "-EB -cmultidb.gitref=y",
        "instance:x | -EB -cmultidb.gitref=y",
    ),
    (
        "instance:x",
        "-B5 -cmultidb.gitref=y",
        "instance:x gitref:y | -B5 ",
    ),
    ("instance:x", " -c geqo=off ", "instance:x |  -c geqo=off "),
    (
        "instance:x",
        "-c multidbx.a=b -c",
        "instance:x | -c multidbx.a=b -c",
    ),
    ("instance:x", "   ", "instance:x"),
    ("instance:x", "-c multidb.gitref=y", "instance:x gitref:y"),
    (
        "instance:x,gitref:y",
        "-c multidb.gitref=y",
        "instance:x gitref:y",
    ),
    (
        "instance:x,gitref:y",
        "-c multidb.gitref=z",
        "user name and options disagree on \"gitref\"",
    ),
    (
        "instance:x",
        "-c multidb.instance=y",
        "user name and options disagree on \"instance\"",
    ),
    (
        "app",
        "-c multidb.instance=x -c multidb.role=other",
        "user name and options disagree on \"role\"",
    ),
    (
        "instance:x",
        "-c multidb.gitref=y -c multidb.gitref=y",
        "key \"gitref\" is repeated in the options",
    ),
    (
        "instance:x,gitref:a",
        "-c multidb.asof=2026-01-31",
        "\"gitref\" and \"asof\" cannot be combined",
    ),
    (
        "instance:x",
        "-c multidb.branch=y",
        "unknown key \"branch\" in the options",
    ),
    // As Postgres reads names.
    (
        "instance:x",
        "--multidb.Some-Key=y",
        "unknown key \"some_key\" in the options",
    ),
    (
        "instance:x",
        "-c multidb.gitref",
        "option \"multidb.gitref\" has no value",
    ),
    (
        "app",
        "-c multidb.gitref=y",
        "user name \"app\" names no instance",
    ),
    (
        "a%b",
        "-c multidb.instance=x%",
        "invalid value \"x%\" for \"instance\": a '%' must be followed by two hexadecimal digits (a '%' itself is %25)",
    ),
];

#[test]
fn options_are_parsed_and_cut_out() {
    for (user, options, expected) in OPTIONS {
        let result = text(parse_both(user, Some(options)));
        assert_eq!(&result, expected, "{user} {options}");
    }
}

#[test]
fn key_as_user_name_is_an_unescaped_url() {
    let error = ClientError::from(&parse_both("instance", None).unwrap_err());
    let hint = error.hint.unwrap();
    assert!(hint.contains("instance=NAME,gitref=REVISION"), "{hint}");
    assert!(matches!(
        parse_both("gitref", None),
        Err(RequestError::UnescapedUrl { .. })
    ));
}

/// Text that a value may hold.
fn values() -> impl Strategy<Value = String> {
    "[^\\p{Cc}-][^\\p{Cc}]{0,20}"
}

proptest! {
    #[test]
    fn encoded_request_round_trips(
        instance in "[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        gitref in values(),
        role in values().prop_filter("63 bytes", |role| role.len() <= 63),
        order in Just([0, 1, 2]).prop_shuffle(),
        sign in prop_oneof![Just(':'), Just('=')],
    ) {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs = [
            format!("instance{sign}{}", encode(&instance)),
            format!("gitref{sign}{}", encode(&gitref)),
            format!("role{sign}{}", encode(&role)),
        ];
        let user = order.map(|index| pairs[index].clone()).join(",");
        let (request, rest) = parse_both(&user, None).unwrap();
        prop_assert_eq!(request.instance.as_str(), instance);
        prop_assert_eq!(request.source, Some(Source::GitRef(gitref)));
        prop_assert_eq!(request.role, Some(role));
        prop_assert_eq!(rest, None);
    }

    #[test]
    fn source_round_trips_through_its_text(seconds in 0_i64..4_000_000_000, nanos in 0_i32..1_000_000_000) {
        let source = Source::AsOf(Timestamp::new(seconds, nanos).unwrap());
        let (request, _) = parse_both(&format!("instance:x,{source}"), None).unwrap();
        prop_assert_eq!(request.source, Some(source));
    }

    #[test]
    fn any_bytes_are_accepted_or_refused_on_one_line(user in proptest::collection::vec(any::<u8>(), 0..80), options in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))) {
        if let Err(error) = parse(&user, options.as_deref()) {
            let message = error.to_string();
            prop_assert!(!message.contains(char::is_control), "{}", message);
        }
    }

    #[test]
    fn options_without_multidb_settings_are_unchanged(options in "[-cB \\\\=a-z\t']{0,60}") {
        prop_assume!(!options.contains("multidb"));
        let (_, rest) = parse_both("instance:x", Some(&options)).unwrap();
        let is_blank = options.trim().is_empty();
        prop_assert_eq!(rest, (!is_blank).then(|| options.into_bytes()));
    }

    #[test]
    fn multidb_settings_are_cut_out_between_other_words(
        before in "(  ?(-c a=b|-ca=b|x\\\\ |-B -c|a\\\\\\\\|--a=\\\\b)){0,4}",
        spelling in prop_oneof![Just("--"), Just("-c"), Just("-c "), Just("-c \t")],
        after in "((-c a=b|\\\\ |-B 5) ){0,3}",
    ) {
        let options = format!("{before} {spelling}multidb.gitref=y  {after}");
        let (request, rest) = parse_both("instance:x", Some(&options)).unwrap();
        prop_assert_eq!(request.source, Some(Source::GitRef("y".into())));
        let expected = format!("{before} {after}");
        let is_blank = expected.trim().is_empty();
        prop_assert_eq!(rest, (!is_blank).then(|| expected.into_bytes()));
    }
}
