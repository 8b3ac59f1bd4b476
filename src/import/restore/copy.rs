//! The rows of a script: each COPY as it comes, or once its rows are sorted.

use std::io;

use super::runner::ScriptRunner;
use super::sorter::{Pushed, RowSorter, SortedRows};
use super::table_data::TableData;
use crate::import::error::ImportError;
use crate::import::script::{Kind, StatementText};
use crate::sql::{Ended, ServerMessage};

/// A COPY whose rows come.
pub(super) struct Rows {
    copy: StatementText,
    how: How,
}

/// How a COPY is run.
enum How {
    /// It runs, and takes each row as it comes.
    Direct(Within),
    /// It runs once all its rows are sorted.
    Sorted(Box<RowSorter>, TableData),
}

/// The transaction in which a COPY runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// A transaction of its own, which ends with it.
    OwnTransaction,
    /// A savepoint in the script's transaction.
    Savepoint,
    /// The transaction of the script, if there is one.
    Script,
}

impl ScriptRunner<'_> {
    /// Begins a COPY that rows follow.
    pub(super) async fn copy(&mut self, mut copy: StatementText) -> Result<(), ImportError> {
        self.is_being_filled();
        let in_transaction = self.session.in_transaction();
        let data = match self.entry.is_table_data && copy.is_whole() && !in_transaction {
            true => self.table_data(&copy.head).await?,
            false => None,
        };
        match data {
            Some(mut data) => match data.key.take() {
                Some(key) => {
                    let sorter = RowSorter::new(key, self.target.staging);
                    let how = How::Sorted(Box::new(sorter), data);
                    self.rows = Some(Rows { copy, how });
                    Ok(())
                }
                None => self.begin_table(copy, data).await,
            },
            None => {
                let savepoint = in_transaction && self.errors.may_pass(Kind::Data);
                if savepoint {
                    self.run(b"SAVEPOINT multidb_statement").await?;
                }
                let ended = self.run_whole(&mut copy).await?;
                let within = match savepoint {
                    true => Within::Savepoint,
                    false => Within::Script,
                };
                self.begun(copy, within, ended).await
            }
        }
    }

    /// Begins the COPY of a table, in a transaction of its own.
    async fn begin_table(
        &mut self,
        copy: StatementText,
        data: TableData,
    ) -> Result<(), ImportError> {
        self.run(b"BEGIN").await?;
        if let Some(truncate) = data.truncate {
            self.run(truncate.as_bytes()).await?;
        }
        let ended = self.run(&data.copy).await?;
        self.begun(copy, Within::OwnTransaction, ended).await
    }

    async fn begun(
        &mut self,
        copy: StatementText,
        within: Within,
        ended: Ended,
    ) -> Result<(), ImportError> {
        let how = How::Direct(within);
        self.rows = Some(Rows { copy, how });
        match ended {
            Ended::WantsRows => Ok(()),
            Ended::Failed(message) => self.rows_ended(Some(message)).await,
            Ended::Done => {
                let message = ServerMessage::of_multidb("it takes no rows, and rows follow it");
                self.rows_ended(Some(message)).await
            }
        }
    }

    /// Takes rows of the script.
    pub(super) async fn take_rows(&mut self, rows: &[u8]) -> Result<(), ImportError> {
        if let Some(Rows {
            how: How::Sorted(sorter, _),
            ..
        }) = &mut self.rows
        {
            let pushed = sorter.push(rows).await;
            return match pushed.map_err(|source| self.sort_error(source))? {
                Pushed::Taken => Ok(()),
                Pushed::RowTooLong => self.send_sorted().await,
            };
        }
        self.send_rows(rows).await
    }

    /// Sends the rows that are sorted; more may follow them.
    async fn send_sorted(&mut self) -> Result<(), ImportError> {
        let Some(Rows { copy, how }) = self.rows.take() else {
            return Ok(());
        };
        let How::Sorted(sorter, data) = how else {
            self.rows = Some(Rows { copy, how });
            return Ok(());
        };
        let sorted = sorter.finish().await;
        let mut sorted: SortedRows = sorted.map_err(|source| self.sort_error(source))?;
        self.begin_table(copy, data).await?;
        while let Some(chunk) = sorted.recv().await {
            let chunk = chunk.map_err(|source| self.sort_error(source))?;
            self.send_rows(&chunk).await?;
        }
        Ok(())
    }

    async fn send_rows(&mut self, rows: &[u8]) -> Result<(), ImportError> {
        if self.rows.is_none() || self.session.rows_failed() {
            return Ok(());
        }
        let sent = self.session.send_rows(rows).await;
        sent.map_err(|error| self.session_error(&error))?;
        if self.session.rows_failed() && !self.errors.may_pass(Kind::Data) {
            // The rest of a large table is of no use.
            return self.end_copy().await;
        }
        Ok(())
    }

    /// Ends a COPY after its last row.
    pub(super) async fn end_rows(&mut self) -> Result<(), ImportError> {
        self.send_sorted().await?;
        self.end_copy().await
    }

    async fn end_copy(&mut self) -> Result<(), ImportError> {
        if self.rows.is_none() {
            return Ok(());
        }
        let ended = self.session.end_rows().await;
        match ended.map_err(|error| self.session_error(&error))? {
            Ended::Failed(message) => self.rows_ended(Some(message)).await,
            Ended::Done | Ended::WantsRows => self.rows_ended(None).await,
        }
    }

    /// Ends the transaction of the rows. Rows that still come after a failure are dropped.
    async fn rows_ended(&mut self, mut failure: Option<ServerMessage>) -> Result<(), ImportError> {
        let Some(Rows {
            copy,
            how: How::Direct(within),
        }) = self.rows.take()
        else {
            return Ok(());
        };
        if failure.is_none()
            && within == Within::OwnTransaction
            && let Ended::Failed(message) = self.run(b"COMMIT").await?
        {
            failure = Some(message);
        }
        if let Some(message) = failure {
            let entry = self.entry.clone();
            let place = self.place(Kind::Data, copy.line, &copy.head, &entry);
            self.errors.pass(&place, &message)?;
            match within {
                Within::OwnTransaction => {
                    self.run(b"ROLLBACK").await?;
                }
                Within::Savepoint => {
                    self.run(b"ROLLBACK TO SAVEPOINT multidb_statement").await?;
                }
                Within::Script => {}
            }
        }
        if within == Within::Savepoint {
            self.run(b"RELEASE SAVEPOINT multidb_statement").await?;
        }
        Ok(())
    }

    fn sort_error(&self, source: io::Error) -> ImportError {
        ImportError::io("sort rows in", self.target.staging, source)
    }
}
