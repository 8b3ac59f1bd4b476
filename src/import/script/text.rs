//! The texts that the rewriter recognizes and writes.

use memchr::memchr;

/// The query that finds out whether a table can be filled with FREEZE, before and after the name of
/// the table. It sets two psql variables to the SQL that FREEZE needs, or to nothing.
///
/// FREEZE requires that the table was created or truncated in the same transaction. TRUNCATE
/// requires that no foreign key refers to the table, and must not lose rows (the configuration table
/// of an extension has some already) or fire triggers.
pub(super) const FREEZE_QUERY_HEAD: &str = "SELECT \
    CASE WHEN f THEN pg_catalog.format('TRUNCATE TABLE ONLY %s;', t) ELSE '' END AS multidb_prepare, \
    CASE WHEN f THEN 'WITH (FREEZE)' ELSE '' END AS multidb_options \
    FROM (SELECT pg_catalog.to_regclass(";
pub(super) const FREEZE_QUERY_TAIL: &str = ") AS t) AS n LEFT JOIN LATERAL (SELECT \
    c.relkind = 'r' AND c.relpersistence <> 't' AND NOT c.relhastriggers \
    AND pg_catalog.pg_relation_size(c.oid) = 0 AND NOT EXISTS \
    (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.confrelid = c.oid) AS f \
    FROM pg_catalog.pg_class AS c WHERE c.oid = n.t) AS c ON true \\gset \\\\ ";

/// The statement that creates a role if it does not exist.
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

/// Whether this statement sets a parameter that the server lacks, or a tablespace of the source.
pub(super) fn is_unwanted(text: &[u8], postgres_major: u16) -> bool {
    let newer_server = postgres_major < 17 && text == b"SET transaction_timeout = 0;";
    let tablespace = text.starts_with(b"SET default_tablespace = ")
        && text != b"SET default_tablespace = '';"
        && memchr(b';', text) == Some(text.len() - 1);
    newer_server || tablespace
}

/// Whether this is a token of `\restrict`: letters and digits only.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric)
}

/// Whether this argument of `\connect` is a database of the same server, and nothing else.
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
            // psql parses a name with these characters as a connection string.
            !name.is_empty() && !name.iter().any(|b| matches!(b, b'"' | b'=' | b':' | b'\\'))
        }
        (None, name) => !name.is_empty() && !name.starts_with(b"-") && name.iter().all(plain),
    }
}

/// The table in the text between COPY and FROM.
pub(super) fn table_name(head: &[u8]) -> &[u8] {
    let mut quoted = false;
    let end = head.iter().position(|byte| {
        quoted ^= *byte == b'"';
        !quoted && *byte == b' '
    });
    &head[..end.unwrap_or(head.len())]
}

/// An SQL literal that does not depend on `standard_conforming_strings`.
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

/// The line feed of a line, if any: it stays when the line is dropped.
pub(super) fn newline(line: &[u8]) -> &[u8] {
    let text = line.trim_ascii_end().len();
    match memchr(b'\n', &line[text..]) {
        Some(at) => &line[text + at..],
        None => &[],
    }
}
