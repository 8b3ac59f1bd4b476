//! Real servers as local processes.

use std::sync::{Arc, OnceLock};

use super::*;
use crate::probe::connect;

/// A root directory that Postgres' user can enter, with a host on it.
struct Fixture {
    _directory: tempfile::TempDir,
    layout: Layout,
    host: Arc<ProcessHost>,
}

const UID: u64 = 0x1234;

fn majors() -> u16 {
    let installed = Binaries::default().majors();
    *installed
        .last()
        .expect("PostgreSQL is not installed: use scripts/test.sh")
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let layout = Layout::new(directory.path());
    let owner = data_owner("postgres").unwrap();
    for (path, owner) in [
        (layout.run(), None),
        (layout.instances(), None),
        (layout.instance(uid()), Some(owner)),
    ] {
        fs::create_dir(&path).unwrap();
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }
    let host = Arc::new(ProcessHost::new(layout.clone(), owner, Vec::new()));
    Fixture {
        _directory: directory,
        layout,
        host,
    }
}

fn uid() -> InstanceUid {
    InstanceUid::from_bits(UID)
}

impl Fixture {
    fn spec(&self) -> ServerSpec {
        ServerSpec {
            uid: uid(),
            name: "test".to_owned(),
            purpose: Purpose::Instance,
            postgres_major: majors(),
            data_dir: self.layout.instance_data(uid()),
            log: self.layout.instance_log(uid()),
            settings: Vec::new(),
        }
    }

    async fn init(&self) {
        let output = self
            .host
            .run_program(&ProgramRun {
                postgres_major: majors(),
                program: "initdb",
                args: [
                    "-D",
                    &self.spec().data_dir.display().to_string(),
                    "-U",
                    "postgres",
                    "--no-sync",
                ]
                .map(str::to_owned)
                .to_vec(),
                env: Vec::new(),
                binds: Vec::new(),
            })
            .await
            .unwrap();
        assert!(output.success, "{:?}", output.stderr_tail);
    }

    async fn answers(&self, endpoint: &Endpoint) -> bool {
        match connect(endpoint, "postgres", "postgres").await {
            Ok(client) => client.simple_query("select 1").await.is_ok(),
            Err(_) => false,
        }
    }

    fn state(&self) -> String {
        let program = self
            .host
            .binaries
            .directory(majors())
            .unwrap()
            .join("pg_controldata");
        let output = std::process::Command::new(program)
            .arg(self.spec().data_dir)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Database cluster state:"));
        line.unwrap().trim().to_owned()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_starts_answers_and_stops_cleanly() {
    let fixture = fixture();
    fixture.init().await;
    for _ in 0..2 {
        let running = fixture.host.start_server(&fixture.spec()).await.unwrap();
        assert!(fixture.answers(&running.endpoint).await);
        fixture.host.stop_server(uid(), PATIENCE).await.unwrap();
        assert_eq!(running.exited.await, "exit status 0");
        assert_eq!(fixture.state(), "shut down");
        assert!(!fixture.layout.run_dir(uid()).exists());
    }
    // What does not run is stopped.
    fixture.host.stop_server(uid(), PATIENCE).await.unwrap();
    let log = fixture
        .host
        .server_logs(uid(), &fixture.spec().log, 100)
        .await
        .unwrap();
    let starts = log
        .iter()
        .filter(|line| line.contains("ready to accept connections"));
    assert_eq!(starts.count(), 2);
}

#[tokio::test]
async fn a_failed_start_says_what_postgres_said() {
    let fixture = fixture();
    fixture.init().await;
    let mut spec = fixture.spec();
    spec.settings
        .push(("work_mem".to_owned(), "nonsense".to_owned()));
    let error = fixture.host.start_server(&spec).await.err().unwrap();
    let StartError::Exited { status, log } = error else {
        panic!("{error}");
    };
    assert_eq!(status, "exit status 1");
    assert!(log.iter().any(|line| line.contains("work_mem")), "{log:?}");
}

#[tokio::test]
async fn a_server_that_was_killed_is_noticed_and_starts_again() {
    let fixture = fixture();
    fixture.init().await;
    let running = fixture.host.start_server(&fixture.spec()).await.unwrap();
    let client = connect(&running.endpoint, "postgres", "postgres")
        .await
        .unwrap();
    client
        .simple_query("create table kept (n int)")
        .await
        .unwrap();
    let data_dir = fixture.spec().data_dir;
    Postmaster::find(&data_dir).unwrap().signal(Signal::KILL);
    assert_eq!(running.exited.await, "signal 9");
    fixture.host.stop_server(uid(), PATIENCE).await.unwrap();
    let running = fixture.host.start_server(&fixture.spec()).await.unwrap();
    let client = connect(&running.endpoint, "postgres", "postgres")
        .await
        .unwrap();
    client.simple_query("select * from kept").await.unwrap();
    fixture.host.stop_server(uid(), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let fixture = fixture();
    fixture.init().await;
    for patience in [1, 5, 20] {
        let spec = fixture.spec();
        let start = fixture.host.start_server(&spec);
        let given_up = tokio::time::timeout(Duration::from_millis(patience), start).await;
        if given_up.is_ok_and(|started| started.is_ok()) {
            fixture.host.stop_server(uid(), PATIENCE).await.unwrap();
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while has_orphans(&fixture.spec().data_dir) || fixture.layout.run_dir(uid()).exists() {
            assert!(tokio::time::Instant::now() < deadline, "a server goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_running_server_is_taken_over() {
    let fixture = fixture();
    fixture.init().await;
    let first = fixture.host.start_server(&fixture.spec()).await.unwrap();
    let owner = fixture.host.data_owner();
    let second = ProcessHost::new(fixture.layout.clone(), owner, Vec::new());
    let mut found = second.running_servers().await.unwrap();
    assert_eq!(found.len(), 1);
    let (purpose, found) = found.remove(0);
    assert_eq!((purpose, found.uid), (Purpose::Instance, uid()));
    assert_eq!(found.postgres.endpoint, first.endpoint);
    assert!(fixture.answers(&found.postgres.endpoint).await);
    // The first host forgets its child, but must reap it, as init would.
    let reaped = tokio::spawn(first.exited);
    second.stop_server(uid(), PATIENCE).await.unwrap();
    found.postgres.exited.await;
    reaped.await.unwrap();
    assert!(second.running_servers().await.unwrap().is_empty());
}

#[test]
fn a_recycled_process_id_is_not_taken_for_a_postmaster() {
    let directory = tempfile::tempdir().unwrap();
    let ours = std::process::id();
    fs::write(directory.path().join("postmaster.pid"), format!("{ours}\n")).unwrap();
    assert!(Postmaster::find(directory.path()).is_none());
}

/// The programs are looked for once.
#[test]
fn a_major_that_is_not_installed_says_what_to_do() {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    let error = BINARIES
        .get_or_init(Binaries::default)
        .directory(7)
        .unwrap_err();
    assert!(error.hint.unwrap().contains("postgresql-7"));
}
