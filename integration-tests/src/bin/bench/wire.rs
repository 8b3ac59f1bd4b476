//! The smallest client that can measure: a connection, one query, its rows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// Where to connect, and as whom.
pub(crate) struct Target {
    /// Where.
    pub(crate) address: Address,
    /// The user name.
    pub(crate) user: String,
    /// The connection, once it is open.
    pub(crate) stream: Option<Box<dyn Stream>>,
}

/// An address.
#[derive(Clone)]
pub(crate) enum Address {
    /// A port on the loopback.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// A connected socket.
pub(crate) trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Target {
    /// A target that is not connected.
    pub(crate) fn new(address: Address, user: &str) -> Self {
        Self {
            address,
            user: user.to_owned(),
            stream: None,
        }
    }

    /// Connects and logs in; `None` where nobody answers yet.
    pub(crate) fn try_open(mut self) -> Option<Self> {
        let mut stream: Box<dyn Stream> = match &self.address {
            Address::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).ok()?;
                stream.set_nodelay(true).ok()?;
                Box::new(stream)
            }
            Address::Socket(path) => Box::new(UnixStream::connect(path).ok()?),
        };
        let mut body = 196_608u32.to_be_bytes().to_vec();
        for text in ["user", &self.user, "database", "postgres", ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let length = (body.len() as u32 + 4).to_be_bytes();
        stream.write_all(&[&length[..], &body].concat()).ok()?;
        self.stream = Some(stream);
        loop {
            match self.message()? {
                (b'Z', _) => return Some(self),
                (b'E', body) => {
                    let text = String::from_utf8_lossy(&body).replace('\0', " ");
                    // Postgres that starts up says so.
                    assert!(text.contains("57P03"), "refused: {text}");
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Connects and logs in.
    pub(crate) fn open(self) -> Self {
        self.try_open().expect("it accepts connections")
    }

    /// Sends a query.
    pub(crate) fn send(&mut self, query: &str) {
        let length = (query.len() as u32 + 5).to_be_bytes();
        let message = [&b"Q"[..], &length, query.as_bytes(), b"\0"].concat();
        let stream = self.stream.as_mut().expect("it is open");
        stream.write_all(&message).expect("the query is sent");
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let stream = self.stream.as_mut()?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).ok()?;
        let [tag, length @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut body).ok()?;
        Some((tag, body))
    }

    /// Waits for the first row of a query.
    pub(crate) fn row(&mut self) {
        loop {
            match self.message().expect("the connection lives") {
                (b'D', _) => return,
                (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    /// Reads `COPY … TO STDOUT` to its end, and says how many bytes came.
    pub(crate) fn drain(&mut self) -> u64 {
        const END: &[u8] = b"Z\0\0\0\x05I";
        let stream = self.stream.as_mut().expect("it is open");
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        loop {
            let read = stream.read(&mut buffer).expect("bytes come");
            assert!(read > 0, "the connection ended early");
            total += read as u64;
            if buffer[..read].ends_with(END) {
                return total;
            }
        }
    }
}

/// From the connection to the first row.
pub(crate) fn first_row(target: &Target, query: &str) -> Duration {
    let began = Instant::now();
    let mut open = Target::new(target.address.clone(), &target.user).open();
    open.send(query);
    open.row();
    began.elapsed()
}
