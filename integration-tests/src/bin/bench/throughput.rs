//! pgbench and COPY through multidb, directly, and through the proxies that everybody knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::report::{Report, Samples};
use crate::wire::{Address, Target};
use crate::world::{World, as_postgres};

const HAPROXY_PORT: u16 = 16433;
const PGBOUNCER_PORT: u16 = 16434;
/// The rounds, in which all ways take turns.
const ROUNDS: usize = 3;
/// How long pgbench runs in each.
const SECONDS: &str = "4";
/// What one tick of `/proc/PID/stat` is.
const TICKS_PER_SECOND: f64 = 100.0;

/// One way to the same Postgres.
struct Way {
    name: &'static str,
    host: String,
    port: u16,
    user: &'static str,
    /// The processes of the proxy.
    pids: Vec<u32>,
}

/// A proxy that is ended with the benchmark.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Measures all ways in turn.
pub(crate) fn measure(world: &World, report: &mut Report) {
    let user = "instance:throughput,snapshot:latest";
    let _awake = world.proxy(user).open();
    let uid = world.instance("throughput")["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let run = world.directory.join("root/run").join(uid);
    let haproxy = start_haproxy(&world.directory, &run);
    let pgbouncer = start_pgbouncer(world, &run);
    std::thread::sleep(Duration::from_secs(1));
    let loopback = || "127.0.0.1".to_owned();
    let way = |name, host, port, user, pids| Way {
        name,
        host,
        port,
        user,
        pids,
    };
    let ways = [
        way(
            "direct",
            run.display().to_string(),
            5432,
            "postgres",
            Vec::new(),
        ),
        way("multidb", loopback(), 16432, user, vec![world.pid()]),
        way(
            "haproxy",
            loopback(),
            HAPROXY_PORT,
            "postgres",
            vec![haproxy.0.id()],
        ),
        way(
            "pgbouncer",
            loopback(),
            PGBOUNCER_PORT,
            "postgres",
            vec![pgbouncer.0.id()],
        ),
    ];
    for clients in ["1", "8"] {
        transactions(world, &ways, clients, report);
    }
    copies(&ways, report);
}

fn transactions(world: &World, ways: &[Way], clients: &str, report: &mut Report) {
    let mut rates: Vec<Samples> = vec![Samples::default(); ways.len()];
    let mut costs = rates.clone();
    for _ in 0..ROUNDS {
        for ((way, rate), cost) in ways.iter().zip(&mut rates).zip(&mut costs) {
            let before = cpu_seconds(&way.pids);
            let output = as_postgres("pgbench", world.owner)
                .args(["-S", "-n", "-T", SECONDS, "-c", clients, "-j", "1"])
                .args([
                    "-h",
                    &way.host,
                    "-p",
                    &way.port.to_string(),
                    "-U",
                    way.user,
                    "postgres",
                ])
                .output()
                .expect("pgbench runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let number = |label: &str| -> f64 {
                let line = text
                    .lines()
                    .find_map(|line| line.trim().strip_prefix(label));
                let word = line.and_then(|line| line.split_whitespace().next());
                word.and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
            };
            rate.add_value(number("tps ="));
            let done = number("number of transactions actually processed:");
            cost.add_value((cpu_seconds(&way.pids) - before) / done * 1e6);
        }
    }
    for ((way, rate), cost) in ways.iter().zip(&rates).zip(&costs) {
        let name = format!("pgbench -S, {clients} clients, {}", way.name);
        let remark = match way.pids.is_empty() {
            true => "transactions/s".to_owned(),
            false => format!(
                "transactions/s, {:.1} µs of the proxy's CPU each",
                cost.median()
            ),
        };
        report.plain(&name, rate.median(), &remark);
    }
}

fn copies(ways: &[Way], report: &mut Report) {
    let mut rates: Vec<Samples> = vec![Samples::default(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, rate) in ways.iter().zip(&mut rates) {
            let address = match way.host.starts_with('/') {
                true => Address::Socket(PathBuf::from(&way.host).join(".s.PGSQL.5432")),
                false => Address::Port(way.port),
            };
            let mut open = Target::new(address, way.user).open();
            let began = Instant::now();
            open.send("copy (select * from pgbench_accounts limit 5000000) to stdout");
            let bytes = open.drain();
            rate.add_value(bytes as f64 / began.elapsed().as_secs_f64() / 1048576.0);
        }
    }
    let direct = rates[0].median();
    for (way, rate) in ways.iter().zip(&rates) {
        let remark = format!("MiB/s, {:.2} of direct", rate.median() / direct);
        report.plain(
            &format!("COPY to the client, {}", way.name),
            rate.median(),
            &remark,
        );
    }
}

/// The processor time of these processes so far.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(field(11)? + field(12)?)
    });
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

fn start_haproxy(directory: &Path, run: &Path) -> Proxy {
    let config = directory.join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 1000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen pg\n  bind 127.0.0.1:{HAPROXY_PORT}\n  server s unix@{}/.s.PGSQL.5432\n",
        run.display()
    );
    fs::write(&config, text).expect("it is written");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    Proxy(quiet(&mut command))
}

fn start_pgbouncer(world: &World, run: &Path) -> Proxy {
    let config = world.directory.join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host={} port=5432\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {PGBOUNCER_PORT}\n\
         auth_type = any\npool_mode = session\nmax_client_conn = 500\ndefault_pool_size = 100\nunix_socket_dir =\n\
         ignore_startup_parameters = extra_float_digits\n",
        run.display()
    );
    fs::write(
        &config,
        text.replace("* = host", "postgres = user=postgres host"),
    )
    .expect("it is written");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            &world.owner.0.to_string(),
            "--regid",
            &world.owner.1.to_string(),
        ])
        .args(["--clear-groups", "pgbouncer", "--quiet"])
        .arg(config);
    Proxy(quiet(&mut command))
}

fn quiet(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command
        .spawn()
        .expect("the proxy starts: use scripts/bench.sh")
}
