//! The TLS files: the server's certificate, its key, and the authorities that sign client certificates.
//!
//! They are reloaded at SIGHUP and when one of them changes. If that fails, the log has the error and the
//! loaded files stay in use.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multidb_actors::connection::{ALPN, TlsServer};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::reload::WatchedFiles;

mod usable;

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
    #[error("the private key {key} is not that of the certificate {cert}")]
    OtherKey {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate and its key cannot be used.
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

    /// Reads the certificate and its key alone, for a server that asks its clients for none.
    ///
    /// # Errors
    ///
    /// As of [`load`](Self::load).
    pub fn load_certificate(&self) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = self.pair()?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| self.unusable_pair(error))
    }

    /// The configuration of rustls, and the server's certificate.
    fn configure(&self) -> Result<(ServerConfig, CertificateDer<'static>), TlsError> {
        let (chain, key) = self.pair()?;
        let leaf = chain[0].clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |source| self.unusable_pair(source);
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

    /// The chain, with at least the server's own certificate, and the key.
    fn pair(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(&self.cert)?;
        let Some(leaf) = chain.first() else {
            let file = std::fs::read(&self.cert).unwrap_or_default();
            return Err(fault(&self.cert, usable::no_certificate(&file)));
        };
        if let Some(reason) = usable::unusable_certificate(leaf) {
            return Err(fault(&self.cert, reason));
        }
        refuse_open_key(&self.key)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            let file = std::fs::read(&self.key).unwrap_or_default();
            fault(&self.key, usable::no_key(&file, &error))
        })?;
        Ok((chain, key))
    }

    fn unusable_pair(&self, source: rustls::Error) -> TlsError {
        match source {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                cert: self.cert.clone(),
                key: self.key.clone(),
            },
            // ring's, about the form of the key.
            rustls::Error::General(_) => fault(&self.key, usable::unusable_key()),
            source => TlsError::Pair {
                cert: self.cert.clone(),
                key: self.key.clone(),
                source,
            },
        }
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        files.into_iter().flatten().cloned().collect()
    }
}

/// A client certificate is optional. A presented certificate must be valid.
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

/// The certificate of a server that is not the proxy's, read again when its files change.
#[derive(Debug)]
pub struct LiveCertificate(watch::Receiver<Arc<CertifiedKey>>);

impl LiveCertificate {
    /// The certificate that is read by [`TlsFiles::load_certificate`] and reloaded by [`keep_fresh`].
    pub fn new(certificate: watch::Receiver<Arc<CertifiedKey>>) -> Self {
        Self(certificate)
    }

    /// Whether it is valid for this name of a host.
    pub fn is_for(&self, host: &str) -> bool {
        let certificate = Arc::clone(&self.0.borrow());
        let Some(leaf) = certificate.cert.first() else {
            return false;
        };
        let parsed = ParsedCertificate::try_from(leaf);
        let name = ServerName::try_from(host);
        parsed.is_ok_and(|parsed| name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()))
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().clone())
    }
}

/// Reloads the files by `load` for new clients until all receivers are dropped.
pub async fn keep_fresh<T>(
    watched: WatchedFiles,
    files: TlsFiles,
    load: impl Fn(&TlsFiles) -> Result<T, TlsError>,
    server: watch::Sender<Arc<T>>,
) {
    let refresh = || match load(&files) {
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

    /// Files of openssl, by their names in `dir`.
    fn openssl(dir: &Path, command: &str) {
        let run = std::process::Command::new("openssl")
            .current_dir(dir)
            .args(command.split(' '))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{command}: {error}");
    }

    /// Certificates and keys of all kinds.
    fn make_pairs(dir: &Path) {
        let run = |command: &str| openssl(dir, command);
        let certificate = "-days 30 -subj /CN=x -nodes";
        for (name, kind) in [
            ("good", "rsa:2048"),
            ("other", "rsa:2048"),
            ("short", "rsa:1024"),
            ("curve", "ec -pkeyopt ec_paramgen_curve:secp256k1"),
            ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
            ("ed448", "ed448"),
            ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
            ("ed25519", "ed25519"),
        ] {
            run(&format!(
                "req -x509 -newkey {kind} -keyout {name}.key -out {name}.crt {certificate}"
            ));
        }
        run("pkey -in good.key -aes128 -passout pass:x -out encrypted.key");
        run("rsa -traditional -in good.key -aes128 -passout pass:x -out traditional.key");
        run("req -new -key good.key -subj /CN=x -out request.pem");
        run("x509 -req -in request.pem -signkey good.key -days 30 -out v1.crt");
        run("x509 -in good.crt -outform der -out der.crt");
        run("pkey -in good.key -outform der -out der.key");
    }

    /// Certificate, key, and the error about them.
    const PAIRS: [(&str, &str, Option<&str>); 16] = [
        ("good.crt", "good.key", None),
        ("p256.crt", "p256.key", None),
        ("ed25519.crt", "ed25519.key", None),
        (
            "good.crt",
            "other.key",
            Some("is not that of the certificate"),
        ),
        (
            "good.crt",
            "short.key",
            Some("of a kind that cannot be used"),
        ),
        ("short.crt", "short.key", Some("RSA key has 1024 bits")),
        ("curve.crt", "curve.key", Some("of the kind secp256k1")),
        ("p521.crt", "p521.key", Some("of the kind P-521")),
        ("ed448.crt", "ed448.key", Some("of the kind Ed448")),
        ("good.crt", "encrypted.key", Some("is encrypted")),
        ("good.crt", "traditional.key", Some("is encrypted")),
        ("v1.crt", "good.key", Some("of X.509 version 1")),
        (
            "good.key",
            "good.crt",
            Some("contains a private key instead"),
        ),
        (
            "good.crt",
            "good.crt",
            Some("contains a certificate instead"),
        ),
        ("der.crt", "good.key", Some("is in DER instead of PEM")),
        ("good.crt", "der.key", Some("is in DER instead of PEM")),
    ];

    #[test]
    fn certificate_or_key_that_cannot_be_used_is_told_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        make_pairs(dir.path());
        for (cert, key, expected) in PAIRS {
            for file in [cert, key] {
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(dir.path().join(file), private).unwrap();
            }
            let files = TlsFiles {
                cert: dir.path().join(cert),
                key: dir.path().join(key),
                client_ca: None,
            };
            let error = files.configure().err().map(|error| error.to_string());
            match (error, expected) {
                (None, None) => {}
                (Some(error), Some(expected)) => {
                    assert!(error.contains(expected), "{cert} {key}: {error}");
                }
                (error, _) => panic!("{cert} {key}: {error:?}"),
            }
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
