//! TLS between a client and the proxy.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256, Sha384};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const TLS12_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// A certificate authority.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The TLS options of a client.
struct TlsOptions {
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: Option<&'static [u8]>,
    identity: Option<Identity>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS,
            alpn: None,
            identity: None,
        }
    }
}

impl Identity {
    fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.serialize_der().into()
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn identity(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key,
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// The proxy's configuration, with a certificate for `localhost` and this authority for client
    /// certificates.
    fn server(&self) -> (Arc<TlsServer>, CertificateDer<'static>) {
        let identity = self.identity("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(vec![identity.certificate.clone()], identity.key().into())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let server = TlsServer::new(Arc::new(config), &identity.certificate);
        (Arc::new(server), identity.certificate)
    }
}

impl Client {
    /// Performs the TLS handshake.
    async fn start_tls(
        self,
        authority: &Authority,
        options: TlsOptions,
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions)
            .unwrap()
            .with_root_certificates(authority.roots());
        let mut config = match options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = identity.key().into();
                let chain = vec![identity.certificate];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = options.alpn.map(<[u8]>::to_vec).into_iter().collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, self.socket);
        Ok(Client {
            socket: tokio::time::timeout(TIMEOUT, connecting).await.unwrap()?,
            unread: self.unread,
            actor: self.actor,
            ended: self.ended,
        })
    }

    async fn request_tls(&mut self) -> u8 {
        self.send(&request(5679, &[])).await;
        self.socket.read_u8().await.unwrap()
    }
}

impl Fixture {
    /// Opens a connection with TLS.
    async fn start_tls(
        &self,
        authority: &Authority,
        options: TlsOptions,
    ) -> Client<TlsStream<TcpStream>> {
        let mut client = self.connect().await;
        assert_eq!(client.request_tls().await, b'S');
        client.start_tls(authority, options).await.unwrap()
    }
}

/// Runs a test with TLS. The sender replaces the certificate.
fn with_tls<F: Future<Output = ()>>(
    required: bool,
    test: impl FnOnce(Fixture, Authority, watch::Sender<Arc<TlsServer>>) -> F,
) {
    run_test(
        |_| {},
        |mut fixture| async move {
            let authority = Authority::new();
            let (sender, server) = watch::channel(authority.server().0);
            fixture.deps.tls = Some(Tls { server, required });
            test(fixture, authority, sender).await;
        },
    );
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, user: &str) {
    client.send(&startup(&[("user", user)])).await;
    assert_eq!(client.until_ready().await, "RSKZ");
}

#[test]
fn both_tls_versions_work_after_an_ssl_request() {
    with_tls(false, |fixture, authority, _sender| async move {
        for versions in [TLS12_ONLY, TLS13_ONLY] {
            let options = TlsOptions {
                versions,
                ..TlsOptions::default()
            };
            let mut client = fixture.start_tls(&authority, options).await;
            let (_, connection) = client.socket.get_ref();
            assert_eq!(connection.protocol_version(), Some(versions[0].version));
            log_in(&mut client, "instance:a").await;
            client.answers().await;
            client.send(&message(b'X', &[])).await;
            assert!(client.message().await.is_none());
            client.until_closed().await;
        }
    });
}

#[test]
fn direct_tls_requires_the_alpn_protocol() {
    with_tls(false, |fixture, authority, _sender| async move {
        let named = || TlsOptions {
            alpn: Some(ALPN),
            ..TlsOptions::default()
        };
        let client = fixture.connect().await;
        let mut client = client.start_tls(&authority, named()).await.unwrap();
        log_in(&mut client, "instance:a").await;
        client.answers().await;

        let client = fixture.connect().await;
        if let Ok(mut client) = client.start_tls(&authority, TlsOptions::default()).await {
            let mut rest = Vec::new();
            let read = client.socket.read_to_end(&mut rest);
            // The connection may end without a `close_notify`.
            let ended = tokio::time::timeout(TIMEOUT, read).await.unwrap();
            assert!(ended.is_err() || rest.is_empty());
            client.until_closed().await;
        }

        let client = fixture.connect().await;
        let http = TlsOptions {
            alpn: Some(b"http/1.1"),
            ..TlsOptions::default()
        };
        assert!(client.start_tls(&authority, http).await.is_err());
    });
}

#[test]
fn plaintext_behind_an_ssl_request_is_refused() {
    with_tls(false, |fixture, _authority, _sender| async move {
        let mut client = fixture.connect().await;
        let login = startup(&[("user", "instance:a")]);
        client.send(&[request(5679, &[]), login].concat()).await;
        assert_eq!(client.refusal().await, "08P01");
        client.until_closed().await;
        assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());
    });
}

#[test]
fn ssl_request_within_tls_is_refused() {
    with_tls(false, |fixture, authority, _sender| async move {
        let mut client = fixture.start_tls(&authority, TlsOptions::default()).await;
        client.send(&request(5679, &[])).await;
        assert_eq!(client.refusal().await, "0A000");
    });
}

#[test]
fn required_tls_refuses_plaintext_before_anything_starts() {
    with_tls(true, |fixture, authority, _sender| async move {
        let mut client = fixture.connect().await;
        client.send(&startup(&[("user", "instance:a")])).await;
        assert_eq!(client.refusal().await, "28000");
        client.until_closed().await;
        assert!(fixture.actors.runtime.started.lock().unwrap().is_empty());

        let mut client = fixture.start_tls(&authority, TlsOptions::default()).await;
        log_in(&mut client, "instance:a").await;
    });
}

#[test]
fn cancel_request_works_over_tls() {
    with_tls(true, |fixture, authority, _sender| async move {
        let mut session = fixture.start_tls(&authority, TlsOptions::default()).await;
        log_in(&mut session, "instance:a").await;
        session.query("sleep").await;
        eventually(|| fixture.postgres.queries().len() == 1).await;
        let mut client = fixture.start_tls(&authority, TlsOptions::default()).await;
        client.send(&cancel_request(1000)).await;
        // It fails without close_notify.
        assert_eq!(client.read_to_end().await, b"");
        assert_eq!(fixture.postgres.cancelled(), [1000]);
        assert_eq!(session.message().await.unwrap().tag, b'E');
        assert_eq!(session.until_ready().await, "Z");
    });
}

#[test]
fn missing_close_notify_ends_the_session() {
    with_tls(false, |fixture, authority, _sender| async move {
        let mut client = fixture.start_tls(&authority, TlsOptions::default()).await;
        log_in(&mut client, "instance:a").await;
        let Client { socket, ended, .. } = client;
        // Closes the TCP connection alone.
        drop(socket.into_inner().0);
        let ended = tokio::time::timeout(TIMEOUT, ended).await;
        assert!(ended.expect("its actor ends").is_err());
        assert!(fixture.deps.sessions.all().is_empty());
    });
}

#[test]
fn replaced_certificate_is_used_for_new_clients_only() {
    with_tls(false, |fixture, authority, sender| async move {
        let shown = |client: &Client<TlsStream<TcpStream>>| {
            let (_, connection) = client.socket.get_ref();
            connection.peer_certificates().unwrap()[0].clone()
        };
        let mut before = fixture.start_tls(&authority, TlsOptions::default()).await;
        log_in(&mut before, "instance:a").await;
        let (server, certificate) = authority.server();
        assert_ne!(shown(&before), certificate);
        sender.send_replace(server);
        let after = fixture.start_tls(&authority, TlsOptions::default()).await;
        assert_eq!(shown(&after), certificate);
        before.answers().await;
    });
}

#[test]
fn client_certificate_determines_the_user() {
    with_tls(false, |fixture, authority, _sender| async move {
        let shows = |identity| TlsOptions {
            identity: Some(identity),
            ..TlsOptions::default()
        };
        let options = shows(authority.identity("alice"));
        let mut client = fixture.start_tls(&authority, options).await;
        log_in(&mut client, "instance:a").await;
        assert_eq!(fixture.deps.sessions.all()[0].user, "alice");

        let options = shows(authority.identity("alice"));
        let mut client = fixture.start_tls(&authority, options).await;
        client
            .send(&startup(&[("user", "instance:a,user:bob")]))
            .await;
        assert_eq!(client.refusal().await, "28000");

        // With TLS 1.3 a client learns of its refusal only when it reads.
        let mut client = fixture.connect().await;
        assert_eq!(client.request_tls().await, b'S');
        let options = shows(Authority::new().identity("alice"));
        if let Ok(mut client) = client.start_tls(&authority, options).await {
            let mut rest = Vec::new();
            let read = client.socket.read_to_end(&mut rest);
            assert!(tokio::time::timeout(TIMEOUT, read).await.unwrap().is_err());
        }
    });
}

#[test]
fn channel_binding_uses_the_hash_of_the_certificate_signature() {
    let certificate = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert!(!key.der_bytes().is_empty());
        let params = CertificateParams::default();
        params.self_signed(&key).unwrap().der().clone()
    };
    let p256 = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
    let p384 = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
    let ed25519 = certificate(&rcgen::PKCS_ED25519);
    use super::super::tls::end_point;
    assert_eq!(end_point(&p256), Some(Sha256::digest(&p256).to_vec()));
    assert_eq!(end_point(&p384), Some(Sha384::digest(&p384).to_vec()));
    assert_eq!(end_point(&ed25519), None);
}
