//! Certificates for tests, signed by a test authority.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A certificate authority with its files in the test's directory.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key, which only its owner can read.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority and writes its certificate into this directory.
    pub fn create(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("a key signs itself");
        let authority = Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
        };
        replace(&authority.cert(), &certificate.pem());
        authority
    }

    /// Its certificate.
    pub fn cert(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// Signs a certificate with this common name, valid for these hosts, and replaces an older
    /// one of the same name.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("the hosts have names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let signed = params.signed_by(&key, &self.issuer);
        let identity = Identity {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        replace(&identity.key, &key.serialize_pem());
        replace(&identity.cert, &signed.expect("an authority signs").pem());
        identity
    }
}

/// Replaces a file by a rename, as certificate renewal tools do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the file can be written");
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("it is ours");
    std::fs::rename(&new, path).expect("it can be renamed");
}
