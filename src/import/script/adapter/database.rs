//! The CREATE DATABASE of a dump.

use super::edits::Edits;
use super::{Name, Subject, Token, literal, placed_tokens, subject};
use crate::import::script::statement::Placed;

/// The options that say a locale.
const LOCALE_OPTIONS: [&str; 8] = [
    "locale",
    "locale_provider",
    "lc_collate",
    "lc_ctype",
    "icu_locale",
    "icu_rules",
    "builtin_locale",
    "collation_version",
];

/// The database that a statement creates, if it creates one.
pub(in crate::import) fn created_database(text: &[u8]) -> Option<Name> {
    const CREATE: &[u8] = b"create";
    let begin = text.get(..CREATE.len())?;
    if !begin.eq_ignore_ascii_case(CREATE) {
        return None;
    }
    let tokens: Vec<Token> = placed_tokens(text)
        .into_iter()
        .map(|placed| placed.token)
        .collect();
    match subject(&tokens) {
        Subject::CreateDatabase(name, _) => Some(name),
        _ => None,
    }
}

/// The statement with this locale of the C library instead of its own, and with this encoding if it says none.
pub(in crate::import) fn with_locale(text: &[u8], locale: &str, encoding: Option<&str>) -> Vec<u8> {
    let placed = placed_tokens(text);
    let mut edits = Edits::default();
    for option in LOCALE_OPTIONS {
        if let Some(found) = find(&placed, option) {
            edits.remove(found.whole);
        }
    }
    let locale = literal(locale.as_bytes());
    let mut more = [b" LC_COLLATE = ", &locale[..], b" LC_CTYPE = ", &locale].concat();
    if let (Some(encoding), None) = (encoding, find(&placed, "encoding")) {
        more.extend([b" ENCODING = ", &literal(encoding.as_bytes())[..]].concat());
    }
    if find(&placed, "template").is_none() {
        more.extend_from_slice(b" TEMPLATE = template0");
    }
    let end = placed
        .iter()
        .rfind(|one| one.token == Token::Symbol(b';'))
        .map_or(text.len(), |semicolon| semicolon.at.start);
    edits.replace(end..end, more);
    edits.apply(text).unwrap_or_default()
}

/// Leaves out the options that an older major does not know, where another one means the same. Returns the difference
/// for a warning.
pub(super) fn older_options(
    placed: &[Placed],
    postgres_major: u16,
    edits: &mut Edits,
) -> Option<String> {
    let provider = find(placed, "locale_provider")?;
    if postgres_major < 15 && provider.is("libc") {
        edits.remove(provider.whole);
    }
    let builtin = find(placed, "builtin_locale").filter(|_| provider.is("builtin"))?;
    let locale = match builtin.value.name()?.as_slice() {
        b"C" => "C",
        b"C.UTF-8" | b"C.UTF8" => "C.UTF-8",
        // The C library has none of the same order and case.
        _ => return None,
    };
    if postgres_major >= 17 {
        return None;
    }
    for option in LOCALE_OPTIONS {
        if let Some(found) = find(placed, option) {
            edits.remove(found.whole);
        }
    }
    let text = format!("LC_COLLATE = '{locale}' LC_CTYPE = '{locale}' ");
    let before = provider.whole[0].at.start;
    edits.replace(before..before, text.into_bytes());
    Some(format!(
        "the dump's database has Postgres' builtin locale \"{locale}\", which PostgreSQL {postgres_major} lacks: it has that \
         of the C library, which orders texts alike"
    ))
}

/// An option of a statement.
struct Found<'p, 'a> {
    /// Its tokens.
    whole: &'p [Placed<'a>],
    value: &'p Token<'a>,
}

impl Found<'_, '_> {
    fn is(&self, value: &str) -> bool {
        let name = self.value.name();
        name.is_some_and(|name| name.eq_ignore_ascii_case(value.as_bytes()))
    }
}

fn find<'p, 'a>(placed: &'p [Placed<'a>], option: &str) -> Option<Found<'p, 'a>> {
    // Behind `CREATE DATABASE name`, which may be named so.
    let at = 3 + placed
        .get(3..)?
        .iter()
        .position(|one| one.token.is(option))?;
    let equals = placed
        .get(at + 1)
        .is_some_and(|next| next.token == Token::Symbol(b'='));
    let end = at + 1 + usize::from(equals);
    let value = &placed.get(end)?.token;
    let whole = &placed[at..=end];
    Some(Found { whole, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn older(text: &str, postgres_major: u16) -> (String, Option<String>) {
        let mut edits = Edits::default();
        let warning = older_options(&placed_tokens(text.as_bytes()), postgres_major, &mut edits);
        let edited = edits.apply(text.as_bytes());
        let text = edited.map_or(text.to_owned(), |text| String::from_utf8(text).unwrap());
        let words: Vec<&str> = text.split_whitespace().collect();
        (words.join(" "), warning)
    }

    #[test]
    fn options_of_newer_majors_are_left_out_where_others_mean_the_same() {
        let libc =
            "CREATE DATABASE p WITH TEMPLATE = template0 LOCALE_PROVIDER = libc LOCALE = 'C';";
        assert_eq!(older(libc, 15), (libc.to_owned(), None));
        let text = "CREATE DATABASE p WITH TEMPLATE = template0 LOCALE = 'C';";
        assert_eq!(older(libc, 13), (text.to_owned(), None));
        let builtin = "CREATE DATABASE p WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = builtin \
            LOCALE = 'en_US.UTF-8' BUILTIN_LOCALE = 'C.UTF-8';";
        assert_eq!(older(builtin, 17), (builtin.to_owned(), None));
        let (text, warning) = older(builtin, 16);
        assert_eq!(
            text,
            "CREATE DATABASE p WITH TEMPLATE = template0 ENCODING = 'UTF8' LC_COLLATE = 'C.UTF-8' \
             LC_CTYPE = 'C.UTF-8' ;"
        );
        assert_eq!(
            warning.unwrap(),
            "the dump's database has Postgres' builtin locale \"C.UTF-8\", which PostgreSQL 16 lacks: it has that of \
             the C library, which orders texts alike"
        );
        let unicode = builtin.replace("C.UTF-8", "PG_UNICODE_FAST");
        assert_eq!(older(&unicode, 16), (unicode.clone(), None));
    }

    #[test]
    fn another_locale_takes_the_place_of_all_that_say_one() {
        let text = b"CREATE DATABASE locale WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu \
            LOCALE = 'en_US.UTF-8' ICU_LOCALE = 'de-DE' ICU_RULES = '&a < g' OWNER = app;";
        let mapped = String::from_utf8(with_locale(text, "C.UTF-8", Some("LATIN1"))).unwrap();
        let words: Vec<&str> = mapped.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "CREATE DATABASE locale WITH TEMPLATE = template0 ENCODING = 'UTF8' OWNER = app LC_COLLATE = E'C.UTF-8' \
             LC_CTYPE = E'C.UTF-8';"
        );
        let short =
            String::from_utf8(with_locale(b"CREATE DATABASE p", "C", Some("UTF8"))).unwrap();
        assert_eq!(
            short,
            "CREATE DATABASE p LC_COLLATE = E'C' LC_CTYPE = E'C' ENCODING = E'UTF8' TEMPLATE = template0"
        );
        assert_eq!(
            created_database(b"create database \"A b\";"),
            Some(b"A b".to_vec())
        );
        assert_eq!(created_database(b"CREATE TABLE database (a int);"), None);
        assert_eq!(created_database(b"DROP DATABASE p;"), None);
    }
}
