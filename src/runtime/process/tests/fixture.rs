//! A root directory that Postgres' user can enter, with a host and one cluster on it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::{Arc, Weak};
use std::time::Duration;

use multidb_actors::ports::{Endpoint, RunningPostgres};
use multidb_store::{InstanceUid, Layout};
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use crate::runtime::postmaster::Postmaster;
use crate::runtime::process::server_file::ServerFile;
use crate::runtime::process::{ProcessHost, orphans};
use crate::runtime::{
    PostgresHost, ProgramNetwork, ProgramOutput, ProgramRun, Purpose, ServerSpec, data_owner,
    server_processes,
};

/// The limit of every step.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Dropping it kills the processes on its cluster.
pub(crate) struct Fixture {
    pub(crate) host: ProcessHost,
    pub(crate) layout: Layout,
    major: u16,
    _directory: tempfile::TempDir,
    _template: Option<Arc<Fixture>>,
}

pub(crate) fn uid() -> InstanceUid {
    InstanceUid::from_bits(0x1234)
}

fn newest_major(host: &ProcessHost) -> u16 {
    let installed = host.binaries().majors();
    *installed
        .last()
        .expect("PostgreSQL is not installed: use scripts/test.sh")
}

impl Fixture {
    /// With a copy of one cluster that all tests share.
    pub(crate) async fn new() -> Self {
        // The last test that uses it removes it.
        static TEMPLATE: Mutex<Weak<Fixture>> = Mutex::const_new(Weak::new());
        let mut shared = TEMPLATE.lock().await;
        let template = match shared.upgrade() {
            Some(template) => template,
            None => Arc::new(Self::init(&[]).await),
        };
        *shared = Arc::downgrade(&template);
        drop(shared);
        let mut fixture = Self::empty();
        let copied = tokio::process::Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(template.spec().data_dir)
            .arg(fixture.spec().data_dir)
            .status();
        assert!(copied.await.unwrap().success());
        fixture._template = Some(template);
        fixture
    }

    /// With a cluster of its own, made with these options.
    pub(crate) async fn init(options: &[&str]) -> Self {
        let fixture = Self::empty();
        let data_dir = fixture.spec().data_dir.display().to_string();
        let mut args = vec!["-D", &data_dir, "-U", "postgres", "--no-sync"];
        args.extend(options);
        let output = fixture.run("initdb", &args).await;
        assert!(output.success, "{:?}", output.stderr_tail);
        fixture
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let enter = fs::Permissions::from_mode(0o711);
        fs::set_permissions(directory.path(), enter).unwrap();
        let layout = Layout::new(directory.path());
        let owner = data_owner("postgres").unwrap();
        for path in [
            layout.run(),
            layout.instances(),
            layout.snapshots(),
            layout.state(),
            layout.instance(uid()),
        ] {
            fs::create_dir(&path).unwrap();
        }
        // Here initdb makes the data directory itself.
        chown(layout.instance(uid()), Some(owner.0), Some(owner.1)).unwrap();
        let host = ProcessHost::new(layout.clone(), owner, Vec::new());
        Self {
            major: newest_major(&host),
            host,
            layout,
            _directory: directory,
            _template: None,
        }
    }

    /// A host without the state of this one, as after a restart of the daemon.
    pub(crate) fn another_host(&self) -> ProcessHost {
        ProcessHost::new(self.layout.clone(), self.host.data_owner(), Vec::new())
    }

    pub(crate) fn spec(&self) -> ServerSpec {
        ServerSpec {
            uid: uid(),
            name: "test".to_owned(),
            purpose: Purpose::Instance,
            postgres_major: self.major,
            data_dir: self.layout.instance_data(uid()),
            log: self.layout.instance_log(uid()),
            settings: Vec::new(),
        }
    }

    pub(crate) async fn start(&self) -> RunningPostgres {
        self.host.start_server(&self.spec()).await.unwrap()
    }

    pub(crate) async fn stop(&self) {
        self.host.stop_server(uid(), TIMEOUT).await.unwrap();
    }

    pub(crate) async fn run(&self, program: &'static str, args: &[&str]) -> ProgramOutput {
        let run = ProgramRun {
            postgres_major: self.major,
            program,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            binds: vec![self.layout.instance(uid())],
            network: ProgramNetwork::None,
            timeout: None,
        };
        self.host.run_program(&run).await.unwrap()
    }

    /// The running postmaster.
    pub(super) fn postmaster(&self) -> Postmaster {
        let file = ServerFile::read(&self.layout, uid()).unwrap().unwrap();
        file.postmaster().unwrap()
    }

    /// Kills the postmaster.
    pub(crate) fn kill_postmaster(&self) {
        self.postmaster().signal(Signal::KILL);
    }

    /// Whether nothing runs and no run directory is there.
    pub(crate) fn is_clear(&self) -> bool {
        !server_processes::any(&self.spec().data_dir)
            && !self.layout.run_dir(uid()).exists()
            && !self.layout.server_file(uid()).exists()
    }

    /// The cluster's state by its control file.
    pub(crate) async fn state(&self) -> String {
        let data_dir = self.spec().data_dir.display().to_string();
        let output = self.run("pg_controldata", &[&data_dir]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Database cluster state:"));
        line.unwrap().trim().to_owned()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        orphans::kill(&self.spec().data_dir);
    }
}

pub(crate) async fn client(endpoint: &Endpoint) -> Client {
    connect(endpoint, "postgres").await
}

/// Connects as the superuser, by a driver that is not multidb's.
pub(crate) async fn connect(endpoint: &Endpoint, database: &str) -> Client {
    let Endpoint::Unix(socket) = endpoint else {
        panic!("not a Unix socket: {endpoint:?}");
    };
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname(database);
    config.host_path(socket.parent().unwrap());
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    // It ends when its client is dropped.
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    client
}

/// The only value of the only row.
pub(crate) async fn value(endpoint: &Endpoint, query: &str) -> String {
    let client = client(endpoint).await;
    let row = client.query_one(query, &[]).await.unwrap();
    row.get(0)
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
