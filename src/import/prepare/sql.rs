//! A preparation by the statements of a file, as psql would run them in one transaction.

use std::path::Path;
use std::time::Duration;

use super::files::{hash_of, read_sql};
use super::{Failure, limit_reached};
use crate::import::cluster::Cluster;
use crate::import::context::Context;
use crate::import::script::{Command, Piece, ScriptError, Splitter, StatementText};
use crate::sql::{Ended, SearchPath, ServerMessage, Session, SqlError, one_line};

/// Ends a last statement without a semicolon, as psql does, also after a comment.
const END: &[u8] = b"\n;\n";

/// Runs the file in the project's database. Returns the hash of its bytes.
pub(super) async fn run(
    context: &Context,
    cluster: &Cluster,
    path: &Path,
    timeout: Option<Duration>,
) -> Result<String, Failure> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_sql(&path)).await;
    let mut text = read
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(Failure::new)?;
    let sha256 = hash_of(&text);
    text.extend_from_slice(END);
    let database = &context.request.settings.database;
    let session = cluster
        .server
        .connect(&cluster.superuser, database, SearchPath::Configured);
    let session = session.await;
    let session = session.map_err(|error| Failure::new(error.to_string()))?;
    let mut script = Script {
        session,
        splitter: Splitter::new(context.staging.path()),
        copy_line: None,
    };
    let work = script.run(&text);
    match timeout {
        None => work.await?,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(limit_reached(limit)))?,
    }
    script.session.close().await;
    Ok(sha256)
}

/// A file whose statements are run.
struct Script {
    session: Session,
    splitter: Splitter,
    /// The line of the COPY whose rows are sent.
    copy_line: Option<u64>,
}

impl Script {
    async fn run(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.control(b"BEGIN").await?;
        let mut input = text;
        while let Some(piece) = self.splitter.next(&mut input).map_err(script_failure)? {
            self.piece(piece).await?;
        }
        if let Some(piece) = self.splitter.finish().map_err(script_failure)? {
            self.piece(piece).await?;
        }
        self.control(b"COMMIT").await
    }

    async fn piece(&mut self, piece: Piece<'_>) -> Result<(), Failure> {
        match piece {
            Piece::Comment(_) => Ok(()),
            Piece::Command(text, line) => {
                let command = Command::parse(&text, line, &self.splitter.variables);
                match command.map_err(script_failure)? {
                    Command::Nothing => {}
                    Command::Set(name, value) => self.splitter.variables.set(name, value),
                    Command::Unset(name) => self.splitter.variables.unset(&name),
                    Command::Encoding(_) => return Err(refused_command(line, "\\encoding")),
                    Command::Connect(_) => return Err(refused_command(line, "\\connect")),
                }
                Ok(())
            }
            Piece::Statement(statement) => self.statement(statement).await,
            Piece::Rows(rows) => self.send_rows(rows).await,
            Piece::HeldRows(rows) => self.send_rows(&rows).await,
            Piece::EndOfRows => self.end_rows().await,
        }
    }

    async fn statement(&mut self, mut statement: StatementText) -> Result<(), Failure> {
        let line = statement.line;
        let (head, rest) = statement.parts().map_err(script_failure)?;
        let shown = shown(head);
        let ended = self.session.run(head, rest).await;
        match ended.map_err(|error| session_failure(line, &error))? {
            Ended::Done => {}
            Ended::Failed(message) => return Err(statement_failure(line, &shown, &message)),
            Ended::WantsRows if self.splitter.in_rows() => {
                self.copy_line = Some(line);
                return Ok(());
            }
            Ended::WantsRows => {
                let message = format!("line {line}: it wants rows, and none follow it");
                return Err(Failure::new(message));
            }
        }
        if self.session.in_transaction() {
            return Ok(());
        }
        Err(Failure {
            problem: format!(
                "line {line}: the statement ends the transaction, and the whole file runs in one"
            ),
            detail: Some(format!("The statement is: {shown}")),
        })
    }

    async fn send_rows(&mut self, rows: &[u8]) -> Result<(), Failure> {
        let line = self.copy_line.unwrap_or_default();
        let sent = self.session.send_rows(rows).await;
        sent.map_err(|error| session_failure(line, &error))
    }

    async fn end_rows(&mut self) -> Result<(), Failure> {
        let line = self.copy_line.take().unwrap_or_default();
        let ended = self.session.end_rows().await;
        match ended.map_err(|error| session_failure(line, &error))? {
            Ended::Failed(message) => Err(statement_failure(line, "COPY", &message)),
            Ended::Done | Ended::WantsRows => Ok(()),
        }
    }

    /// Begins or ends the transaction.
    async fn control(&mut self, statement: &[u8]) -> Result<(), Failure> {
        let line = self.splitter.line();
        let ended = self.session.run(statement, None).await;
        match ended.map_err(|error| session_failure(line, &error))? {
            // Of a constraint that is checked at the end, for example.
            Ended::Failed(message) => Err(Failure {
                problem: format!("its transaction cannot be ended: {message}"),
                detail: message.detail().map(str::to_owned),
            }),
            Ended::Done | Ended::WantsRows => Ok(()),
        }
    }
}

fn shown(statement: &[u8]) -> String {
    let text = String::from_utf8_lossy(&statement[..statement.len().min(2000)]);
    let words: Vec<&str> = text.split_whitespace().collect();
    one_line(words.join(" ").trim_end_matches(';'))
}

fn statement_failure(line: u64, statement: &str, message: &ServerMessage) -> Failure {
    let statement = format!("The statement is: {statement}");
    Failure {
        problem: format!("line {line}: {message}"),
        detail: Some(match message.detail() {
            Some(detail) => format!("{detail}\n{statement}"),
            None => statement,
        }),
    }
}

fn session_failure(line: u64, error: &SqlError) -> Failure {
    let error = multidb_store::error_chain(error);
    Failure::new(format!("line {line}: {error}"))
}

fn refused_command(line: u64, command: &str) -> Failure {
    Failure::new(format!(
        "line {line}: the psql command {command} is not run here"
    ))
}

fn script_failure(error: ScriptError) -> Failure {
    match error {
        ScriptError::Truncated { missing } => Failure::new(missing),
        ScriptError::MetaCommand { line, command } => refused_command(line, &command),
        other => Failure::new(other.to_string()),
    }
}
