//! HAProxy, PgBouncer and multidb before one Postgres, and the processor time of each.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Port, eventually, postgres_ids, run};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Endpoint, Login, USER, VERIFIER};
use crate::environment::Environment;

/// A way to the Postgres.
pub(crate) struct Route {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where a client connects.
    pub(crate) endpoint: Endpoint,
    /// Whom it names.
    pub(crate) login: Login,
    /// The proxy's process; none on the direct way.
    pub(crate) pid: Option<u32>,
}

/// The ways to an instance's Postgres without another proxy.
pub(crate) fn direct_and_multidb(environment: &Environment, instance: &str) -> [Route; 2] {
    let socket = environment.run_dir(instance).join(".s.PGSQL.5432");
    [
        Route {
            name: "direct",
            endpoint: Endpoint::Unix(socket),
            login: Login::trusted("postgres"),
            pid: None,
        },
        through_multidb("multidb", environment, instance),
    ]
}

/// The way through a daemon.
pub(crate) fn through_multidb(
    name: &'static str,
    environment: &Environment,
    instance: &str,
) -> Route {
    Route {
        name,
        endpoint: environment.endpoint(),
        login: Login::trusted(format!("instance:{instance}")),
        pid: Some(environment.daemon().pid().cast_unsigned()),
    }
}

/// The proxies of others that run. Dropping it ends them.
pub(crate) struct Proxies {
    children: Vec<Child>,
    _ports: Vec<Port>,
    /// The ways, the direct one first, multidb's second.
    pub(crate) routes: Vec<Route>,
}

impl Proxies {
    /// No proxy and no way yet.
    pub(crate) fn none() -> Self {
        Self {
            children: Vec::new(),
            _ports: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Starts the proxies before the Postgres of an instance.
    pub(crate) fn start(environment: &Environment, instance: &str) -> Self {
        let run_dir = environment.run_dir(instance);
        let mut proxies = Self::none();
        proxies.routes = direct_and_multidb(environment, instance).into();
        let dir = environment.dir().join("proxies");
        fs::create_dir(&dir).expect("a directory can be made");
        let login = Login::trusted("postgres");
        proxies.add("haproxy", login.clone(), |port| {
            haproxy(&dir, &run_dir, port)
        });
        proxies.add("pgbouncer", login, |port| {
            pgbouncer(&dir, &run_dir, port, TRUST)
        });
        proxies
    }

    /// Starts a proxy, and adds the way through it.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        login: Login,
        command: impl FnOnce(u16) -> Command,
    ) {
        let port = Port::take();
        let child = command(port.number())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let endpoint = Endpoint::Tcp(port.number());
        let pid = child.id();
        self.children.push(child);
        self._ports.push(port);
        eventually(name, Duration::from_secs(20), || {
            Client::first_row(&endpoint, &login).is_ok()
        });
        self.routes.push(Route {
            name,
            endpoint,
            login,
            pid: Some(pid),
        });
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = child.wait();
        }
    }
}

fn haproxy(dir: &Path, run_dir: &Path, port: u16) -> Command {
    let config = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 1000\ndefaults\n    mode tcp\n    timeout connect 10s\n    \
         timeout client 1h\n    timeout server 1h\n\
         frontend in\n    bind 127.0.0.1:{port}\n    default_backend out\n\
         backend out\n    server postgres unix@{}\n",
        run_dir.join(".s.PGSQL.5432").display()
    );
    fs::write(&config, text).expect("a configuration can be written");
    let mut command = Command::new("haproxy");
    // In the foreground.
    command.args(["-db", "-f"]).arg(config);
    command
}

/// The settings of PgBouncer beside the Postgres and its own port.
pub(crate) const TRUST: &str = "auth_type = trust\n";

/// Its pool's sessions are all the superuser's, as multidb's are its clients' roles'. It refuses to run
/// as root.
pub(crate) fn pgbouncer(dir: &Path, run_dir: &Path, port: u16, settings: &str) -> Command {
    let config = dir.join(format!("pgbouncer-{port}.ini"));
    let users = dir.join("users.txt");
    let text = format!(
        "[databases]\n* = host={} port=5432 user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_file = {}\n\
         pool_mode = session\nmax_client_conn = 1000\ndefault_pool_size = 100\n\
         log_connections = 0\nlog_disconnections = 0\n{settings}",
        run_dir.display(),
        users.display()
    );
    fs::write(&config, text).expect("a configuration can be written");
    let text = format!("\"postgres\" \"\"\n\"{USER}\" \"{VERIFIER}\"\n");
    fs::write(users, text).expect("a list of users can be written");
    let (uid, gid) = postgres_ids();
    let mut command = Command::new("pgbouncer");
    command.uid(uid).gid(gid).current_dir("/");
    command.arg("--quiet").arg(config);
    command
}

/// The processor time of a process, all its threads together.
pub(crate) fn processor_time(pid: u32, ticks_per_second: f64) -> Duration {
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    let stat =
        fs::read_to_string(&stat).unwrap_or_else(|error| panic!("{}: {error}", stat.display()));
    // The name in parentheses may hold anything; behind it, the state is the third field.
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Duration::from_secs_f64(ticks / ticks_per_second)
}

/// The unit of the times in /proc.
pub(crate) fn ticks_per_second() -> f64 {
    let output = run(Command::new("getconf").arg("CLK_TCK"));
    output.ok().parse().expect("getconf prints a number")
}
