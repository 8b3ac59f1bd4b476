//! A minimal client of Postgres.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use multidb_integration_tests::startup_packet;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::time::Instant;

/// Nothing that is measured takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// As libpq reads, several messages at once.
const READ_BYTES: usize = 16 << 10;

/// Large enough that a COPY does not wait for the client.
const COPY_READ_BYTES: usize = 256 << 10;

/// ReadyForQuery outside a transaction. In the text form of COPY no byte is zero, so that no data can
/// look like it.
const READY: [u8; 6] = *b"Z\0\0\0\x05I";

/// SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The database of the snapshot.
pub(crate) const DATABASE: &str = "app";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// A port of this machine.
    Tcp(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why there was no answer.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The user where a password is asked for,
pub(crate) const USER: &str = "bench";
/// with this one,
pub(crate) const PASSWORD: &str = "bench";
/// which servers know so. A client's work grows with the number of iterations, a server's does not; with
/// one, it is the servers that are measured.
pub(crate) const VERIFIER: &str = "SCRAM-SHA-256$1:MDEyMzQ1Njc4OWFiY2RlZg==$\
    UvlNqpZ56RXtc2iwhCyxAU+BObxIUN3hBFFQ3kWLmxY=:YmyHKP6l1tn+R9iUy+mfiOWjWGaeAbxPsLy89oJQDRo=";

/// The user of a login, and the credentials.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    /// For SCRAM-SHA-256, where the server asks for it.
    pub(crate) password: &'static str,
    /// Whom to trust in TLS, where it is used; for the name `localhost`.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Login {
    /// Without a proof.
    pub(crate) fn trusted(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: "",
            tls: None,
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LIMIT))?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LIMIT))?;
                Ok(Self::Unix(stream))
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }

    /// Asks for TLS and goes over to it.
    fn secure(self, config: &Arc<rustls::ClientConfig>) -> Result<Self, Failure> {
        let Self::Tcp(mut stream) = self else {
            return Err(Failure("TLS is for TCP".to_owned()));
        };
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Err(Failure("the server has no TLS".to_owned()));
        }
        let name = "localhost".try_into().expect("it is a name");
        let tls = rustls::ClientConnection::new(config.clone(), name)
            .map_err(|error| Failure(error.to_string()))?;
        Ok(Self::Tls(Box::new(rustls::StreamOwned::new(tls, stream))))
    }
}

/// One connection, waiting for a query.
pub(crate) struct Client {
    stream: Stream,
    received: Vec<u8>,
    begin: usize,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn connect(endpoint: &Endpoint, login: &Login) -> Result<Self, Failure> {
        let mut stream = Stream::connect(endpoint)?;
        if let Some(config) = &login.tls {
            stream = stream.secure(config)?;
        }
        let mut client = Self {
            stream,
            received: Vec::with_capacity(READ_BYTES),
            begin: 0,
        };
        let parameters = [("user", login.user.as_str()), ("database", DATABASE)];
        client
            .stream
            .write_all(&startup_packet(196_608, &parameters))?;
        client.authenticate(login.password)?;
        client.read_until(b'Z')?;
        Ok(client)
    }

    /// Answers the server's questions up to AuthenticationOk.
    fn authenticate(&mut self, password: &str) -> Result<(), Failure> {
        let binding = ChannelBinding::unsupported();
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        loop {
            let body = self.read_until(b'R')?;
            let (code, data) = body.split_first_chunk().ok_or(Failure(String::new()))?;
            let mut answer = BytesMut::new();
            match u32::from_be_bytes(*code) {
                0 => return Ok(()),
                10 => frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut answer)?,
                11 => {
                    scram.update(data)?;
                    frontend::sasl_response(scram.message(), &mut answer)?;
                }
                12 => scram.finish(data)?,
                other => return Err(Failure(format!("authentication by method {other}"))),
            }
            self.stream.write_all(&answer)?;
        }
    }

    /// Connects, asks for a row, and says how long that took until the row was there.
    pub(crate) fn first_row(
        endpoint: &Endpoint,
        login: &Login,
    ) -> Result<(Self, Duration), Failure> {
        let begin = Instant::now();
        let mut client = Self::connect(endpoint, login)?;
        client.send_query("select 1")?;
        client.read_until(b'D')?;
        let elapsed = begin.elapsed();
        client.read_until(b'Z')?;
        Ok((client, elapsed))
    }

    /// Runs a COPY to the client that is dropped here, and gives the bytes that came.
    pub(crate) fn copy_out(&mut self, sql: &str) -> Result<u64, Failure> {
        self.send_query(sql)?;
        let mut buffer = vec![0; COPY_READ_BYTES];
        let mut bytes = 0_u64;
        let mut tail = [0; READY.len()];
        loop {
            let length = self.stream.read(&mut buffer)?;
            let chunk = &buffer[..length];
            if length == 0 {
                return Err(Failure("the server hung up".to_owned()));
            }
            if bytes == 0 && chunk.first() == Some(&b'E') {
                return Err(Failure(String::from_utf8_lossy(chunk).into_owned()));
            }
            bytes += length as u64;
            keep_tail(&mut tail, chunk);
            if tail == READY {
                return Ok(bytes);
            }
        }
    }

    /// Sends Terminate, and waits until the server has ended its side.
    pub(crate) fn close(mut self) {
        let terminate = [b'X', 0, 0, 0, 4];
        let mut rest = [0; 64];
        if self.stream.write_all(&terminate).is_ok() {
            while self.stream.read(&mut rest).is_ok_and(|length| length > 0) {}
        }
    }

    fn send_query(&mut self, sql: &str) -> Result<(), Failure> {
        let length = u32::try_from(sql.len() + 5).expect("a statement is short");
        let mut message = vec![b'Q'];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        Ok(self.stream.write_all(&message)?)
    }

    /// Reads messages to the first of this type, whose body is given. An error of the server is a failure.
    fn read_until(&mut self, wanted: u8) -> Result<Vec<u8>, Failure> {
        loop {
            let header: [u8; 5] = self.take(5)?.try_into().expect("five bytes were asked for");
            let [kind, length @ ..] = header;
            let length = u32::from_be_bytes(length) as usize;
            let body = self.take(length.saturating_sub(4))?;
            if kind == b'E' {
                let text: String = String::from_utf8_lossy(&body).replace('\0', " ");
                return Err(Failure(text));
            }
            if kind == wanted {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.received.len() - self.begin < length {
            let mut buffer = [0; READ_BYTES];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(Failure("the server hung up".to_owned()));
            }
            self.received.drain(..self.begin);
            self.begin = 0;
            self.received.extend_from_slice(&buffer[..read]);
        }
        let end = self.begin + length;
        let taken = self.received[self.begin..end].to_vec();
        self.begin = end;
        Ok(taken)
    }
}

/// Keeps the last bytes of a stream.
fn keep_tail(tail: &mut [u8; READY.len()], chunk: &[u8]) {
    if let Some(end) = chunk.last_chunk() {
        *tail = *end;
    } else {
        tail.rotate_left(chunk.len());
        let kept = tail.len() - chunk.len();
        tail[kept..].copy_from_slice(chunk);
    }
}
