//! Requests that are carried out once, however often they are sent: requests with an `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The answer to the first one is given to the others. It is durable before it is sent, so a client that comes back after a
//! restart has it. A request that the end of the daemon interrupted has no answer, and is carried out when it is sent again.
//!
//! | module | owns |
//! | --- | --- |
//! | `answers` | the remembered answers, and their bounds |
//! | `files` | the answers on disk |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::body::{MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use multidb_actors::observed_clock::ObservedClock;
use multidb_store::{Layout, error_chain};
use sha2::{Digest, Sha256};

use super::bodies;
use crate::admin::api::ErrorInfo;
use crate::admin::server::BODY_BYTES_MAX;
use crate::admin::server::document::Methods;
use crate::admin::server::failure::Failure;
use crate::control::Caller;

mod answers;
mod files;

use self::answers::{Admission, Answer, Answers, Fingerprint, Key};
use self::files::Files;

/// The header.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key.
const KEY_LENGTH_MAX: usize = 255;
/// The longest answer, as of the commands.
const COLLECTED_BYTES_MAX: usize = 64 << 20;

/// The requests with a key, and their answers. Clones share them.
#[derive(Clone)]
pub struct KeyedRequests(Arc<Inner>);

struct Inner {
    answers: Mutex<Answers>,
    /// None where they cannot be kept on disk.
    files: Option<Files>,
    clock: ObservedClock,
}

/// Forgets a key whose request got no answer that is remembered.
struct Unanswered {
    requests: KeyedRequests,
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
    let requests = request.app_data::<web::Data<KeyedRequests>>().cloned();
    let (Some(Caller::User(user)), Some(requests)) = (caller, requests) else {
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
    let admission = requests.admit(&key, hash.finalize().into())?;
    let is_first = matches!(admission, Admission::First);
    let unanswered = Unanswered {
        requests: requests.as_ref().clone(),
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
    let content_type = head.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    if let (true, Ok(text)) = (is_final, std::str::from_utf8(&body)) {
        let answer = Answer {
            status: status.as_u16(),
            content_type: content_type.map(ToOwned::to_owned),
            error,
            body: text.to_owned(),
        };
        unanswered.remember(answer).await;
    }
    let response = head.set_body(body).map_into_boxed_body();
    Ok(ServiceResponse::new(request, response))
}

impl KeyedRequests {
    /// Takes up the answers of the daemon before.
    pub fn open(layout: &Layout, clock: ObservedClock) -> Self {
        let mut answers = Answers::default();
        let files = match Files::open(layout) {
            Ok((files, read)) => {
                files.forget(answers.take_up(clock.now().observed, read));
                Some(files)
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    error,
                    "answers to requests with an Idempotency-Key are not kept over a restart"
                );
                None
            }
        };
        Self(Arc::new(Inner {
            answers: Mutex::new(answers),
            files,
            clock,
        }))
    }

    fn admit(&self, key: &Key, fingerprint: Fingerprint) -> Result<Admission, Failure> {
        let now = self.0.clock.now().observed;
        let mut answers = self.lock();
        let forgotten = answers.forget_old(now);
        if let Some(files) = &self.0.files {
            files.forget(forgotten);
        }
        answers.admit(now, key, fingerprint)
    }

    async fn remember(&self, key: &Key, answer: Answer) {
        let (answered, forgotten) = self.lock().remember(key, answer);
        let Some(files) = &self.0.files else {
            return;
        };
        match answered {
            Some(answered) => files.write(answered, forgotten).await,
            None => files.forget(forgotten),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        let answers = self.0.answers.lock();
        answers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    fn response(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = HttpResponse::build(status);
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
    async fn remember(mut self, answer: Answer) {
        if let Some(key) = self.key.take() {
            self.requests.remember(&key, answer).await;
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.requests.lock().forget(key);
        }
    }
}
