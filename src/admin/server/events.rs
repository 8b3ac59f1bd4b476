//! The events of a job: a line of JSON for each status, or server-sent events for browsers (WHATWG HTML, 9.2).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL};
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use multidb_store::JobId;

use super::Service;
use super::document::Problems;
use super::failure::Failure;
use crate::admin::api::NumberPath;
use crate::control::model::JobView;
use crate::control::{Caller, JobUpdates};

/// The longest silence of a job's events. A client that hung up is noticed by the next one.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The most streams of one user at a time. The administrator has no limit.
const STREAMS_MAX: usize = 16;

/// The open streams of each user.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// One open stream, which counts until it is dropped.
struct OpenStream {
    streams: Streams,
    user: String,
}

/// The form of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    ServerSent,
}

impl Streams {
    /// A stream of this caller; none where it has as many as it may.
    fn open(&self, caller: &Caller) -> Result<Option<OpenStream>, Failure> {
        let Caller::User(user) = caller else {
            return Ok(None);
        };
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(user.name.clone()).or_default();
        if *open >= STREAMS_MAX {
            let message = format!("user \"{}\" follows {STREAMS_MAX} jobs already", user.name);
            let refused = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message);
            return Err(refused.retry_after(HEARTBEAT));
        }
        *open += 1;
        Ok(Some(OpenStream {
            streams: self.clone(),
            user: user.name.clone(),
        }))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut streams = self
            .streams
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.user) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                streams.remove(&self.user);
            }
        }
    }
}

/// Follows a job
///
/// Its status at each change, and at least each second, until it has ended. With `Accept: text/event-stream` they are
/// events of the type `job`, and the last one is of the type `end`.
#[utoipa::path(
    params(NumberPath),
    operation_id = "job_events",
    tag = "jobs",
    responses(
        (
            status = 200,
            description = "The statuses.",
            content((JobView = "application/x-ndjson"), (String = "text/event-stream"))
        ),
        Problems
    )
)]
#[get("/v1/jobs/{id}/events")]
pub(super) async fn events(
    path: web::Path<NumberPath>,
    request: HttpRequest,
    streams: web::Data<Streams>,
    caller: Caller,
    control: Service,
) -> Result<HttpResponse, Failure> {
    let updates = control.follow_job(&caller, JobId::from_number(path.id))?;
    let open = streams.open(&caller)?;
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let is_browser = accept.is_some_and(|accept| accept.contains("text/event-stream"));
    let (form, media_type) = if is_browser {
        (Form::ServerSent, "text/event-stream")
    } else {
        (Form::Lines, "application/x-ndjson")
    };
    let statuses = statuses(updates, open, form);
    Ok(HttpResponse::Ok()
        .content_type(media_type)
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(statuses))
}

/// The statuses, the first one at once; the last one is that of the job's end.
fn statuses(
    updates: JobUpdates,
    open: Option<OpenStream>,
    form: Form,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    /// The statuses that come next.
    enum Next {
        Now(JobUpdates),
        Later(JobUpdates),
        None,
    }
    stream::unfold((Next::Now(updates), open), move |(next, open)| async move {
        let mut updates = match next {
            Next::Now(updates) => updates,
            Next::Later(mut updates) => {
                // Without a change, the last status is repeated.
                if let Ok(false) = tokio::time::timeout(HEARTBEAT, updates.changed()).await {
                    return None;
                }
                updates
            }
            Next::None => return None,
        };
        let status = updates.latest();
        let next = if status.is_ended() {
            Next::None
        } else {
            Next::Later(updates)
        };
        Some((event(&status, form), (next, open)))
    })
}

fn event(status: &JobView, form: Form) -> Result<Bytes, serde_json::Error> {
    // JSON has no end of a line but between its values.
    let json = serde_json::to_string(status)?;
    let event = match form {
        Form::Lines => format!("{json}\n"),
        Form::ServerSent => {
            let kind = if status.is_ended() { "end" } else { "job" };
            format!("event: {kind}\ndata: {json}\n\n")
        }
    };
    Ok(event.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CallingUser;

    fn user(name: &str) -> Caller {
        Caller::User(CallingUser {
            name: name.to_owned(),
            admin: false,
            read_only: false,
            projects: None,
        })
    }

    #[test]
    fn user_has_so_many_streams_and_others_theirs() {
        let streams = Streams::default();
        let alice = user("alice");
        let mut open: Vec<_> = (0..STREAMS_MAX)
            .map(|_| streams.open(&alice).unwrap())
            .collect();
        let refused = streams.open(&alice).err().unwrap();
        assert_eq!(refused.code(), "too_many_streams");
        assert!(streams.open(&user("bob")).is_ok());
        assert!(streams.open(&Caller::Administrator).is_ok());
        open.pop();
        assert!(streams.open(&alice).is_ok());
        drop(open);
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
