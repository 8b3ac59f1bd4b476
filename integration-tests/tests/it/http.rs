//! The API over the network, as its clients see it.

mod describing;
mod following;
mod guarding;
mod holding;
mod hooks;
mod limits;
mod page;
mod repeating;
mod tokens;
mod waiting;

use std::path::Path;

use multidb_integration_tests::{Authority, Daemon, DaemonBuilder, HttpClient, Port};

use crate::authenticating::user;
use crate::daemon;

/// A daemon with the API on a port of its own.
pub(crate) struct Served {
    daemon: Daemon,
    port: Port,
    authority: Authority,
    _certificates: tempfile::TempDir,
}

impl Served {
    /// Without TLS, for anybody on this machine.
    fn trusting(configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let served = Self::prepare(configure);
        served.daemon.start();
        served
    }

    /// Over TLS, with `alice` and `bob`, whose passwords are "secret", and `root`, an administrator.
    fn secured(configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let certificates = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::create(certificates.path());
        let own = authority.issue("localhost", &["localhost", "db.internal"]);
        let served = Self::prepare(|daemon| {
            configure(daemon)
                .set("auth", "method", "scram-sha-256")
                .set("http", "cert", text(&own.cert))
                .set("http", "key", text(&own.key))
        });
        let served = Self {
            authority,
            _certificates: certificates,
            ..served
        };
        for (name, more) in [("alice", ""), ("bob", ""), ("root", "--admin")] {
            let add = ["add", name, "--role", "postgres", more];
            let add = &add[..if more.is_empty() { 4 } else { 5 }];
            let added = user(&served.daemon, add, "secret");
            assert_eq!(added.code, Some(0), "{added:?}");
        }
        served.daemon.start();
        served
    }

    fn prepare(configure: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let certificates = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::create(certificates.path());
        let port = Port::take();
        let listen = format!("[\"127.0.0.1:{}\"]", port.number());
        Self {
            daemon: configure(daemon().set_raw("http", "listen", &listen)).prepare(),
            port,
            authority,
            _certificates: certificates,
        }
    }

    /// A client without TLS.
    fn plain(&self) -> HttpClient {
        HttpClient::plain(self.port.number())
    }

    /// A client that verifies the certificate.
    fn client(&self) -> HttpClient {
        HttpClient::over_tls(self.port.number(), &self.authority.cert())
    }

    /// Such a client of this user, whose password is "secret".
    fn of(&self, name: &str) -> HttpClient {
        self.client().user(name, "secret")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is a text")
}
