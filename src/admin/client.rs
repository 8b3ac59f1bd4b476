//! The commands' side of the admin socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::api::{ErrorBody, ErrorInfo, ImportBody, ImportEvent};

/// The longest answer that is read, and the longest line of an import's answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The longest time of a request, unless it is set. A start waits for room and for Postgres, a
/// stop for Postgres' last checkpoint; both have limits of their own in the daemon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A way to talk to the daemon.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
    timeout: Duration,
}

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is no socket, or nobody listens.
    #[error("the daemon does not run: nobody answers at {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is not for us.
    #[error("no permission to use the admin socket {}", socket.display())]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket failed in another way.
    #[error("cannot connect to the admin socket {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// How.
        #[source]
        source: std::io::Error,
    },
    /// The daemon ended, or does not speak HTTP.
    #[error("the conversation with the daemon broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("the daemon did not answer within {}", humantime::format_duration(*limit))]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The daemon answered something else than expected.
    #[error("the daemon's answer to {path} is not understood; is it of the same version?")]
    Malformed {
        /// The path that was asked for.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ErrorInfo),
}

impl AdminError {
    /// More about it.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.detail.as_deref(),
            _ => None,
        }
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotRunning { .. } => Some(
                "Start it with \"multidb serve\", or name another socket with --socket, \
                 MULTIDB_SOCKET or the configuration's admin_socket.",
            ),
            Self::PermissionDenied { .. } => {
                Some("Run this command as root, or as the user that the daemon runs as.")
            }
            Self::Refused(error) => error.hint.as_deref(),
            _ => None,
        }
    }
}

/// The task that carries one conversation; it ends with this.
struct Carrier(JoinHandle<()>);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AdminClient {
    /// Talks to the daemon at this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: REQUEST_TIMEOUT,
        }
    }

    /// Waits no longer than this for an answer.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let body = self.request(Method::GET, path, Bytes::new()).await?;
        decode(path, &body)
    }

    /// Has something done.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AdminError> {
        let body = encode(path, body)?;
        let body = self.request(Method::POST, path, body).await?;
        decode(path, &body)
    }

    /// Has something deleted.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let body = self.request(Method::DELETE, path, Bytes::new()).await?;
        decode(path, &body)
    }

    /// Imports a snapshot, and reports each event as it comes; the last one is `Done` or
    /// `Failed`. The daemon gives the import up when the future is dropped.
    pub async fn import(
        &self,
        body: &ImportBody,
        mut on_event: impl FnMut(ImportEvent),
    ) -> Result<(), AdminError> {
        const PATH: &str = "/v1/snapshots/import";
        let body = encode(PATH, body)?;
        let opened = self.open(Method::POST, PATH, body);
        let (response, _carrier) = self.in_time(opened).await??;
        let mut stream = accepted(response).await?.into_body();
        let mut buffer = BytesMut::new();
        while let Some(frame) = stream.frame().await {
            let frame = frame.map_err(|error| AdminError::Broken(error.into()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                if !line.trim_ascii().is_empty() {
                    let event: ImportEvent = decode(PATH, &line)?;
                    let last = !matches!(event, ImportEvent::Progress { .. });
                    on_event(event);
                    if last {
                        return Ok(());
                    }
                }
            }
            if buffer.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Err(AdminError::Broken(
            "the import's answer ended without a result; the daemon's log says more".into(),
        ))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, AdminError> {
        let conversation = async {
            let (response, _carrier) = self.open(method, path, body).await?;
            let body = accepted(response).await?.into_body();
            collect(body).await
        };
        self.in_time(conversation).await?
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
        body: Bytes,
    ) -> Result<(Response<Incoming>, Carrier), AdminError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.no_connection(error))?;
        let broken = |error: hyper::Error| AdminError::Broken(error.into());
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        let carrier = Carrier(tokio::spawn(async move {
            // Its failure is the request's failure too, which is reported there.
            let _reported = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "multidb")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| AdminError::Broken(error.into()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response, carrier))
    }

    fn no_connection(&self, source: std::io::Error) -> AdminError {
        let socket = self.socket.clone();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AdminError::NotRunning { socket },
            ErrorKind::PermissionDenied => AdminError::PermissionDenied { socket },
            _ => AdminError::Connect { socket, source },
        }
    }
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

/// The answer, if it is no error.
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

/// What an answer says that has no body of ours.
fn plain(status: StatusCode) -> ErrorInfo {
    ErrorInfo {
        message: format!("the daemon answered with status {status}"),
        ..ErrorInfo::default()
    }
}

#[cfg(test)]
mod tests;
