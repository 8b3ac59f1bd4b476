//! One daemon with a directory, a port and a configuration of its own.

mod builder;
mod leftovers;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Config;

use crate::disk::SmallDisk;
use crate::fixture::Repository;
use crate::held_sockets::HeldSockets;
use crate::poll::{eventually, poll};
use crate::ports::Port;
use crate::programs::{self, ProgramOutput, postgres_bin};
use crate::raw::RawClient;
use crate::session::{PgFailure, Session};

pub use builder::{DaemonBuilder, Engine};

/// The database in the fixture's snapshots.
pub(crate) const DATABASE: &str = "app";

/// The limit for a daemon's start or end, on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The result of a command of the program.
pub type CliOutput = ProgramOutput;

/// A daemon. Its drop stops it, and fails the test if any leftover is found.
pub struct Daemon {
    binary: PathBuf,
    child: RefCell<Option<Child>>,
    /// Declared before `dir`: fields are dropped in order, and a mounted directory cannot be deleted.
    _small_disk: Option<SmallDisk>,
    dir: TempDir,
    port: Port,
    repository: Repository,
    expected_log: RefCell<Vec<String>>,
    as_postgres: bool,
}

impl Daemon {
    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its `root`.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A directory beside its root, for the test's own files, on the same file system.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of its Unix listener.
    pub fn unix_listener(&self) -> PathBuf {
        self.dir.path().join(format!(".s.PGSQL.{}", self.port()))
    }

    /// Its admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("multidb.toml")
    }

    /// Replaces a part of the configuration.
    #[track_caller]
    pub fn reconfigure(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(self.config_file()).expect("it has a configuration");
        assert!(config.contains(from), "{from} is not in {config}");
        std::fs::write(self.config_file(), config.replace(from, to)).expect("it can be written");
    }

    /// The project's git repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The process id of the daemon, which must run.
    pub fn pid(&self) -> i32 {
        let child = self.child.borrow();
        let child = child.as_ref().expect("the daemon runs");
        child.id().cast_signed()
    }

    /// Permits warnings and errors in the log that contain this text.
    pub fn expect_log(&self, text: &str) -> &Self {
        self.expected_log.borrow_mut().push(text.to_owned());
        self
    }

    /// The daemon's whole log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    /// Runs a command against this daemon.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> CliOutput {
        programs::run(&mut self.cli_command(args))
    }

    /// The arguments that import a snapshot into the daemon's project, from a source with its option first.
    pub fn import_args<'a>(id: &'a str, source: &[&'a str]) -> Vec<&'a str> {
        let import = ["snapshot", "import", id, "--project", "demo"];
        [&import[..], source].concat()
    }

    /// A command against this daemon, not run yet.
    pub fn cli_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("MULTIDB_CONFIG", self.config_file())
            .env("MULTIDB_SOCKET", self.admin_socket());
        command
    }

    /// Runs a command with `--json` that must succeed, and returns its output.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let output = self.cli(&all);
        serde_json::from_str(output.ok())
            .unwrap_or_else(|error| panic!("{args:?} printed no JSON: {error}: {output:?}"))
    }

    /// The output of `instance show`.
    #[track_caller]
    pub fn instance(&self, name: &str) -> Value {
        self.json(&["instance", "show", name])
    }

    /// The instance's state; empty if there is no such instance.
    pub fn state(&self, name: &str) -> String {
        let output = self.cli(&["instance", "show", name, "--json"]);
        let shown: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        shown["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an instance is in this state; `""` means that it is gone.
    #[track_caller]
    pub fn wait_state(&self, name: &str, state: &str) {
        poll(
            &format!("instance {name} is {state:?}"),
            WAIT_TIMEOUT,
            || {
                let found = self.state(name);
                if found == state { Ok(()) } else { Err(found) }
            },
        );
    }

    /// The instance's data directory.
    #[track_caller]
    pub fn data_dir(&self, name: &str) -> PathBuf {
        let shown = self.instance(name);
        PathBuf::from(shown["data_dir"].as_str().expect("data_dir is a text"))
    }

    /// The instance's run directory.
    #[track_caller]
    pub fn run_dir(&self, name: &str) -> PathBuf {
        let shown = self.instance(name);
        let uid = shown["uid"].as_str().expect("uid is a text");
        self.root().join("run").join(uid)
    }

    /// The connection parameters of a driver with this user name.
    pub fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port())
            .user(user)
            .dbname(DATABASE);
        config
    }

    /// Connects with this user name; the test fails if it cannot.
    #[track_caller]
    pub fn connect(&self, user: &str) -> Session {
        self.try_connect(user)
            .unwrap_or_else(|failure| panic!("{user}: {failure:?}"))
    }

    /// Connects with this user name.
    pub fn try_connect(&self, user: &str) -> Result<Session, PgFailure> {
        Session::connect(&self.config(user))
    }

    /// Connects with a user name that must be refused, and returns the reason.
    #[track_caller]
    pub fn refused(&self, user: &str) -> PgFailure {
        match self.try_connect(user) {
            Ok(_) => panic!("{user}: a session was given"),
            Err(failure) => failure,
        }
    }

    /// A client that sends bytes of its own.
    pub fn raw(&self) -> RawClient {
        RawClient::connect(self.port())
    }

    /// Such a client, logged in with this user name, with all bytes up to ReadyForQuery read.
    pub fn raw_session(&self, user: &str) -> RawClient {
        /// Protocol 3.0.
        const VERSION: u32 = 0x0003_0000;
        let mut client = self.raw();
        client.send_startup(VERSION, &[("user", user), ("database", DATABASE)]);
        client.read_until('Z');
        client
    }

    /// A program of Postgres that is told to connect with this user name.
    pub fn client_program(&self, program: &str, user: &str) -> Command {
        let mut command = Command::new(postgres_bin().0.join(program));
        command.args(["--host=127.0.0.1", &format!("--port={}", self.port())]);
        command.arg(format!("--username={user}"));
        command
    }

    /// Runs SQL by psql.
    #[track_caller]
    pub fn psql(&self, user: &str, sql: &str) -> ProgramOutput {
        let mut command = self.client_program("psql", user);
        command.args(["--no-psqlrc", "--no-align", "--tuples-only"]);
        programs::run(command.args(["--dbname", DATABASE, "--command", sql]))
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// Starts the daemon with additional environment variables.
    #[track_caller]
    pub fn start_with(&self, environment: &[(&str, &str)]) {
        self.launch(Command::new(&self.binary), environment);
        self.wait_ready();
    }

    /// Starts the daemon with this umask, in octal digits.
    #[track_caller]
    pub fn start_with_umask(&self, umask: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", "umask \"$0\" && exec \"$@\"", umask]);
        command.arg(&self.binary);
        self.launch(command, &[]);
        self.wait_ready();
    }

    /// Starts the daemon with sockets that it does not bind itself.
    #[track_caller]
    pub fn start_with_sockets(&self, sockets: &HeldSockets) {
        self.launch_with_sockets(sockets);
        self.wait_ready();
    }

    /// Starts the daemon's process with sockets that it does not bind itself, without waiting for it.
    pub fn launch_with_sockets(&self, sockets: &HeldSockets) {
        self.launch(sockets.hand_over_to(&self.binary), &[]);
    }

    /// Starts the daemon's process without waiting for it.
    pub fn launch_only(&self) {
        self.launch_only_with(&[]);
    }

    /// Starts the daemon's process with additional environment variables, without waiting for it.
    pub fn launch_only_with(&self, environment: &[(&str, &str)]) {
        self.launch(Command::new(&self.binary), environment);
    }

    /// Waits until the daemon answers.
    #[track_caller]
    pub fn wait_ready(&self) {
        poll(
            "the daemon answers on its admin socket",
            WAIT_TIMEOUT,
            || {
                if let Some(status) = self.exit_status() {
                    panic!("the daemon exited, {status}; its log:\n{}", self.log());
                }
                let status = self.cli(&["status", "--json"]);
                if status.code == Some(0) {
                    Ok(())
                } else {
                    Err(status)
                }
            },
        );
    }

    /// Starts the daemon's process by this command without waiting for it.
    fn launch(&self, mut command: Command, environment: &[(&str, &str)]) {
        let log = self.open_log();
        let errors = log.try_clone().expect("a file handle can be cloned");
        if self.as_postgres {
            let (uid, gid) = programs::postgres_ids();
            command.uid(uid).gid(gid);
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(self.config_file())
            .env_remove("MULTIDB_CONFIG")
            .env_remove("NOTIFY_SOCKET")
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the daemon's program can be run");
        self.child.replace(Some(child));
    }

    fn open_log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the daemon's log can be opened")
    }

    /// The daemon's exit status, once it has exited.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.borrow_mut();
        child
            .as_mut()?
            .try_wait()
            .expect("a child can be waited for")
    }

    /// Waits until the daemon has exited.
    #[track_caller]
    pub fn wait_exit(&self) -> ExitStatus {
        poll("the daemon exits", WAIT_TIMEOUT, || {
            self.exit_status().ok_or("it runs")
        })
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a process id is above 0");
        kill_process(pid, signal).expect("a signal can be sent to a child");
    }

    /// Ends the daemon by SIGTERM and waits for its exit.
    #[track_caller]
    pub fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        let status = self.wait_exit();
        self.child.replace(None);
        status
    }

    /// Kills the daemon by SIGKILL.
    #[track_caller]
    pub fn kill9(&self) {
        self.signal(Signal::KILL);
        self.wait_exit();
        self.child.replace(None);
    }

    /// Stops the daemon by SIGTERM and starts it again.
    #[track_caller]
    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Waits until a line of the log contains this text.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        eventually(&format!("the log contains {text:?}"), WAIT_TIMEOUT, || {
            self.log().contains(text)
        });
    }
}

impl Drop for Daemon {
    /// The fields are dropped afterwards even if this panics.
    fn drop(&mut self) {
        if std::thread::panicking() {
            leftovers::report_and_clean(self);
        } else {
            leftovers::stop_and_check(self);
        }
    }
}
