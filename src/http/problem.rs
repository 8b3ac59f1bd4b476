//! Errors in the form of RFC 9457, `application/problem+json`.
//!
//! The admin socket has a form of its own ([`ErrorBody`](crate::admin::api::ErrorBody)), which its clients rely on.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::admin::api::ErrorInfo;
use crate::admin::server::document::{PROBLEM_JSON, Problem};

/// Middleware that shows the errors of the API as problems.
pub(super) async fn as_problems(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let answered = next.call(request).await?;
    let status = answered.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let info = answered.response().extensions().get::<ErrorInfo>().cloned();
    let is_api = info.is_some() || answered.request().path().starts_with("/v1/");
    if !is_error || !is_api {
        return Ok(answered.map_into_left_body());
    }
    let (request, response) = answered.into_parts();
    let problem = problem(status, info.unwrap_or_default());
    let mut shown = HttpResponse::build(status)
        .content_type(PROBLEM_JSON)
        .json(problem);
    for (name, value) in response.headers() {
        if *name != CONTENT_TYPE && *name != CONTENT_LENGTH {
            shown.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(ServiceResponse::new(request, shown).map_into_right_body())
}

fn problem(status: StatusCode, info: ErrorInfo) -> Problem {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = match info.code.as_str() {
        "" => title.to_ascii_lowercase().replace(' ', "_"),
        code => code.to_owned(),
    };
    let message = match info.message.as_str() {
        "" => title.to_owned(),
        message => message.to_owned(),
    };
    Problem {
        kind: "about:blank".to_owned(),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: match info.detail {
            Some(more) => format!("{message}. {more}"),
            None => message,
        },
        code,
        hint: info.hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_says_all_that_the_error_does() {
        let info = ErrorInfo {
            code: "snapshot_in_use".to_owned(),
            message: "snapshot \"monday\" is in use".to_owned(),
            detail: Some("Instances cloned from it: \"a\".".to_owned()),
            hint: Some("Use --force.".to_owned()),
        };
        let shown = serde_json::to_value(problem(StatusCode::CONFLICT, info)).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "detail": "snapshot \"monday\" is in use. Instances cloned from it: \"a\".",
            "code": "snapshot_in_use",
            "hint": "Use --force.",
        });
        assert_eq!(shown, expected);
        let bare = problem(StatusCode::PAYLOAD_TOO_LARGE, ErrorInfo::default());
        assert_eq!(
            (bare.code.as_str(), bare.detail.as_str()),
            ("payload_too_large", "Payload Too Large")
        );
    }
}
