//! The relay against in-memory pipes.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;
use crate::sessions::SessionState;

const IDLE: &[u8] = b"Z\0\0\0\x05I";

/// The capacity of a pipe.
const PIPE_BYTES: usize = 64 << 10;

struct Session {
    client: DuplexStream,
    backend: DuplexStream,
    stats: Arc<SessionStats>,
    control: Rc<RelayControl>,
    relayed: tokio::task::JoinHandle<io::Result<End>>,
}

fn session() -> Session {
    let (client, mut near_client) = tokio::io::duplex(PIPE_BYTES);
    let (backend, mut near_backend) = tokio::io::duplex(PIPE_BYTES);
    let stats = Arc::new(SessionStats::default());
    let control = Rc::new(RelayControl::default());
    let relayed = tokio::task::spawn_local({
        let (stats, control) = (stats.clone(), control.clone());
        async move {
            let tail = Tail::default();
            relay(&mut near_client, &mut near_backend, &stats, tail, control).await
        }
    });
    Session {
        client,
        backend,
        stats,
        control,
        relayed,
    }
}

fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn bytes_of_any_amount_arrive_whole_in_both_directions() {
    local(async {
        let mut session = session();
        let up: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let down: Vec<u8> = (0..5_000_000u32).map(|i| (i >> 3) as u8).collect();
        let (mut client_in, mut client_out) = tokio::io::split(session.client);
        let (mut backend_in, mut backend_out) = tokio::io::split(session.backend);
        let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
        let (a, b, c, d) = tokio::join!(
            client_out.write_all(&up),
            backend_out.write_all(&down),
            backend_in.read_exact(&mut got_up),
            client_in.read_exact(&mut got_down),
        );
        a.and(b).unwrap();
        c.and(d).unwrap();
        assert!(got_up == up && got_down == down);
        assert_eq!(session.stats.from_client_bytes(), up.len() as u64);
        assert_eq!(session.stats.from_backend_bytes(), down.len() as u64);
        session.relayed.abort();
        session.control = Rc::default();
    });
}

#[test]
fn session_state_follows_the_end_of_the_backend_stream() {
    local(async {
        let mut session = session();
        session.backend.write_all(IDLE).await.unwrap();
        settle().await;
        assert_eq!(session.stats.state(), SessionState::Idle);
        session.client.write_all(b"Q").await.unwrap();
        settle().await;
        assert_eq!(session.stats.state(), SessionState::Active);
        session.backend.write_all(b"Z\0\0\0\x05T").await.unwrap();
        settle().await;
        assert_eq!(session.stats.state(), SessionState::IdleInTransaction);
    });
}

#[test]
fn idle_session_is_ended_with_an_error_and_a_terminate_message() {
    local(async {
        let mut session = session();
        session.backend.write_all(IDLE).await.unwrap();
        settle().await;
        session.control.request(EndRequest {
            reason: TerminationReason::IdleSession {
                limit: Duration::from_secs(1),
            },
            chunks: session.stats.chunks(),
        });
        let ended = session.relayed.await.unwrap().unwrap();
        assert!(matches!(
            ended,
            End::Ended(TerminationReason::IdleSession { .. })
        ));
        let mut last = Vec::new();
        session.client.read_to_end(&mut last).await.unwrap();
        let text = String::from_utf8_lossy(&last[IDLE.len()..]).into_owned();
        assert!(text.starts_with('E') && text.contains("57P05"), "{text}");
        let mut terminate = Vec::new();
        session.backend.read_to_end(&mut terminate).await.unwrap();
        assert_eq!(terminate, b"X\0\0\0\x04");
    });
}

#[test]
fn end_of_a_session_does_not_wait_for_a_client_that_does_not_read() {
    local(async {
        let mut session = session();
        let mut rows = vec![0; PIPE_BYTES];
        rows[PIPE_BYTES - IDLE.len()..].copy_from_slice(IDLE);
        session.backend.write_all(&rows).await.unwrap();
        while session.stats.state() != SessionState::Idle {
            tokio::task::yield_now().await;
        }
        session.control.request(EndRequest {
            reason: TerminationReason::IdleSession {
                limit: Duration::from_secs(1),
            },
            chunks: session.stats.chunks(),
        });
        let ended = session.relayed.await.unwrap().unwrap();
        assert!(matches!(
            ended,
            End::Ended(TerminationReason::IdleSession { .. })
        ));
        let mut terminate = Vec::new();
        session.backend.read_to_end(&mut terminate).await.unwrap();
        assert_eq!(terminate, b"X\0\0\0\x04");
    });
}

#[test]
fn session_used_since_the_decision_continues() {
    local(async {
        let mut session = session();
        session.backend.write_all(IDLE).await.unwrap();
        settle().await;
        let chunks = session.stats.chunks();
        session.client.write_all(b"Q").await.unwrap();
        session.control.request(EndRequest {
            reason: TerminationReason::IdleSession {
                limit: Duration::from_secs(1),
            },
            chunks,
        });
        settle().await;
        assert!(!session.relayed.is_finished());
        let mut passed = [0; 1];
        session.backend.read_exact(&mut passed).await.unwrap();
        assert_eq!(&passed, b"Q");
    });
}

#[test]
fn half_closed_client_still_gets_its_answer() {
    local(async {
        let mut session = session();
        session.client.write_all(b"Q").await.unwrap();
        session.client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        session.backend.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"Q");
        session.backend.write_all(b"answer").await.unwrap();
        drop(session.backend);
        let mut answer = Vec::new();
        session.client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        assert_eq!(session.relayed.await.unwrap().unwrap(), End::Closed);
    });
}

#[test]
fn end_of_the_backend_ends_the_session_after_its_last_bytes() {
    local(async {
        let mut session = session();
        session.backend.write_all(b"FATAL").await.unwrap();
        drop(session.backend);
        let mut last = Vec::new();
        session.client.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, b"FATAL");
        assert_eq!(session.relayed.await.unwrap().unwrap(), End::Closed);
    });
}

/// Waits until no more bytes pass, and asserts that no more passed than the buffers hold.
async fn until_blocked(count: impl Fn() -> u64) {
    settle().await;
    let mut passed = 0;
    while count() != passed {
        passed = count();
        settle().await;
    }
    // The pipe behind the relay, and its buffer.
    let held_max = PIPE_BYTES + BUFFER_BYTES;
    assert!(
        passed > 0 && passed <= held_max as u64,
        "{passed} were read"
    );
}

#[test]
fn client_that_does_not_read_holds_back_its_backend_but_can_still_send() {
    local(async {
        let mut session = session();
        let (mut backend_in, mut backend_out) = tokio::io::split(session.backend);
        let rows = vec![7; 64 << 20];
        let sending = tokio::task::spawn_local(async move { backend_out.write_all(&rows).await });
        until_blocked(|| session.stats.from_backend_bytes()).await;
        assert!(!sending.is_finished());
        session.client.write_all(b"cancel").await.unwrap();
        let mut word = [0; 6];
        backend_in.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"cancel");
        sending.abort();
    });
}

#[test]
fn backend_that_does_not_read_holds_back_its_client_but_can_still_send() {
    local(async {
        let mut session = session();
        let (mut client_in, mut client_out) = tokio::io::split(session.client);
        let rows = vec![7; 64 << 20];
        let sending = tokio::task::spawn_local(async move { client_out.write_all(&rows).await });
        until_blocked(|| session.stats.from_client_bytes()).await;
        assert!(!sending.is_finished());
        session.backend.write_all(b"error").await.unwrap();
        let mut word = [0; 5];
        client_in.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"error");
        sending.abort();
    });
}

#[test]
fn reader_of_single_bytes_gets_all_of_them_in_order() {
    local(async {
        let mut session = session();
        let rows: Vec<u8> = (0..200_000u32).map(|i| ((i * 31) >> 4) as u8).collect();
        let sent = rows.clone();
        let backend = tokio::task::spawn_local(async move {
            session.backend.write_all(&sent).await.unwrap();
        });
        for (at, expected) in rows.iter().enumerate() {
            assert_eq!(session.client.read_u8().await.unwrap(), *expected, "{at}");
        }
        backend.await.unwrap();
        assert_eq!(session.relayed.await.unwrap().unwrap(), End::Closed);
    });
}

/// A backend that has sent its last bytes, and whose socket then fails both ways.
struct EndedBackend {
    last: &'static [u8],
}

impl AsyncRead for EndedBackend {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.last.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buffer.put_slice(std::mem::take(&mut self.last));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EndedBackend {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

/// The bytes that a client with one query receives until its session ends.
async fn received_from(mut backend: impl AsyncRead + AsyncWrite + Unpin) -> Vec<u8> {
    let (mut client, mut near_client) = tokio::io::duplex(PIPE_BYTES);
    let query = b"a query that nobody reads";
    client.write_all(query).await.unwrap();
    let (stats, control) = (SessionStats::default(), Rc::new(RelayControl::default()));
    let tail = Tail::default();
    let ended = relay(&mut near_client, &mut backend, &stats, tail, control).await;
    assert_eq!(ended.unwrap(), End::Closed);
    drop(near_client);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    received
}

#[test]
fn backend_that_reads_no_more_ends_its_session_after_its_last_error() {
    local(async {
        let ended = EndedBackend { last: b"57P01" };
        assert_eq!(received_from(ended).await, b"57P01");
        // It hangs instead of an error.
        let (reader, _writer) = tokio::io::simplex(PIPE_BYTES);
        let hanging = tokio::io::join(reader, EndedBackend { last: b"" });
        assert_eq!(received_from(hanging).await, b"");
    });
}

#[test]
fn client_in_the_middle_of_an_answer_is_told_behind_it_why_its_server_stops() {
    const ROW: &[u8] = b"D\0\0\0\x06\0\0";
    local(async {
        let mut session = session();
        session.backend.write_all(IDLE).await.unwrap();
        session.backend.write_all(&ROW[..3]).await.unwrap();
        settle().await;
        let over = crate::instance::OverLimit::MaxInstanceBytes {
            exclusive_bytes: 2,
            limit_bytes: 1,
        };
        let reason = TerminationReason::OverLimit(over);
        session.control.end_with_server(reason);
        settle().await;
        session.backend.write_all(&ROW[3..]).await.unwrap();
        settle().await;
        assert!(!session.relayed.is_finished());
        drop(session.backend);
        assert_eq!(session.relayed.await.unwrap().unwrap(), End::Closed);
        let mut got = Vec::new();
        session.client.read_to_end(&mut got).await.unwrap();
        let rest = got.strip_prefix(&[IDLE, ROW].concat()[..]).unwrap();
        let text = String::from_utf8_lossy(rest).into_owned();
        assert!(text.starts_with('E') && text.contains("57P01"), "{text}");
    });
}
