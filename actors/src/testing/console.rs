//! A fake of the service behind the console.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use super::lock;
use crate::auth::Identity;
use crate::console::{Column, ColumnType, ConsoleError, ConsoleRequest, Statement, Value};
use crate::ports::{Console, ConsoleAnswer};

/// A console whose lists have as many rows as the test says, one of each type of column.
#[derive(Default)]
pub struct FakeConsole {
    /// The number of rows.
    pub rows: Mutex<usize>,
    /// The error of the next answers, if they fail.
    pub failure: Mutex<Option<ConsoleError>>,
    /// The requests that were begun, each with its user.
    pub begun: Mutex<Vec<(String, ConsoleRequest)>>,
    /// How many of them were answered.
    pub answered: Mutex<usize>,
    /// Write-locked while answers are to wait.
    pub answer_gate: tokio::sync::RwLock<()>,
}

impl FakeConsole {
    /// The columns of all lists.
    pub fn columns() -> Arc<[Column]> {
        [
            Column::new("name", ColumnType::Text),
            Column::new("pinned", ColumnType::Bool),
            Column::new("bytes", ColumnType::Int8),
            Column::new("created_at", ColumnType::Timestamptz),
            Column::new("reasons", ColumnType::Json),
            Column::new("parent", ColumnType::Text),
        ]
        .into()
    }

    fn row(number: usize) -> Vec<Value> {
        vec![
            Value::Text(format!("row{number}")),
            Value::Bool(true),
            Value::Int(-5),
            Value::Time(Timestamp::from_microsecond(1_770_000_000_123_456).unwrap_or_default()),
            Value::Text("[1]".to_owned()),
            Value::Null,
        ]
    }
}

#[async_trait(?Send)]
impl Console for FakeConsole {
    fn columns(&self, statement: &Statement) -> Option<Arc<[Column]>> {
        let has_rows = matches!(
            statement,
            Statement::List(_) | Statement::ShowInstance(_) | Statement::Explain { .. }
        );
        has_rows.then(Self::columns)
    }

    fn is_admin(&self, _: &Identity) -> bool {
        false
    }

    async fn answer(
        &self,
        user: &Identity,
        request: ConsoleRequest,
    ) -> Result<ConsoleAnswer, ConsoleError> {
        let changes = request.changes();
        lock(&self.begun).push((user.name.clone(), request));
        let _open = self.answer_gate.read().await;
        *lock(&self.answered) += 1;
        if let Some(error) = lock(&self.failure).clone() {
            return Err(error);
        }
        let (rows, notices) = if changes {
            (Vec::new(), vec!["2 sessions were ended".to_owned()])
        } else {
            ((0..*lock(&self.rows)).map(Self::row).collect(), Vec::new())
        };
        Ok(ConsoleAnswer { rows, notices })
    }
}
