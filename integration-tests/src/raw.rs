//! One connection byte by byte, for malformed input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A client that sends given bytes.
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the daemon accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout can be set");
        Self { stream }
    }

    /// Sends bytes. A connection that the daemon has closed is not an error.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a startup packet of this protocol version with these parameters.
    pub fn send_startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        self.send(&startup_packet(version, parameters));
    }

    /// Shuts down the sending side only.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads exactly this many bytes.
    #[track_caller]
    pub fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .expect("the daemon sends that many bytes");
        bytes
    }

    /// Reads until the daemon hangs up.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the daemon did not hang up: {error}; it sent {bytes:?}"),
        }
        bytes
    }

    /// Reads one message of the server: its type and its body.
    #[track_caller]
    pub fn read_message(&mut self) -> (char, Vec<u8>) {
        let header = self.read(5);
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let body = self.read(length as usize - 4);
        (char::from(header[0]), body)
    }

    /// Reads messages until one of this type, and returns its body.
    #[track_caller]
    pub fn read_until(&mut self, kind: char) -> Vec<u8> {
        loop {
            let (found, body) = self.read_message();
            if found == kind {
                return body;
            }
            assert_ne!(found, 'E', "an error: {}", String::from_utf8_lossy(&body));
        }
    }
}

/// The bytes of a startup packet.
pub fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (key, value) in parameters {
        body.extend_from_slice(key.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("a packet is short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.append(&mut body);
    packet
}
