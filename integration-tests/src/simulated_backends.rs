//! Simulated backends with little memory, for more sessions than Postgres has memory for.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Answers in place of an instance's Postgres until it is dropped. Sessions that Postgres
/// had before stay with Postgres.
pub struct SimulatedBackends {
    _end: oneshot::Sender<()>,
}

impl SimulatedBackends {
    /// Replaces a server's socket. The server itself keeps running.
    #[track_caller]
    pub fn in_place_of(socket: &Path) -> Self {
        std::fs::remove_file(socket).expect("the server's socket can be removed");
        let listener =
            std::os::unix::net::UnixListener::bind(socket).expect("the path can be bound");
        listener
            .set_nonblocking(true)
            .expect("a socket can be made nonblocking");
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime can be built")
                .block_on(async move {
                    let listener = UnixListener::from_std(listener).expect("it can be registered");
                    tokio::select! {
                        () = accept(&listener) => {}
                        _ = ended => {}
                    }
                });
        });
        Self { _end: end }
    }
}

async fn accept(listener: &UnixListener) {
    for process_id in 1_000_000_u32.. {
        match listener.accept().await {
            // The proxy observes how its session ends.
            Ok((socket, _)) => drop(tokio::spawn(serve(socket, process_id))),
            Err(_) => return,
        }
    }
}

/// Accepts every login and answers each message with ReadyForQuery.
async fn serve(mut socket: UnixStream, process_id: u32) -> io::Result<()> {
    let length = socket.read_u32().await?;
    skip(&mut socket, length).await?;
    let greeting = [
        &b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\x0015.0\0K\0\0\0\x0c"[..],
        &process_id.to_be_bytes(),
        b"key!Z\0\0\0\x05I",
    ];
    socket.write_all(&greeting.concat()).await?;
    while socket.read_u8().await? != b'X' {
        let length = socket.read_u32().await?;
        skip(&mut socket, length).await?;
        socket.write_all(b"Z\0\0\0\x05I").await?;
    }
    Ok(())
}

/// Reads the body that follows a length field.
async fn skip(socket: &mut UnixStream, length: u32) -> io::Result<()> {
    let mut body = vec![0; (length as usize).saturating_sub(4)];
    socket.read_exact(&mut body).await.map(drop)
}
