//! Changes to the text of a statement.

use std::ops::Range;

use crate::import::script::statement::{Placed, Token};

/// Replacements in a text.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, by: Vec<u8>) {
        self.0.push((range, by));
    }

    /// Removes the text from the first token up to the end of the last one.
    pub(super) fn remove(&mut self, placed: &[Placed]) {
        if let (Some(first), Some(last)) = (placed.first(), placed.last()) {
            self.replace(first.at.start..last.at.end, Vec::new());
        }
    }

    /// The changed text, if there is a change.
    pub(super) fn apply(mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut changed = Vec::with_capacity(text.len());
        let mut at = 0;
        for (range, by) in self.0 {
            // Overlapping ones: the first counts.
            if range.start < at {
                continue;
            }
            changed.extend_from_slice(&text[at..range.start]);
            changed.extend(by);
            at = range.end;
        }
        changed.extend_from_slice(&text[at..]);
        Some(changed)
    }
}

/// Replaces the tablespaces that a CREATE names by the default one.
pub(super) fn default_tablespace(placed: &[Placed], edits: &mut Edits) {
    const KINDS: [&str; 4] = ["table", "index", "materialized", "database"];
    // Behind `UNIQUE`, `UNLOGGED` and the like.
    let has_tablespace = placed[1..]
        .iter()
        .take(3)
        .any(|placed| placed.token.is_any(&KINDS));
    if !has_tablespace {
        return;
    }
    let mut depth = 0_usize;
    for (at, one) in placed.iter().enumerate() {
        match &one.token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            // The query of a materialized view.
            token if depth == 0 && token.is("as") => return,
            token if token.is("tablespace") => {
                // Else it is a column of that name.
                let of_index = at > 0 && placed[at - 1].token.is("index");
                let equals = placed
                    .get(at + 1)
                    .is_some_and(|next| next.token == Token::Symbol(b'='));
                let name = placed.get(at + 1 + usize::from(equals));
                if let (true, Some(name)) = (depth == 0 || of_index, name) {
                    edits.replace(name.at.clone(), b"pg_default".to_vec());
                }
            }
            _ => {}
        }
    }
}

/// Leaves out of a GRANT or REVOKE the clauses that an older major does not know, and the grantor.
pub(super) fn older_privileges(placed: &[Placed], postgres_major: u16, edits: &mut Edits) {
    let position = |first: &str, second: &[&str]| {
        placed
            .windows(2)
            .position(|pair| pair[0].token.is(first) && pair[1].token.is_any(second))
    };
    if let Some(at) = position("granted", &["by"]) {
        edits.remove(placed.get(at..at + 3).unwrap_or_default());
    }
    const OPTIONS: [&str; 3] = ["admin", "inherit", "set"];
    if postgres_major < 16
        && let Some(at) = position("with", &OPTIONS)
        && !is_admin_option_alone(&placed[at..])
    {
        let end = placed[at..]
            .iter()
            .position(|one| one.token.is("granted") || one.token == Token::Symbol(b';'));
        let options = &placed[at..end.map_or(placed.len(), |end| at + end)];
        let with_admin = options
            .windows(2)
            .any(|pair| pair[0].token.is("admin") && pair[1].token.is_any(&["true", "option"]));
        match (options.first(), options.last(), with_admin) {
            (Some(first), Some(last), true) => {
                let range = first.at.start..last.at.end;
                edits.replace(range, b"WITH ADMIN OPTION".to_vec());
            }
            _ => edits.remove(options),
        }
    }
    if postgres_major < 17 {
        remove_from_list(placed, "maintain", edits);
    }
}

/// Whether it is `WITH ADMIN OPTION` and no other option, which all majors know.
fn is_admin_option_alone(options: &[Placed]) -> bool {
    const COMMA: Token = Token::Symbol(b',');
    options.get(2).is_some_and(|word| word.token.is("option"))
        && options.get(3).is_none_or(|next| next.token != COMMA)
}

/// Removes a privilege from a list, with a comma. A privilege that is alone stays.
fn remove_from_list(placed: &[Placed], privilege: &str, edits: &mut Edits) {
    const COMMA: Token = Token::Symbol(b',');
    let on = placed.iter().position(|one| one.token.is("on"));
    let list = &placed[..on.unwrap_or(0)];
    let Some(at) = list.iter().position(|one| one.token.is(privilege)) else {
        return;
    };
    let is_comma = |at: usize| list.get(at).is_some_and(|one| one.token == COMMA);
    if is_comma(at + 1) {
        edits.remove(&list[at..at + 2]);
    } else if at > 0 && is_comma(at - 1) {
        edits.remove(&list[at - 1..=at]);
    }
}
