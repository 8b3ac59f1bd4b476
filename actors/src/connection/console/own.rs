//! The statements that concern the session alone.

use std::sync::Arc;

use super::{ConsoleSession, help};
use crate::console::{Column, ColumnType, Statement};
use crate::ports::ConsoleAnswer;
use crate::wire::encode_parameter_status;

/// The warning to a client whose ROLLBACK comes after changes.
const NOTHING_UNDONE: &str =
    "statements of the console take effect at once, so ROLLBACK has undone nothing";

/// The columns of a statement that concerns the session alone; none if it has no rows, or is none of these.
pub(super) fn columns(statement: &Statement) -> Option<Arc<[Column]>> {
    Some(match statement {
        Statement::Help => ["statement", "meaning"]
            .map(|name| Column::new(name, ColumnType::Text))
            .into(),
        Statement::ShowSetting(setting) => [setting.column()].into(),
        Statement::Select(items) => items
            .iter()
            .map(|item| Column::new(&item.name, item.function.kind()))
            .collect(),
        _ => return None,
    })
}

impl ConsoleSession {
    /// Runs such a statement.
    pub(super) fn run_own(&mut self, statement: &Statement) -> ConsoleAnswer {
        let info = &self.info;
        let mut answer = ConsoleAnswer::default();
        match statement {
            Statement::Help => answer.rows = help(),
            Statement::ShowSetting(setting) => answer.rows = vec![vec![setting.value(info)]],
            Statement::Select(items) => {
                let values = items.iter().map(|item| item.function.value(info));
                answer.rows = vec![values.collect()];
            }
            Statement::Begin => self.state.transaction.begin(),
            Statement::Commit => {
                self.state.transaction.end();
            }
            Statement::Rollback => {
                if self.state.transaction.end() {
                    answer.notices.push(NOTHING_UNDONE.to_owned());
                }
            }
            Statement::Set(name, value) if name == "application_name" => {
                self.info.application_name.clone_from(value);
                encode_parameter_status(&mut self.out, name, value);
            }
            Statement::Deallocate(name) => self.state.deallocate(name.as_deref()),
            Statement::DiscardAll => self.state.deallocate(None),
            // Of the service, or without effect.
            Statement::List(_)
            | Statement::ShowInstance(_)
            | Statement::Explain { .. }
            | Statement::Command(..)
            | Statement::Set(..)
            | Statement::Nothing(_) => {}
        }
        answer
    }
}
