//! Webhooks of GitHub and GitLab: a closed pull request removes its instances.
//!
//! A delivery proves itself by the project's secret: GitHub signs the body with it, GitLab sends it. Nothing of the body
//! is read before. A delivery that was carried out is not carried out again, so that an old one does not remove the
//! instances of a pull request that was opened again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, post, web};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use multidb_actors::auth::{Identity, Scope};
use multidb_actors::connection::Method;
use multidb_store::InstanceName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use super::bodies;
use crate::admin::server::document::Problems;
use crate::admin::server::failure::Failure;
use crate::config::HookConfig;
use crate::control::model::InstanceFilter;
use crate::control::{Caller, Control};

/// The longest body. Bodies about pull requests have some ten kilobytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The deliveries that are remembered.
const DELIVERIES_MAX: usize = 4096;
/// An older event is refused: the deliveries that were carried out may be forgotten, as by a restart.
const EVENT_AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// The configured webhooks, and the deliveries that were carried out.
pub(super) struct Hooks {
    configured: Vec<HookConfig>,
    method: Method,
    carried_out: Mutex<VecDeque<[u8; 32]>>,
}

/// The instances that a delivery removes, in the background.
#[derive(Debug, Serialize, ToSchema)]
struct RemovalView {
    /// Their names.
    removing: Vec<String>,
}

/// A pull request, or a merge request of GitLab, that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closed {
    repository: String,
    number: u64,
    /// If the delivery says it.
    at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct GithubBody {
    action: Option<String>,
    pull_request: Option<GithubPullRequest>,
    repository: Option<GithubRepository>,
}

#[derive(Deserialize)]
struct GithubPullRequest {
    number: u64,
    closed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct GithubRepository {
    full_name: String,
}

#[derive(Deserialize)]
struct GitlabBody {
    object_kind: Option<String>,
    object_attributes: Option<GitlabMergeRequest>,
    project: Option<GitlabProject>,
}

#[derive(Deserialize)]
struct GitlabMergeRequest {
    iid: Option<u64>,
    action: Option<String>,
}

#[derive(Deserialize)]
struct GitlabProject {
    path_with_namespace: String,
}

impl Hooks {
    /// The configured ones, for users that are authenticated by this method.
    pub(super) fn new(configured: Vec<HookConfig>, method: Method) -> Self {
        Self {
            configured,
            method,
            carried_out: Mutex::default(),
        }
    }

    /// The hooks whose secret proves a delivery.
    fn proved(&self, proves: impl Fn(&[u8]) -> bool) -> Result<Vec<&HookConfig>, Failure> {
        let mut proved = Vec::new();
        for hook in &self.configured {
            // A small file of the administrator's.
            match hook.read_secret() {
                Ok(secret) if proves(&secret) => proved.push(hook),
                Ok(_) => {}
                Err(error) => tracing::error!(error, "a webhook has no secret"),
            }
        }
        if proved.is_empty() {
            let message = "the delivery is not signed by a configured secret";
            return Err(Failure::new(
                StatusCode::UNAUTHORIZED,
                "bad_signature",
                message,
            ));
        }
        Ok(proved)
    }

    /// Notes a delivery, unless it was noted before.
    fn note(&self, body: &Bytes) -> Result<(), Failure> {
        let digest: [u8; 32] = Sha256::digest(body).into();
        let mut carried_out = self
            .carried_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if carried_out.contains(&digest) {
            let message = "this delivery was carried out before";
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "delivery_replayed",
                message,
            ));
        }
        carried_out.truncate(DELIVERIES_MAX - 1);
        carried_out.push_front(digest);
        Ok(())
    }

    /// The user of a hook, with no more rights than are needed.
    fn caller(&self, control: &Control, hook: &HookConfig) -> Result<Caller, Failure> {
        let user = match &self.method {
            Method::Trust => None,
            Method::Scram { users, .. } => match users.borrow().get(&hook.user) {
                Some(user) => Some(user.clone()),
                None => {
                    let message =
                        format!("the user \"{}\" of the webhook does not exist", hook.user);
                    return Err(Failure::new(StatusCode::FORBIDDEN, "no_such_user", message));
                }
            },
        };
        let identity = Identity {
            name: hook.user.clone(),
            user,
        };
        Ok(control.caller(&identity).limited_to(Scope::Use))
    }

    /// Takes a delivery: reads it, and carries out its event if a hook's secret `proves` its body.
    async fn take(
        &self,
        control: &Control,
        payload: web::Payload,
        proves: impl Fn(&[u8], &[u8]) -> bool,
        closed: fn(&[u8]) -> Result<Option<Closed>, Failure>,
    ) -> Result<HttpResponse, Failure> {
        let payload: Payload = payload.into_inner();
        let body = bodies::read_within(payload, BODY_BYTES_MAX).await?;
        let proved = self.proved(|secret| proves(secret, &body))?;
        self.remove(control, proved, closed(&body)?, &body).await
    }

    async fn remove(
        &self,
        control: &Control,
        hooks: Vec<&HookConfig>,
        closed: Option<Closed>,
        body: &Bytes,
    ) -> Result<HttpResponse, Failure> {
        let Some(closed) = closed else {
            return Ok(accepted(Vec::new()));
        };
        let hook = hooks
            .into_iter()
            .find(|hook| hook.repository == closed.repository);
        let Some(hook) = hook else {
            let message = format!("no webhook is configured for \"{}\"", closed.repository);
            return Err(Failure::new(StatusCode::NOT_FOUND, "no_such_hook", message));
        };
        let age = closed.at.map(|at| Timestamp::now().duration_since(at));
        if age.is_some_and(|age| age > EVENT_AGE_MAX) {
            let message = "the pull request was closed more than 24 hours ago";
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "stale_delivery",
                message,
            ));
        }
        let caller = self.caller(control, hook)?;
        let filter = InstanceFilter {
            project: Some(hook.project.clone()),
            ..InstanceFilter::default()
        };
        let all = control.list_instances(&caller, filter).await?;
        let names = all.iter().filter_map(|one| one.name.parse().ok());
        let names: Vec<InstanceName> = names
            .filter(|name| hook.instances.matches(name, closed.number))
            .collect();
        self.note(body)?;
        tracing::info!(project = %hook.project, number = closed.number, instances = names.len(), "a pull request was closed");
        let removing = names.iter().map(ToString::to_string).collect();
        // GitHub and GitLab wait for ten seconds.
        actix_rt::spawn(remove_all(control.clone(), caller, names));
        Ok(accepted(removing))
    }
}

async fn remove_all(control: Control, caller: Caller, names: Vec<InstanceName>) {
    for name in names {
        match control.remove_instance(&caller, &name).await {
            Ok(_) => {}
            Err(error) if error.code() == "no_such_instance" => {}
            Err(error) => {
                tracing::error!(instance = %name, error = multidb_store::error_chain(&error), "the instance of a closed pull request was not removed");
            }
        }
    }
}

fn accepted(removing: Vec<String>) -> HttpResponse {
    HttpResponse::Accepted().json(RemovalView { removing })
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Removes the instances of a pull request that was closed at GitHub
///
/// The configuration has the secret, the repository and the names of the instances (`[http.hooks.PROJECT]`).
#[utoipa::path(
    operation_id = "github_hook",
    tag = "hooks",
    security(()),
    request_body(content = Object, description = "The delivery, signed by X-Hub-Signature-256."),
    responses((status = 202, body = RemovalView, description = "They are being removed."), Problems)
)]
#[post("/v1/hooks/github")]
pub(super) async fn github(
    request: HttpRequest,
    payload: web::Payload,
    hooks: web::Data<Hooks>,
    control: web::Data<Control>,
) -> Result<HttpResponse, Failure> {
    let signature = header(&request, "x-hub-signature-256");
    let signature = signature.strip_prefix("sha256=");
    let signature = signature.and_then(|digits| hex::decode(digits).ok());
    let proves = |secret: &[u8], body: &[u8]| {
        let mac = Hmac::<Sha256>::new_from_slice(secret).ok();
        let mac = mac.map(|mac| mac.chain_update(body));
        let (Some(mac), Some(signature)) = (mac, &signature) else {
            return false;
        };
        mac.verify_slice(signature).is_ok()
    };
    let closed: fn(&[u8]) -> _ = match header(&request, "x-github-event") {
        "pull_request" => closed_at_github,
        _ => |_| Ok(None),
    };
    hooks.take(&control, payload, proves, closed).await
}

/// Removes the instances of a merge request that was closed or merged at GitLab
///
/// The configuration has the secret, the repository and the names of the instances (`[http.hooks.PROJECT]`).
#[utoipa::path(
    operation_id = "gitlab_hook",
    tag = "hooks",
    security(()),
    request_body(content = Object, description = "The delivery, with the secret as X-Gitlab-Token."),
    responses((status = 202, body = RemovalView, description = "They are being removed."), Problems)
)]
#[post("/v1/hooks/gitlab")]
pub(super) async fn gitlab(
    request: HttpRequest,
    payload: web::Payload,
    hooks: web::Data<Hooks>,
    control: web::Data<Control>,
) -> Result<HttpResponse, Failure> {
    let token: [u8; 32] = Sha256::digest(header(&request, "x-gitlab-token")).into();
    let proves = |secret: &[u8], _: &[u8]| {
        let secret: [u8; 32] = Sha256::digest(secret).into();
        secret.ct_eq(&token).into()
    };
    hooks
        .take(&control, payload, proves, closed_at_gitlab)
        .await
}

fn malformed(error: &serde_json::Error) -> Failure {
    let mut failure = format!("the delivery is not understood: {error}");
    failure.push_str("; its content type must be application/json");
    Failure::new(StatusCode::BAD_REQUEST, "malformed_delivery", failure)
}

fn closed_at_github(body: &[u8]) -> Result<Option<Closed>, Failure> {
    let body: GithubBody = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let is_closed = body.action.as_deref() == Some("closed");
    Ok(match (body.pull_request, body.repository) {
        (Some(request), Some(repository)) if is_closed => Some(Closed {
            repository: repository.full_name,
            number: request.number,
            at: request.closed_at,
        }),
        _ => None,
    })
}

fn closed_at_gitlab(body: &[u8]) -> Result<Option<Closed>, Failure> {
    let body: GitlabBody = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let is_merge_request = body.object_kind.as_deref() == Some("merge_request");
    let (Some(request), Some(project)) = (body.object_attributes, body.project) else {
        return Ok(None);
    };
    let is_closed = matches!(request.action.as_deref(), Some("close" | "merge"));
    Ok(match request.iid {
        Some(number) if is_merge_request && is_closed => Some(Closed {
            repository: project.path_with_namespace,
            number,
            at: None,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn closed_requests_are_recognized_and_other_events_are_not() {
        let at_github = |action: &str| {
            let body = json!({
                "action": action,
                "number": 12,
                "pull_request": {"number": 12, "closed_at": "2026-05-01T12:00:00Z", "merged": true},
                "repository": {"full_name": "acme/shop"},
            });
            closed_at_github(body.to_string().as_bytes()).unwrap()
        };
        let closed = at_github("closed").unwrap();
        assert_eq!(
            (closed.repository.as_str(), closed.number),
            ("acme/shop", 12)
        );
        assert!(closed.at.is_some());
        assert_eq!(at_github("synchronize"), None);
        let at_gitlab = |kind: &str, action: Value| {
            let body = json!({
                "object_kind": kind,
                "object_attributes": {"iid": 12, "action": action},
                "project": {"path_with_namespace": "acme/shop"},
            });
            closed_at_gitlab(body.to_string().as_bytes()).unwrap()
        };
        for action in ["close", "merge"] {
            let closed = at_gitlab("merge_request", json!(action)).unwrap();
            assert_eq!(
                (closed.repository.as_str(), closed.number),
                ("acme/shop", 12)
            );
        }
        assert_eq!(at_gitlab("merge_request", json!("update")), None);
        assert_eq!(at_gitlab("issue", json!("close")), None);
        assert_eq!(at_gitlab("merge_request", Value::Null), None);
        for malformed in ["", "payload=%7B%7D", "[]", "{\"pull_request\": 1}"] {
            assert!(
                closed_at_github(malformed.as_bytes()).is_err(),
                "{malformed}"
            );
        }
    }

    #[test]
    fn delivery_is_carried_out_once_and_memory_is_bounded() {
        let hooks = Hooks::new(Vec::new(), Method::Trust);
        let body = |number: usize| Bytes::from(number.to_string());
        assert!(hooks.note(&body(0)).is_ok());
        assert_eq!(
            hooks.note(&body(0)).unwrap_err().code(),
            "delivery_replayed"
        );
        for number in 1..=DELIVERIES_MAX {
            assert!(hooks.note(&body(number)).is_ok());
        }
        assert_eq!(hooks.carried_out.lock().unwrap().len(), DELIVERIES_MAX);
    }
}
