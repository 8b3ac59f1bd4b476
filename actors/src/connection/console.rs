//! A session of the console: the query protocol, spoken with multidb itself.
//!
//! The session waits for its client, for a statement, or for a client that does not read, and each wait ends with the
//! session. The meaning of statements is in [`crate::console`], their work behind the port [`Console`].

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use multidb_store::ProjectName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use super::handshake::Client;
use super::relay::CLOSE_TIMEOUT;
use super::{ConnectionDeps, End, TerminationReason};
use crate::auth::Identity;
use crate::client_error::{ClientError, ClientNotice};
use crate::console::{
    self, Column, ConsoleError, ConsoleRequest, HELP, Statement, Value, reported_settings,
};
use crate::limits::IdleLimits;
use crate::ports::{Console, ConsoleAnswer};
use crate::request::ConsoleLogin;
use crate::sessions::{ConnectionId, ConsoleSignals, EndReason, SessionStats};
use crate::wire::{
    ClientMessage, Format, StartupMessage, Tail, WireError, decode_client,
    encode_authentication_ok, encode_backend_key, encode_command_complete, encode_parameter_status,
    encode_ready, encode_row, encode_row_description,
};

mod extended;
mod own;
mod state;

use self::state::State;

/// The longest message of a client.
pub(super) const BODY_LENGTH_MAX: u32 = 64 << 10;
/// How many bytes of an answer are kept before they are sent.
const OUT_BYTES_MAX: usize = 64 << 10;

/// A client that has authenticated and wants the console.
pub(super) struct ConsoleClient {
    /// The startup packet.
    pub(super) message: StartupMessage,
    /// The parameters for multidb.
    pub(super) login: ConsoleLogin,
    /// The user.
    pub(super) identity: Identity,
}

/// A session of the console.
pub(super) struct ConsoleSession {
    id: ConnectionId,
    client: Client,
    console: Arc<dyn Console>,
    identity: Identity,
    /// The project of statements that name none.
    project: Option<ProjectName>,
    idle: IdleLimits,
    /// The facts that it reports about itself.
    info: console::Session,
    key: [u8; 4],
    signals: Arc<ConsoleSignals>,
    stats: Arc<SessionStats>,
    state: State,
    /// The bytes to send.
    out: BytesMut,
    tail: Tail,
    /// Why multidb ends it, once it does.
    terminated: Option<TerminationReason>,
}

/// Why a statement has no answer.
enum Failure {
    /// The client is told, and the session goes on.
    Statement(ConsoleError),
    /// The session ends with this error.
    Session(ClientError),
    /// The connection failed.
    Io(io::Error),
}

impl From<ConsoleError> for Failure {
    fn from(error: ConsoleError) -> Self {
        Self::Statement(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The input of a session that waits for its client.
enum Received {
    Message(ClientMessage),
    /// The client has closed the connection.
    Closed,
    /// The session is to end.
    End(ClientError),
}

/// Whether a session goes on after a message.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

impl ConsoleSession {
    /// A session of this client.
    pub(super) fn new(
        id: ConnectionId,
        client: Client,
        console_client: ConsoleClient,
        deps: &ConnectionDeps,
    ) -> Self {
        let ConsoleClient {
            message,
            login,
            identity,
        } = console_client;
        let application_name = message.get_str("application_name").unwrap_or_default();
        let info = console::Session {
            user: identity.name.clone(),
            is_admin: deps.console.is_admin(&identity),
            // Of no process: positive, as libpq expects it.
            process_id: i32::from_be_bytes(rand::random()) & i32::MAX,
            application_name: application_name.to_owned(),
        };
        Self {
            id,
            client,
            console: deps.console.clone(),
            project: login.project,
            idle: deps.limits.idle.overridden_by(login.idle),
            identity,
            info,
            key: rand::random(),
            signals: Arc::default(),
            stats: Arc::default(),
            state: State::default(),
            out: BytesMut::new(),
            tail: Tail::default(),
            terminated: None,
        }
    }

    /// The facts that it reports about itself.
    pub(super) fn info(&self) -> &console::Session {
        &self.info
    }

    /// The process id and the secret for cancel requests.
    pub(super) fn cancel_key(&self) -> (i32, Vec<u8>) {
        (self.info.process_id, self.key.to_vec())
    }

    pub(super) fn tls_version(&self) -> Option<&'static str> {
        self.client.socket.tls_version()
    }

    pub(super) fn signals(&self) -> Arc<ConsoleSignals> {
        self.signals.clone()
    }

    pub(super) fn stats(&self) -> Arc<SessionStats> {
        self.stats.clone()
    }

    /// Serves the client until one side ends the session.
    pub(super) async fn serve(mut self) -> io::Result<End> {
        self.greet();
        self.flush().await?;
        loop {
            let handled = match self.receive().await? {
                Received::Message(message) => self.handle(message).await,
                Received::Closed => return Ok(End::Closed),
                Received::End(error) => Err(Failure::Session(error)),
            };
            match handled {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return Ok(End::Closed),
                Err(Failure::Session(error)) => {
                    error.encode(&mut self.out);
                    self.client.send_last(&self.out).await?;
                    return Ok(self.terminated.take().map_or(End::Closed, End::Ended));
                }
                Err(Failure::Statement(error)) => {
                    // The messages of the extended protocol up to the next Sync depend on this one.
                    self.state.skips = true;
                    self.tell(&error);
                    // At once, as Postgres does: asyncpg sends its Sync only then.
                    self.flush().await?;
                }
                Err(Failure::Io(error)) => return Err(error),
            }
        }
    }

    fn greet(&mut self) {
        encode_authentication_ok(&mut self.out);
        for (name, value) in reported_settings(&self.info) {
            encode_parameter_status(&mut self.out, name, value);
        }
        encode_backend_key(&mut self.out, self.info.process_id, self.key);
        self.ready();
    }

    fn ready(&mut self) {
        encode_ready(&mut self.out, self.state.transaction.status());
    }

    fn tell(&mut self, error: &ConsoleError) {
        let told = ClientError::from(error).with_connection(self.id.0);
        tracing::debug!(id = %self.id, error = multidb_store::error_chain(error), "statement of the console failed");
        told.encode_for_statement(&mut self.out);
    }

    /// Waits for the next message, within the limit of an idle session.
    async fn receive(&mut self) -> io::Result<Received> {
        loop {
            match decode_client(&mut self.client.unread, BODY_LENGTH_MAX) {
                Ok(Some(message)) => return Ok(Received::Message(message)),
                Ok(None) => {}
                Err(error) => return Ok(Received::End(ClientError::from(&error))),
            }
            let (limit, reason) = self.idle_limit();
            let Client { socket, unread, .. } = &mut self.client;
            let read = tokio::select! {
                biased;
                reason = self.signals.ended(|_| true) => {
                    return Ok(Received::End(self.terminate(termination(reason))));
                }
                read = tokio::time::timeout(limit, socket.read_buf(unread)) => read,
            };
            match read {
                Ok(Ok(0)) => return Ok(Received::Closed),
                Ok(Ok(bytes)) => self.stats.client_sent(bytes),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(Received::End(self.terminate(reason))),
            }
        }
    }

    /// The error with which the session ends for this reason.
    fn terminate(&mut self, reason: TerminationReason) -> ClientError {
        let error = ClientError::from(&reason);
        self.terminated = Some(reason);
        error
    }

    /// How long it may wait for its client, and how it ends then.
    fn idle_limit(&self) -> (std::time::Duration, TerminationReason) {
        if self.state.transaction.is_open() {
            let limit = self.idle.transaction;
            (limit, TerminationReason::IdleInTransaction { limit })
        } else {
            let limit = self.idle.session;
            (limit, TerminationReason::IdleSession { limit })
        }
    }

    async fn handle(&mut self, message: ClientMessage) -> Result<Next, Failure> {
        match message {
            ClientMessage::Terminate => return Ok(Next::Stop),
            ClientMessage::Sync => {
                self.state.sync();
                self.ready();
                self.flush().await?;
            }
            _ if self.state.skips => {}
            ClientMessage::Query(text) => self.query(&text).await?,
            ClientMessage::Parse { name, text, types } => self.prepare(name, &text, types)?,
            ClientMessage::Bind(bind) => self.bind(bind)?,
            ClientMessage::Describe(named) => self.describe(&named)?,
            ClientMessage::Execute { portal, rows_max } => self.execute(&portal, rows_max).await?,
            ClientMessage::Close(named) => self.close(&named),
            ClientMessage::Flush => self.flush().await?,
            ClientMessage::Copy => {}
            ClientMessage::FunctionCall => {
                self.tell(&ConsoleError::FunctionCall);
                self.ready();
                self.flush().await?;
            }
            ClientMessage::Other { tag } => {
                let error = WireError::MessageLayout { tag };
                return Err(Failure::Session(ClientError::from(&error)));
            }
        }
        Ok(Next::Continue)
    }

    /// The simple protocol: all statements of a text, up to the first that fails.
    async fn query(&mut self, text: &str) -> Result<(), Failure> {
        self.state.forget_unnamed();
        match console::parse(text) {
            Ok(statements) if statements.is_empty() => self.acknowledge_empty(),
            Ok(statements) => {
                for statement in statements {
                    match self.run_simply(&statement).await {
                        Ok(()) => {}
                        Err(Failure::Statement(error)) => {
                            self.tell(&error);
                            break;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(error) => self.tell(&error),
        }
        self.ready();
        self.flush().await?;
        Ok(())
    }

    async fn run_simply(&mut self, statement: &Statement) -> Result<(), Failure> {
        let columns = self.columns(statement);
        let rows = self.run(statement, &[]).await?;
        if let Some(columns) = &columns {
            let fields = columns.iter().map(|column| column.field(Format::Text));
            encode_row_description(&mut self.out, fields);
        }
        let count = rows.len();
        for row in rows {
            self.send_row(&row, &[]).await?;
        }
        encode_command_complete(&mut self.out, &statement.tag(count));
        Ok(())
    }

    /// The columns of a statement's rows; none if it has no rows.
    fn columns(&self, statement: &Statement) -> Option<Arc<[Column]>> {
        own::columns(statement).or_else(|| self.console.columns(statement))
    }

    /// Appends a row, with each value in its form; in text where there is none for it. Flushes a long buffer.
    async fn send_row(&mut self, row: &[Value], formats: &[Format]) -> Result<(), Failure> {
        let formats = formats
            .iter()
            .copied()
            .chain(std::iter::repeat(Format::Text));
        let values = row.iter().zip(formats);
        encode_row(
            &mut self.out,
            values.map(|(value, format)| value.encode(format)),
        );
        if self.out.len() > OUT_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Runs a statement, and returns its rows.
    async fn run(
        &mut self,
        statement: &Statement,
        parameters: &[Option<String>],
    ) -> Result<Vec<Vec<Value>>, Failure> {
        let answer = match statement.request(parameters)? {
            Some(request) => self.ask(request).await?,
            None => self.run_own(statement),
        };
        for notice in answer.notices {
            ClientNotice::of_console(notice).encode(&mut self.out);
        }
        Ok(answer.rows)
    }

    /// Asks the service. A change that was begun goes on after the end of the session.
    async fn ask(&mut self, mut request: ConsoleRequest) -> Result<ConsoleAnswer, Failure> {
        if let ConsoleRequest::Explain { project, .. } = &mut request {
            *project = project.take().or_else(|| self.project.clone());
        }
        let changes = request.changes();
        if changes {
            self.state.transaction.note_change();
        }
        let (console, identity) = (self.console.clone(), self.identity.clone());
        let task = async move { console.answer(&identity, request).await };
        let mut task = AbortOnDropHandle::new(actix_rt::spawn(task));
        let failure = tokio::select! {
            biased;
            answered = &mut task => {
                return match answered {
                    Ok(answer) => Ok(answer?),
                    Err(error) => {
                        tracing::error!(id = %self.id, %error, "a statement of the console ended by a defect");
                        Err(ConsoleError::Internal.into())
                    }
                };
            }
            () = self.signals.cancelled() => ConsoleError::Cancelled { goes_on: changes }.into(),
            reason = self.signals.ended(|reason| *reason == EndReason::Killed) => {
                Failure::Session(self.terminate(termination(reason)))
            }
        };
        if changes {
            let _goes_on = task.detach();
        }
        Err(failure)
    }

    /// Sends the buffered bytes.
    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.tail.feed(&self.out);
        self.stats.backend_sent(self.out.len(), &self.tail);
        let socket = &mut self.client.socket;
        let sent = async {
            socket.write_all(&self.out).await?;
            socket.flush().await
        };
        // A client that does not read gets no error: its last message may be incomplete.
        let given_up = async {
            self.signals
                .ended(|reason| *reason == EndReason::Killed)
                .await;
            tokio::time::sleep(CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            sent = sent => sent?,
            () = given_up => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.out.clear();
        Ok(())
    }
}

/// The reason that a client is told at the end of its session.
fn termination(reason: EndReason) -> TerminationReason {
    match reason {
        EndReason::Killed => TerminationReason::Killed,
        EndReason::Drained => TerminationReason::ShuttingDown,
        EndReason::OverLimit(over) => TerminationReason::OverLimit(over),
        EndReason::Commanded(command) => TerminationReason::Commanded(command),
    }
}

/// The rows of `SHOW HELP`.
fn help() -> Vec<Vec<Value>> {
    let text = |text: &str| Value::Text(text.to_owned());
    let rows = HELP.iter();
    rows.map(|(statement, meaning)| vec![text(statement), text(meaning)])
        .collect()
}
