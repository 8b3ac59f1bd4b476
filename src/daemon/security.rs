//! TLS and the users, by files that are read again when they change.

use std::sync::Arc;

use anyhow::Context as _;
use multidb_actors::auth::Attempts;
use multidb_actors::connection::{Method, Tls};
use multidb_actors::critical::CriticalParts;
use multidb_store::Layout;
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::convert;
use crate::config::{AuthMethod, Certificate, Config};
use crate::http;
use crate::reload::WatchedFiles;
use crate::tls::{self, LiveCertificate, TlsFiles};
use crate::users::LiveUsers;

/// TLS by the configured files, which are read again when they change.
pub(super) fn secure(config: &Config, critical: &CriticalParts) -> anyhow::Result<Option<Tls>> {
    let Some(configured) = &config.tls else {
        return Ok(None);
    };
    let files = convert::tls_files(configured);
    let watched = WatchedFiles::new(files.paths())?;
    let server = files.load().context("cannot offer TLS")?;
    let (sender, server) = watch::channel(Arc::new(server));
    let fresh = tls::keep_fresh(watched, files, TlsFiles::load, sender);
    actix_rt::spawn(critical.watch("the reloading of certificates", fresh));
    Ok(Some(Tls {
        server,
        required: configured.required,
    }))
}

/// The configuration of TLS for the API over the network, by the configured files, which are read again when they
/// change.
pub(super) fn secure_http(
    certificate: &Certificate,
    critical: &CriticalParts,
) -> anyhow::Result<http::Tls> {
    let files = convert::certificate_files(certificate);
    let watched = WatchedFiles::new(files.paths())?;
    let loaded = files.load_certificate().context("cannot offer HTTPS")?;
    let (sender, loaded) = watch::channel(Arc::new(loaded));
    let fresh = tls::keep_fresh(watched, files, TlsFiles::load_certificate, sender);
    actix_rt::spawn(critical.watch("the reloading of the API's certificate", fresh));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot offer HTTPS")?;
    let certificate = Arc::new(LiveCertificate::new(loaded));
    Ok(http::Tls {
        config: builder
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone()),
        certificate,
    })
}

/// The method of authentication.
pub(super) struct Authentication {
    /// The method, as the connections use it.
    pub(super) method: Method,
    /// The users, which are read again when they change; none if clients are trusted.
    pub(super) users: Option<Arc<LiveUsers>>,
    /// The failed logins.
    pub(super) attempts: Attempts,
}

pub(super) fn authentication(
    config: &Config,
    layout: &Layout,
    critical: &CriticalParts,
) -> anyhow::Result<Authentication> {
    if config.auth.method == AuthMethod::Trust {
        return Ok(Authentication {
            method: Method::Trust,
            users: None,
            attempts: Attempts::default(),
        });
    }
    let watched = WatchedFiles::new(vec![config.auth.users_file.clone()])?;
    let users = LiveUsers::open(config.auth.clone()).context("cannot read the users")?;
    let users = Arc::new(users);
    // Before the file is watched, which ends when there is no receiver.
    let receiver = users.subscribe();
    if receiver.borrow().is_empty() {
        tracing::warn!("there are no users, no client can log in before multidb user add");
    }
    let watching = users.clone();
    let fresh = async move { watching.keep_fresh(watched).await };
    actix_rt::spawn(critical.watch("the reloading of users", fresh));
    let attempts = Attempts::default();
    Ok(Authentication {
        method: Method::Scram {
            users: receiver,
            secret: crate::mock_secret::load(layout)?,
            attempts: attempts.clone(),
        },
        users: Some(users),
        attempts,
    })
}

/// Without a handler SIGHUP ends the daemon.
pub(super) fn handle_hangups() -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    actix_rt::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP received, reading certificates and users");
        }
    });
    Ok(())
}
