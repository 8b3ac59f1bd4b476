//! Logins: with trust, by SCRAM-SHA-256, and by SCRAM-SHA-256 in TLS 1.3. Each way logs in to a Postgres
//! that trusts whom it lets in, but for the direct one, which asks for itself. Each login asks for a row,
//! before which PgBouncer would have no session of Postgres' for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use multidb_integration_tests::{Authority, DaemonBuilder, Identity, PlainPostgres, postgres_ids};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;

use crate::client::{Client, Endpoint, Login, PASSWORD, USER, VERIFIER};
use crate::environment::Environment;
use crate::options::Options;
use crate::proxies::{Proxies, Route, TRUST, pgbouncer};
use crate::report::{Aim, Report, Samples, Unit};
use crate::rounds::{interleaved, tell};
use crate::say;
use crate::source::Source;

/// The rounds of each way.
const ROUNDS: usize = 5;

/// The logins of a round.
const LOGINS: u32 = 1_000;

/// The clients that log in at a time.
const CLIENTS: u32 = 8;

/// The most time that a first row behind TLS and SCRAM may take, in times of a direct one.
const FIRST_ROW_AIM: f64 = 2.0;

const INSTANCE: &str = "handshakes";

/// A way to log in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Trust,
    Scram,
    TlsScram,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Scram => "SCRAM",
            Self::TlsScram => "TLS and SCRAM",
        }
    }

    fn login(self, user: &str, tls: &Arc<rustls::ClientConfig>) -> Login {
        Login {
            user: user.to_owned(),
            password: PASSWORD,
            tls: (self == Self::TlsScram).then(|| tls.clone()),
        }
    }
}

/// All that clients log in to.
struct Servers<'a> {
    direct: PlainPostgres,
    trusting: &'a Environment,
    asking: Environment,
    identity: Identity,
    tls: Arc<rustls::ClientConfig>,
}

/// Measures all ways by all methods.
pub(crate) fn measure(
    environment: &Environment,
    options: &Options,
    source: &Source,
    report: &mut Report,
) {
    say("handshakes");
    let dir = environment.dir().join("handshakes");
    fs::create_dir(&dir).expect("a directory can be made");
    let authority = Authority::create(&dir);
    let identity = authority.issue("localhost", &["localhost"]);
    let servers = Servers {
        direct: PlainPostgres::start_secured(&identity, USER, VERIFIER),
        trusting: environment,
        asking: Environment::prepare(
            &options.multidb,
            environment.disk(),
            environment.engine(),
            source,
            |daemon| asking(daemon, &identity),
        ),
        tls: client_config(&authority.cert()),
        identity,
    };
    environment.first_row(INSTANCE).0.close();
    for method in [Method::Trust, Method::Scram, Method::TlsScram] {
        let proxies = servers.routes(method, &dir);
        let section = format!("logins with {} ({})", method.name(), environment.name());
        let rounds = interleaved(&proxies.routes, ROUNDS, log_in);
        tell(
            &section,
            Unit::HandshakesPerSecond,
            &rounds,
            &proxies.routes,
            report,
        );
        if method != Method::Scram {
            let section = format!("first row with {} ({})", method.name(), environment.name());
            first_rows(&section, &proxies.routes, options.runs, report);
        }
    }
    environment.stop(INSTANCE);
    environment.remove(INSTANCE);
}

/// A daemon with password authentication and optional TLS.
fn asking(daemon: DaemonBuilder, identity: &Identity) -> DaemonBuilder {
    daemon
        .set("auth", "method", "scram-sha-256")
        .set("auth.users.bench", "verifier", VERIFIER)
        .set_raw("auth.users.bench", "roles", "[\"postgres\"]")
        .set("tls", "cert", &identity.cert.display().to_string())
        .set("tls", "key", &identity.key.display().to_string())
}

/// Each login is a whole handshake, as libpq's are.
fn client_config(authority: &Path) -> Arc<rustls::ClientConfig> {
    let certificate = CertificateDer::from_pem_file(authority).expect("the authority is there");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them all")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

impl Servers<'_> {
    /// The ways by one method.
    fn routes(&self, method: Method, dir: &Path) -> Proxies {
        let environment = match method {
            Method::Trust => self.trusting,
            Method::Scram | Method::TlsScram => &self.asking,
        };
        let (role, user) = match method {
            Method::Trust => ("postgres", Environment::user(INSTANCE)),
            Method::Scram | Method::TlsScram => {
                (USER, format!("{},user:{USER}", Environment::user(INSTANCE)))
            }
        };
        let mut proxies = Proxies::none();
        proxies.routes = vec![
            Route {
                name: "direct",
                endpoint: Endpoint::Tcp(self.direct.port()),
                login: method.login(role, &self.tls),
                pid: None,
            },
            Route {
                name: "multidb",
                endpoint: environment.endpoint(),
                login: method.login(&user, &self.tls),
                pid: Some(environment.daemon().pid().cast_unsigned()),
            },
        ];
        let run_dir = self.trusting.run_dir(INSTANCE);
        let settings = self.pgbouncer_settings(method, dir);
        let login = method.login(role, &self.tls);
        proxies.add("pgbouncer", login.clone(), |port| {
            pgbouncer(dir, &run_dir, port, &settings)
        });
        // As multidb does: each session has a fresh backend.
        let alone = format!("{settings}server_lifetime = 0\n");
        proxies.add("pgbouncer, a new session each", login, |port| {
            pgbouncer(dir, &run_dir, port, &alone)
        });
        proxies
    }

    fn pgbouncer_settings(&self, method: Method, dir: &Path) -> String {
        if method == Method::Trust {
            return TRUST.to_owned();
        }
        let (cert, key) = (dir.join("pgbouncer.pem"), dir.join("pgbouncer.key"));
        let (uid, gid) = postgres_ids();
        for (from, to) in [(&self.identity.cert, &cert), (&self.identity.key, &key)] {
            fs::copy(from, to).expect("a file can be copied");
            std::os::unix::fs::chown(to, Some(uid), Some(gid)).expect("chown works for root");
        }
        format!(
            "auth_type = scram-sha-256\nclient_tls_sslmode = allow\nclient_tls_cert_file = {}\n\
             client_tls_key_file = {}\n",
            cert.display(),
            key.display()
        )
    }
}

/// The logins of one round, several at a time.
fn log_in(route: &Route) -> (f64, Duration) {
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..LOGINS / CLIENTS {
                    let row = Client::first_row(&route.endpoint, &route.login);
                    let (client, _) =
                        row.unwrap_or_else(|failure| panic!("{}: {failure}", route.name));
                    client.close();
                }
            });
        }
    });
    (f64::from(LOGINS), begin.elapsed())
}

/// The first row of a server that runs, by one client.
fn first_rows(section: &str, routes: &[Route], runs: usize, report: &mut Report) {
    let mut times = vec![Vec::new(); routes.len()];
    for _ in 0..runs {
        for (route, times) in routes.iter().zip(&mut times) {
            let row = Client::first_row(&route.endpoint, &route.login);
            let (client, time) = row.unwrap_or_else(|failure| panic!("{}: {failure}", route.name));
            client.close();
            times.push(time);
        }
    }
    let samples: Vec<Samples> = times.into_iter().map(Samples::of_times).collect();
    let direct = samples[0].median();
    for (route, samples) in routes.iter().zip(samples) {
        let ratio = samples.median() / direct;
        report.add(section, route.name, Unit::Milliseconds, samples);
        let aim = match route.name {
            "multidb" => Aim::AtMost(FIRST_ROW_AIM),
            _ => Aim::None,
        };
        if route.pid.is_some() {
            report.ratio("of direct", ratio, aim);
        }
    }
}
