//! The API over the network: what the admin socket serves, for authenticated users.
//!
//! | path | serves |
//! | --- | --- |
//! | `/healthz` | whether the daemon answers, to anybody |
//! | `/v1/` | the API of [`admin`](crate::admin), with the rights of the user |
//!
//! | module | owns |
//! | --- | --- |
//! | `authenticate` | who the author of a request is |
//! | `browsers` | what other origins' pages cannot make a browser do |

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, HttpServer, get, web};
use rustls::ServerConfig;

use crate::admin::server as api;
use crate::control::Control;
use crate::tls::LiveCertificate;

mod authenticate;
mod browsers;

use self::browsers::Hosts;

pub use self::authenticate::Authenticator;

/// A client that has not sent its request's head by then is disconnected.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after this time.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The most connections at the same time. Others wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;
/// The most TLS handshakes at the same time, which computes.
const HANDSHAKES_MAX: usize = 16;
/// The most passwords that are checked at the same time, since each takes milliseconds.
const PASSWORDS_AT_ONCE: usize = 2;
/// The connections that the system queues.
const BACKLOG: u32 = 1024;

/// TLS, as clients of the API see it.
pub struct Tls {
    /// Its configuration.
    pub config: ServerConfig,
    /// The certificate that the configuration shows.
    pub certificate: Arc<LiveCertificate>,
}

/// Serves the API on these addresses, until the handle is told to stop. Without TLS it is HTTP, which the
/// configuration allows on loopback alone.
///
/// # Errors
///
/// An address cannot be listened on.
pub fn serve(
    addresses: &[SocketAddr],
    tls: Option<Tls>,
    control: Control,
    authenticator: Authenticator,
) -> io::Result<ServerHandle> {
    let hosts = if authenticator.trusts() {
        Hosts::Own(tls.as_ref().map(|tls| Arc::clone(&tls.certificate)))
    } else {
        Hosts::Any
    };
    let hosts = web::Data::new(hosts);
    let control = web::Data::new(control);
    let authenticator = web::Data::new(authenticator);
    let mut server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(browsers::refuse_foreign))
            .app_data(authenticator.clone())
            .app_data(hosts.clone())
            .service(healthz)
            .service(
                web::scope("")
                    .wrap(from_fn(authenticate::authenticate))
                    .configure(|paths| api::routes(paths, control.clone())),
            )
            .default_service(web::to(api::failure::no_such_path))
    })
    .workers(1)
    .worker_max_blocking_threads(PASSWORDS_AT_ONCE)
    .max_connections(CONNECTIONS_MAX)
    .max_connection_rate(HANDSHAKES_MAX)
    .backlog(BACKLOG)
    .client_request_timeout(REQUEST_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .disable_signals();
    for address in addresses {
        let listener = listen(*address)?;
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

/// A listener whose error names the address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// For load balancers: it says nothing but that the daemon answers.
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}
