//! A client of the API over the network, with blocking calls.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The limit of one request, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one daemon's API. Each request is a connection of its own.
#[derive(Clone)]
pub struct HttpClient {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    /// The headers of each request.
    headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// Why there is no answer.
pub type HttpFailure = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient {
    /// A client of this port without TLS.
    pub fn plain(port: u16) -> Self {
        Self {
            port,
            tls: None,
            headers: Vec::new(),
        }
    }

    /// A client of this port that trusts this authority, and wants the certificate of `localhost`.
    pub fn over_tls(port: u16, authority: &Path) -> Self {
        let authority = CertificateDer::from_pem_file(authority).expect("it is a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(authority).expect("it is an authority's");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("it has versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: Some(Arc::new(config)),
            ..Self::plain(port)
        }
    }

    /// Sends this header with each request, too.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this name and password with each request (Basic authentication).
    #[must_use]
    pub fn user(self, name: &str, password: &str) -> Self {
        let both = BASE64_STANDARD.encode(format!("{name}:{password}"));
        self.header(AUTHORIZATION.as_str(), &format!("Basic {both}"))
    }

    /// Sends this token with each request.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// Asks for a path; the test fails without an answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> HttpAnswer {
        self.ask("GET", path, None)
    }

    /// Posts JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> HttpAnswer {
        self.ask("POST", path, Some(body.to_string()))
    }

    /// Deletes a path.
    #[track_caller]
    pub fn delete(&self, path: &str) -> HttpAnswer {
        self.ask("DELETE", path, None)
    }

    /// Any request; a body is JSON unless a header says so. The test fails without an answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<String>) -> HttpAnswer {
        self.try_ask(method, path, body)
            .unwrap_or_else(|failure| panic!("{method} {path}: {failure}"))
    }

    /// Any request.
    ///
    /// # Errors
    ///
    /// There was no answer.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<HttpAnswer, HttpFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answered = async {
            let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let request = self.request(method, path, body)?;
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(config) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    let name = ServerName::try_from("localhost")?;
                    exchange(connector.connect(name, tcp).await?, request).await
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(TIMEOUT, answered).await })?
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, HttpFailure> {
        let mut request = Request::builder().method(method).uri(path);
        let names = |wanted: &str| {
            let mut headers = self.headers.iter();
            headers.any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        if !names(HOST.as_str()) {
            request = request.header(HOST, format!("localhost:{}", self.port));
        }
        if body.is_some() && !names(CONTENT_TYPE.as_str()) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::from(body.unwrap_or_default()))?)
    }
}

impl HttpAnswer {
    /// The JSON of the body; the test fails if it has another form.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// A header, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or("not a text"))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<HttpAnswer, HttpFailure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(HttpAnswer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec())?,
    })
}
