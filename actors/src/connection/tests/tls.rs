//! TLS between a client of these tests and the proxy.

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

/// An authority, and what it signed for a server.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a client asks for.
struct Wanted {
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: Option<&'static [u8]>,
    identity: Option<Identity>,
}

impl Default for Wanted {
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

    /// What the proxy shows: a certificate for `localhost`, and who may show one to it.
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
    /// Begins TLS from here on.
    async fn secured(
        self,
        authority: &Authority,
        wanted: Wanted,
    ) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(wanted.versions)
            .unwrap()
            .with_root_certificates(authority.roots());
        let mut config = match wanted.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = identity.key().into();
                let chain = vec![identity.certificate];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = wanted.alpn.map(<[u8]>::to_vec).into_iter().collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, self.socket);
        Ok(Client {
            socket: tokio::time::timeout(PATIENCE, connecting).await.unwrap()?,
            unread: self.unread,
            actor: self.actor,
            ended: self.ended,
        })
    }

    async fn ask_for_tls(&mut self) -> u8 {
        self.send(&request(5679, &[])).await;
        self.socket.read_u8().await.unwrap()
    }
}

impl Bench {
    /// A client that asked for TLS and got it.
    async fn secured(&self, authority: &Authority, wanted: Wanted) -> Client<TlsStream<TcpStream>> {
        let mut client = self.connect().await;
        assert_eq!(client.ask_for_tls().await, b'S');
        client.secured(authority, wanted).await.unwrap()
    }
}

/// Runs a test with TLS, which the sender can replace.
fn with_tls<F: Future<Output = ()>>(
    required: bool,
    test: impl FnOnce(Bench, Authority, watch::Sender<Arc<TlsServer>>) -> F,
) {
    bench(
        |_| {},
        |mut bench| async move {
            let authority = Authority::new();
            let (sender, server) = watch::channel(authority.server().0);
            bench.deps.tls = Some(Tls { server, required });
            test(bench, authority, sender).await;
        },
    );
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, user: &str) {
    client.send(&startup(&[("user", user)])).await;
    assert_eq!(client.until_ready().await, "RSKZ");
}

#[test]
fn a_session_is_encrypted_by_either_version_after_a_request() {
    with_tls(false, |bench, authority, _sender| async move {
        for versions in [TLS12_ONLY, TLS13_ONLY] {
            let wanted = Wanted {
                versions,
                ..Wanted::default()
            };
            let mut client = bench.secured(&authority, wanted).await;
            let (_, connection) = client.socket.get_ref();
            assert_eq!(connection.protocol_version(), Some(versions[0].version));
            log_in(&mut client, "instance:a").await;
            client.answers().await;
            client.send(&message(b'X', &[])).await;
            assert!(client.message().await.is_none());
            client.over().await;
        }
    });
}

#[test]
fn tls_from_the_first_byte_needs_the_name_of_the_protocol() {
    with_tls(false, |bench, authority, _sender| async move {
        let named = || Wanted {
            alpn: Some(ALPN),
            ..Wanted::default()
        };
        let client = bench.connect().await;
        let mut client = client.secured(&authority, named()).await.unwrap();
        log_in(&mut client, "instance:a").await;
        client.answers().await;

        let client = bench.connect().await;
        if let Ok(mut client) = client.secured(&authority, Wanted::default()).await {
            let mut rest = Vec::new();
            let read = client.socket.read_to_end(&mut rest);
            // The end may come without a word in TLS.
            let ended = tokio::time::timeout(PATIENCE, read).await.unwrap();
            assert!(ended.is_err() || rest.is_empty());
            client.over().await;
        }

        let client = bench.connect().await;
        let http = Wanted {
            alpn: Some(b"http/1.1"),
            ..Wanted::default()
        };
        assert!(client.secured(&authority, http).await.is_err());
    });
}

#[test]
fn what_is_stuffed_behind_a_request_for_tls_is_refused() {
    with_tls(false, |bench, _authority, _sender| async move {
        let mut client = bench.connect().await;
        let login = startup(&[("user", "instance:a")]);
        client.send(&[request(5679, &[]), login].concat()).await;
        assert_eq!(client.refusal().await, "08P01");
        client.over().await;
        assert!(bench.world.runtime.started.lock().unwrap().is_empty());
    });
}

#[test]
fn a_request_for_tls_within_tls_is_refused() {
    with_tls(false, |bench, authority, _sender| async move {
        let mut client = bench.secured(&authority, Wanted::default()).await;
        client.send(&request(5679, &[])).await;
        assert_eq!(client.refusal().await, "0A000");
    });
}

#[test]
fn where_tls_is_required_nothing_happens_without_it() {
    with_tls(true, |bench, authority, _sender| async move {
        let mut client = bench.connect().await;
        client.send(&startup(&[("user", "instance:a")])).await;
        assert_eq!(client.refusal().await, "28000");
        client.over().await;
        assert!(bench.world.runtime.started.lock().unwrap().is_empty());

        let mut client = bench.secured(&authority, Wanted::default()).await;
        log_in(&mut client, "instance:a").await;
    });
}

#[test]
fn a_query_is_cancelled_over_tls() {
    with_tls(true, |bench, authority, _sender| async move {
        let mut session = bench.secured(&authority, Wanted::default()).await;
        log_in(&mut session, "instance:a").await;
        session.query("sleep").await;
        eventually(|| bench.postgres.queries().len() == 1).await;
        let mut client = bench.secured(&authority, Wanted::default()).await;
        client.send(&cancel_request(1000)).await;
        assert!(client.message().await.is_none());
        assert_eq!(bench.postgres.cancelled(), [1000]);
        assert_eq!(session.message().await.unwrap().tag, b'E');
        assert_eq!(session.until_ready().await, "Z");
    });
}

#[test]
fn a_client_that_breaks_off_without_a_word_has_ended_its_session() {
    with_tls(false, |bench, authority, _sender| async move {
        let mut client = bench.secured(&authority, Wanted::default()).await;
        log_in(&mut client, "instance:a").await;
        let Client { socket, ended, .. } = client;
        // Only the TCP connection ends.
        drop(socket.into_inner().0);
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        assert!(ended.expect("its actor ends").is_err());
        assert!(bench.deps.sessions.all().is_empty());
    });
}

#[test]
fn a_new_certificate_is_for_new_clients() {
    with_tls(false, |bench, authority, sender| async move {
        let shown = |client: &Client<TlsStream<TcpStream>>| {
            let (_, connection) = client.socket.get_ref();
            connection.peer_certificates().unwrap()[0].clone()
        };
        let mut before = bench.secured(&authority, Wanted::default()).await;
        log_in(&mut before, "instance:a").await;
        let (server, certificate) = authority.server();
        assert_ne!(shown(&before), certificate);
        sender.send_replace(server);
        let after = bench.secured(&authority, Wanted::default()).await;
        assert_eq!(shown(&after), certificate);
        before.answers().await;
    });
}

#[test]
fn a_clients_certificate_says_who_it_is() {
    with_tls(false, |bench, authority, _sender| async move {
        let shows = |identity| Wanted {
            identity: Some(identity),
            ..Wanted::default()
        };
        let wanted = shows(authority.identity("alice"));
        let mut client = bench.secured(&authority, wanted).await;
        log_in(&mut client, "instance:a").await;
        assert_eq!(bench.deps.sessions.all()[0].user, "alice");

        let wanted = shows(authority.identity("alice"));
        let mut client = bench.secured(&authority, wanted).await;
        client
            .send(&startup(&[("user", "instance:a,user:bob")]))
            .await;
        assert_eq!(client.refusal().await, "28000");

        // With TLS 1.3 a client learns of its refusal only when it reads.
        let mut client = bench.connect().await;
        assert_eq!(client.ask_for_tls().await, b'S');
        let wanted = shows(Authority::new().identity("alice"));
        if let Ok(mut client) = client.secured(&authority, wanted).await {
            let mut rest = Vec::new();
            let read = client.socket.read_to_end(&mut rest);
            assert!(tokio::time::timeout(PATIENCE, read).await.unwrap().is_err());
        }
    });
}

#[test]
fn scram_is_bound_to_the_hash_that_the_certificates_signature_uses() {
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
