//! TLS between a client and the proxy, by rustls: after an SSLRequest, or from the first byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::stream::Stream;

/// The ALPN name of Postgres' protocol. A client that begins with TLS must offer it (Postgres' documentation,
/// "SSL Session Encryption").
pub const ALPN: &[u8] = b"postgresql";

/// A client's stream over TLS.
pub type Secured = TlsStream<Resumed>;

/// A stream of which some bytes were read already.
#[derive(Debug)]
pub struct Resumed {
    read_ahead: BytesMut,
    stream: Stream,
}

/// The TLS configuration of the proxy. Replaced as a whole when its files change; open sessions keep the
/// configuration that they began with.
#[derive(Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    expires_at: Option<Timestamp>,
}

impl TlsServer {
    /// Uses this certificate, which must be the first of the chain in `config`.
    pub fn new(config: Arc<ServerConfig>, certificate: &CertificateDer<'_>) -> Self {
        Self {
            config,
            end_point: end_point(certificate),
            expires_at: expires_at(certificate),
        }
    }

    /// When the certificate expires, if that can be read from it.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

/// The TLS settings.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The configuration for the next client.
    pub server: watch::Receiver<Arc<TlsServer>>,
    /// Whether a client over TCP gets no session without TLS.
    pub required: bool,
}

/// The properties of a TLS connection that authentication uses.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// The hash that binds a SCRAM exchange to the server's certificate (`tls-server-end-point`, RFC 5929).
    pub end_point: Option<Vec<u8>>,
    /// The common name in the client's certificate, which an accepted authority has signed.
    pub certificate_name: Option<String>,
}

/// How a client requests TLS, as libpq's `sslnegotiation` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslNegotiation {
    /// By an SSLRequest, which the proxy accepted.
    Request,
    /// By beginning with TLS at once.
    Direct,
}

/// Performs the handshake. `read_ahead` are the bytes of TLS that were read already.
pub(super) async fn accept(
    stream: Stream,
    read_ahead: BytesMut,
    server: &TlsServer,
    negotiation: SslNegotiation,
) -> io::Result<(Secured, Binding)> {
    let resumed = Resumed { read_ahead, stream };
    let stream = TlsAcceptor::from(server.config.clone())
        .accept(resumed)
        .await?;
    let (_, connection) = stream.get_ref();
    if negotiation == SslNegotiation::Direct && connection.alpn_protocol() != Some(ALPN) {
        // As in Postgres: a client of another protocol could be redirected here (ALPACA).
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "direct TLS without the ALPN protocol \"postgresql\"",
        ));
    }
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let binding = Binding {
        end_point: server.end_point.clone(),
        certificate_name: certificate.and_then(common_name),
    };
    Ok((stream, binding))
}

impl AsyncRead for Resumed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.read_ahead.len().min(buf.remaining());
        buf.put_slice(&this.read_ahead.split_to(length));
        if this.read_ahead.is_empty() {
            this.read_ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The version in use, as `pg_stat_ssl` writes it.
pub(super) fn version(stream: &Secured) -> Option<&'static str> {
    let (_, connection) = stream.get_ref();
    match connection.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        // The configuration allows no others.
        _ => None,
    }
}

/// The common name of a certificate's subject.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn expires_at(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// A certificate's hash by the hash function of its signature, or by SHA-256 instead of a weaker one (RFC 5929,
/// section 4.1). `None` for a signature without a hash function, such as Ed25519's: Postgres cannot bind
/// to such a certificate either.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    Some(match algorithm.as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}
