//! Dumps that clients send: each job that imports one waits for the request that carries it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use multidb_store::{JobFailure, JobId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::access::{Action, Caller, authorize};
use super::jobs::view;
use super::model::JobView;
use super::{Control, ControlError};
use crate::import::{Sent, UploadSender};
use crate::jobs::WorkError;

/// How long a job that runs waits for a client that sends its dump.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The dumps that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<JobId, Expected>>);

/// A dump that is to be sent.
#[derive(Debug)]
struct Expected {
    sender: UploadSender,
    /// Tells the job that its client is there. It is closed where the job has given up.
    arrival: oneshot::Sender<()>,
}

/// The arrival of the client that sends a job's dump.
#[derive(Debug)]
pub(super) struct Arrival(oneshot::Receiver<()>);

impl Uploads {
    /// A dump that is to be sent to a job, whose number is said once it has one.
    pub(super) fn expect(sender: UploadSender) -> (impl FnOnce(&Self, JobId), Arrival) {
        let (arrival, arrived) = oneshot::channel();
        let add = |uploads: &Self, job| {
            let mut expected = uploads.0.lock().unwrap_or_else(PoisonError::into_inner);
            expected.retain(|_, expected| !expected.arrival.is_closed());
            expected.insert(job, Expected { sender, arrival });
        };
        (add, Arrival(arrived))
    }

    /// Takes the sender of a job's dump, once.
    fn claim(&self, job: JobId) -> Option<UploadSender> {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Expected { sender, arrival } = expected.remove(&job)?;
        arrival.send(()).ok().map(|()| sender)
    }
}

impl Arrival {
    /// Waits for the client.
    pub(super) async fn wait(self, cancelled: &CancellationToken) -> Result<(), WorkError> {
        tokio::select! {
            arrived = tokio::time::timeout(CLIENT_TIMEOUT, self.0) => match arrived {
                Ok(Ok(())) => Ok(()),
                _ => Err(WorkError::Failed(not_sent())),
            },
            () = cancelled.cancelled() => Err(WorkError::Cancelled),
        }
    }
}

fn not_sent() -> JobFailure {
    JobFailure {
        code: "dump_not_sent".to_owned(),
        message: format!(
            "no client has sent the dump within {}",
            humantime::format_duration(CLIENT_TIMEOUT)
        ),
        detail: None,
        hint: Some(
            "Import it again; the client must stay until it has sent all of the dump.".to_owned(),
        ),
    }
}

impl Control {
    /// Hands the dump of a job over to it, and returns once the job has all of it or has ended.
    ///
    /// The body ends early where it has an error or the future is dropped; the job then fails.
    pub async fn send_dump<E>(
        &self,
        caller: &Caller,
        id: JobId,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<JobView, ControlError> {
        let mut status = self.deps.jobs.subscribe(id)?;
        authorize(caller, Action::Change, &*status.borrow(), "change jobs")?;
        let sender = self.uploads.claim(id);
        let sender = sender.ok_or(ControlError::NoDumpExpected(id))?;
        tracing::info!(job = %id, %caller, "a client sends the dump of a job");
        let sent = tokio::select! {
            sent = sender.send_all(body) => sent,
            // It may not read at all, and the client may say nothing.
            _ = status.wait_for(|job| job.state.is_ended()) => Sent::NotNeeded,
        };
        tracing::info!(job = %id, ?sent, "the dump of a job was sent");
        if sent == Sent::CutOff {
            return Err(ControlError::DumpIncomplete(id));
        }
        let job = self.deps.jobs.get(id)?;
        Ok(view(&job))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::import::Upload;

    #[test]
    fn dump_is_claimed_once_and_not_after_its_job_gave_up() {
        let uploads = Uploads::default();
        let sender = || Upload::new(PathBuf::from("-"), None, None).1;
        let job = JobId::from_number;
        let (add, arrival) = Uploads::expect(sender());
        assert!(uploads.claim(job(1)).is_none());
        add(&uploads, job(1));
        assert!(uploads.claim(job(1)).is_some());
        assert!(uploads.claim(job(1)).is_none());
        drop(arrival);
        let (add, given_up) = Uploads::expect(sender());
        add(&uploads, job(2));
        drop(given_up);
        let (add, _arrival) = Uploads::expect(sender());
        add(&uploads, job(3));
        assert_eq!(uploads.0.lock().unwrap().len(), 1);
        assert!(uploads.claim(job(2)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn job_whose_client_does_not_come_fails() {
        let (_add, arrival) = Uploads::expect(Upload::new(PathBuf::from("-"), None, None).1);
        let waited = arrival.wait(&CancellationToken::new()).await;
        let Err(WorkError::Failed(failure)) = waited else {
            panic!("{waited:?}");
        };
        let told = format!("{}: {}. {:?}", failure.code, failure.message, failure.hint);
        assert_eq!(
            told,
            "dump_not_sent: no client has sent the dump within 1m. Some(\"Import it again; the client must stay \
             until it has sent all of the dump.\")"
        );
    }
}
