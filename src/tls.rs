//! The TLS files: the server's certificate, its key, and the authorities that sign client certificates.
//!
//! They are reloaded at SIGHUP and when one of them changes. If that fails, the log has the error and the
//! loaded files stay in use.

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

/// The most plaintext in one record, as in Postgres (`PQ_SEND_BUFFER_SIZE`). libpq reads no more of a record in
/// one call. Programs that then wait for the socket, such as `pg_basebackup` and all users of its
/// asynchronous functions, would never see the rest of a longer record.
const RECORD_BYTES_MAX: usize = 8192;
/// rustls includes the header in its limit.
const RECORD_HEADER_BYTES: usize = 5;

/// The paths of the files, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain: the server's own, then the intermediate ones.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities that sign client certificates.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or used.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// The key is not that of the certificate.
    #[error("the certificate {cert} and the key {key} cannot be used together")]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// The error of rustls.
        #[source]
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads all files.
    ///
    /// # Errors
    ///
    /// A file is missing, damaged or accessible to other users, or the key is not that of the certificate.
    pub fn load(&self) -> Result<TlsServer, TlsError> {
        let (config, leaf) = self.configure()?;
        Ok(TlsServer::new(Arc::new(config), &leaf))
    }

    /// The configuration of rustls, and the server's certificate.
    fn configure(&self) -> Result<(ServerConfig, CertificateDer<'static>), TlsError> {
        let chain = certificates(&self.cert)?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(fault(&self.cert, "contains no certificate in PEM"));
        };
        refuse_open_key(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| fault(&self.key, format!("is not a private key in PEM: {error}")))?;
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
        config.max_fragment_size = Some(RECORD_BYTES_MAX + RECORD_HEADER_BYTES);
        Ok((config, leaf))
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }
}

/// A client certificate is optional. One that is presented must be valid.
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

/// Refuses a private key that other users can read, by the rule of Postgres (its documentation, "Secure TCP/IP
/// Connections with SSL"): at most 0600, or 0640 if root owns the file.
fn refuse_open_key(path: &Path) -> Result<(), TlsError> {
    let metadata = std::fs::metadata(path)
        .map_err(|error: io::Error| fault(path, format!("cannot be read: {error}")))?;
    let allowed = if metadata.uid() == 0 { 0o640 } else { 0o600 };
    if metadata.mode() & 0o777 & !allowed != 0 {
        let message = format!(
            "other users can read the private key, its mode is {:o}; run chmod {allowed:o} on it",
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

/// Reloads the files for new clients until all receivers are dropped.
pub async fn keep_fresh(
    watched: WatchedFiles,
    files: TlsFiles,
    server: watch::Sender<Arc<TlsServer>>,
) {
    let refresh = || match files.load() {
        Ok(loaded) => {
            tracing::info!(cert = %files.cert.display(), "certificate reloaded");
            server.send_replace(Arc::new(loaded));
        }
        Err(error) => tracing::error!(
            error = multidb_store::error_chain(&error),
            "certificate was not reloaded, the previous one stays in use"
        ),
    };
    watched.keep_fresh(&server, refresh).await;
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use multidb_integration_tests::{Authority, Identity};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    use super::*;

    /// Exchanges records until neither side has any left.
    fn exchange(client: &mut ClientConnection, server: &mut ServerConnection) {
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
    }

    #[test]
    fn no_record_is_longer_than_those_of_postgres() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path());
        let Identity { cert, key } = authority.issue("localhost", &["localhost"]);
        let files = TlsFiles {
            cert,
            key,
            client_ca: None,
        };
        let (config, _) = files.configure().unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let mut roots = RootCertStore::empty();
        for root in certificates(&authority.cert()).unwrap() {
            roots.add(root).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        exchange(&mut client, &mut server);

        server.writer().write_all(&[7; 30_000]).unwrap();
        let mut records = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut records).unwrap();
        }
        let mut lengths = Vec::new();
        let mut rest = records.as_slice();
        while let [_, _, _, high, low, ..] = *rest {
            let length = usize::from(u16::from_be_bytes([high, low]));
            lengths.push(length);
            rest = &rest[RECORD_HEADER_BYTES + length..];
        }
        // A record adds its type and a checksum to the plaintext.
        let whole = lengths
            .iter()
            .filter(|length| **length == RECORD_BYTES_MAX + 17);
        assert_eq!(whole.count(), 3, "{lengths:?}");
        assert!(
            lengths
                .iter()
                .all(|length| *length <= RECORD_BYTES_MAX + 17),
            "{lengths:?}"
        );
    }
}
