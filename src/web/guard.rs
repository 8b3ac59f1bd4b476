//! The checks of each request to the page: it is of a logged-in user, its form is of a page of ours, and its answer
//! carries the headers that keep other origins out of it.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use multidb_actors::auth::Identity;
use multidb_actors::connection;

use super::layout::Problem;
use super::sessions::{Found, Sessions, Use, is_same};
use super::{login, see};
use crate::control::{Caller, Control};
use crate::http::Authenticator;

/// The field of each form with the token of its session.
pub(super) const TOKEN: &str = "token";
/// The header of the script's requests.
pub(super) const LIVE: HeaderName = HeaderName::from_static("x-multidb-live");

/// What a browser may do with a page: nothing that the page does not need, and nothing of other origins.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// Who a request is of.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// The user's name.
    pub(super) name: String,
    /// The user, as the author of requests.
    pub(super) caller: Caller,
    /// The token that the forms of its pages carry.
    pub(super) token: String,
    /// Whether nobody is asked for a password.
    pub(super) is_trusted: bool,
}

/// The fields of a form whose token was right.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(Rc<BTreeMap<String, String>>);

impl Form {
    /// A field; an empty one is none.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        let value = self.0.get(field).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }
}

/// A browser that has not sent its form by then is refused.
const FORM_TIMEOUT: Duration = Duration::from_secs(20);

/// Middleware around all pages.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = match admit(&mut request).await {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(response) => request.into_response(response),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Says who the request is of and which form it brings, or how it is answered instead.
async fn admit(request: &mut ServiceRequest) -> Result<(), HttpResponse> {
    let is_public = request.path() == login::PATH || request.path().starts_with("/assets/");
    let visitor = identify(request).map_err(HttpResponse::new)?;
    let is_form = *request.method() == Method::POST;
    let Some(visitor) = visitor else {
        return if is_public {
            Ok(())
        } else {
            Err(login_needed(request))
        };
    };
    crate::http::authenticated(request);
    // The login has a token of its own.
    if is_form && request.path() != login::PATH {
        let form = read_form(request).await?;
        let sent = form.get(TOKEN).unwrap_or_default();
        if !is_same(sent, &visitor.token) {
            return Err(forged().error_response());
        }
        request.extensions_mut().insert(form);
    }
    request.extensions_mut().insert(visitor);
    Ok(())
}

/// The fields of a request's form, whatever its token.
pub(super) async fn read_form(request: &mut ServiceRequest) -> Result<Form, HttpResponse> {
    let fields = request.extract::<web::Form<Vec<(String, String)>>>();
    let Ok(fields) = tokio::time::timeout(FORM_TIMEOUT, fields).await else {
        let message = "the form was sent too slowly";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, message).error_response());
    };
    let fields = fields.map_err(|error| {
        let message = format!("the form cannot be read: {error}");
        Problem::new(StatusCode::BAD_REQUEST, message).error_response()
    })?;
    Ok(Form(Rc::new(fields.into_inner().into_iter().collect())))
}

/// Who the request is of; nobody without a session.
fn identify(request: &ServiceRequest) -> Result<Option<Visitor>, StatusCode> {
    let data = (
        request.app_data::<web::Data<Authenticator>>(),
        request.app_data::<web::Data<Sessions>>(),
        request.app_data::<web::Data<Control>>(),
    );
    let (Some(authenticator), Some(sessions), Some(control)) = data else {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let visitor = |identity: &Identity, token: &str, is_trusted| Visitor {
        name: identity.name.clone(),
        caller: control.caller(identity),
        token: token.to_owned(),
        is_trusted,
    };
    match authenticator.method() {
        connection::Method::Trust => {
            let identity = Identity::trusted(authenticator.default_user());
            Ok(Some(visitor(&identity, sessions.trusted_token(), true)))
        }
        connection::Method::Scram { users, .. } => {
            let usage = match request.headers().contains_key(LIVE) {
                true => Use::Ignored,
                false => Use::Counts,
            };
            let cookie = request.cookie(cookie_name(request.app_config().secure()));
            let found =
                cookie.and_then(|cookie| sessions.find(cookie.value(), &users.borrow(), usage));
            Ok(found.map(|Found { identity, token }| visitor(&identity, &token, false)))
        }
    }
}

/// The name or address in a Host header, without its port.
pub(super) fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

fn forged() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "the form is not of this session, so nothing was done",
    )
    .with_hint("Go back, reload the page and try again: the login may have ended meanwhile.")
}

fn login_needed(request: &ServiceRequest) -> HttpResponse {
    let is_live = request.headers().contains_key(LIVE);
    if is_live || *request.method() != Method::GET {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "you are not logged in")
            .with_hint("Log in, and try again.");
        return problem.error_response();
    }
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    see(&login::path_before(path))
}

/// The cookie of a session. Under TLS, browsers take one of this name from this host alone.
pub(super) fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure {
        "__Host-multidb"
    } else {
        "multidb"
    }
}

/// A cookie that no script sees and no form of another site sends.
pub(super) fn cookie(name: &'static str, value: String, is_secure: bool) -> Cookie<'static> {
    Cookie::build(name, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_secure)
        .finish()
}

impl FromRequest for Visitor {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let visitor = request.extensions().get::<Self>().cloned();
        let nobody = || Problem::new(StatusCode::UNAUTHORIZED, "you are not logged in").into();
        ready(visitor.ok_or_else(nobody))
    }
}

impl FromRequest for Form {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let form = request.extensions().get::<Self>().cloned();
        ready(form.ok_or_else(|| forged().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_told_from_its_port() {
        for (host, expected) in [
            ("localhost:6433", "localhost"),
            ("db.internal", "db.internal"),
            ("[::1]:6433", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), expected);
        }
    }
}
