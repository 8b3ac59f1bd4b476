//! A daemon with one snapshot of the wanted size, in a directory of its own.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::postgres_bin;
use serde_json::Value;

use crate::Options;
use crate::wire::{Address, Target};

/// Where the daemon listens.
const PORT: u16 = 16432;
/// pgbench's rows take about so much for each unit of its scale.
const SCALES_PER_GIB: u64 = 68;

/// What runs Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Local processes.
    Process,
    /// Containers.
    Docker,
}

/// A running daemon. Dropping it stops it.
pub(crate) struct World {
    /// The daemon's directory.
    pub(crate) directory: PathBuf,
    binary: PathBuf,
    daemon: Child,
    /// The snapshot's size.
    pub(crate) bytes: u64,
    /// The snapshot's files.
    pub(crate) files: u64,
    /// How clones are made.
    pub(crate) method: String,
    /// The snapshot's data.
    pub(crate) data: PathBuf,
    /// Postgres' user and group.
    pub(crate) owner: (u32, u32),
}

impl World {
    /// Makes the snapshot and starts the daemon.
    pub(crate) fn make(options: &Options) -> Self {
        let directory = options.directory.clone();
        let owner = postgres_user();
        let source = directory.join("source");
        make_cluster(&source, options.gib, owner);
        fs::write(directory.join("multidb.toml"), config(&directory, options))
            .expect("it is written");
        let daemon = Command::new(&options.binary)
            .args(["serve", "--config"])
            .arg(directory.join("multidb.toml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("daemon.log")).expect("a log is made"))
            .spawn()
            .expect("the daemon starts");
        let mut world = Self {
            binary: options.binary.clone(),
            daemon,
            bytes: 0,
            files: 0,
            method: String::new(),
            data: PathBuf::new(),
            owner,
            directory,
        };
        while !world.directory.join("admin.sock").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let source_text = source.display().to_string();
        world.cli(&[
            "snapshot",
            "import",
            "bench",
            "--project",
            "bench",
            "--data-dir",
            &source_text,
        ]);
        fs::remove_dir_all(&source).expect("the source is removed");
        let snapshot: Value = world.json(&["snapshot", "show", "bench"]);
        world.bytes = snapshot["bytes"].as_u64().unwrap_or(0);
        world.files = snapshot["files"].as_u64().unwrap_or(0);
        world.data = snapshot["data_dir"].as_str().unwrap_or_default().into();
        let status = world.json(&["status"]);
        world.method = status["clone_method"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        world
    }

    /// The daemon's port, as this user.
    pub(crate) fn proxy(&self, user: &str) -> Target {
        Target::new(Address::Port(PORT), user)
    }

    /// The socket of an instance's own Postgres.
    pub(crate) fn direct(&self, instance: &Value) -> Target {
        let uid = instance["uid"].as_str().unwrap_or_default();
        let socket = self
            .directory
            .join("root/run")
            .join(uid)
            .join(".s.PGSQL.5432");
        Target::new(Address::Socket(socket), "postgres")
    }

    /// Runs a command.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.binary)
            .arg("--socket")
            .arg(self.directory.join("admin.sock"))
            .args(arguments)
            .output()
            .expect("the command runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect("it prints JSON")
    }

    /// One instance.
    pub(crate) fn instance(&self, name: &str) -> Value {
        self.json(&["instance", "show", name])
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// The daemon's resident memory that no other process shares.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let text = fs::read_to_string(path).expect("the daemon lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _already_gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _status = self.daemon.wait();
    }
}

fn config(directory: &Path, options: &Options) -> String {
    let kind = match options.runtime {
        Runtime::Process => "process",
        Runtime::Docker => "docker",
    };
    let directory = directory.display();
    format!(
        "listen = [\"127.0.0.1:{PORT}\"]\nroot = \"{directory}/root\"\n\
         admin_socket = \"{directory}/admin.sock\"\n\
         [runtime]\nkind = \"{kind}\"\n\
         [limits]\ndisk_reserve = \"100MiB\"\nstart_timeout = \"60s\"\n\
         [postgres.settings]\nmax_connections = \"300\"\n\
         [project.bench]\ngit = \"/nonexistent\"\ndatabase = \"postgres\"\n\
         migrations = {{ query = \"select 'a.0001'\" }}\n"
    )
}

fn postgres_user() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let home = fs::metadata("/var/lib/postgresql").expect("Debian's postgresql is installed");
    (home.uid(), home.gid())
}

/// A command under Postgres' user.
pub(crate) fn as_postgres(program: &str, (uid, gid): (u32, u32)) -> Command {
    let mut command = Command::new(postgres_bin().0.join(program));
    command
        .uid(uid)
        .gid(gid)
        .current_dir("/")
        .env("LC_ALL", "C.UTF-8");
    command
}

fn ok(command: &mut Command) {
    let output = command.output().expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// A cluster of the wanted size, written sequentially and stopped cleanly.
fn make_cluster(data: &Path, gib: u64, owner: (u32, u32)) {
    fs::create_dir(data).expect("the directory is made");
    chown(data, Some(owner.0), Some(owner.1)).expect("it is given away");
    let socket = data.display().to_string();
    ok(as_postgres("initdb", owner).args(["-D", &socket, "-U", "postgres", "--no-sync"]));
    let settings = format!(
        "-c listen_addresses='' -c unix_socket_directories='{socket}' -c fsync=off \
         -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off -c max_wal_size=4GB"
    );
    let log = format!("{socket}/start.log");
    ok(as_postgres("pg_ctl", owner)
        .args(["-D", &socket, "-w", "-l", &log, "-o", &settings, "start"]));
    let scale = (gib * SCALES_PER_GIB).to_string();
    ok(as_postgres("pgbench", owner).args([
        "-i", "-I", "dtGp", "-q", "-s", &scale, "-h", &socket, "-U", "postgres", "postgres",
    ]));
    ok(as_postgres("pg_ctl", owner).args(["-D", &socket, "-w", "-m", "fast", "stop"]));
    fs::remove_file(log).expect("the log is removed");
}
