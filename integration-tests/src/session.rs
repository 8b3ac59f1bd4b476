//! One connection through multidb, by a Rust driver.
//!
//! The driver is asynchronous, but synchronous scenarios read better. So all sessions run on one
//! runtime in the background, and every call here blocks, with a limit.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

/// The limit for every call, on a slow and busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A runtime on a thread of its own. Not tokio's multi-threaded one: that would be compiled into the
/// daemon under test too, which has none.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// An error as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgFailure {
    /// The SQLSTATE, if the server sent an error.
    pub code: Option<String>,
    /// The message, or the cause of the broken connection.
    pub message: String,
    /// The DETAIL.
    pub detail: Option<String>,
    /// The HINT.
    pub hint: Option<String>,
}

impl PgFailure {
    /// The SQLSTATE, or an empty string if the connection broke.
    pub fn sqlstate(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    fn from_db(error: &DbError) -> Self {
        Self {
            code: Some(error.code().code().to_owned()),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }

    fn broken(message: impl fmt::Display) -> Self {
        Self {
            code: None,
            message: message.to_string(),
            detail: None,
            hint: None,
        }
    }
}

impl From<tokio_postgres::Error> for PgFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::from_db(db),
            None => Self::broken(error),
        }
    }
}

/// The rows of an answer, as text.
type Rows = Vec<Vec<Option<String>>>;

/// One connection. Dropping it closes it.
pub struct Session {
    client: Arc<Client>,
    notices: Arc<Mutex<Vec<PgFailure>>>,
    end: watch::Receiver<Option<PgFailure>>,
}

impl Session {
    /// Connects.
    pub fn connect(config: &Config) -> Result<Self, PgFailure> {
        Self::connect_within(config, LIMIT)
    }

    /// Connects, or closes the connection after `limit`.
    pub fn connect_within(config: &Config, limit: Duration) -> Result<Self, PgFailure> {
        RUNTIME.block_on(async {
            let connected = timeout(limit, config.connect(NoTls)).await;
            let (client, mut connection) = connected
                .map_err(|_| PgFailure::broken(format!("not connected within {limit:?}")))??;
            let notices = Arc::new(Mutex::new(Vec::new()));
            let (ended, end) = watch::channel(None);
            let seen = Arc::clone(&notices);
            tokio::spawn(async move {
                let failure = loop {
                    match poll_fn(|cx| connection.poll_message(cx)).await {
                        Some(Ok(AsyncMessage::Notice(notice))) => {
                            if let Ok(mut seen) = seen.lock() {
                                seen.push(PgFailure::from_db(&notice));
                            }
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error.into(),
                        None => break PgFailure::broken("closed"),
                    }
                };
                ended.send_replace(Some(failure));
            });
            Ok(Self {
                client: Arc::new(client),
                notices,
                end,
            })
        })
    }

    /// Runs statements and returns the rows of all of them.
    pub fn query(&self, sql: &str) -> Result<Rows, PgFailure> {
        self.start(sql).wait()
    }

    /// The single value that a statement returns.
    #[track_caller]
    pub fn one(&self, sql: &str) -> String {
        let rows = self
            .query(sql)
            .unwrap_or_else(|failure| panic!("{sql}: {failure:?}"));
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone().unwrap_or_default(),
            other => panic!("{sql}: one value was expected: {other:?}"),
        }
    }

    /// Starts statements without waiting for them.
    pub fn start(&self, sql: &str) -> PendingQuery {
        let (client, sql) = (Arc::clone(&self.client), sql.to_owned());
        PendingQuery {
            task: RUNTIME.spawn(async move {
                let messages = client.simple_query(&sql).await?;
                Ok(messages.iter().filter_map(text_of_row).collect())
            }),
        }
    }

    /// Sends a cancel request over a separate connection, as Ctrl-C in psql does.
    pub fn cancel(&self) {
        let token = self.client.cancel_token();
        RUNTIME
            .block_on(async { timeout(LIMIT, token.cancel_query(NoTls)).await })
            .expect("a cancel request ends in time")
            .expect("a cancel request can be sent");
    }

    /// The backend's process id, from `pg_backend_pid()`.
    pub fn backend_pid(&self) -> i32 {
        self.one("select pg_backend_pid()")
            .parse()
            .expect("a process id is a number")
    }

    /// The notices received so far.
    pub fn notices(&self) -> Vec<PgFailure> {
        self.notices
            .lock()
            .map(|seen| seen.clone())
            .unwrap_or_default()
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits until the connection ends, and returns the cause.
    #[track_caller]
    pub fn wait_end(&self, limit: Duration) -> PgFailure {
        let mut end = self.end.clone();
        let waited = RUNTIME.block_on(async {
            timeout(limit, end.wait_for(Option::is_some))
                .await
                .map(|end| end.map(|end| end.clone()))
        });
        match waited {
            Ok(Ok(Some(failure))) => failure,
            other => panic!("the connection did not end within {limit:?}: {other:?}"),
        }
    }
}

fn text_of_row(message: &SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|column| row.get(column).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    }
}

/// Running statements.
pub struct PendingQuery {
    task: JoinHandle<Result<Rows, PgFailure>>,
}

impl PendingQuery {
    /// Whether they are done.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for them.
    #[track_caller]
    pub fn wait(self) -> Result<Rows, PgFailure> {
        RUNTIME
            .block_on(async { timeout(LIMIT, self.task).await })
            .expect("statements end in time")
            .expect("a statement's task does not panic")
    }
}
