//! `docs/reference/sqlstates.md`, made from the table of all messages.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::{ClientError, all, console};

/// Set, the test writes the page in place of comparing it.
const REWRITE: &str = "MULTIDB_WRITE_REFERENCE";

/// An SQLSTATE of Postgres, and the messages that have it.
#[derive(Default)]
struct Entry {
    name: String,
    meaning: String,
    messages: Vec<(String, String)>,
}

/// The names and meanings, from the comments of the constants.
fn entries() -> BTreeMap<String, Entry> {
    let source = include_str!("../../wire/sqlstate.rs");
    let mut entries = BTreeMap::new();
    for part in source.split("\n/// `").skip(1) {
        let (name, rest) = part.split_once("`: ").unwrap();
        let (meaning, rest) = rest.split_once("\npub const ").unwrap();
        let code = rest.split('"').nth(1).unwrap();
        let entry = Entry {
            name: name.to_owned(),
            meaning: meaning.replace("\n/// ", " "),
            messages: Vec::new(),
        };
        entries.insert(code.to_owned(), entry);
    }
    entries
}

fn page() -> String {
    let mut entries = entries();
    let of_console: Vec<ClientError> = console::errors().iter().map(ClientError::from).collect();
    let of_sessions = all().into_iter().map(|(_, error)| error);
    for error in of_sessions.chain(of_console) {
        let entry = entries.get_mut(error.sqlstate()).unwrap();
        let message = (
            error.message,
            error.hint.or(error.detail).unwrap_or_default(),
        );
        if !entry.messages.contains(&message) {
            entry.messages.push(message);
        }
    }
    let mut page = String::from(
        "# SQLSTATEs\n\nOf multidb's own errors, with each message; names and numbers in them are examples.\n\
         Every message begins with `multidb: `; errors without that are Postgres' own.\n\
         [When a client is refused](../troubleshooting.md) goes by what a client sees.\n",
    );
    for (code, entry) in entries
        .iter()
        .filter(|(_, entry)| !entry.messages.is_empty())
    {
        let _ = write!(page, "\n## {code} `{}`\n\n", entry.name);
        let mut meaning = entry.meaning.chars();
        let first = meaning.next().map(|c| c.to_uppercase().to_string());
        let _ = write!(
            page,
            "{}{}\n\n",
            first.unwrap_or_default(),
            meaning.as_str()
        );
        page.push_str("| message | hint, or else detail |\n| --- | --- |\n");
        for (message, hint) in &entry.messages {
            let _ = writeln!(page, "| {} | {} |", cell(message), cell(hint));
        }
    }
    page
}

/// Text in a cell of a table. A reader of Markdown would take some of it for markup.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '<' | '`' | '[' | '\\' => cell.extend(['\\', c]),
            '\n' => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}

#[test]
fn page_of_sqlstates_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/sqlstates.md");
    let text = page();
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/reference/sqlstates.md is out of date: run this test with {REWRITE}=1"
    );
}
