//! `[tls]`: the certificate that clients are shown, and whether they must ask for it.

use std::path::PathBuf;

use super::section::{Report, Section};
use crate::tls::TlsFiles;

/// TLS as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where the certificate and its key are.
    pub files: TlsFiles,
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
    let files = TlsFiles {
        cert: cert?,
        key: key?,
        client_ca,
    };
    Some(TlsConfig { files, required })
}
