//! The state of a session of the console: prepared statements, portals, and its transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec;

use crate::console::{Column, ConsoleError, Statement, Value};
use crate::wire::{Format, TransactionStatus};

/// The most prepared statements of a session. Drivers keep up to a few hundred.
const STATEMENTS_MAX: usize = 1000;
/// The most portals of a session, which may keep rows.
const PORTALS_MAX: usize = 16;

/// The state that a session keeps between messages.
#[derive(Default)]
pub(super) struct State {
    /// Whether messages are skipped up to the next Sync, after an error.
    pub(super) skips: bool,
    pub(super) transaction: Transaction,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
}

/// A prepared statement.
pub(super) struct Prepared {
    /// None for an empty text.
    pub(super) statement: Option<Statement>,
    /// The types of its parameters.
    pub(super) types: Vec<u32>,
    /// The columns of its rows, if it has rows.
    pub(super) columns: Option<Arc<[Column]>>,
}

/// A statement that is bound to its parameters.
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) parameters: Vec<Option<String>>,
    /// The form of each column.
    pub(super) formats: Vec<Format>,
    pub(super) progress: Progress,
}

/// How far a portal has been run.
pub(super) enum Progress {
    /// Not at all.
    New,
    /// These rows are left.
    Rows(vec::IntoIter<Vec<Value>>),
    /// To its end.
    Done,
}

/// Whether the client has begun a transaction. Statements take effect at once nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transaction {
    /// It has not.
    #[default]
    None,
    /// It has.
    Open {
        /// Whether a statement has changed something since.
        changed: bool,
    },
}

impl Transaction {
    pub(super) fn is_open(self) -> bool {
        self != Self::None
    }

    pub(super) fn status(self) -> TransactionStatus {
        match self {
            Self::None => TransactionStatus::Idle,
            Self::Open { .. } => TransactionStatus::InTransaction,
        }
    }

    pub(super) fn begin(&mut self) {
        if *self == Self::None {
            *self = Self::Open { changed: false };
        }
    }

    pub(super) fn note_change(&mut self) {
        if let Self::Open { changed } = self {
            *changed = true;
        }
    }

    /// Ends it. Returns whether a statement has changed something in it.
    pub(super) fn end(&mut self) -> bool {
        let changed = *self == Self::Open { changed: true };
        *self = Self::None;
        changed
    }
}

impl State {
    /// After a Sync nothing is skipped, and portals end with their transaction.
    pub(super) fn sync(&mut self) {
        self.skips = false;
        if !self.transaction.is_open() {
            self.portals.clear();
        }
    }

    /// A query of the simple protocol replaces the unnamed statement and portal.
    pub(super) fn forget_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    pub(super) fn add_statement(
        &mut self,
        name: String,
        prepared: Prepared,
    ) -> Result<(), ConsoleError> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(ConsoleError::StatementExists { name });
        }
        if self.statements.len() >= STATEMENTS_MAX && !self.statements.contains_key(&name) {
            return Err(ConsoleError::TooMany {
                what: "prepared statements",
                max: STATEMENTS_MAX,
            });
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    pub(super) fn statement(&self, name: &str) -> Result<Arc<Prepared>, ConsoleError> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| ConsoleError::NoStatement {
            name: name.to_owned(),
        })
    }

    pub(super) fn add_portal(&mut self, name: String, portal: Portal) -> Result<(), ConsoleError> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(ConsoleError::PortalExists { name });
        }
        if self.portals.len() >= PORTALS_MAX && !self.portals.contains_key(&name) {
            return Err(ConsoleError::TooMany {
                what: "portals",
                max: PORTALS_MAX,
            });
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    pub(super) fn portal(&mut self, name: &str) -> Result<&mut Portal, ConsoleError> {
        let found = self.portals.get_mut(name);
        found.ok_or_else(|| ConsoleError::NoPortal {
            name: name.to_owned(),
        })
    }

    /// Forgets a prepared statement; all of them without a name.
    pub(super) fn deallocate(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.statements.remove(name);
            }
            None => self.statements.clear(),
        }
    }

    pub(super) fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }
}
