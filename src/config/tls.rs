//! `[tls]`: the certificate, and whether TLS is required.

use std::path::PathBuf;

use super::section::{Report, Section};

/// The TLS settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by the intermediate certificates, in PEM.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients over TCP must use TLS.
    pub required: bool,
}

/// Reads the section, if it exists.
pub(super) fn read(top: &mut Section, report: &mut Report) -> Option<TlsConfig> {
    let mut section = top.existing_section("tls", report)?;
    let cert: Option<PathBuf> = section.required("cert", report);
    let key: Option<PathBuf> = section.required("key", report);
    let client_ca: Option<PathBuf> = section.optional("client_ca", report);
    let required = section.get("required", false, report);
    section.close(report);
    Some(TlsConfig {
        cert: cert?,
        key: key?,
        client_ca,
        required,
    })
}
