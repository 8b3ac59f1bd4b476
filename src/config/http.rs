//! `[http]`: the API and the web page over the network.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::hooks::{self, HookConfig};
use super::listen::{ListenAddress, check_addresses};
use super::section::{Report, Section};
use super::server::AuthMethod;
use super::tls::TlsConfig;

/// The settings of the API over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The addresses.
    pub listen: Vec<SocketAddr>,
    /// The certificate, which is that of `[tls]` where `[http]` has none. Without one the addresses are loopback's.
    pub certificate: Option<Certificate>,
    /// The webhooks.
    pub hooks: Vec<HookConfig>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, followed by the intermediate certificates.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Reads the section, if it exists. Nothing listens without it.
pub(super) fn read(
    top: &mut Section,
    method: AuthMethod,
    tls: Option<&TlsConfig>,
    report: &mut Report,
) -> Option<HttpConfig> {
    let mut section = top.existing_section("http", report)?;
    let listen: Option<Vec<ListenAddress>> = section.required("listen", report);
    let cert: Option<PathBuf> = section.optional("cert", report);
    let key: Option<PathBuf> = section.optional("key", report);
    let missing = match (&cert, &key) {
        (Some(_), None) => Some("key"),
        (None, Some(_)) => Some("cert"),
        _ => None,
    };
    if let Some(missing) = missing {
        report.fault(
            section.key(missing),
            "is missing: a certificate and its key belong together",
        );
    }
    let hooks = section.existing_section("hooks", report);
    let hooks = hooks.map_or_else(Vec::new, |hooks| hooks::read(hooks, report));
    section.close(report);
    let listen = listen?;
    check_addresses("http.listen", &listen, report);
    let of_tls = || {
        let tls = tls?;
        Some(Certificate {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        })
    };
    let certificate = match (cert, key) {
        (Some(cert), Some(key)) => Some(Certificate { cert, key }),
        _ => of_tls(),
    };
    refuse_open(
        &listen,
        method,
        certificate.is_some() || missing.is_some(),
        report,
    );
    let tcp = listen.into_iter().filter_map(|address| match address {
        ListenAddress::Tcp(address) => Some(address),
        ListenAddress::Unix(path) => {
            let message = format!(
                "\"{}\" is a Unix socket; admin_socket is one that speaks HTTP",
                path.display()
            );
            report.fault("http.listen", message);
            None
        }
    });
    Some(HttpConfig {
        listen: tcp.collect(),
        certificate,
        hooks,
    })
}

/// Refuses passwords in plain text on a network, and access without any.
fn refuse_open(listen: &[ListenAddress], method: AuthMethod, has_tls: bool, report: &mut Report) {
    let Some(open) = listen.iter().find(|address| !address.is_local()) else {
        return;
    };
    if !has_tls {
        let message = format!(
            "\"{open}\" can be reached from other machines, so it needs TLS: set cert and key here or in [tls]"
        );
        report.fault("http.listen", message);
    }
    if method == AuthMethod::Trust {
        let message = format!(
            "\"{open}\" can be reached from other machines, and with auth.method = \"trust\" nobody is asked for a \
             password; \"scram-sha-256\" asks for one"
        );
        report.fault("http.listen", message);
    }
}
