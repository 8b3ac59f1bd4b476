//! The pieces of text that the rewriter reads and writes.

use memchr::memchr;

/// Whether a table may be filled with FREEZE, answered as the two pieces of SQL that do it.
///
/// FREEZE needs a table that was made or truncated in the same transaction; truncating needs one
/// that no foreign key refers to and must not lose rows (an extension's configuration table has
/// some already) or fire triggers.
pub(super) const FREEZE_QUERY_HEAD: &str = "SELECT \
    CASE WHEN f THEN pg_catalog.format('TRUNCATE TABLE ONLY %s;', t) ELSE '' END AS multidb_prepare, \
    CASE WHEN f THEN 'WITH (FREEZE)' ELSE '' END AS multidb_options \
    FROM (SELECT pg_catalog.to_regclass(";
pub(super) const FREEZE_QUERY_TAIL: &str = ") AS t) AS n LEFT JOIN LATERAL (SELECT \
    c.relkind = 'r' AND c.relpersistence <> 't' AND NOT c.relhastriggers \
    AND pg_catalog.pg_relation_size(c.oid) = 0 AND NOT EXISTS \
    (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.confrelid = c.oid) AS f \
    FROM pg_catalog.pg_class AS c WHERE c.oid = n.t) AS c ON true \\gset \\\\ ";

/// Makes a role, if it does not exist.
pub(super) fn create_role(role: &[u8]) -> Vec<u8> {
    let name = literal(role);
    let create = [
        b"DO $multidb$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ",
        name.as_slice(),
        b") THEN EXECUTE pg_catalog.format('CREATE ROLE %I LOGIN', ",
        &name,
        b"); END IF; END$multidb$; ",
    ];
    create.concat()
}

/// Settings that this server does not have, or that name what only the source had.
pub(super) fn is_unwanted(text: &[u8], postgres_major: u16) -> bool {
    let newer_server = postgres_major < 17 && text == b"SET transaction_timeout = 0;";
    let tablespace = text.starts_with(b"SET default_tablespace = ")
        && text != b"SET default_tablespace = '';"
        && memchr(b';', text) == Some(text.len() - 1);
    newer_server || tablespace
}

/// A dump's token: letters and digits only.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric)
}

/// The argument of a `\connect` that names a database of the same server and nothing else.
pub(super) fn is_database(argument: &[u8]) -> bool {
    let name = argument
        .strip_prefix(b"-reuse-previous=on \"dbname='")
        .and_then(|rest| rest.strip_suffix(b"'\""));
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || *b >= 0x80;
    match (name, argument) {
        (Some(name), _) => {
            !name.is_empty()
                && name
                    .iter()
                    .all(|b| plain(b) || matches!(b, b' ' | b'=' | b','))
        }
        (None, [b'"', name @ .., b'"']) => {
            // psql takes a name with these for a whole connection string.
            !name.is_empty() && !name.iter().any(|b| matches!(b, b'"' | b'=' | b':' | b'\\'))
        }
        (None, name) => !name.is_empty() && !name.starts_with(b"-") && name.iter().all(plain),
    }
}

/// The table in what stands between COPY and FROM.
pub(super) fn table_name(head: &[u8]) -> &[u8] {
    let mut quoted = false;
    let end = head.iter().position(|byte| {
        quoted ^= *byte == b'"';
        !quoted && *byte == b' '
    });
    &head[..end.unwrap_or(head.len())]
}

/// An SQL literal that means the same whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &[u8]) -> Vec<u8> {
    let mut literal = b"E'".to_vec();
    for &byte in text {
        if matches!(byte, b'\'' | b'\\') {
            literal.push(byte);
        }
        literal.push(byte);
    }
    literal.push(b'\'');
    literal
}

/// The line's end: what is left when it is emptied.
pub(super) fn newline(line: &[u8]) -> &[u8] {
    let text = line.trim_ascii_end().len();
    match memchr(b'\n', &line[text..]) {
        Some(at) => &line[text + at..],
        None => &[],
    }
}
