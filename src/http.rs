//! The API over the network: the API of the admin socket, for authenticated users.
//!
//! | path | serves |
//! | --- | --- |
//! | `/healthz` | whether the daemon answers, without authentication |
//! | `/v1/openapi.json` | the description of the API, without authentication: it tells nothing of this daemon |
//! | `/v1/hooks/github`, `/v1/hooks/gitlab` | webhooks, which prove themselves by a secret |
//! | `/v1/` | the API of [`admin`](crate::admin), with the rights of the user |
//! | everything else | the web page, see [`web`](crate::web) |
//!
//! | module | owns |
//! | --- | --- |
//! | `authenticate` | the authentication of requests |
//! | `bodies` | the reading of bodies |
//! | `browsers` | the refusal of requests from pages of other origins |
//! | `connections` | the open connections, of which no address holds all |
//! | `hooks` | the webhooks |
//! | `idempotency` | requests that are carried out once |
//! | `problem` | the form of errors |

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::ContentType;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, HttpServer, get, web};
use rustls::ServerConfig;

use crate::admin::server as api;
use crate::admin::server::document::{Methods, Paths, document};
use crate::config::HttpConfig;
use crate::control::Control;
use crate::handed_over::HandedOver;
use crate::tls::LiveCertificate;
use crate::web as page;

mod authenticate;
mod bodies;
mod browsers;
mod connections;
mod hooks;
mod idempotency;
mod problem;

use self::browsers::Hosts;
use self::connections::Connections;
use self::hooks::Hooks;

pub use self::authenticate::Authenticator;
pub(crate) use self::connections::authenticated;
pub use self::idempotency::KeyedRequests;

/// A client that has not sent its request's head by then is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The most connections at the same time, with connections in their TLS handshake, and connections that are being
/// closed for others. More wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;
/// A client that has not completed its TLS handshake by then is disconnected. All connections may be in it at once: one
/// thread computes, so that more do not compute more, and so clients that are silent cannot hold others up for longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// The most passwords that are checked at the same time, since each takes milliseconds.
const PASSWORDS_AT_ONCE: usize = 2;
/// The connections that the system queues.
const BACKLOG: u32 = 1024;

/// The description of the API, as it is sent.
struct Described(web::Bytes);

/// TLS, as clients of the API see it.
pub struct Tls {
    /// Its configuration.
    pub config: ServerConfig,
    /// The certificate that the configuration shows.
    pub certificate: Arc<LiveCertificate>,
}

/// Serves the API on the configured addresses, which systemd may hand over, until the handle is told to stop. Without TLS it is HTTP, which the
/// configuration allows on loopback alone.
///
/// # Errors
///
/// An address cannot be listened on.
pub fn serve(
    configured: &HttpConfig,
    tls: Option<Tls>,
    control: Control,
    authenticator: Authenticator,
    requests: KeyedRequests,
    handed_over: &mut HandedOver,
) -> io::Result<ServerHandle> {
    let hosts = if authenticator.trusts() {
        Hosts::Own(tls.as_ref().map(|tls| Arc::clone(&tls.certificate)))
    } else {
        Hosts::Any
    };
    let hosts = web::Data::new(hosts);
    let (methods, described) = describe()?;
    let requests = web::Data::new(requests);
    let hooks = Hooks::new(configured.hooks.clone(), authenticator.method().clone());
    let hooks = web::Data::new(hooks);
    let control = web::Data::new(control);
    let authenticator = web::Data::new(authenticator);
    let sessions = web::Data::new(page::Sessions::new());
    let connections = Connections::default();
    let mut server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(browsers::refuse_foreign))
            .wrap(from_fn(problem::as_problems))
            .app_data(authenticator.clone())
            .app_data(hosts.clone())
            .app_data(requests.clone())
            .app_data(hooks.clone())
            .app_data(described.clone())
            .app_data(methods.clone())
            .app_data(control.clone())
            .configure(|paths| open_paths(&mut Paths::new(paths)))
            .configure(|paths| {
                page::routes(
                    paths,
                    control.clone(),
                    authenticator.clone(),
                    sessions.clone(),
                );
            })
            .service(
                web::scope("")
                    .wrap(from_fn(idempotency::once))
                    .wrap(from_fn(bodies::read))
                    .wrap(from_fn(authenticate::authenticate))
                    .configure(|paths| api::routes(paths, control.clone(), methods.clone())),
            )
            .default_service(web::to(api::failure::no_such_path))
    })
    .on_connect(move |io, known| connections.begin(io, known))
    .workers(1)
    .worker_max_blocking_threads(PASSWORDS_AT_ONCE)
    .max_connections(CONNECTIONS_MAX)
    .max_connection_rate(CONNECTIONS_MAX)
    .tls_handshake_timeout(HANDSHAKE_TIMEOUT)
    .backlog(BACKLOG)
    .client_request_timeout(REQUEST_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .disable_signals();
    for address in &configured.listen {
        let listener = match handed_over.tcp_listener(*address) {
            Some(listener) => listener,
            None => bind(*address)?,
        };
        listener.set_nonblocking(true)?;
        server = match &tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls.config.clone())?,
            None => server.listen(listener)?,
        };
    }
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// The methods of each path, and the description of all. The document itself takes megabytes, and ends here.
fn describe() -> io::Result<(web::Data<Methods>, web::Data<Described>)> {
    let document = document(open_paths);
    let text = serde_json::to_vec(&document)?;
    Ok((
        web::Data::new(Methods::of(&document)),
        web::Data::new(Described(text.into())),
    ))
}

/// A listener whose error names the address.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// The paths that need no user.
fn open_paths(paths: &mut Paths<'_>) {
    paths
        .service(healthz)
        .service(openapi)
        .service(hooks::github)
        .service(hooks::gitlab);
}

/// Says that the daemon answers, and nothing else
#[utoipa::path(
    operation_id = "healthz",
    tag = "daemon",
    security(()),
    responses((status = 200, body = String, content_type = "text/plain", description = "It answers."))
)]
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// Describes this API
#[utoipa::path(
    operation_id = "openapi",
    tag = "daemon",
    security(()),
    responses((status = 200, body = Object, description = "The description, by OpenAPI 3.1."))
)]
#[get("/v1/openapi.json")]
async fn openapi(described: web::Data<Described>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(described.0.clone())
}
