//! Failures of a container, an image and the engine.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use multidb_actors::ports::{RuntimeError, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::fixture::{Fixture, check_started, eventually, query};
use crate::runtime::docker::engine::Engine;
use crate::runtime::docker::probe_engine;
use crate::runtime::{PostgresHost, ProgramNetwork, ProgramRun};

#[tokio::test]
async fn a_killed_container_is_noticed_cleared_away_and_its_data_is_whole() {
    let fixture = Fixture::new().await;
    let spec = fixture.cluster(1).await;
    let running = fixture.host.start_server(&spec).await.unwrap();
    query(
        &running.endpoint,
        "create table t as select 7 as n; select n from t",
    )
    .await;
    fixture.docker(&["kill", &fixture.name_of(&spec)]);
    assert_eq!(running.exited.await, "killed by SIGKILL");
    eventually("its container is gone", async || {
        fixture.containers().await.is_empty()
    })
    .await;
    assert!(
        std::fs::read_to_string(&spec.log)
            .unwrap()
            .contains("ready to accept")
    );

    // Its postmaster.pid is still there, with the process id that the next one has, too.
    assert!(spec.data_dir.join("postmaster.pid").exists());
    let again = fixture.host.start_server(&spec).await.unwrap();
    assert_eq!(query(&again.endpoint, "select n from t").await, "7");
    fixture.finish().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_an_error_with_a_hint() {
    let fixture = Fixture::with(|s| s.image = "127.0.0.1:1/none:{major}".to_owned()).await;
    let error = fixture.host.run_program(&version()).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with("the image \"127.0.0.1:1/none:15\" is missing and cannot be pulled"),
        "{}",
        error.message
    );
    assert!(
        error
            .hint
            .unwrap()
            .contains("docker pull 127.0.0.1:1/none:15")
    );
    fixture.finish().await;
}

#[tokio::test]
async fn an_image_without_postgres_is_an_error_that_says_so() {
    let image = EmptyImage::import();
    let fixture = Fixture::with(|settings| {
        settings.image = image.0.clone();
        // The pause container would be the first to fail.
        settings.network = crate::runtime::docker::Network::Private;
    })
    .await;
    let error = fixture.host.run_program(&version()).await.unwrap_err();
    assert!(
        error
            .message
            .contains("has no PostgreSQL 15: no program \"psql\""),
        "{}",
        error.message
    );

    let real = Fixture::new().await;
    let spec = real.cluster(1).await;
    let error = match fixture.host.start_server(&spec).await {
        Err(StartError::Runtime(error)) => error,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it started"),
    };
    assert!(
        error.message.contains("no program \"postgres\""),
        "{}",
        error.message
    );
    assert!(error.hint.unwrap().contains("runtime.image"));
    assert!(fixture.containers().await.is_empty());
    fixture.finish().await;
    real.finish().await;
}

#[tokio::test]
async fn no_engine_is_an_error_with_a_hint() {
    let nowhere = Path::new("/nonexistent/docker.sock");
    let error = probe_engine(nowhere).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with("the docker engine does not answer at /nonexistent/docker.sock"),
        "{}",
        error.message
    );
    assert!(error.hint.unwrap().contains("systemctl status docker"));
}

#[tokio::test]
async fn an_engine_that_hangs_is_an_error_in_bounded_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    // Connections are accepted by the kernel and never served.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let begun = Instant::now();
    let error = probe_engine(&socket).await.unwrap_err();
    assert!(
        error.message.contains("does not answer at"),
        "{}",
        error.message
    );
    assert!(begun.elapsed() <= Duration::from_secs(10));
}

#[tokio::test]
async fn an_engine_that_goes_and_comes_back_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let relay = relay(&socket);
    let fixture = Fixture::with(|settings| settings.socket = socket.clone()).await;
    let spec = fixture.cluster(1).await;
    let running = fixture.host.start_server(&spec).await.unwrap();

    relay.abort();
    let _ = relay.await;
    std::fs::remove_file(&socket).unwrap();
    let begun = Instant::now();
    let error = fixture.host.running_servers().await.err().unwrap();
    assert!(
        error.message.contains("does not answer at"),
        "{}",
        error.message
    );
    assert!(error.hint.is_some());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        begun.elapsed()
    );
    assert_eq!(
        query(&running.endpoint, "select 8").await,
        "8",
        "Postgres needs no engine"
    );

    let _relay = self::relay(&socket);
    assert_eq!(fixture.host.running_servers().await.unwrap().found.len(), 1);
    fixture
        .host
        .stop_server(spec.uid, Duration::from_secs(30))
        .await
        .unwrap();
    // It learns of the exit, though not always how: the engine was away when it happened.
    running.exited.await;
    check_started(&fixture.host, &spec).await;
    fixture.finish().await;
}

#[tokio::test]
async fn each_request_has_the_engines_own_version_and_a_changed_engine_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let fake = FakeEngine::start(&socket, "1.41", "1.12");
    let engine = Engine::new(&socket);
    let info = engine.check().await.unwrap();
    assert_eq!(info.api, "1.41");
    assert!(ping(&engine).await.is_ok());
    fake.replace("1.60", "1.44").await;
    assert!(ping(&engine).await.is_ok(), "after the engine was upgraded");
    fake.replace("1.99", "1.90").await;
    let error = RuntimeError::from(ping(&engine).await.unwrap_err());
    assert!(
        error.message.contains("speaks API 1.90 to 1.99"),
        "{}",
        error.message
    );
}

async fn ping(engine: &Engine) -> Result<String, crate::runtime::docker::engine::CallError> {
    engine
        .call("pinging", |docker| async move { docker.ping().await })
        .await
}

fn version() -> ProgramRun {
    ProgramRun {
        postgres_major: 15,
        program: "psql",
        args: vec!["--version".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: None,
    }
}

/// An image with nothing in it, removed at the end.
struct EmptyImage(String);

impl EmptyImage {
    fn import() -> Self {
        let name = format!("multidb-empty-{}:1", std::process::id());
        let mut import = Command::new("docker")
            .args(["import", "-", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Two empty blocks are a tar archive of nothing.
        import.stdin.take().unwrap().write_all(&[0; 1024]).unwrap();
        assert!(import.wait().unwrap().success());
        Self(name)
    }
}

impl Drop for EmptyImage {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rmi", "--force", &self.0])
            .output();
    }
}

#[tokio::test]
async fn an_engine_without_init_runs_servers_as_the_first_process() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _relay = relay_without_init(&socket);
    let fixture = Fixture::with(|settings| settings.socket = socket.clone()).await;
    let spec = fixture.cluster(1).await;
    let running = fixture.host.start_server(&spec).await.unwrap();
    let has_init = |fixture: &Fixture, spec| {
        let name = fixture.name_of(spec);
        fixture.docker(&["inspect", "--format={{.HostConfig.Init}}", &name])
    };
    assert_eq!(has_init(&fixture, &spec).trim(), "false");
    assert_eq!(query(&running.endpoint, "select 9").await, "9");
    let stopped = fixture.host.stop_server(spec.uid, Duration::from_secs(30));
    stopped.await.unwrap();
    assert_eq!(running.exited.await, "exit code 0");
    fixture.finish().await;

    let with_init = Fixture::new().await;
    let spec = with_init.cluster(1).await;
    let running = with_init.host.start_server(&spec).await.unwrap();
    assert_eq!(has_init(&with_init, &spec).trim(), "true");
    assert_eq!(query(&running.endpoint, "select 9").await, "9");
    with_init.finish().await;
}

/// A socket that leads to the real engine, except for containers with an init, which it cannot make.
fn relay_without_init(socket: &Path) -> tokio::task::JoinHandle<()> {
    const MESSAGE: &str =
        r#"{"message":"exec: \"docker-init\": executable file not found in $PATH"}"#;
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let real = crate::runtime::docker::default_socket();
                let mut engine = tokio::net::UnixStream::connect(real).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_engine, mut to_engine) = engine.split();
                let requests = async {
                    let mut bytes = vec![0; 64 << 10];
                    loop {
                        let length = from_client.read(&mut bytes).await.unwrap_or(0);
                        let bytes = &bytes[..length];
                        let asks_for_init = bytes.windows(11).any(|part| part == b"\"Init\":true");
                        if asks_for_init || length == 0 {
                            return asks_for_init;
                        }
                        to_engine.write_all(bytes).await.unwrap();
                    }
                };
                let answers = tokio::io::copy(&mut from_engine, &mut to_client);
                let asks_for_init = tokio::select! {
                    asks_for_init = requests => asks_for_init,
                    _ = answers => false,
                };
                if asks_for_init {
                    let head =
                        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json";
                    let length = MESSAGE.len();
                    let answer = format!(
                        "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{MESSAGE}"
                    );
                    let _ = to_client.write_all(answer.as_bytes()).await;
                }
            });
        }
    })
}

/// A socket that leads to the real engine until the task is aborted.
fn relay(socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let real = crate::runtime::docker::default_socket();
                let mut engine = tokio::net::UnixStream::connect(real).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
            });
        }
    })
}

/// Answers pings in its own API versions alone, as real engines do.
struct FakeEngine {
    versions: std::sync::Arc<tokio::sync::Mutex<(String, String)>>,
}

impl FakeEngine {
    fn start(socket: &Path, newest: &str, oldest: &str) -> Self {
        let versions = (newest.to_owned(), oldest.to_owned());
        let versions = std::sync::Arc::new(tokio::sync::Mutex::new(versions));
        let listener = UnixListener::bind(socket).unwrap();
        let shared = std::sync::Arc::clone(&versions);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let (newest, oldest) = shared.lock().await.clone();
                let (status, body) = answer(&request, &newest, &oldest);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { versions }
    }

    async fn replace(&self, newest: &str, oldest: &str) {
        *self.versions.lock().await = (newest.to_owned(), oldest.to_owned());
    }
}

fn answer(request: &str, newest: &str, oldest: &str) -> (u16, String) {
    let path = request.split_whitespace().nth(1).unwrap();
    if path == "/version" {
        let body =
            format!(r#"{{"Version":"1","ApiVersion":"{newest}","MinAPIVersion":"{oldest}"}}"#);
        return (200, body);
    }
    let minor = |version: &str| version.strip_prefix("1.").unwrap().parse::<u32>().unwrap();
    let Some(asked) = path
        .strip_prefix("/v")
        .and_then(|rest| rest.strip_suffix("/_ping"))
    else {
        return (404, r#"{"message":"page not found"}"#.to_owned());
    };
    if (minor(oldest)..=minor(newest)).contains(&minor(asked)) {
        (200, "OK".to_owned())
    } else {
        let message = format!("client version {asked} is too new or too old");
        (400, format!(r#"{{"message":"{message}"}}"#))
    }
}
