//! `listen`: the addresses for clients.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::SOCKET_PATH_BYTES_MAX;
use super::section::{Report, Section};
use super::value::{Value, string, text};

/// Linux uses the ports from here on for outgoing connections (`ip_local_port_range`).
const EPHEMERAL_PORT_MIN: u16 = 32768;

/// An address for clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether it is reachable from this machine only.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Value for ListenAddress {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let text = text(value, "\"127.0.0.1:6432\"")?;
        if text.starts_with('/') {
            return socket_path(text).map(Self::Unix);
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            format!(
                "\"{text}\" is neither an IP address with a port, such as \"127.0.0.1:6432\", \
                 nor the absolute path of a Unix socket"
            )
        })?;
        if address.port() == 0 {
            return Err(format!("\"{text}\" has port 0, which clients cannot know"));
        }
        Ok(Self::Tcp(address))
    }

    fn show(&self) -> toml::Value {
        string(self.to_string())
    }
}

/// The path of a Unix socket, if the system can bind it.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::read(&toml::Value::from(text))?;
    if text.len() > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "\"{text}\" is {} bytes long; the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX}",
            text.len()
        ));
    }
    if text.ends_with('/') {
        return Err(format!(
            "\"{text}\" is a directory, not the path of a socket"
        ));
    }
    Ok(path)
}

pub(super) fn read(top: &mut Section, report: &mut Report) -> Vec<ListenAddress> {
    let default = vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 6432)))];
    let listen = top.get("listen", default, report);
    check_addresses("listen", &listen, report);
    listen
}

/// Checks the addresses of a key.
pub(super) fn check_addresses(key: &str, listen: &[ListenAddress], report: &mut Report) {
    if listen.is_empty() {
        report.fault(key, "is empty, so no client can connect");
    }
    for (index, address) in listen.iter().enumerate() {
        if listen[..index].contains(address) {
            report.fault(key, format!("\"{address}\" is listed twice"));
        }
        if let ListenAddress::Tcp(tcp) = address
            && tcp.port() >= EPHEMERAL_PORT_MIN
        {
            let message = format!(
                "\"{address}\" has a port that the system may use for outgoing connections, so it \
                 may be taken when multidb starts; ports below {EPHEMERAL_PORT_MIN} are not"
            );
            report.warning(key, message);
        }
    }
}
