//! Runs a script, statement by statement.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use multidb_store::PassedErrors;

use super::copy::Rows;
use super::database::leaves_something;
use super::errors::{self, Errors, Location};
use super::{RestoreTarget, owners};
use crate::import::error::{ImportError, lacks_collation};
use crate::import::script::{
    Adapter, Command, Entry, Kind, Piece, Plan, PrimaryKeys, Run, ScriptError, ScriptTarget,
    Splitter, StatementText, created_database, sets_backslash_literals,
};
use crate::import::server::{SUPERUSER, server_error};
use crate::import::workflow::no_database_to_rename;
use crate::sql::{Ended, ServerMessage, Session, SqlError};

/// The most warnings of a script.
const WARNINGS_MAX: usize = 100;

/// Where a script comes from.
pub(super) struct ScriptSource {
    /// The path of the dump.
    pub(super) dump: PathBuf,
    /// The database of an archive.
    pub(super) database: Option<Vec<u8>>,
    /// The script is the user's own file, and not made of an archive.
    pub(super) is_own_script: bool,
}

/// Runs a script on the server of an import.
pub(super) struct ScriptRunner<'a> {
    pub(super) target: &'a RestoreTarget<'a>,
    /// The path of the dump.
    pub(super) dump: PathBuf,
    pub(super) session: Session,
    /// The database of the session.
    pub(super) database: String,
    /// The project's database was made by the dump.
    pub(super) database_is_of_dump: bool,
    /// Something is in the project's database.
    pub(super) is_filled: bool,
    /// The other databases that the dump creates or fills.
    pub(super) other_databases: BTreeSet<String>,
    /// The databases in which the locales of the system were looked for again.
    pub(super) collations_found: HashSet<String>,
    splitter: Splitter,
    pub(super) adapter: Adapter,
    pub(super) entry: Entry,
    pub(super) errors: Errors,
    pub(super) rows: Option<Rows>,
    /// The keys by which the rows of a dump are sorted.
    pub(super) keys: PrimaryKeys,
    warned: HashSet<String>,
    /// The script is the user's own file.
    is_own_script: bool,
}

impl<'a> ScriptRunner<'a> {
    /// Connects to the project's database.
    pub(super) async fn begin(
        source: ScriptSource,
        target: &'a RestoreTarget<'a>,
    ) -> Result<Self, ImportError> {
        let database = target.project.database.clone();
        let session = target.server.connect_for_script(&database).await;
        let session =
            session.map_err(|error| server_error("connect to the project's database", &error))?;
        let adapter = Adapter::new(ScriptTarget {
            database: database.clone(),
            source_database: source.database,
            renamed: target.project.rename_database.clone(),
            superuser: SUPERUSER.to_owned(),
            role: target.project.role.clone(),
            postgres_major: target.postgres_major,
        });
        Ok(Self {
            target,
            dump: source.dump,
            session,
            database,
            database_is_of_dump: false,
            is_filled: false,
            other_databases: BTreeSet::new(),
            collations_found: HashSet::new(),
            splitter: Splitter::new(target.staging),
            adapter,
            entry: Entry::default(),
            errors: Errors::new(target.errors),
            rows: None,
            keys: PrimaryKeys::default(),
            warned: HashSet::new(),
            is_own_script: source.is_own_script,
        })
    }

    /// Runs the next piece of the script.
    pub(super) async fn push(&mut self, chunk: &[u8]) -> Result<(), ImportError> {
        let mut input = chunk;
        loop {
            let next = self.splitter.next(&mut input);
            match next.map_err(|error| self.script_error(error))? {
                Some(piece) => self.piece(piece).await?,
                None => return Ok(()),
            }
        }
    }

    /// Ends the script, if the dump is complete.
    pub(super) async fn finish(mut self) -> Result<PassedErrors, ImportError> {
        let last = self.splitter.finish();
        if let Some(piece) = last.map_err(|error| self.script_error(error))? {
            self.piece(piece).await?;
        }
        if self.session.in_transaction() {
            let error = ScriptError::Truncated {
                missing: "it ends within a transaction",
            };
            return Err(self.script_error(error));
        }
        self.check_project_database()?;
        for missing in self.adapter.databases_not_met() {
            self.warn(no_database_to_rename(&missing)).await;
        }
        if !self.adapter.names_owners() {
            owners::give_to_role(self.target).await?;
        }
        let project = self.target.project;
        if !self.database_is_of_dump && project.encoding.is_none() && project.locale.is_none() {
            self.tell_of_default_database().await?;
        }
        self.session.close().await;
        let passed = self.errors.into_passed();
        if let Some(warning) = errors::warning(&passed) {
            self.target.progress.warn(warning).await;
        }
        Ok(passed)
    }

    async fn piece(&mut self, piece: Piece<'_>) -> Result<(), ImportError> {
        match piece {
            Piece::Comment(text) => {
                self.entry.comment(&text);
                Ok(())
            }
            Piece::Command(text, line) => {
                let command = Command::parse(&text, line, &self.splitter.variables);
                match command.map_err(|error| self.script_error(error))? {
                    Command::Nothing => Ok(()),
                    Command::Set(name, value) => {
                        self.splitter.variables.set(name, value);
                        Ok(())
                    }
                    Command::Unset(name) => {
                        self.splitter.variables.unset(&name);
                        Ok(())
                    }
                    Command::Encoding(name) => {
                        let set = format!("SET client_encoding TO {}", crate::sql::literal(&name));
                        let place = StatementText::new(line, set.into_bytes());
                        self.statement(place).await
                    }
                    Command::Connect(name) => {
                        self.meet_database(&name)?;
                        let name = self.adapter.connected(&name);
                        let name = String::from_utf8_lossy(&name).into_owned();
                        self.connect(&name).await
                    }
                }
            }
            Piece::Statement(statement) => self.statement(statement).await,
            Piece::Rows(rows) => self.take_rows(rows).await,
            Piece::HeldRows(rows) => self.take_rows(&rows).await,
            Piece::EndOfRows => self.end_rows().await,
        }
    }

    /// Goes on in a session with this database.
    pub(super) async fn connect(&mut self, database: &str) -> Result<(), ImportError> {
        let connected = self.target.server.connect_for_script(database).await;
        let session = connected.map_err(|error| {
            let message = format!("connect to the database \"{database}\" of the dump");
            server_error(message, &error)
        })?;
        std::mem::replace(&mut self.session, session).close().await;
        database.clone_into(&mut self.database);
        Ok(())
    }

    async fn statement(&mut self, mut statement: StatementText) -> Result<(), ImportError> {
        if self.splitter.in_dump_of_one_database() {
            self.refuse_second_database(&statement.head)?;
        }
        if self.splitter.in_dump_of_one_database()
            && let Some(name) = self.adapter.adopt_database(&statement.head)
            && !self.is_renamed_to_project(&name)
        {
            self.warn(format!(
                "the dump is of database \"{}\", which is imported as the project's, \"{}\"",
                String::from_utf8_lossy(&name),
                self.target.project.database
            ))
            .await;
        }
        if self.adapter.renames_databases()
            && let Some(name) = created_database(&statement.head)
        {
            self.meet_database(&name)?;
        }
        // Whole or not, the verb is in the head.
        let plan = self.adapter.plan(&statement.head, statement.is_whole());
        let mut run = match plan {
            Plan::Leave(None) => return Ok(()),
            Plan::Leave(Some(warning)) => {
                self.warn(warning).await;
                return Ok(());
            }
            Plan::Run(run) => *run,
        };
        if let Some(is_off) = sets_backslash_literals(&statement.head) {
            self.splitter.set_backslash_literals(is_off);
        }
        if self.splitter.in_rows() {
            return self.copy(statement).await;
        }
        let entry = self.entry.clone();
        let before = std::mem::take(&mut run.before);
        for text in before {
            if let Ended::Failed(message) = self.run(&text).await? {
                let place = self.place(Kind::Role, statement.line, &text, &entry);
                self.errors.pass(&place, &message)?;
            }
        }
        if let Some(warning) = run.warning.take() {
            self.warn(warning).await;
        }
        let text = run.text.take();
        if run.kind == Kind::ProjectDatabase && !self.is_filled {
            let place = self.place(run.kind, statement.line, &statement.head, &entry);
            let text = text.as_deref().unwrap_or(&statement.head);
            return self.create_project_database(&place, text).await;
        }
        if run.kind == Kind::OtherDatabase {
            let place = self.place(run.kind, statement.line, &statement.head, &entry);
            let text = text.as_deref().unwrap_or(&statement.head);
            return self.create_other_database(&place, text).await;
        }
        if leaves_something(run.kind, &statement.head) {
            self.is_being_filled();
        }
        self.run_adapted(&mut statement, &run, text).await
    }

    /// Something is put into the session's database.
    pub(super) fn is_being_filled(&mut self) {
        if self.database == self.target.project.database {
            self.is_filled = true;
        } else if !self.other_databases.contains(&self.database) {
            self.other_databases.insert(self.database.clone());
        }
    }

    /// Runs a statement, and its alternative if it fails.
    async fn run_adapted(
        &mut self,
        statement: &mut StatementText,
        run: &Run,
        text: Option<Vec<u8>>,
    ) -> Result<(), ImportError> {
        let savepoint = self.session.in_transaction() && self.errors.may_pass(run.kind);
        if savepoint {
            self.run(b"SAVEPOINT multidb_statement").await?;
        }
        let mut ended = self.run_text(statement, text.as_deref()).await?;
        if let Ended::Failed(message) = &ended
            && lacks_collation(message.sqlstate(), &message.to_string())
            && !savepoint
            && self.find_collations().await?
        {
            ended = self.run_text(statement, text.as_deref()).await?;
        }
        let failure = match ended {
            Ended::Done => None,
            Ended::Failed(message) => Some(message),
            Ended::WantsRows => Some(self.refuse_rows().await?),
        };
        if let Some(message) = failure {
            let entry = self.entry.clone();
            let place = self.place(run.kind, statement.line, &statement.head, &entry);
            self.errors.pass(&place, &message)?;
            if savepoint {
                self.run(b"ROLLBACK TO SAVEPOINT multidb_statement").await?;
            }
            // The part that it leaves out is among the errors that were passed over.
            if let Some(other) = &run.alternative
                && self.run(other).await? != Ended::Done
                && savepoint
            {
                self.run(b"ROLLBACK TO SAVEPOINT multidb_statement").await?;
            }
        }
        if savepoint {
            self.run(b"RELEASE SAVEPOINT multidb_statement").await?;
        }
        Ok(())
    }

    async fn run_text(
        &mut self,
        statement: &mut StatementText,
        text: Option<&[u8]>,
    ) -> Result<Ended, ImportError> {
        match text {
            Some(text) => self.run(text).await,
            None => self.run_whole(statement).await,
        }
    }

    /// Ends a COPY that no rows follow.
    async fn refuse_rows(&mut self) -> Result<ServerMessage, ImportError> {
        let ended = self.session.end_rows().await;
        ended.map_err(|error| self.session_error(&error))?;
        let message = "it wants rows, and none follow it in the dump";
        Ok(ServerMessage::of_multidb(message))
    }

    /// Runs one of the restore's own statements, or an adapted one.
    pub(super) async fn run(&mut self, text: &[u8]) -> Result<Ended, ImportError> {
        let ended = self.session.run(text, None).await;
        self.ended(ended).await
    }

    /// Runs a statement as it is in the script.
    pub(super) async fn run_whole(
        &mut self,
        statement: &mut StatementText,
    ) -> Result<Ended, ImportError> {
        let (head, rest) = statement
            .parts()
            .map_err(|error| self.script_error(error))?;
        let ended = self.session.run(head, rest).await;
        self.ended(ended).await
    }

    async fn ended(&self, ended: Result<Ended, SqlError>) -> Result<Ended, ImportError> {
        match ended {
            Ok(ended) => Ok(ended),
            Err(error) => {
                let error = self.session_error(&error);
                Err(self.target.server.explain(error).await)
            }
        }
    }

    pub(super) fn place<'p>(
        &self,
        kind: Kind,
        line: u64,
        text: &'p [u8],
        entry: &'p Entry,
    ) -> Location<'p> {
        Location {
            kind,
            line,
            is_own_line: self.is_own_script,
            entry,
            text,
        }
    }

    pub(super) async fn warn(&mut self, warning: String) {
        if self.warned.len() < WARNINGS_MAX && self.warned.insert(warning.clone()) {
            self.target.progress.warn(warning).await;
        }
    }

    /// The error of a session that has ended, with the object that it was restoring.
    pub(super) fn session_error(&self, error: &SqlError) -> ImportError {
        let object = self.entry.object.as_deref().unwrap_or("its statements");
        let message = format!("restore {object} (line {})", self.splitter.line());
        server_error(message, error)
    }

    pub(super) fn script_error(&self, source: ScriptError) -> ImportError {
        ImportError::Script {
            path: self.dump.clone(),
            source,
        }
    }
}
