//! Connects to a managed Postgres without following links.
//!
//! A server can write to the directory of its socket. Its superuser could replace the socket by a link to
//! another server's socket or to any other on the host. By following it the daemon would lead a container
//! out of its isolation.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use tokio::net::UnixStream;

/// Connects to the Unix socket at this path. A link is not followed.
///
/// # Errors
///
/// The path does not exist or is not a socket, or no process listens on it.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    // Held open, so that the checked file is the one that is connected to.
    let held = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    if !held.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("the file is not a socket"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn connects_to_a_socket_but_not_through_a_link() {
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
