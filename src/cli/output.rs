//! The output of commands: JSON for programs, text for people.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use serde::Serialize;

/// Standard output.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a value, as JSON with `--json`, else as this text.
    pub(super) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        // Clients, dumps and servers choose some of the shown texts, and a terminal would obey their control characters.
        let mut text = if self.json {
            escaped_json(&serde_json::to_string_pretty(value)?)
        } else {
            lines(&text(value))
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            // The reader ended: `multidb instance ls | head`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write to standard output"),
        }
    }
}

/// JSON of several lines, without characters that a terminal obeys: all but the ends of lines are in strings.
pub(super) fn escaped_json(json: &str) -> String {
    let escaped = |c| match c {
        '\n' => '\n'.to_string(),
        c => format!("\\u{:04x}", u32::from(c)),
    };
    escape(json, escaped).into_owned()
}

/// One line for people, without characters that a terminal obeys.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| c.escape_default().to_string())
}

/// Several lines for people, each as [`printable`] has it.
pub(super) fn lines(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        format!("{}{end}", printable(line.trim_end_matches('\n')))
    });
    lines.collect()
}

/// Escapes control characters but tabs, and those that change the direction of the text around them.
fn escape(text: &str, escaped: impl Fn(char) -> String) -> Cow<'_, str> {
    const DIRECTIONS: [std::ops::RangeInclusive<char>; 2] =
        ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    let is_obeyed = |c: char| {
        (c.is_control() && c != '\t') || DIRECTIONS.iter().any(|range| range.contains(&c))
    };
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| {
        if is_obeyed(c) {
            escaped(c)
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_obeys_are_escaped() {
        for (hostile, shown) in [
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\rb\x7f", "a\\rb\\u{7f}"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("tab\tand ü", "tab\tand ü"),
        ] {
            assert_eq!(printable(hostile), shown);
        }
        assert_eq!(printable("a\nb"), "a\\nb");
        assert_eq!(lines("a\nb\x1bc\n\n"), "a\nb\\u{1b}c\n\n");
        assert_eq!(lines("no end"), "no end");
    }
}
