//! All sockets that the daemon listens on: for clients of Postgres, of the API, and of the admin socket.

use actix_web::dev::ServerHandle;
use anyhow::Context as _;
use multidb_actors::connection::{Method, Tls};
use multidb_actors::critical::CriticalParts;

use super::Services;
use super::security::{secure, secure_http};
use crate::admin::server as admin;
use crate::config::Config;
use crate::control::Control;
use crate::handed_over::HandedOver;
use crate::http::{self, Authenticator, KeyedRequests};
use crate::proxy::Proxy;

/// The sockets, bound. The admin socket and the API are served already.
pub(super) struct Listening {
    pub(super) proxy: Proxy,
    /// What the proxy's clients get.
    pub(super) tls: Option<Tls>,
    /// The API over the network, if the configuration has it, and the admin socket.
    pub(super) servers: Vec<ServerHandle>,
}

impl Listening {
    /// Binds the sockets that systemd does not hand over.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, a certificate cannot be used, or systemd hands over an address that the configuration does
    /// not name.
    pub(super) fn begin(
        config: &Config,
        services: &Services,
        control: &Control,
        method: &Method,
        critical: &CriticalParts,
        mut handed_over: HandedOver,
    ) -> anyhow::Result<Self> {
        let proxy = Proxy::bind(&config.listen, &mut handed_over)?;
        let tls = secure(config, critical)?;
        let admin = admin::serve(&config.admin_socket, control.clone())
            .with_context(|| format!("cannot listen on {}", config.admin_socket.display()))?;
        let mut servers = Vec::new();
        if let Some(configured) = &config.http {
            let certificate = configured.certificate.as_ref();
            let tls = certificate.map(|certificate| secure_http(certificate, critical));
            let served = http::serve(
                configured,
                tls.transpose()?,
                control.clone(),
                Authenticator::new(method.clone(), config.auth.default_user.clone()),
                KeyedRequests::open(&services.layout, services.clock.clone()),
                &mut handed_over,
            );
            servers.push(served.context("cannot listen for the API")?);
        }
        servers.push(admin);
        handed_over.refuse_others()?;
        Ok(Self {
            proxy,
            tls,
            servers,
        })
    }
}
