//! A receiver of webhooks that answers as it is told.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::certificates::Identity;
use crate::poll::poll;
use crate::ports::Port;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A receiver. It listens from [`Webhook::listen`] on, until the test's process ends.
pub struct Webhook {
    port: Port,
    received: Arc<Mutex<Vec<Received>>>,
}

/// An answer.
#[derive(Debug, Clone)]
pub enum WebhookAnswer {
    /// It takes the message.
    Ok,
    /// This status, with these further header lines and this body.
    Status(&'static str, &'static str, String),
    /// None, for as long as the client waits.
    Hang,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Received {
    /// The request line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or_else(|| panic!("no {name} in {}", self.head), |(_, value)| value)
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a message is JSON")
    }
}

impl Webhook {
    /// A receiver that does not listen yet.
    pub fn reserve() -> Self {
        Self {
            port: Port::take(),
            received: Arc::default(),
        }
    }

    /// Its URL with this host and path.
    pub fn url(&self, scheme: &str, host: &str, path: &str) -> String {
        format!("{scheme}://{host}:{}{path}", self.port.number())
    }

    /// Listens, with TLS if there is a certificate, and gives these answers, then [`WebhookAnswer::Ok`].
    pub fn listen(&self, identity: Option<&Identity>, answers: &[WebhookAnswer]) {
        let listener =
            TcpListener::bind(("127.0.0.1", self.port.number())).expect("its port is free");
        let tls = identity.map(|identity| Arc::new(tls(identity)));
        let received = self.received.clone();
        let mut answers = VecDeque::from(answers.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, received) = (tls.clone(), received.clone());
                // One for each request: a client that does not trust the certificate sends none.
                let Some(request) = open(stream, tls) else {
                    continue;
                };
                let (stream, request) = request;
                all(&received).push(request);
                let answer = answers.pop_front().unwrap_or(WebhookAnswer::Ok);
                std::thread::spawn(move || reply(stream, &answer));
            }
        });
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Received> {
        all(&self.received).clone()
    }

    /// Waits until it has received so many requests that this holds for, and returns them.
    #[track_caller]
    pub fn wait(&self, count: usize, is_counted: impl Fn(&Value) -> bool) -> Vec<Received> {
        poll("the messages have come", TIMEOUT, || {
            let all = self.received();
            let counted = all.iter().filter(|one| is_counted(&one.json()));
            let counted: Vec<Received> = counted.cloned().collect();
            match counted.len() >= count {
                true => Ok(counted),
                false => Err(all),
            }
        })
    }
}

fn all(received: &Mutex<Vec<Received>>) -> MutexGuard<'_, Vec<Received>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn tls(identity: &Identity) -> ServerConfig {
    let file = File::open(&identity.cert).expect("there is a certificate");
    let chain = CertificateDer::pem_reader_iter(BufReader::new(file));
    let chain: Result<Vec<_>, _> = chain.collect();
    let key = PrivateKeyDer::from_pem_file(&identity.key).expect("there is a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate in PEM"), key)
        .expect("they belong together")
}

/// Reads a request; none if the client goes away before.
fn open(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Option<(Box<dyn Stream>, Received)> {
    let mut stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).expect("the configuration is complete");
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes[end + 4..].to_vec();
        let request = Received { head, body };
        let length: usize = request.header("content-length").parse().expect("a number");
        if request.body.len() >= length {
            return Some((stream, request));
        }
    }
}

fn reply(mut stream: Box<dyn Stream>, answer: &WebhookAnswer) {
    let (status, headers, body) = match answer {
        WebhookAnswer::Ok => ("204 No Content", "", ""),
        WebhookAnswer::Status(status, headers, body) => (*status, *headers, body.as_str()),
        WebhookAnswer::Hang => {
            // Ends when the client gives up.
            let _end = stream.read(&mut [0; 1]);
            return;
        }
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    // The client need not read all of it.
    let _sent = stream.write_all(text.as_bytes());
    let _sent = stream.flush();
}
