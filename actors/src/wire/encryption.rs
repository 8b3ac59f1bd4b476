//! The encryption requests that may precede a startup packet.

use super::error::WireError;
use super::startup::{ProtocolVersion, StartupRequest};

/// The encryption requests that a connection has made: each is allowed once.
///
/// Without the limit a client could repeat them for ever and hold a connection that never logs in
/// (CVE-2026-6479).
#[derive(Debug, Default, Clone, Copy)]
pub struct EncryptionRequests {
    /// An SSLRequest was made.
    ssl: bool,
    /// A GSSENCRequest was made.
    gss: bool,
}

impl EncryptionRequests {
    /// Whether there was none yet: only then may a client begin with TLS.
    pub fn none_yet(self) -> bool {
        !self.ssl && !self.gss
    }

    /// The client began with TLS, which counts as its SSLRequest.
    pub fn begun_directly(&mut self) {
        self.ssl = true;
    }

    /// Admits a request, given the bytes that were read beyond it.
    ///
    /// A client waits for the answer to an encryption request, so bytes that are there already may
    /// be an attacker's (CVE-2021-23214, CVE-2021-3935). All other requests are admitted.
    pub fn admit(&mut self, request: &StartupRequest, rest: &[u8]) -> Result<(), WireError> {
        let (seen, name, version) = match request {
            StartupRequest::Ssl => (&mut self.ssl, "SSL", ProtocolVersion::SSL_REQUEST),
            StartupRequest::GssEnc => (
                &mut self.gss,
                "GSSAPI encryption",
                ProtocolVersion::GSSENC_REQUEST,
            ),
            StartupRequest::Cancel(_) | StartupRequest::Startup(_) => return Ok(()),
        };
        if std::mem::replace(seen, true) {
            // As in Postgres, the second one counts as a startup packet of that version.
            return Err(WireError::UnsupportedProtocol { version });
        }
        if !rest.is_empty() {
            return Err(WireError::EarlyData { request: name });
        }
        Ok(())
    }
}
