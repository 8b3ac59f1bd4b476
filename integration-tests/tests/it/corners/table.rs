//! The cases: the client's bytes, and the expected comparison of multidb's answer with Postgres'.

use super::LONG;
use super::answer::Step;
use super::expect::Expect::{self, Differs, Same};
use super::expect::{SESSION, TOLD, no_gss, speaks_3_2};

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) expect: Expect,
    pub(super) steps: Vec<Step>,
}

/// User names with the same meaning for both servers.
pub(super) struct Names<'a> {
    /// A user name that gets a session.
    pub(super) user: &'a str,
    /// A user name whose role does not exist.
    pub(super) other: &'a str,
    /// A user name whose role is longer than NAMEDATALEN permits.
    pub(super) long: &'a str,
}

const V3_0: u32 = 0x0003_0000;
const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// The cases, as clients of this server send them.
pub(super) fn cases(names: &Names<'_>) -> Vec<Case> {
    let mut cases = lengths(names);
    cases.extend(layouts(names));
    cases.extend(versions(names));
    cases.extend(encryption(names));
    cases.extend(strangers());
    cases.extend(cancels());
    cases.extend(logins(names));
    cases.extend(sessions(names));
    cases
}

fn case(name: &'static str, expect: Expect, steps: Vec<Step>) -> Case {
    Case {
        name,
        expect,
        steps,
    }
}

fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

/// A packet without a tag.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("a packet is short");
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

/// The parameters of a startup packet, without the terminator.
fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let texts = pairs.iter().flat_map(|(name, value)| [*name, *value]);
    texts
        .flat_map(|text| [text.as_bytes(), b"\0"])
        .collect::<Vec<_>>()
        .concat()
}

fn startup(version: u32, parameters: &[(&str, &str)]) -> Step {
    send(packet(version, &[&pairs(parameters)[..], b"\0"].concat()))
}

/// A startup packet with exactly this length field.
fn startup_of_length(user: &str, length: usize) -> Step {
    let known = pairs(&[("user", user), ("database", "app")]);
    let name = b"application_name\0";
    let filler = length - 8 - known.len() - name.len() - 2;
    let body = [&known[..], name, &vec![b'x'; filler], b"\0\0"].concat();
    send(packet(V3_0, &body))
}

/// Only a length, with a version after it.
fn claim(length: u32) -> Step {
    send([length.to_be_bytes(), V3_0.to_be_bytes()].concat())
}

fn lengths(names: &Names<'_>) -> Vec<Case> {
    let user = names.user;
    let short = |length| vec![claim(length), Step::HalfClose];
    let whole = |length| vec![startup_of_length(user, length)];
    vec![
        case("nothing at all", Same, vec![Step::HalfClose]),
        case("a byte", Same, vec![send([0]), Step::HalfClose]),
        case("half a length", Same, vec![send([0, 0]), Step::HalfClose]),
        case(
            "only a length",
            Same,
            vec![send([0, 0, 0, 50]), Step::HalfClose],
        ),
        case("half a packet", Same, short(50)),
        case("length 0", Same, short(0)),
        case("length 4", Same, short(4)),
        case("length 7", Same, short(7)),
        case("length 8", Same, vec![claim(8)]),
        case("length 9999", Same, whole(9_999)),
        case("length 10000", Same, whole(10_000)),
        case("length 10001", Same, whole(10_001)),
        case("length 10004, the longest", Same, whole(10_004)),
        case("length 10005", TOLD, vec![claim(10_005)]),
        case("length 65536", TOLD, vec![claim(65_536)]),
        case("length 2^31-1", Same, vec![claim(u32::MAX >> 1)]),
        case("length 2^31", Same, vec![claim(1 << 31)]),
        case("length 2^32-1", Same, vec![claim(u32::MAX)]),
    ]
}

fn layouts(names: &Names<'_>) -> Vec<Case> {
    let user = pairs(&[("user", names.user)]);
    let body = |end: &[u8]| vec![send(packet(V3_0, &[&user[..], end].concat()))];
    vec![
        case(
            "no parameter and no terminator",
            Same,
            vec![send(packet(V3_0, b""))],
        ),
        case("no terminator", Same, body(b"")),
        case("a value that does not end", Same, body(b"database\0app")),
        case("a name that does not end", Same, body(b"databa")),
        case("a name without a value", Same, body(b"database\0")),
        case(
            "a name with an empty value at the end",
            Same,
            body(b"database\0\0"),
        ),
        case("bytes after the terminator", Same, body(b"\0x")),
        case("two terminators", Same, body(b"\0\0")),
        case(
            "a terminator in the middle",
            Same,
            body(b"\0database\0app\0\0"),
        ),
        case("a second packet behind the first", Same, {
            let first = packet(V3_0, &[&user[..], b"\0"].concat());
            vec![send([&first[..], &packet(V3_0, b"\0")].concat())]
        }),
    ]
}

fn versions(names: &Names<'_>) -> Vec<Case> {
    let user = ("user", names.user);
    let plain = |version| vec![startup(version, &[user, ("database", "app")])];
    let asking = |version| {
        let new = [user, ("_pq_.new", "1"), ("_pq_.other", "")];
        vec![startup(version, &new)]
    };
    vec![
        case("protocol 0.0", Same, plain(0)),
        case("protocol 1.0", Same, plain(0x0001_0000)),
        case("protocol 2.0", Same, plain(0x0002_0000)),
        case("protocol 3.0", Same, plain(V3_0)),
        case("protocol 3.1", speaks_3_2(SESSION), plain(0x0003_0001)),
        case("protocol 3.2", speaks_3_2(SESSION), plain(0x0003_0002)),
        case(
            "protocol 3.9999",
            speaks_3_2(r"v \x00\x03\x00\x02\x00\x00\x00\x00 R \x00\x00\x00\x00 S K Z I closed"),
            plain(0x0003_270F),
        ),
        case("protocol 4.0", Same, plain(0x0004_0000)),
        case("protocol 1234.0", Same, plain(0x04D2_0000)),
        case("protocol 1234.5681", Same, plain(0x04D2_1631)),
        case("protocol options", Same, asking(V3_0)),
        case(
            "protocol options of 3.9999",
            speaks_3_2(
                r"v \x00\x03\x00\x02\x00\x00\x00\x02_pq_.new\x00_pq_.other\x00 R \x00\x00\x00\x00 S K Z I closed",
            ),
            asking(0x0003_270F),
        ),
        case(
            "a protocol option without a name",
            Same,
            vec![startup(V3_0, &[user, ("_pq_.", "1")])],
        ),
    ]
}

fn encryption(names: &Names<'_>) -> Vec<Case> {
    let login = || startup(V3_0, &[("user", names.user), ("database", "app")]);
    let (ssl, gss) = (|| send(SSL), || send(GSS));
    let stuffed = |request: [u8; 8]| vec![send([&request[..], &[0; 8]].concat()), Step::Byte];
    vec![
        case("SSL, then a login", Same, vec![ssl(), Step::Byte, login()]),
        case(
            "GSS, then a login",
            no_gss(r"byte N R \x00\x00\x00\x00 S K Z I closed"),
            vec![gss(), Step::Byte, login()],
        ),
        case(
            "SSL, GSS, login",
            no_gss(r"byte N byte N R \x00\x00\x00\x00 S K Z I closed"),
            vec![ssl(), Step::Byte, gss(), Step::Byte, login()],
        ),
        case(
            "GSS, SSL, login",
            no_gss(r"byte N byte N R \x00\x00\x00\x00 S K Z I closed"),
            vec![gss(), Step::Byte, ssl(), Step::Byte, login()],
        ),
        case("SSL twice", Same, vec![ssl(), Step::Byte, ssl()]),
        case(
            "GSS twice",
            no_gss("byte N E FATAL FATAL 0A000 closed"),
            vec![gss(), Step::Byte, gss(), Step::HalfClose],
        ),
        case(
            "SSL and GSS in turns",
            no_gss("byte N byte N E FATAL FATAL 0A000 closed"),
            vec![ssl(), Step::Byte, gss(), Step::Byte, ssl(), Step::HalfClose],
        ),
        case(
            "bytes behind an SSLRequest",
            Differs {
                ours: "byte E closed",
                why: "the error comes in the place of the answer: nothing that was stuffed in is ever a session's, also if the answer were S",
            },
            stuffed(SSL),
        ),
        case(
            "bytes behind a GSSENCRequest",
            no_gss("byte E closed"),
            stuffed(GSS),
        ),
        case(
            "an SSLRequest with a body",
            Differs {
                ours: "byte E closed",
                why: "the protocol gives it none, and what is in it was put there by somebody else; Postgres ignores it",
            },
            vec![send(packet(0x04D2_162F, b"body")), Step::Byte, login()],
        ),
        case(
            "SSL, then nothing",
            Same,
            vec![ssl(), Step::Byte, Step::HalfClose],
        ),
        case("SSL, then a cancel request", Same, {
            vec![ssl(), Step::Byte, send(packet(0x04D2_162E, &[0; 8]))]
        }),
    ]
}

fn strangers() -> Vec<Case> {
    vec![
        case(
            "HTTP",
            Same,
            vec![send(*b"GET / HTTP/1.1\r\nHost: db\r\n\r\n")],
        ),
        case(
            "HTTP/2",
            Same,
            vec![send(*b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
        ),
        case("SSH", Same, vec![send(*b"SSH-2.0-OpenSSH_9.2\r\n")]),
        case(
            "TLS at once",
            Differs {
                ours: r"no message, '\u{15}' closed",
                why: "whoever speaks TLS is refused by a TLS alert, which says more than the end",
            },
            vec![send([0x16, 3, 1, 0, 0xF4, 1, 0, 0, 0xF0, 3, 3])],
        ),
        case("a query without a login", Same, {
            vec![send(*b"Q\0\0\0\x0dselect 1\0")]
        }),
    ]
}

fn cancels() -> Vec<Case> {
    let cancel = |name, key: usize| {
        let body = [&1_000_000_u32.to_be_bytes()[..], &vec![7; key]].concat();
        case(name, Same, vec![send(packet(0x04D2_162E, &body))])
    };
    vec![
        case(
            "a cancel without a process",
            Same,
            vec![send(packet(0x04D2_162E, b""))],
        ),
        cancel("a cancel with 0 bytes of key", 0),
        cancel("a cancel with 3 bytes of key", 3),
        cancel("a cancel with 4 bytes of key", 4),
        cancel("a cancel with 32 bytes of key", 32),
        cancel("a cancel with 256 bytes of key", 256),
        cancel("a cancel with 257 bytes of key", 257),
    ]
}

fn logins(names: &Names<'_>) -> Vec<Case> {
    const NAMED: Expect = Differs {
        ours: "E FATAL FATAL 22023 closed",
        why: "what is wrong with a user name is always 22023, since it holds more than a role",
    };
    let user = ("user", names.user);
    let with = |name, expect, more: &[(&str, &str)]| {
        let parameters = [&[user, ("database", "app")], more].concat();
        case(name, expect, vec![startup(V3_0, &parameters)])
    };
    let only = |name, expect, all: &[(&str, &str)]| case(name, expect, vec![startup(V3_0, all)]);
    vec![
        only("no parameter", NAMED, &[]),
        only("no user", NAMED, &[("database", "app")]),
        only("an empty user", NAMED, &[("user", ""), ("database", "app")]),
        only("no database", Same, &[user]),
        only("an empty database", Same, &[user, ("database", "")]),
        only("a missing database", Same, &[user, ("database", "missing")]),
        only(
            "a database's name over 63 bytes",
            Same,
            &[user, ("database", LONG)],
        ),
        only(
            "a missing role",
            Same,
            &[("user", names.other), ("database", "app")],
        ),
        only(
            "a role's name over 63 bytes",
            Differs {
                ours: "E FATAL FATAL 22023 closed",
                why: "Postgres cuts it, and what is left may be another role; multidb says that it is too long",
            },
            &[("user", names.long), ("database", "app")],
        ),
        with("the user twice", Same, &[user]),
        with("a user before the last", Same, &[("user", ""), user]),
        with("the database twice", Same, &[("database", "missing")]),
        with(
            "a setting twice",
            Same,
            &[("datestyle", "ISO"), ("datestyle", "bad")],
        ),
        with("a setting that is not there", Same, &[("frobnicate", "1")]),
        with("a wrong value", Same, &[("client_encoding", "none such")]),
        with("a name in Latin 1", Same, &[("application_name", "\u{e9}")]),
        with("options", Same, &[("options", "-c geqo=off")]),
        with(
            "options with a fault",
            Same,
            &[("options", "-c frobnicate=1")],
        ),
        with("options that are none", Same, &[("options", "frobnicate")]),
        with("options that end early", Same, &[("options", "-c")]),
        with("replication", Same, &[("replication", "true")]),
        with(
            "replication of a database",
            Same,
            &[("replication", "database")],
        ),
        with(
            "replication that is none",
            Same,
            &[("replication", "bogus")],
        ),
    ]
}

fn sessions(names: &Names<'_>) -> Vec<Case> {
    let said = |name, bytes: &[u8]| {
        let login = startup(V3_0, &[("user", names.user), ("database", "app")]);
        case(name, Same, vec![login, Step::Ready, send(bytes)])
    };
    vec![
        said("a query", b"Q\0\0\0\x0dselect 1\0"),
        said("a query without an end", b"Q\0\0\0\x0cselect 1"),
        said("a message of length 0", b"Q\0\0\0\0"),
        said("a message of length 2^31-1", b"Q\x7f\xff\xff\xff"),
        said("a message of length 2^32-1", b"Q\xff\xff\xff\xff"),
        said("a message of no kind", b"!\0\0\0\x04"),
        said("a Sync", b"S\0\0\0\x04"),
        said("a Terminate", b"X\0\0\0\x04"),
    ]
}
