//! The errors of a script's statements: which end the restore, and the record of the passed ones.

use multidb_store::{PassedError, PassedErrors};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::import::error::{ImportError, StatementError};
use crate::import::script::{Entry, Kind};
use crate::sql::{ServerMessage, one_line};
use crate::text::count;

/// What a restore does at an error of a statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// It goes on past those that concern privileges, comments, ownership, labels and what extensions have by
    /// themselves, and ends at any that concerns data or structure.
    #[default]
    Default,
    /// It ends at any.
    Strict,
    /// It goes on past all.
    KeepGoing,
}

/// A statement of a dump, for its error.
pub(super) struct Location<'a> {
    pub(super) kind: Kind,
    /// The line in the script, counted from 1.
    pub(super) line: u64,
    /// Whether that is a line of the user's own file.
    pub(super) is_own_line: bool,
    pub(super) entry: &'a Entry,
    pub(super) text: &'a [u8],
}

impl Location<'_> {
    /// The place in the dump, such as `line 12, TABLE public.polls`.
    fn describe(&self) -> String {
        let object = self.entry.object.as_deref();
        let number = self.entry.number.filter(|_| !self.is_own_line);
        match (number, object) {
            (Some(number), Some(object)) => format!("archive entry {number}, {object}"),
            (Some(number), None) => format!("archive entry {number}"),
            (None, Some(object)) if !self.is_own_line => object.to_owned(),
            (None, None) if !self.is_own_line => "the beginning of the dump".to_owned(),
            (_, Some(object)) => format!("line {}, {object}", self.line),
            (_, None) => format!("line {}", self.line),
        }
    }

    fn statement(&self) -> String {
        let text = String::from_utf8_lossy(&self.text[..self.text.len().min(2000)]);
        let words: Vec<&str> = text.split_whitespace().collect();
        one_line(words.join(" ").trim_end_matches(';'))
    }

    /// The error that ends the restore.
    pub(super) fn error(&self, message: &ServerMessage) -> ImportError {
        ImportError::Statement(Box::new(StatementError {
            place: self.describe(),
            statement: self.statement(),
            message: message.to_string(),
            detail: message.detail().map(str::to_owned),
            sqlstate: message.sqlstate().to_owned(),
            is_extension: self.kind == Kind::Extension,
        }))
    }
}

/// The errors that the restore went past.
#[derive(Debug, Default)]
pub(super) struct Errors {
    policy: ErrorPolicy,
    passed: PassedErrors,
}

impl Errors {
    pub(super) fn new(policy: ErrorPolicy) -> Self {
        Self {
            policy,
            passed: PassedErrors::default(),
        }
    }

    /// Whether a statement of this kind may fail, so that a transaction must survive it.
    pub(super) fn may_pass(&self, kind: Kind) -> bool {
        match self.policy {
            ErrorPolicy::KeepGoing => true,
            ErrorPolicy::Default => {
                !matches!(kind, Kind::Data | Kind::Structure | Kind::OtherDatabase)
            }
            ErrorPolicy::Strict => matches!(kind, Kind::Drop | Kind::Role | Kind::Housekeeping),
        }
    }

    /// Goes past the error of a statement, or returns it.
    pub(super) fn pass(
        &mut self,
        place: &Location<'_>,
        message: &ServerMessage,
    ) -> Result<(), ImportError> {
        let state = message.sqlstate();
        if place.kind.is_done_already(state) {
            return Ok(());
        }
        let passes = match self.policy {
            ErrorPolicy::Strict => false,
            ErrorPolicy::KeepGoing => true,
            ErrorPolicy::Default => place.kind.may_fail(state),
        };
        if !passes {
            return Err(place.error(message));
        }
        let place_text = place.describe();
        tracing::info!(place = place_text, error = %message, "went past an error of a dump");
        self.passed.add(PassedError {
            kind: place.kind.name().to_owned(),
            place: place_text,
            statement: place.statement(),
            error: message.to_string(),
        });
        Ok(())
    }

    pub(super) fn into_passed(self) -> PassedErrors {
        self.passed
    }
}

/// A warning that says which errors a restore went past.
pub(super) fn warning(passed: &PassedErrors) -> Option<String> {
    const SHOWN: usize = 3;
    let first = passed.errors.first()?;
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for error in &passed.errors {
        match kinds.iter_mut().find(|(kind, _)| *kind == error.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((&error.kind, 1)),
        }
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let kinds: Vec<String> = kinds
        .iter()
        .take(SHOWN)
        .map(|(kind, count)| format!("{kind}: {count}"))
        .collect();
    Some(format!(
        "passed over {} ({}), the first at {}: {}; `multidb snapshot show` lists them",
        count(passed.count, "failed statement"),
        kinds.join(", "),
        first.place,
        first.error
    ))
}
