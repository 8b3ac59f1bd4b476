//! Times, sizes and counts, for people; and values in links.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};
use multidb_store::error_chain;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::layout::Problem;
pub(super) use crate::text::size as bytes;

/// What stays as it is in a query's value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A value for a query.
pub(super) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string()
}

/// Reads a name from a path or a form.
pub(super) fn parse<T: FromStr<Err: std::error::Error>>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error| Problem::bad_request(error_chain(&error)))
}

/// A number of bytes, where it is known.
pub(super) fn bytes_if_known(known: Option<u64>) -> String {
    known.map_or_else(|| "–".to_owned(), bytes)
}

/// The largest unit of a time: `5 min`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How far a time is from now: `5 min ago`, `in 3 h`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = span(now.duration_since(at).unsigned_abs());
    if at.duration_since(now).is_positive() {
        format!("in {distance}")
    } else if distance.ends_with(" s") {
        "just now".to_owned()
    } else {
        format!("{distance} ago")
    }
}

/// How far a time is from now, with the time itself for who points at it, and for programs.
pub(super) fn when(at: Timestamp, now: Timestamp) -> Markup {
    let exact = exact(at);
    html! { time datetime=(exact) title=(exact) { (relative(at, now)) } }
}

/// A time as it is, with how far it is from now.
pub(super) fn full(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(exact(at)) { (at.strftime("%Y-%m-%d %H:%M UTC")) } " (" (relative(at, now)) ")" }
}

/// A time, to the second.
pub(super) fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A number with its noun: `1 session`, `2 sessions`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// The beginning of a commit, as git shows it.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// A term with its description, in a list of them.
pub(super) fn fact(term: &str, description: impl maud::Render) -> Markup {
    html! { div { dt { (term) } dd { (description) } } }
}

/// A link to an instance, a snapshot or a job.
pub(super) fn link(kind: &str, name: impl Display) -> Markup {
    let name = name.to_string();
    html! { a href={ "/" (kind) "/" (encoded(&name)) } { (name) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_by_its_largest_unit() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (at, expected) in [
            ("2026-01-10T00:00:00Z", "just now"),
            ("2026-01-09T23:59:01Z", "just now"),
            ("2026-01-09T23:54:59Z", "5 min ago"),
            ("2026-01-09T00:00:00Z", "24 h ago"),
            ("2026-01-01T00:00:00Z", "9 days ago"),
            ("2026-01-10T03:30:00Z", "in 3 h"),
            ("2026-01-10T00:00:20Z", "in 20 s"),
        ] {
            assert_eq!(relative(at.parse().unwrap(), now), expected);
        }
    }

    #[test]
    fn value_of_a_query_is_encoded() {
        assert_eq!(encoded("a b&c=\"/é"), "a%20b%26c%3D%22%2F%C3%A9");
    }
}
