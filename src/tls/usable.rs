//! Why a certificate or a key cannot be used, in plain words.
//!
//! ring signs by RSA of 2048 bits or more, by ECDSA on P-256 or P-384, and by Ed25519. It refuses other keys as
//! malformed, and all TLS clients refuse certificates with the faults that are named here.

use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

const RSA_BITS_MIN: usize = 2048;
const KINDS: &str = "RSA of at least 2048 bits, ECDSA on P-256 or P-384, or Ed25519";
/// Public keys and curves (RFC 5480, RFC 8410, SEC 2).
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const NAMES: [(&str, &str); 7] = [
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10040.4.1", "DSA"),
];
const ED25519: &str = "1.3.101.112";

/// The error about a file that has something else than a certificate in PEM.
pub(super) fn no_certificate(file: &[u8]) -> String {
    if contains(file, "PRIVATE KEY-----") {
        "contains a private key instead of a certificate; are cert and key swapped?".to_owned()
    } else if file.first() == Some(&0x30) {
        "is in DER instead of PEM; convert it by \"openssl x509 -inform der -in FILE -out FILE.pem\""
            .to_owned()
    } else {
        "contains no certificate in PEM".to_owned()
    }
}

/// The error about a file that has something else than a private key in PEM.
pub(super) fn no_key(file: &[u8], error: &dyn std::fmt::Display) -> String {
    if contains(file, "ENCRYPTED") {
        "the private key is encrypted, and a daemon has nobody who enters its passphrase; decrypt it by \
         \"openssl pkey -in FILE -out FILE.pem\""
            .to_owned()
    } else if contains(file, "-----BEGIN CERTIFICATE-----") {
        "contains a certificate instead of a private key; are cert and key swapped?".to_owned()
    } else if file.first() == Some(&0x30) {
        "is in DER instead of PEM; convert it by \"openssl pkey -inform der -in FILE -out FILE.pem\""
            .to_owned()
    } else {
        format!("is not a private key in PEM: {error}")
    }
}

/// The reason why no client accepts this certificate, or ring cannot sign for it.
pub(super) fn unusable_certificate(der: &[u8]) -> Option<String> {
    let (_, certificate) = match x509_parser::parse_x509_certificate(der) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("contains a damaged certificate: {error}")),
    };
    if certificate.version() != X509Version::V3 {
        return Some(
            "the certificate is of X.509 version 1, which clients refuse; issue one of version 3, such as with a \
             subjectAltName"
                .to_owned(),
        );
    }
    let info = certificate.public_key();
    if let Ok(PublicKey::RSA(key)) = info.parsed() {
        let bits = key.key_size();
        return (bits < RSA_BITS_MIN).then(|| {
            format!("the certificate's RSA key has {bits} bits; at least {RSA_BITS_MIN} are needed")
        });
    }
    let parameters = info.algorithm.parameters.as_ref();
    let curve = parameters.and_then(|curve| curve.as_oid().ok());
    let kind = curve.unwrap_or_else(|| info.algorithm.algorithm.clone());
    let kind = kind.to_id_string();
    if [P256, P384, ED25519].contains(&kind.as_str()) {
        return None;
    }
    let name = NAMES.iter().find(|(id, _)| *id == kind);
    let name = name.map_or(kind.as_str(), |(_, name)| name);
    Some(format!(
        "the certificate's key is of the kind {name}, which cannot be used; take {KINDS}"
    ))
}

/// The error about a key that ring does not read.
pub(super) fn unusable_key() -> String {
    format!("the private key is of a kind that cannot be used; take {KINDS}")
}

fn contains(file: &[u8], text: &str) -> bool {
    memchr::memmem::find(file, text.as_bytes()).is_some()
}
