//! A server's answer to some bytes in comparable form: the types of its messages,
//! SQLSTATEs, and whether it closed; no texts.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// The limit for every answer, on a slow and busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A client's next step.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// It sends this.
    Send(Vec<u8>),
    /// It waits for the one byte that answers an encryption request.
    Byte,
    /// It waits for ReadyForQuery.
    Ready,
    /// It shuts down its sending side.
    HalfClose,
}

/// Performs the steps and reads to the end. A session that has begun is ended by the client when it
/// has performed all steps.
pub(super) fn answer(port: u16, steps: &[Step]) -> String {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    socket
        .set_read_timeout(Some(WAIT_TIMEOUT))
        .expect("a timeout can be set");
    let mut talk = Talk {
        socket,
        said: Vec::new(),
        closed: false,
    };
    for step in steps {
        match step {
            // A connection that the server has closed is part of its answer.
            Step::Send(bytes) => drop(talk.socket.write_all(bytes)),
            Step::Byte => talk.byte(),
            Step::Ready => talk.until_ready(),
            Step::HalfClose => drop(talk.socket.shutdown(Shutdown::Write)),
        }
    }
    talk.until_ready();
    drop(talk.socket.shutdown(Shutdown::Write));
    while !talk.closed {
        talk.message();
    }
    talk.said.join(" ")
}

struct Talk {
    socket: TcpStream,
    said: Vec<String>,
    closed: bool,
}

impl Talk {
    /// Adds a message. The number of ParameterStatus messages is not compared.
    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !(what == "S" && self.said.last().is_some_and(|last| last == "S")) {
            self.said.push(what);
        }
    }

    /// Reads exactly this many bytes; anything else is recorded as the end, a reset like an orderly
    /// close: closing with unread bytes sends a reset.
    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.closed {
            return None;
        }
        let mut bytes = vec![0; length];
        match self.socket.read_exact(&mut bytes) {
            Ok(()) => return Some(bytes),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                self.note("closed");
            }
            Err(error) => self.note(format!("hangs: {error}")),
        }
        self.closed = true;
        None
    }

    fn byte(&mut self) {
        if let Some(byte) = self.read(1) {
            self.note(format!("byte {}", char::from(byte[0])));
        }
    }

    fn until_ready(&mut self) {
        while !self.closed && self.message() != Some(b'Z') {}
    }

    fn message(&mut self) -> Option<u8> {
        let header = self.read(5)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if length > 1 << 20 {
            // An error of protocol 2 has no length field.
            self.note(format!("no message, {:?}", char::from(header[0])));
            let _rest = self.socket.read_to_end(&mut Vec::new());
            self.note("closed");
            self.closed = true;
            return None;
        }
        let body = self.read((length as usize).checked_sub(4)?)?;
        self.note(match header[0] {
            b'E' | b'N' => format!("{} {}", char::from(header[0]), fields(&body)),
            b'R' | b'v' => format!("{} {}", char::from(header[0]), body.escape_ascii()),
            b'Z' => format!("Z {}", char::from(body[0])),
            tag => char::from(tag).to_string(),
        });
        Some(header[0])
    }
}

/// An error's severity and SQLSTATE, and whether it has a message.
fn fields(body: &[u8]) -> String {
    let field = |tag: u8| {
        let fields = body.split(|byte| *byte == 0);
        let mut found = fields.filter(|field| field.first() == Some(&tag));
        let value = found.next().map(|field| &field[1..]);
        String::from_utf8_lossy(value.unwrap_or(b"(none)")).into_owned()
    };
    assert_ne!(field(b'M'), "(none)", "an error without a message");
    format!("{} {} {}", field(b'S'), field(b'V'), field(b'C'))
}
