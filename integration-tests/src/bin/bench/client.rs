//! A client of Postgres that does nothing but what is measured.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use multidb_integration_tests::startup_packet;
use tokio::time::Instant;

/// Nothing that is measured takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// As libpq reads, several messages at once.
const READ_BYTES: usize = 16 << 10;

/// Large enough that the client is not what a COPY waits for.
const COPY_READ_BYTES: usize = 256 << 10;

/// ReadyForQuery outside a transaction. In the text form of COPY no byte is zero, so that no data can
/// look like it.
const READY: [u8; 6] = *b"Z\0\0\0\x05I";

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

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
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
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
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
    pub(crate) fn connect(endpoint: &Endpoint, user: &str) -> Result<Self, Failure> {
        let mut client = Self {
            stream: Stream::connect(endpoint)?,
            received: Vec::with_capacity(READ_BYTES),
            begin: 0,
        };
        client.stream.write_all(&startup_packet(
            196_608,
            &[("user", user), ("database", DATABASE)],
        ))?;
        client.read_until(b'Z')?;
        Ok(client)
    }

    /// Connects, asks for a row, and says how long that took until the row was there.
    pub(crate) fn first_row(endpoint: &Endpoint, user: &str) -> Result<(Self, Duration), Failure> {
        let begin = Instant::now();
        let mut client = Self::connect(endpoint, user)?;
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

    /// Says goodbye, and waits until the server has ended its side.
    pub(crate) fn close(mut self) {
        let goodbye = [b'X', 0, 0, 0, 4];
        let mut rest = [0; 64];
        if self.stream.write_all(&goodbye).is_ok() {
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

    /// Reads messages to the first of this type. An error of the server is a failure.
    fn read_until(&mut self, wanted: u8) -> Result<(), Failure> {
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
                return Ok(());
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
