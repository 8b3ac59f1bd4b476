//! Connecting to a Postgres of ours, whatever its superuser put in the place of its socket.
//!
//! A server's socket is in a directory where it may write. A superuser in it can therefore put a
//! link there that leads to another server's socket, or to any other of the host's: if we
//! followed it, a container's walls would end at the daemon, which passes through all of them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use tokio::net::UnixStream;

/// Connects to the Unix socket at this path, and not to what a link at this path leads to.
///
/// # Errors
///
/// There is none, it is not a socket, or nobody listens on it.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    // Held open, so that what was looked at is what is connected to.
    let held = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    if !held.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("what is in the socket's place is none"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn socket_is_reached_and_a_link_to_it_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [socket, link, file] =
            ["socket", "link", "file"].map(|name| directory.path().join(name));
        let _listener = UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        std::fs::write(&file, "").unwrap();
        connect_unix(&socket).await.unwrap();
        for other in [link, file, directory.path().join("nothing")] {
            assert!(connect_unix(&other).await.is_err(), "{}", other.display());
        }
    }
}
