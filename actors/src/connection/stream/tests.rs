//! Streams over real sockets. The registrations are read from the kernel.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// `EPOLLOUT`.
const WRITABLE: u32 = 0x4;
/// More than the buffers of a Unix socket hold.
const BYTES: usize = 4 << 20;

/// A stream, and its peer that blocks.
fn pair() -> (Stream, UnixStream) {
    let (near, peer) = UnixStream::pair().unwrap();
    (Stream::new(near.into()).unwrap(), peer)
}

impl Stream {
    /// Whether the kernel wakes this thread when the socket becomes writable.
    fn is_registered_for_writing(&self) -> bool {
        let fd = self.registered().unwrap().get_ref().as_raw_fd();
        let epolls = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = epolls.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
        let mut events = Vec::new();
        for info in infos {
            for line in info.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ["tfd:", tfd, "events:", mask, ..] = words[..]
                    && tfd == fd.to_string()
                {
                    events.push(u32::from_str_radix(mask, 16).unwrap());
                }
            }
        }
        // The reactor has two descriptors of its epoll instance.
        events.dedup();
        assert_eq!(events.len(), 1, "{events:?}");
        events[0] & WRITABLE != 0
    }
}

/// Writes until the socket's buffer is full.
async fn fill(stream: &mut Stream) -> usize {
    let bytes = vec![7; BYTES];
    let written = stream.write(&bytes).await.unwrap();
    assert!(written < BYTES);
    written
}

#[tokio::test]
async fn stream_is_registered_for_writing_only_while_a_write_blocks() {
    let (mut stream, mut peer) = pair();
    stream.write_all(b"select").await.unwrap();
    assert!(!stream.is_registered_for_writing());
    let filled = fill(&mut stream).await;
    assert!(stream.is_registered_for_writing());
    let reading = tokio::task::spawn_blocking(move || {
        let mut received = vec![0; 6 + filled + 4];
        peer.read_exact(&mut received).unwrap();
        (received, peer)
    });
    stream.write_all(b"last").await.unwrap();
    assert!(!stream.is_registered_for_writing());
    let (received, _peer) = reading.await.unwrap();
    assert!(received.starts_with(b"select") && received.ends_with(b"last"));
}

#[tokio::test]
async fn reader_is_woken_although_a_write_blocked_after_it_began_to_wait() {
    let (mut stream, mut peer) = pair();
    let mut buffer = [0; 6];
    let mut buffer = ReadBuf::new(&mut buffer);
    let mut written = false;
    std::future::poll_fn(|cx| {
        let read = Pin::new(&mut stream).poll_read(cx, &mut buffer);
        if !written {
            assert!(read.is_pending());
            let bytes = vec![7; BYTES];
            assert!(Pin::new(&mut stream).poll_write(cx, &bytes).is_ready());
            assert!(Pin::new(&mut stream).poll_write(cx, &bytes).is_pending());
            written = true;
            peer.write_all(b"answer").unwrap();
        }
        read
    })
    .await
    .unwrap();
    assert_eq!(buffer.filled(), b"answer");
}

#[tokio::test]
async fn hang_up_of_the_peer_ends_a_read_and_a_write_that_blocks() {
    let (mut stream, peer) = pair();
    fill(&mut stream).await;
    let ended = tokio::task::spawn_blocking(move || drop(peer));
    let error = stream.write_all(&vec![7; BYTES]).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ),
        "{error}"
    );
    ended.await.unwrap();

    let (mut stream, peer) = pair();
    let ended = tokio::task::spawn_blocking(move || drop(peer));
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    ended.await.unwrap();
}

#[tokio::test]
async fn half_closed_stream_still_reads() {
    let (mut stream, mut peer) = pair();
    stream.write_all(b"query").await.unwrap();
    stream.shutdown().await.unwrap();
    let answering = tokio::task::spawn_blocking(move || {
        let mut query = Vec::new();
        peer.read_to_end(&mut query).unwrap();
        peer.write_all(b"answer").unwrap();
        query
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer");
    assert_eq!(answering.await.unwrap(), b"query");
}

#[tokio::test]
async fn bytes_of_any_amount_pass_both_ways() {
    let (near, far) = UnixStream::pair().unwrap();
    let near = Stream::new(near.into()).unwrap();
    let far = Stream::new(far.into()).unwrap();
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at >> 3) as u8).collect();
    let (mut up, mut down) = (vec![0; BYTES], vec![0; BYTES]);
    let (a, b, c, d) = tokio::join!(
        near_out.write_all(&bytes),
        far_out.write_all(&bytes),
        far_in.read_exact(&mut up),
        near_in.read_exact(&mut down),
    );
    a.and(b).unwrap();
    c.and(d).unwrap();
    assert!(up == bytes && down == bytes);
}
