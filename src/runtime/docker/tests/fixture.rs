//! A root directory of its own for each test, on the engine that all share.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use multidb_actors::ports::Endpoint;
use multidb_store::{InstanceUid, Layout, RootId};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::runtime::docker::{DockerHost, DockerSettings, Limits, Network, default_socket};
use crate::runtime::{PostgresHost, ProgramNetwork, ProgramRun, Purpose, ServerSpec, data_owner};

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The limit for a condition to become true.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Fixture {
    pub(super) host: DockerHost,
    root: TempDir,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut DockerSettings)) -> Self {
        let root = TempDir::with_prefix("multidb-docker-").unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(Layout::new(root.path()).run()).unwrap();
        let mut settings = DockerSettings {
            socket: default_socket(),
            image: "postgres:{major}".to_owned(),
            network: Network::None,
            limits: Limits {
                memory_bytes: 512 << 20,
                cpus: 2.0,
            },
            data_owner: data_owner("postgres").unwrap(),
            layout: Layout::new(root.path()),
            root: RootId::from_bits(rand::random()),
            postgres_settings: Vec::new(),
        };
        change(&mut settings);
        let host = DockerHost::new(settings).await.unwrap();
        host.check().await.unwrap_or_else(|error| {
            panic!(
                "this test needs the Docker engine and the image postgres:15; run scripts/test.sh, \
                 which provides both: {}",
                error.message
            );
        });
        Self { host, root }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.host.inner.settings.layout
    }

    pub(super) async fn another_host(&self) -> DockerHost {
        DockerHost::new(self.host.inner.settings.clone())
            .await
            .unwrap()
    }

    /// An instance with an empty cluster.
    pub(super) async fn cluster(&self, number: u64) -> ServerSpec {
        let pid = u64::from(std::process::id());
        let random = u64::from_be_bytes([0, 0, 0, 0, 0, 0, 0, number as u8]);
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let uid = InstanceUid::from_bits(pid << 40 ^ u64::from(nanos) << 4 ^ random);
        let data_dir = self.layout().instance_data(uid);
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (user, group) = self.host.data_owner();
        chown(&data_dir, Some(user), Some(group)).unwrap();
        let data = data_dir.to_str().unwrap();
        let args = ["-D", data, "-U", "postgres", "--no-sync"];
        let output = self.run("initdb", &args, &data_dir).await;
        assert!(output.success, "{output:?}");
        ServerSpec {
            uid,
            name: format!("test-{number}"),
            purpose: Purpose::Instance,
            postgres_major: 15,
            log: self.layout().instance_log(uid),
            data_dir,
            settings: Vec::new(),
        }
    }

    async fn run(
        &self,
        program: &'static str,
        args: &[&str],
        bind: &Path,
    ) -> crate::runtime::ProgramOutput {
        let run = ProgramRun {
            postgres_major: 15,
            program,
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            env: Vec::new(),
            binds: vec![bind.to_owned()],
            network: ProgramNetwork::None,
            timeout: None,
        };
        self.host.run_program(&run).await.unwrap()
    }

    /// A server's container as a killed daemon leaves it when Postgres has exited meanwhile.
    pub(super) async fn leave_exited(&self, spec: &ServerSpec) {
        let name = self.name_of(spec);
        let args = ["create".to_owned(), format!("--name={name}")];
        let labels = self.host.inner.labels.server(spec);
        let labels = labels.iter().map(|(k, v)| format!("--label={k}={v}"));
        let rest = ["postgres:15", "true"].map(str::to_owned);
        let all: Vec<String> = args.into_iter().chain(labels).chain(rest).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.docker(&all);
    }

    /// The name of a server's container.
    pub(super) fn name_of(&self, spec: &ServerSpec) -> String {
        self.host.inner.labels.container_name(spec.uid)
    }

    /// The names of the containers of this root, without the pause container.
    pub(super) async fn containers(&self) -> Vec<String> {
        let all = self.docker(&["ps", "--all", "--format={{.Names}}", &self.filter()]);
        all.lines()
            .filter(|name| !name.starts_with("multidb-pause-"))
            .map(str::to_owned)
            .collect()
    }

    pub(super) async fn pause_id(&self) -> Option<String> {
        let filter = "--filter=label=multidb.purpose=pause";
        let ids = self.docker(&[
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            filter,
            &self.filter(),
        ]);
        ids.lines().next().map(str::to_owned)
    }

    /// The command-line client, as an operator uses it.
    pub(super) fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn filter(&self) -> String {
        format!("--filter=label=multidb.root={}", self.root.path().display())
    }

    /// Stops everything, and fails if something is left.
    pub(super) async fn finish(self) {
        for (_, found) in self.host.running_servers().await.unwrap().found {
            self.host.stop_server(found.uid, TIMEOUT).await.unwrap();
        }
        self.host.close().await;
        let left = self.docker(&["ps", "--all", "--format={{.Names}}", &self.filter()]);
        assert_eq!(left, "", "containers are left");
    }
}

impl Drop for Fixture {
    /// Removes the leftovers of a failed test.
    fn drop(&mut self) {
        let mut list = Command::new("docker");
        list.args(["ps", "--all", "--quiet", &self.filter()]);
        let Ok(output) = list.output() else { return };
        for id in String::from_utf8_lossy(&output.stdout).lines() {
            let _ = Command::new("docker").args(["rm", "--force", id]).output();
        }
    }
}

/// Starts the server, asks it something, and stops it.
pub(super) async fn check_started(host: &DockerHost, spec: &ServerSpec) {
    let running = host.start_server(spec).await.unwrap();
    assert_eq!(query(&running.endpoint, "select 42").await, "42");
    host.stop_server(spec.uid, TIMEOUT).await.unwrap();
    assert_eq!(running.exited.await, "exit code 0");
}

pub(super) async fn query(endpoint: &Endpoint, sql: &str) -> String {
    let Endpoint::Unix(socket) = endpoint else {
        panic!("not a Unix socket: {endpoint:?}");
    };
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname("postgres");
    config.host_path(socket.parent().unwrap());
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.simple_query(sql).await.unwrap();
    let value = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    drop(client);
    let _ = connection.await;
    value.unwrap()
}

pub(super) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + CONDITION_TIMEOUT;
    while !condition().await {
        assert!(Instant::now() < deadline, "not true in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A network of the engine, removed at the end.
pub(super) struct TestNetwork(pub(super) String);

impl TestNetwork {
    pub(super) fn create() -> Self {
        let name = format!("multidb-test-{}", std::process::id());
        let args = ["network", "create", "--internal", &name];
        let output = Command::new("docker").args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(name)
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        let args = ["network", "rm", &self.0];
        let _ = Command::new("docker").args(args).output();
    }
}
