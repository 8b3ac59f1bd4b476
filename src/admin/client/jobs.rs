//! A job, followed to its end.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, AdminClient, AdminError, accepted, decode, whole};
use crate::control::model::JobView;

/// The daemon repeats a job's status every second; one that is silent for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl AdminClient {
    /// Follows a job until it has ended, and reports each status as it comes; returns the last one.
    ///
    /// The job goes on where the future is dropped.
    pub async fn follow_job(
        &self,
        id: u64,
        mut on_status: impl FnMut(&JobView),
    ) -> Result<JobView, AdminError> {
        let path = format!("/v1/jobs/{id}/events");
        let opened = self.open(Method::GET, &path, whole(Bytes::new()));
        let (response, _carrier) = self.in_time(opened).await??;
        let mut stream = accepted(response).await?.into_body();
        let mut buffer = BytesMut::new();
        while let Some(frame) = timeout(SILENCE_MAX, stream.frame()).await.unwrap_or(None) {
            let frame = frame.map_err(|error| AdminError::Broken(error.into()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let status: JobView = decode(&path, &line)?;
                on_status(&status);
                if status.is_ended() {
                    return Ok(status);
                }
            }
            if buffer.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Err(AdminError::Broken(
            "the events of the job stopped before its end".into(),
        ))
    }
}
