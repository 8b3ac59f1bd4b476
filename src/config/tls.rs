//! `[tls]`: the certificate that clients are shown, and whether they must ask for it.

use std::path::PathBuf;

use super::section::{Report, Section};

/// TLS as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate in PEM, then those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether a client over TCP gets no session without TLS.
    pub required: bool,
}

/// Reads the section, if there is one.
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
