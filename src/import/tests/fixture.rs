//! A root to import into, and a source cluster with all kinds of objects.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use multidb_actors::ports::RunningPostgres;
use multidb_store::{InstanceUid, Layout, SnapshotId, SnapshotRecord};
use tokio_util::sync::CancellationToken;

use crate::clone::{Method, TreeCloner};
use crate::config::Preset;
use crate::import::{
    ErrorPolicy, ImportError, ImportRequest, ImportSource, Importer, MigrationsQuery, Progress,
    ProjectImport,
};
use crate::runtime::binaries::Binaries;
use crate::runtime::data_owner;
use crate::runtime::process::ProcessHost;
use crate::runtime::process::tests::fixture::connect;
use crate::runtime::{PostgresHost, ProgramNetwork, ProgramRun, Purpose, ServerSpec};

pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The contents of each source.
const SOURCE: &str = include_str!("source.sql");

pub(super) fn major() -> u16 {
    let installed = Binaries::search().majors();
    *installed
        .last()
        .expect("PostgreSQL is not installed: use scripts/test.sh")
}

/// A root with a host and an importer.
pub(super) struct Fixture {
    directory: tempfile::TempDir,
    pub(super) layout: Layout,
    pub(super) host: Arc<ProcessHost>,
    /// For servers and programs on directories outside the root.
    tools: Arc<ProcessHost>,
    pub(super) importer: Importer,
    /// The events of the last import.
    pub(super) events: Arc<Mutex<Vec<Progress>>>,
}

/// A server that is stopped with the test.
pub(super) struct Server {
    host: Arc<ProcessHost>,
    pub(super) uid: InstanceUid,
    pub(super) running: RunningPostgres,
    pub(super) data_dir: PathBuf,
}

/// An importer that leaves this many bytes free and announces nothing.
fn importer(host: &Arc<ProcessHost>, layout: &Layout, reserve_bytes: u64) -> Importer {
    let owner = host.data_owner();
    let cloner = TreeCloner::open(layout.clone(), Method::Copy, reserve_bytes, owner).unwrap();
    let announce = |_| -> BoxFuture<'static, ()> { Box::pin(std::future::ready(())) };
    Importer::new(
        host.clone(),
        Arc::new(cloner),
        layout.clone(),
        Arc::new(announce),
    )
}

impl Fixture {
    /// Replaces the importer by an importer that leaves this many bytes free.
    pub(super) fn with_reserve(mut self, bytes: u64) -> Self {
        self.importer = importer(&self.host, &self.layout, bytes);
        self
    }

    pub(super) fn new() -> Self {
        Self::with_settings(Vec::new())
    }

    /// A host whose servers have these configured settings.
    pub(super) fn with_settings(settings: Vec<(String, String)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o711));
        open(directory.path()).unwrap();
        let layout = Layout::new(directory.path().join("root"));
        let owner = data_owner("postgres").unwrap();
        let host = Arc::new(ProcessHost::new(layout.clone(), owner, settings));
        let importer = importer(&host, &layout, 0);
        let outside = Layout::new(directory.path());
        fs::create_dir(outside.run()).unwrap();
        open(&outside.run()).unwrap();
        let tools = ProcessHost::new(outside, owner, Vec::new());
        Self {
            tools: Arc::new(tools),
            directory,
            layout,
            host,
            importer,
            events: Arc::default(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that Postgres' user cannot read.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(super) async fn program(&self, program: &'static str, args: &[String]) -> Vec<u8> {
        let run = ProgramRun {
            postgres_major: major(),
            program,
            args: args.to_vec(),
            env: Vec::new(),
            binds: vec![self.path("")],
            network: ProgramNetwork::None,
            timeout: None,
        };
        let output = self.tools.run_program(&run).await.unwrap();
        assert!(output.success, "{program}: {:?}", output.stderr_tail);
        output.stdout
    }

    /// A directory that Postgres' user owns.
    pub(super) fn own_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        let (uid, gid) = self.host.data_owner();
        chown(&path, Some(uid), Some(gid)).unwrap();
        path
    }

    pub(super) async fn init(&self, name: &str) -> PathBuf {
        let data = self.own_dir(name);
        let args = [
            "-D",
            &data.display().to_string(),
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ];
        self.program("initdb", &args.map(str::to_owned)).await;
        data
    }

    pub(super) async fn start(&self, data_dir: &Path) -> Server {
        let uid = InstanceUid::from_bits(rand::random());
        let spec = ServerSpec {
            uid,
            name: "test".to_owned(),
            purpose: Purpose::Instance,
            postgres_major: major(),
            data_dir: data_dir.to_owned(),
            log: self.path("server.log"),
            settings: vec![("max_prepared_transactions".to_owned(), "2".to_owned())],
        };
        let running = self.tools.start_server(&spec).await.unwrap();
        Server {
            host: self.tools.clone(),
            uid,
            running,
            data_dir: data_dir.to_owned(),
        }
    }

    /// A running server with all kinds of objects in its database.
    pub(super) async fn source(&self) -> Server {
        let data = self.init("source").await;
        let server = self.start(&data).await;
        server
            .run(
                "postgres",
                "CREATE ROLE app LOGIN; CREATE ROLE \"We ird\"; CREATE ROLE reader",
            )
            .await;
        server
            .run("postgres", "CREATE DATABASE proj OWNER app")
            .await;
        server.run("proj", SOURCE).await;
        server
    }

    /// The script of a database, without the tokens that differ between two runs.
    pub(super) async fn dump_text(&self, server: &Server, database: &str) -> String {
        let args = server.args(&["--no-comments", "--dbname", database]);
        let text = String::from_utf8(self.program("pg_dump", &args).await).unwrap();
        let differs =
            |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
        text.lines()
            .filter(|line| !differs(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(super) fn request(&self, id: &str, source: ImportSource) -> ImportRequest {
        ImportRequest {
            id: id.parse().unwrap(),
            project: "proj".parse().unwrap(),
            source,
            taken_at: None,
            postgres_major: None,
            errors: ErrorPolicy::Default,
            settings: ProjectImport {
                database: "proj".to_owned(),
                role: "app".to_owned(),
                migrations: MigrationsQuery {
                    sql: Preset::Django.query().to_owned(),
                    database: None,
                },
                encoding: None,
                locale: None,
                prepare: Vec::new(),
                rename_database: BTreeMap::new(),
            },
        }
    }

    pub(super) async fn import(
        &self,
        request: ImportRequest,
    ) -> Result<SnapshotRecord, ImportError> {
        self.events.lock().unwrap().clear();
        let events = self.events.clone();
        let progress = move |event| events.lock().unwrap().push(event);
        let work = self
            .importer
            .import(request, progress, CancellationToken::new());
        tokio::time::timeout(TIMEOUT, work)
            .await
            .expect("the import hangs")
    }

    /// The warnings of the last import.
    pub(super) fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            Progress::Warning(text) => Some(text.clone()),
            _ => None,
        });
        warnings.collect()
    }

    /// A copy of a directory, with its owners and modes.
    pub(super) fn copy_of(&self, from: &Path, name: &str) -> PathBuf {
        let copy = self.path(name);
        let status = Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(from)
            .arg(&copy)
            .status();
        assert!(status.unwrap().success());
        copy
    }

    pub(super) async fn import_dump(
        &self,
        id: &str,
        path: &Path,
    ) -> Result<SnapshotRecord, ImportError> {
        self.import(self.request(id, ImportSource::Dump(path.to_owned())))
            .await
    }

    pub(super) fn snapshot_data(&self, id: &SnapshotId) -> PathBuf {
        self.layout.snapshot_data(id)
    }

    /// Starts a server on a copy of the snapshot, like an instance.
    pub(super) async fn start_copy(&self, snapshot: &SnapshotRecord, name: &str) -> Server {
        let copy = self.copy_of(&self.snapshot_data(&snapshot.id), name);
        self.start(&copy).await
    }

    /// Waits until only these snapshots are left of all imports.
    pub(super) async fn assert_nothing_left(&self, snapshots: &[&str]) {
        let names = |path: PathBuf| -> Vec<String> {
            let entries = fs::read_dir(path).unwrap();
            let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names
        };
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let servers = self.host.running_servers().await.unwrap().found;
            let imports = servers
                .iter()
                .filter(|(purpose, _)| *purpose == Purpose::Import)
                .count();
            let run_dirs = names(self.layout.run()).len();
            let left = (names(self.layout.snapshots()), names(self.layout.trash()));
            if left.0 == snapshots && left.1.is_empty() && imports == 0 && run_dirs == servers.len()
            {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{left:?}, {imports} servers"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asserts that all files under a path belong to Postgres' user.
    pub(super) fn assert_owner(&self, path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let owner = (metadata.uid(), metadata.gid());
            assert_eq!(owner, self.host.data_owner(), "{}", entry.path().display());
            if metadata.is_dir() {
                self.assert_owner(&entry.path());
            }
        }
    }
}

impl Server {
    pub(super) async fn run(&self, database: &str, sql: &str) {
        let client = connect(&self.running.endpoint, database).await;
        client.batch_execute(sql).await.unwrap();
    }

    /// The first column of the first row, as text.
    pub(super) async fn ask(&self, database: &str, sql: &str) -> String {
        let client = connect(&self.running.endpoint, database).await;
        let row = client.query_one(sql, &[]).await.unwrap();
        row.get(0)
    }

    /// Arguments of a program, after the arguments for the connection.
    pub(super) fn args(&self, more: &[&str]) -> Vec<String> {
        let multidb_actors::ports::Endpoint::Unix(socket) = &self.running.endpoint else {
            panic!("no socket");
        };
        let directory = socket.parent().unwrap().display().to_string();
        let connection = ["--username", "postgres", "--host", &directory];
        connection
            .iter()
            .chain(more)
            .map(|arg| (*arg).to_owned())
            .collect()
    }

    pub(super) async fn stop(self) -> PathBuf {
        self.host.stop_server(self.uid, TIMEOUT).await.unwrap();
        // Its configuration was multidb's, elsewhere; an ordinary server has it in the data directory.
        fs::remove_file(self.data_dir.join("postmaster.opts")).unwrap();
        self.data_dir
    }
}
