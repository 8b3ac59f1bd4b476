//! Authentication of the author of a request: by a name and a password (Basic authentication, RFC 7617), or by a token
//! (RFC 6750).

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::Header;
use actix_web::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use actix_web_httpauth::headers::authorization::{Authorization, Basic};
use jiff::Timestamp;
use multidb_actors::auth::{AuthenticationError, Identity, Scope, TokenError, address_of, tokens};
use multidb_actors::connection::Method;

use super::connections;
use crate::admin::server::{caller, failure::Failure};
use crate::control::Control;

/// The challenge by which browsers ask for a password.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="multidb", charset="UTF-8""#);

/// Knows the users, as the proxy's connections do.
pub struct Authenticator {
    method: Method,
    /// The user that a client without a name counts as, where all are trusted.
    default_user: String,
}

impl Authenticator {
    /// Authenticates by this method.
    pub fn new(method: Method, default_user: String) -> Self {
        Self {
            method,
            default_user,
        }
    }

    /// Whether it asks for no password.
    pub(super) fn trusts(&self) -> bool {
        matches!(self.method, Method::Trust)
    }

    /// The method by which clients authenticate.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The user that a client without a name counts as, where all are trusted.
    pub(crate) fn default_user(&self) -> &str {
        &self.default_user
    }
}

/// Middleware that authenticates the caller of a request, or answers with 401.
pub(super) async fn authenticate(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match identify(&mut request).await {
        Ok((identity, scope)) => {
            connections::authenticated(&request);
            let control = request.app_data::<web::Data<Control>>().cloned();
            if let Some(control) = control {
                caller::set(&request, control.caller(&identity).limited_to(scope));
            }
            let answered = next.call(request).await?;
            Ok(answered.map_into_left_body())
        }
        Err(failure) => {
            let mut response = failure.error_response();
            if failure.status_code() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
            }
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

async fn identify(request: &mut ServiceRequest) -> Result<(Identity, Scope), Failure> {
    let authenticator = request.app_data::<web::Data<Authenticator>>().cloned();
    let authenticator = authenticator.ok_or_else(not_authenticated)?;
    if let Some(token) = bearer_token(request) {
        return check_token(&authenticator.method, token);
    }
    let Ok(credentials) = Authorization::<Basic>::parse(request) else {
        return match &authenticator.method {
            Method::Trust => Ok((Identity::trusted(&authenticator.default_user), Scope::Admin)),
            Method::Scram { .. } => Err(not_authenticated()),
        };
    };
    let credentials = credentials.into_scheme();
    let peer = request.peer_addr().map(|peer| peer.to_string());
    let address = address_of(&peer.unwrap_or_default());
    let checked = web::block(move || {
        let password = credentials.password().unwrap_or_default();
        let method = &authenticator.method;
        method.check_password(&address, credentials.user_id(), password)
    });
    let checked = checked.await.map_err(|error| {
        tracing::error!(%error, "a password was not checked");
        not_authenticated()
    })?;
    let identity = checked.map_err(refused)?;
    Ok((identity, Scope::Admin))
}

/// The token of a request. The scheme's name may be in any case (RFC 9110, 11.1).
fn bearer_token(request: &ServiceRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then_some(token.trim())
}

fn check_token(method: &Method, token: &str) -> Result<(Identity, Scope), Failure> {
    let checked = match method {
        // No user has tokens.
        Method::Trust => Err(TokenError::Unknown),
        Method::Scram { users, .. } => tokens::check(&users.borrow(), token, Timestamp::now()),
    };
    checked.map_err(|error| {
        let code = match error {
            TokenError::Malformed => "malformed_token",
            TokenError::Unknown => "unknown_token",
            TokenError::Expired { .. } => "expired_token",
        };
        Failure::new(StatusCode::UNAUTHORIZED, code, error.to_string())
    })
}

fn not_authenticated() -> Failure {
    Failure::new(
        StatusCode::UNAUTHORIZED,
        "not_authenticated",
        "a user and a password, or a token, are needed",
    )
}

fn refused(error: AuthenticationError) -> Failure {
    let failure = |status| Failure::new(status, error.code(), error.to_string());
    match error {
        AuthenticationError::TooManyFailures { wait } => {
            failure(StatusCode::TOO_MANY_REQUESTS).retry_after(wait)
        }
        _ => failure(StatusCode::UNAUTHORIZED),
    }
}
