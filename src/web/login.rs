//! The way in, by the same passwords and the same counters of failures as the proxy's, and the way out.

use actix_web::cookie::Cookie;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use maud::html;
use multidb_actors::auth::{AuthenticationError, Identity, address_of};
use serde::Deserialize;

use super::guard::{Form, TOKEN, Visitor, cookie, cookie_name};
use super::layout::{Answer, Problem, bare};
use super::sessions::{Sessions, is_same, secret};
use super::{local_path, see};
use crate::http::Authenticator;

/// The path of the form.
pub(super) const PATH: &str = "/login";

/// What the form shows: what was typed, and why it was refused.
#[derive(Debug, Default)]
struct Attempt {
    user: String,
    next: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LoginQuery {
    next: Option<String>,
}

#[derive(Deserialize)]
struct LoginForm {
    user: String,
    password: String,
    token: String,
    next: Option<String>,
}

pub(super) fn routes(paths: &mut web::ServiceConfig) {
    paths.service(form).service(login).service(logout);
}

/// The path of the form, which leads on to this path.
pub(super) fn path_before(path: &str) -> String {
    match path {
        "/" | "/instances" => PATH.to_owned(),
        path => format!("{PATH}?next={}", super::text::encoded(path)),
    }
}

#[get("/login")]
async fn form(
    request: HttpRequest,
    visitor: Option<Visitor>,
    query: web::Query<LoginQuery>,
) -> HttpResponse {
    let next = query.into_inner().next;
    if visitor.is_some() {
        return see(next.as_deref().and_then(local_path).unwrap_or("/instances"));
    }
    let attempt = Attempt {
        next,
        ..Attempt::default()
    };
    show(&request, StatusCode::OK, &attempt)
}

/// The form, with a token that its cookie has too: another site cannot log its reader in as somebody else.
fn show(request: &HttpRequest, status: StatusCode, attempt: &Attempt) -> HttpResponse {
    let is_secure = request.app_config().secure();
    let name = form_cookie(is_secure);
    let token = request.cookie(name).map(|cookie| cookie.value().to_owned());
    let token =
        token.filter(|token| token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit()));
    let token = token.unwrap_or_else(secret);
    let body = html! {
        h1 { "multidb" }
        @if let Some(error) = &attempt.error {
            p.problem role="alert" { (error) }
        }
        form.login method="post" action=(PATH) {
            input type="hidden" name=(TOKEN) value=(token);
            @if let Some(next) = &attempt.next {
                input type="hidden" name="next" value=(next);
            }
            label for="user" { "User" }
            input #user name="user" value=(attempt.user) autocomplete="username" autocapitalize="none"
                spellcheck="false" required autofocus[attempt.user.is_empty()];
            label for="password" { "Password" }
            input #password name="password" type="password" autocomplete="current-password" required
                autofocus[!attempt.user.is_empty()];
            button.primary type="submit" { "Log in" }
        }
        p.note { "The user and the password are those of connections. A restart of the daemon ends all logins." }
    };
    HttpResponse::build(status)
        .cookie(cookie(name, token, is_secure))
        .content_type("text/html; charset=utf-8")
        .body(bare("Log in", &body).into_string())
}

fn form_cookie(is_secure: bool) -> &'static str {
    if is_secure {
        "__Host-multidb-login"
    } else {
        "multidb-login"
    }
}

#[post("/login")]
async fn login(
    request: HttpRequest,
    fields: web::Form<LoginForm>,
    authenticator: web::Data<Authenticator>,
    sessions: web::Data<Sessions>,
) -> Answer {
    let LoginForm {
        user,
        password,
        token,
        next,
    } = fields.into_inner();
    let is_secure = request.app_config().secure();
    let expected = request.cookie(form_cookie(is_secure));
    if !expected.is_some_and(|expected| is_same(expected.value(), &token)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the form is too old, or cookies are off",
        )
        .with_hint("Open the login page again, with cookies on."));
    }
    let peer = request.peer_addr().map(|peer| peer.to_string());
    let address = address_of(&peer.unwrap_or_default());
    let name = user.clone();
    let checked = web::block(move || {
        let method = authenticator.method();
        method.check_password(&address, &name, &password)
    });
    let checked = checked.await.map_err(|error| {
        tracing::error!(%error, "a password was not checked");
        let message = "the password was not checked";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    match checked {
        Ok(identity) => Ok(begin(&request, &sessions, &identity, next.as_deref())),
        Err(error) => {
            let status = match error {
                AuthenticationError::TooManyFailures { .. } => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::UNAUTHORIZED,
            };
            let attempt = Attempt {
                user,
                next,
                error: Some(error.to_string()),
            };
            Ok(show(&request, status, &attempt))
        }
    }
}

/// Begins a session, and leads on to the page that was asked for.
fn begin(
    request: &HttpRequest,
    sessions: &Sessions,
    identity: &Identity,
    next: Option<&str>,
) -> HttpResponse {
    let mut response = see(next.and_then(local_path).unwrap_or("/instances"));
    // Trusted clients need no session.
    if let Some(user) = &identity.user {
        tracing::info!(user = identity.name, "logged in to the web page");
        let is_secure = request.app_config().secure();
        let secret = sessions.begin(&identity.name, user);
        let cookie = cookie(cookie_name(is_secure), secret, is_secure);
        add_cookie(&mut response, cookie);
    }
    response
}

#[post("/logout")]
async fn logout(
    request: HttpRequest,
    visitor: Visitor,
    _form: Form,
    sessions: web::Data<Sessions>,
) -> HttpResponse {
    let is_secure = request.app_config().secure();
    let name = cookie_name(is_secure);
    if let Some(cookie) = request.cookie(name) {
        sessions.end(cookie.value());
    }
    tracing::info!(user = visitor.name, "logged out of the web page");
    let mut response = see(PATH);
    let mut ended = cookie(name, String::new(), is_secure);
    ended.make_removal();
    add_cookie(&mut response, ended);
    response
}

/// A cookie of ours is a valid header.
fn add_cookie(response: &mut HttpResponse, cookie: Cookie<'_>) {
    if let Err(error) = response.add_cookie(&cookie) {
        tracing::error!(%error, "a cookie was not set");
    }
}
