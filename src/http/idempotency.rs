//! Requests that are carried out once, however often they are sent: requests with an `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer to the first one is given to the others. The answers are in memory, so a restart forgets them; a
//! creation that is repeated afterwards finds that its instance exists.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::body::{MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::bodies;
use crate::admin::api::ErrorInfo;
use crate::admin::server::BODY_BYTES_MAX;
use crate::admin::server::document::Methods;
use crate::admin::server::failure::Failure;
use crate::control::Caller;

/// The header.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key.
const KEY_LENGTH_MAX: usize = 255;
/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The answers that are remembered for one user. Beyond that, the oldest one goes.
const ANSWERS_OF_USER_MAX: usize = 256;
/// The bytes of all answers. Beyond that, the oldest ones go.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A longer answer is not remembered.
const ONE_ANSWER_BYTES_MAX: usize = 256 << 10;
/// The longest answer, as of the commands.
const COLLECTED_BYTES_MAX: usize = 64 << 20;
/// The requests with a key that are carried out for one user at a time: they go on when their clients leave.
const IN_PROGRESS_MAX: usize = 32;

/// The remembered answers. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<HashMap<Key, Remembered>>>);

/// A user's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    user: String,
    key: String,
}

/// The method, path, query and body of a request, and the rights of its caller, hashed.
type Fingerprint = [u8; 32];

#[derive(Debug)]
struct Remembered {
    fingerprint: Fingerprint,
    since: Instant,
    /// None while the request is carried out.
    answer: Option<RememberedAnswer>,
}

#[derive(Debug, Clone)]
struct RememberedAnswer {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    /// For the form that errors have here.
    error: Option<ErrorInfo>,
    body: Bytes,
}

/// The decision about a request.
#[derive(Debug)]
enum Admission {
    /// It is carried out.
    First,
    /// Its answer is known.
    Repeated(RememberedAnswer),
}

/// Forgets a key whose request got no answer that is remembered.
struct Unanswered {
    answers: Answers,
    key: Option<Key>,
}

/// Middleware that carries a request with a key out once.
pub(super) async fn once(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if !has_effect(&request) || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    match admit(&mut request).await {
        Err(failure) => Ok(request.into_response(HttpResponse::from_error(failure))),
        Ok((Admission::Repeated(answer), _)) => Ok(request.into_response(answer.response())),
        // It goes on when its client disconnects, since the client may come back for the answer.
        Ok((Admission::First, unanswered)) => {
            let answering = actix_rt::spawn(answer(request, next, unanswered));
            answering
                .await
                .unwrap_or_else(|panic| Err(actix_web::error::ErrorInternalServerError(panic)))
        }
    }
}

/// Whether it may change something. A method that its path does not have is refused regardless of its key.
fn has_effect(request: &ServiceRequest) -> bool {
    let method = request.method();
    let methods = request.app_data::<web::Data<Methods>>();
    let is_known = methods.is_some_and(|methods| methods.of_path(request.path()).contains(method));
    is_known && matches!(*method, Method::POST | Method::DELETE)
}

async fn admit(request: &mut ServiceRequest) -> Result<(Admission, Unanswered), Failure> {
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(Caller::User(user)), Some(answers)) =
        (caller, request.app_data::<web::Data<Answers>>().cloned())
    else {
        return Err(invalid_key("is for authenticated users"));
    };
    let key = key(request)?;
    let body = bodies::read_within(request.take_payload(), BODY_BYTES_MAX).await?;
    let rights = [u8::from(user.admin), u8::from(user.read_only)];
    let mut hash = Sha256::new();
    for part in [
        request.method().as_str().as_bytes(),
        request.uri().to_string().as_bytes(),
        &rights,
        &body,
    ] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    request.set_payload(Payload::from(body));
    let key = Key {
        user: user.name,
        key,
    };
    let admission = answers.admit(&key, hash.finalize().into())?;
    let is_first = matches!(admission, Admission::First);
    let unanswered = Unanswered {
        answers: answers.as_ref().clone(),
        key: is_first.then_some(key),
    };
    Ok((admission, unanswered))
}

fn key(request: &ServiceRequest) -> Result<String, Failure> {
    let mut keys = request.headers().get_all(IDEMPOTENCY_KEY);
    let key = keys.next().and_then(|key| key.to_str().ok());
    match key {
        Some(key) if keys.next().is_none() && is_key(key) => Ok(key.to_owned()),
        _ => Err(invalid_key(
            "must be one, of 1 to 255 ASCII characters without spaces",
        )),
    }
}

fn is_key(text: &str) -> bool {
    (1..=KEY_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn invalid_key(why: &str) -> Failure {
    let message = format!("Idempotency-Key {why}");
    Failure::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", message)
}

async fn answer(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    unanswered: Unanswered,
) -> Result<ServiceResponse, Error> {
    let answered = next.call(request).await?;
    let status = answered.status();
    let error = answered.response().extensions().get::<ErrorInfo>().cloned();
    // A request whose error may pass is tried again.
    let is_final = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
    let (request, response) = answered.into_parts();
    let (head, body) = response.into_parts();
    let body = match to_bytes_limited(body, COLLECTED_BYTES_MAX).await {
        Ok(Ok(body)) => body,
        _ => {
            return Err(actix_web::error::ErrorInternalServerError(
                "the answer is too long",
            ));
        }
    };
    let answer = RememberedAnswer {
        status,
        content_type: head.headers().get(CONTENT_TYPE).cloned(),
        error,
        body: body.clone(),
    };
    if is_final && body.len() <= ONE_ANSWER_BYTES_MAX {
        unanswered.remember(answer);
    }
    let response = head.set_body(body).map_into_boxed_body();
    Ok(ServiceResponse::new(request, response))
}

impl Answers {
    fn admit(&self, key: &Key, fingerprint: Fingerprint) -> Result<Admission, Failure> {
        let mut answers = self.lock();
        answers.retain(|_, remembered| {
            remembered.answer.is_none() || remembered.since.elapsed() < REMEMBERED_FOR
        });
        let of_user = answers.iter().filter(|(other, _)| other.user == key.user);
        let in_progress = of_user.filter(|(_, one)| one.answer.is_none()).count();
        match answers.entry(key.clone()) {
            Entry::Occupied(entry) if entry.get().fingerprint != fingerprint => Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request",
            )),
            Entry::Occupied(entry) => match &entry.get().answer {
                Some(answer) => Ok(Admission::Repeated(answer.clone())),
                None => Err(Failure::new(
                    StatusCode::CONFLICT,
                    "request_in_progress",
                    "the first request with this Idempotency-Key is being carried out",
                )
                .retry_after(Duration::from_secs(1))),
            },
            Entry::Vacant(_) if in_progress >= IN_PROGRESS_MAX => Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                format!("{IN_PROGRESS_MAX} requests are being carried out for this user"),
            )
            .retry_after(Duration::from_secs(1))),
            Entry::Vacant(entry) => {
                entry.insert(Remembered {
                    fingerprint,
                    since: Instant::now(),
                    answer: None,
                });
                Ok(Admission::First)
            }
        }
    }

    fn remember(&self, key: &Key, answer: RememberedAnswer) {
        let mut answers = self.lock();
        if let Some(remembered) = answers.get_mut(key) {
            remembered.answer = Some(answer);
        }
        let of_user = answers
            .keys()
            .filter(|other| other.user == key.user)
            .count();
        if of_user > ANSWERS_OF_USER_MAX {
            forget_oldest(&mut answers, |other| other.user == key.user);
        }
        let bytes = |answers: &HashMap<Key, Remembered>| -> usize {
            let bodies = answers.values().filter_map(|one| one.answer.as_ref());
            bodies.map(|answer| answer.body.len()).sum()
        };
        while bytes(&answers) > ANSWER_BYTES_MAX && forget_oldest(&mut answers, |_| true) {}
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there was one.
fn forget_oldest(answers: &mut HashMap<Key, Remembered>, which: impl Fn(&Key) -> bool) -> bool {
    let answered = answers
        .iter()
        .filter(|(key, one)| which(key) && one.answer.is_some());
    let oldest = answered.min_by_key(|(_, one)| one.since);
    let oldest = oldest.map(|(key, _)| key.clone());
    oldest.is_some_and(|key| answers.remove(&key).is_some())
}

impl RememberedAnswer {
    fn response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header(("idempotency-replayed", "true"));
        if let Some(content_type) = self.content_type {
            response.insert_header((CONTENT_TYPE, content_type));
        }
        let mut response = response.body(self.body);
        if let Some(error) = self.error {
            response.extensions_mut().insert(error);
        }
        response
    }
}

impl Unanswered {
    fn remember(mut self, answer: RememberedAnswer) {
        if let Some(key) = self.key.take() {
            self.answers.remember(&key, answer);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.answers.lock().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str, key: &str) -> Key {
        Key {
            user: user.to_owned(),
            key: key.to_owned(),
        }
    }

    fn answer(bytes: usize) -> RememberedAnswer {
        RememberedAnswer {
            status: StatusCode::OK,
            content_type: None,
            error: None,
            body: vec![0; bytes].into(),
        }
    }

    fn code(admission: Result<Admission, Failure>) -> String {
        match admission {
            Ok(Admission::First) => "first".to_owned(),
            Ok(Admission::Repeated(_)) => "repeated".to_owned(),
            Err(failure) => failure.code().to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn key_stands_for_one_request_of_one_user_for_a_day() {
        let answers = Answers::default();
        let (alice, bob) = (key("alice", "k"), key("bob", "k"));
        assert_eq!(code(answers.admit(&alice, [1; 32])), "first");
        assert_eq!(code(answers.admit(&alice, [1; 32])), "request_in_progress");
        assert_eq!(code(answers.admit(&bob, [1; 32])), "first");
        answers.remember(&alice, answer(1));
        assert_eq!(code(answers.admit(&alice, [1; 32])), "repeated");
        assert_eq!(
            code(answers.admit(&alice, [2; 32])),
            "idempotency_key_reused"
        );
        drop(Unanswered {
            answers: answers.clone(),
            key: Some(bob.clone()),
        });
        assert_eq!(code(answers.admit(&bob, [2; 32])), "first");
        tokio::time::advance(REMEMBERED_FOR).await;
        assert_eq!(code(answers.admit(&alice, [2; 32])), "first");
        for number in 1..IN_PROGRESS_MAX {
            let key = key("alice", &number.to_string());
            assert_eq!(code(answers.admit(&key, [0; 32])), "first");
        }
        let more = answers.admit(&key("alice", "more"), [0; 32]);
        assert_eq!(code(more), "too_many_requests");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_a_user_forgets_its_own_answers_first() {
        let answers = Answers::default();
        let kept = key("bob", "k");
        assert_eq!(code(answers.admit(&kept, [0; 32])), "first");
        answers.remember(&kept, answer(1));
        for number in 0..2 * ANSWERS_OF_USER_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            let key = key("alice", &number.to_string());
            assert_eq!(code(answers.admit(&key, [0; 32])), "first");
            answers.remember(&key, answer(1024));
        }
        assert_eq!(answers.lock().len(), ANSWERS_OF_USER_MAX + 1);
        assert_eq!(code(answers.admit(&kept, [0; 32])), "repeated");
        for number in 0..100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            let key = key(&number.to_string(), "k");
            assert_eq!(code(answers.admit(&key, [0; 32])), "first");
            answers.remember(&key, answer(ONE_ANSWER_BYTES_MAX));
        }
        let all = answers.lock();
        let bodies = all.values().filter_map(|one| one.answer.as_ref());
        let bytes: usize = bodies.map(|answer| answer.body.len()).sum();
        assert!(bytes <= ANSWER_BYTES_MAX, "{bytes}");
    }
}
