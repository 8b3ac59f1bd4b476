//! A backend's side of a connection, as far as a proxy meets it.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::wire::{StartupRequest, decode_frame, decode_startup};

/// The longest message that a test sends.
const BODY_LENGTH_MAX: u32 = 1 << 20;

/// A backend. Its secret is four bytes of 7.
pub struct Backend {
    /// The connection.
    pub socket: UnixStream,
    unread: BytesMut,
    process_id: i32,
}

impl Backend {
    /// A backend at this end of the connection.
    pub fn new(socket: UnixStream, process_id: i32) -> Self {
        Self {
            socket,
            unread: BytesMut::new(),
            process_id,
        }
    }

    /// Waits for the client's first packet.
    ///
    /// # Errors
    ///
    /// The client has left, or sent something else.
    pub async fn startup(&mut self) -> io::Result<StartupRequest> {
        loop {
            match decode_startup(&mut self.unread).map_err(io::Error::other)? {
                Some(startup) => return Ok(startup),
                None => self.read().await?,
            }
        }
    }

    /// Ends the login: the client may send queries.
    ///
    /// # Errors
    ///
    /// The client has left.
    pub async fn greet(&mut self) -> io::Result<()> {
        let mut key = self.process_id.to_be_bytes().to_vec();
        key.extend([7; 4]);
        let greeting = [
            message(b'R', &[0; 4]),
            message(b'S', b"server_version\x0015.0\0"),
            message(b'K', &key),
            message(b'Z', b"I"),
        ];
        self.socket.write_all(&greeting.concat()).await
    }

    /// Waits for the next query; `None` when the client ends its session.
    ///
    /// # Errors
    ///
    /// The client has left without that, or sent something else.
    pub async fn query(&mut self) -> io::Result<Option<String>> {
        let frame = loop {
            let frame = decode_frame(&mut self.unread, BODY_LENGTH_MAX);
            match frame.map_err(io::Error::other)? {
                Some(frame) => break frame,
                None => self.read().await?,
            }
        };
        if frame.tag == b'X' {
            return Ok(None);
        }
        let query = String::from_utf8_lossy(&frame.body);
        Ok(Some(query.trim_end_matches('\0').to_owned()))
    }

    /// Ends a query with this message. The status is that of the transaction from then on.
    ///
    /// # Errors
    ///
    /// The client has left.
    pub async fn answer(&mut self, answer: Vec<u8>, status: u8) -> io::Result<()> {
        let answer = [answer, message(b'Z', &[status])].concat();
        self.socket.write_all(&answer).await
    }

    /// Ends by the command of an administrator.
    pub fn terminate(self) {
        let error = error(
            "57P01",
            "terminating connection due to administrator command",
        );
        // A backend does not wait for a client that does not read.
        let _full = self.socket.try_write(&error);
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A message with a tag.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.put_u32(u32::try_from(body.len() + 4).expect("a test sends little"));
    message.extend(body);
    message
}

/// An ErrorResponse.
pub fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{sqlstate}\0M{text}\0\0").as_bytes())
}
