//! The files of TLS: the certificate that clients are shown, its key, and the authorities whose
//! clients are known by their certificates.
//!
//! They are read again at SIGHUP and when one of them changes. What cannot be used is told in the log,
//! and what was read before stays.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multidb_actors::connection::{ALPN, TlsServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::reload::WatchedFiles;

/// Where the files are, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// They do not belong together.
    #[error("the certificate {cert} and the key {key} cannot be used together")]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads all files.
    ///
    /// # Errors
    ///
    /// One of them is missing, damaged or open to others, or they do not belong together.
    pub fn load(&self) -> Result<TlsServer, TlsError> {
        let chain = certificates(&self.cert)?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(fault(&self.cert, "contains no certificate in PEM"));
        };
        refuse_open_key(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| fault(&self.key, format!("is no private key in PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |source| TlsError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match &self.client_ca {
            Some(authorities) => {
                builder.with_client_cert_verifier(client_verifier(authorities, provider)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsServer::new(Arc::new(config), &leaf))
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }
}

/// A client may show a certificate; one that does must show a good one.
fn client_verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        let added = roots.add(authority);
        added.map_err(|error| fault(path, format!("contains no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let built = builder.allow_unauthenticated().build();
    built.map_err(|error| fault(path, format!("cannot be used: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| fault(path, format!("cannot be read as PEM: {error}")))
}

/// A private key that others can read is refused, by Postgres' own rule (its documentation, "Secure TCP/IP
/// Connections with SSL"): 0600, or 0640 if it belongs to root.
fn refuse_open_key(path: &Path) -> Result<(), TlsError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error: io::Error| fault(path, format!("cannot be read: {error}")))?;
    let allowed = if metadata.uid() == 0 { 0o640 } else { 0o600 };
    if metadata.mode() & 0o777 & !allowed != 0 {
        let message = format!(
            "the private key is open to others, as its mode {:o} says; run chmod {allowed:o} on it",
            metadata.mode() & 0o777
        );
        return Err(fault(path, message));
    }
    Ok(())
}

fn fault(path: &Path, message: impl Into<String>) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        message: message.into(),
    }
}

/// Shows new clients what the files say, for as long as anybody listens.
pub async fn keep_fresh(
    watched: WatchedFiles,
    files: TlsFiles,
    server: watch::Sender<Arc<TlsServer>>,
) {
    let refresh = || match files.load() {
        Ok(loaded) => {
            tracing::info!(cert = %files.cert.display(), "certificate read again");
            server.send_replace(Arc::new(loaded));
        }
        Err(error) => tracing::error!(
            error = multidb_store::error_chain(&error),
            "certificate was not read again, clients are shown the one before"
        ),
    };
    watched.keep_fresh(&server, refresh).await;
}
