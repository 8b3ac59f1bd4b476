//! An event that is posted to a URL, signed.
//!
//! Each attempt has a connection of its own: events are rare. Redirects are not followed, since a message could be sent
//! anywhere by them, and of an answer only its beginning is read.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use multidb_store::error_chain;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::AttemptError;
use super::message::{Message, printable};
use crate::config::{NotifySecret, WebhookUrl};

/// The bytes that are read of the answer of a target that refuses a message, for the error.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// The characters of it that are told.
const ANSWER_CHARS_MAX: usize = 200;

type Body = Full<bytes::Bytes>;

/// Posts the message.
pub(super) async fn post(
    url: &WebhookUrl,
    secret: Option<&NotifySecret>,
    message: &Message,
) -> Result<(), AttemptError> {
    let key = match secret.cloned() {
        None => None,
        Some(secret) => {
            let read = tokio::task::spawn_blocking(move || secret.key()).await;
            let read = read.map_err(|error| AttemptError::passing(error.to_string()))?;
            Some(read.map_err(AttemptError::passing)?)
        }
    };
    let request = request(url, key.as_deref(), message, Timestamp::now())?;
    let connected = TcpStream::connect((url.host(), url.port())).await;
    let stream =
        connected.map_err(|error| AttemptError::passing(format!("cannot connect: {error}")))?;
    let answer = if url.is_https() {
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|error| AttemptError::lasting(error.to_string()))?;
        let connector = TlsConnector::from(Arc::new(tls().await?));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| {
            AttemptError::passing(format!("no TLS connection: {}", error_chain(&error)))
        })?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    };
    let (answer, _connection) = answer.map_err(|error| {
        AttemptError::passing(format!("lost the connection: {}", error_chain(&error)))
    })?;
    accepted(answer).await
}

/// The request, signed at this time.
fn request(
    url: &WebhookUrl,
    key: Option<&str>,
    message: &Message,
    now: Timestamp,
) -> Result<Request<Body>, AttemptError> {
    let path = url.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = url.uri().authority().map_or("", |host| host.as_str());
    let time = now.as_second();
    let mut request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("multidb/", env!("CARGO_PKG_VERSION")))
        .header("X-Multidb-Event", message.event_word())
        .header("X-Multidb-Id", message.id())
        .header("X-Multidb-Timestamp", time);
    if let Some(key) = key {
        let signature = signature(key, time, message.body());
        request = request.header("X-Multidb-Signature", format!("sha256={signature}"));
    }
    let body = Full::new(message.body().clone());
    request
        .body(body)
        .map_err(|error| AttemptError::lasting(error.to_string()))
}

/// The HMAC of the time, a dot and the body, in hexadecimal digits. The time is in it so that a message cannot be sent
/// again later by an eavesdropper.
fn signature(key: &str, time: i64, body: &[u8]) -> String {
    // HMAC takes keys of any length (RFC 2104).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// TLS with the authorities that the machine trusts, read each time so that they can change.
async fn tls() -> Result<ClientConfig, AttemptError> {
    let read = tokio::task::spawn_blocking(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _ignored) = roots.add_parsable_certificates(found.certs);
        match (added, found.errors.first()) {
            (0, Some(error)) => Err(format!(
                "the machine's certificates cannot be read: {error}"
            )),
            (0, None) => Err(
                "the machine has no certificates of authorities; install ca-certificates"
                    .to_owned(),
            ),
            _ => Ok(roots),
        }
    });
    let roots = read
        .await
        .map_err(|error| AttemptError::passing(error.to_string()))?
        .map_err(AttemptError::passing)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AttemptError::lasting(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Sends the request and reads the head of its answer. The connection ends with the handle.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Body>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), hyper::Error> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its error also fails the request, which reports it.
        let _reported = connection.await;
    }));
    Ok((sender.send_request(request).await?, task))
}

/// Whether the target took the message.
async fn accepted(answer: Response<Incoming>) -> Result<(), AttemptError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        let location = answer.headers().get(LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = printable(location.unwrap_or("elsewhere"), ANSWER_CHARS_MAX);
        return Err(AttemptError::lasting(format!(
            "answered with status {status} and a redirect to {location}, which is not followed"
        )));
    }
    let text = beginning(answer.into_body()).await;
    let text = printable(String::from_utf8_lossy(&text).trim(), ANSWER_CHARS_MAX);
    let message = match text.as_str() {
        "" => format!("answered with status {status}"),
        text => format!("answered with status {status}: {text}"),
    };
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    Err(AttemptError { message, passes })
}

/// The beginning of a body, as far as it arrives.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < ANSWER_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
    }
    read.truncate(ANSWER_BYTES_MAX);
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_other_programs() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature("0123456789abcdef", 1_700_000_000, br#"{"a":1}"#),
            "9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
        );
    }
}
