//! A dump, sent to the job that imports it.

use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::{AdminClient, AdminError, accepted, collect, decode};
use crate::control::model::JobView;

/// The size of a piece.
const PIECE_BYTES: usize = 128 << 10;
/// The pieces that are read ahead.
const PIECES_MAX: usize = 4;

impl AdminClient {
    /// Sends a dump to a job, and returns when the daemon has all of it or the job has ended.
    ///
    /// Where the dump cannot be read, or the future is dropped, the job gets no end of it and fails. The thread that
    /// reads it may then wait for its next bytes as long as the process lives.
    pub async fn send_dump(
        &self,
        job: u64,
        dump: impl Read + Send + 'static,
    ) -> Result<JobView, AdminError> {
        let path = format!("/v1/jobs/{job}/upload");
        let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
        let failure = Arc::new(Mutex::new(None));
        let read_failure = failure.clone();
        // Not tokio's, whose end would wait for the next bytes of a terminal or a pipe.
        thread::spawn(move || read(dump, &sender, &read_failure));
        let frames = stream::poll_fn(move |context| pieces.poll_recv(context));
        let body = StreamBody::new(frames).boxed();
        let opened = self.open(Method::PUT, &path, body).await;
        let failure = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(error) = failure {
            return Err(AdminError::Dump(error));
        }
        let (response, _connection) = opened?;
        let answer = collect(accepted(response).await?.into_body()).await?;
        decode(&path, &answer)
    }
}

/// An error of reading the dump.
type Failure = Mutex<Option<io::Error>>;

fn read(mut dump: impl Read, sender: &mpsc::Sender<io::Result<Frame<Bytes>>>, failure: &Failure) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read = match dump.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(Frame::data(Bytes::from(piece)))
            }
            Err(error) => {
                let kind = error.kind();
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(kind.into())
            }
        };
        let is_last = read.is_err();
        if sender.blocking_send(read).is_err() || is_last {
            return;
        }
    }
}
