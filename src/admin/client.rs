//! The commands' side of the admin socket.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::api::{ErrorBody, ErrorInfo};

mod jobs;
mod uploads;

/// The longest answer, and the longest line of a job's events.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The default time limit of a request. A start waits for a free slot and for Postgres, a stop for
/// Postgres' last checkpoint; both have limits of their own in the daemon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A client of the daemon.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
    timeout: Duration,
}

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no socket, or no process listens on it.
    #[error("the daemon is not running: no answer at {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The path of the socket is that of a directory.
    #[error("{} is a directory, not the admin socket", socket.display())]
    Directory {
        /// The path.
        socket: PathBuf,
    },
    /// This process may not use the socket.
    #[error("no permission to use the admin socket {}", socket.display())]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
    },
    /// Connecting failed in another way.
    #[error("cannot connect to the admin socket {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The dump that was to be sent could not be read.
    #[error("cannot read the dump")]
    Dump(#[source] io::Error),
    /// The daemon ended, or does not speak HTTP.
    #[error("lost the connection to the daemon")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The time limit was reached.
    #[error("the daemon did not answer within {}", humantime::format_duration(*limit))]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The answer has another form than expected.
    #[error("cannot read the daemon's answer to {path}; does it have the same version?")]
    Malformed {
        /// The path of the request.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon answered with an error.
    #[error("{}", .0.message)]
    Refused(ErrorInfo),
}

impl AdminError {
    /// A stable word, as those of the daemon's errors.
    pub fn code(&self) -> &str {
        match self {
            Self::NotRunning { .. } => "not_running",
            Self::Directory { .. } => "not_a_socket",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::Connect { .. } => "no_connection",
            Self::Dump(_) => "unreadable_dump",
            Self::Broken(_) => "connection_lost",
            Self::Timeout { .. } => "timeout",
            Self::Malformed { .. } => "malformed_answer",
            Self::Refused(error) => &error.code,
        }
    }

    /// The detail of the daemon's error.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.detail.as_deref(),
            _ => None,
        }
    }

    /// Advice.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotRunning { .. } => Some(
                "Start it with \"multidb serve\", or set another socket with --socket, MULTIDB_SOCKET \
                 or admin_socket in the configuration.",
            ),
            Self::Directory { .. } => {
                Some("Name the socket itself, such as /run/multidb/admin.sock.")
            }
            Self::PermissionDenied { .. } => {
                Some("Run this command as root, or as the user that the daemon runs as.")
            }
            Self::Refused(error) => error.hint.as_deref(),
            _ => None,
        }
    }
}

/// The body of a request.
type Body = BoxBody<Bytes, io::Error>;

/// A body that is in memory.
fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed()
}

/// The task that drives one HTTP connection. It ends when this is dropped.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AdminClient {
    /// A client of the daemon at this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: REQUEST_TIMEOUT,
        }
    }

    /// Sets the time limit of a request.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a GET request.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let body = self.request(Method::GET, path, Bytes::new()).await?;
        decode(path, &body)
    }

    /// Sends a POST request.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = encode(path, body)?;
        let body = self.request(Method::POST, path, body).await?;
        decode(path, &body)
    }

    /// Sends a DELETE request.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let body = self.request(Method::DELETE, path, Bytes::new()).await?;
        decode(path, &body)
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, AdminError> {
        let exchange = async {
            let (response, _connection) = self.open(method, path, whole(body)).await?;
            let body = accepted(response).await?.into_body();
            collect(body).await
        };
        self.in_time(exchange).await?
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, AdminError> {
        let limit = self.timeout;
        let late = |_| AdminError::Timeout { limit };
        tokio::time::timeout(limit, future).await.map_err(late)
    }

    /// Sends a request and reads the head of its answer.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(Response<Incoming>, ConnectionTask), AdminError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.no_connection(error))?;
        let broken = |error: hyper::Error| AdminError::Broken(error.into());
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        let task = ConnectionTask(tokio::spawn(async move {
            // Its error also fails the request, which reports it.
            let _reported = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "multidb")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| AdminError::Broken(error.into()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response, task))
    }

    fn no_connection(&self, source: io::Error) -> AdminError {
        let socket = self.socket.clone();
        match source.kind() {
            _ if socket.is_dir() => AdminError::Directory { socket },
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AdminError::NotRunning { socket },
            ErrorKind::PermissionDenied => AdminError::PermissionDenied { socket },
            _ => AdminError::Connect { socket, source },
        }
    }
}

/// A path with a query of the pairs that have a value.
pub fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    let mut separator = '?';
    for (key, value) in pairs {
        if let Some(value) = value {
            text.push_str(&format!("{separator}{key}={}", escaped(value)));
            separator = '&';
        }
    }
    text
}

/// A text as one part of a path or a query.
pub fn escaped(text: &str) -> impl std::fmt::Display {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

fn encode(path: &str, body: &impl Serialize) -> Result<Bytes, AdminError> {
    let path = path.to_owned();
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|source| AdminError::Malformed { path, source })
}

fn decode<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, AdminError> {
    serde_json::from_slice(body).map_err(|source| AdminError::Malformed {
        path: path.to_owned(),
        source,
    })
}

async fn collect(body: Incoming) -> Result<Bytes, AdminError> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected.map_err(AdminError::Broken)?.to_bytes())
}

/// The answer, unless it is an error.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, AdminError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = collect(response.into_body()).await?;
    let error =
        serde_json::from_slice(&body).map_or_else(|_| plain(status), |ErrorBody { error }| error);
    Err(AdminError::Refused(error))
}

/// The error for an answer without a JSON body.
fn plain(status: StatusCode) -> ErrorInfo {
    ErrorInfo {
        message: format!("the daemon answered with status {status}"),
        ..ErrorInfo::default()
    }
}

#[cfg(test)]
mod tests;
