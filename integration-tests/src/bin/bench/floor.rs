//! The floor: what the same work costs by hand, without a daemon, its records or its proxy.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::Options;
use crate::wire::{Address, Target};
use crate::world::{Runtime, World, as_postgres};

/// The settings that multidb gives its servers too.
const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "shared_buffers=16MB",
    "huge_pages=off",
    "wal_init_zero=off",
    "wal_recycle=off",
    "min_wal_size=32MB",
    "recovery_init_sync_method=syncfs",
    "max_connections=300",
    "ssl=off",
    "logging_collector=off",
    "archive_mode=off",
];

/// What one run of the floor took.
pub(crate) struct Floor {
    /// The bare clone.
    pub(crate) clone: Duration,
    /// The first start on it, to the first answer.
    pub(crate) start: Duration,
    /// The second start on it, to the first answer.
    pub(crate) wake: Duration,
}

/// Clones, starts, stops and starts again.
pub(crate) fn run(world: &World, options: &Options) -> Floor {
    let directory = world.directory.join("floor");
    let data = directory.join("data");
    let run = directory.join("run");
    fs::create_dir(&directory).expect("a directory is made");
    fs::create_dir(&run).expect("a directory is made");
    chown(&run, Some(world.owner.0), Some(world.owner.1)).expect("it is given away");
    let began = Instant::now();
    if world.method == "btrfs-snapshot" {
        btrfs(&["subvolume", "snapshot"], &[&world.data, &data]);
    } else {
        clone_tree(&world.data, &data);
        fs::File::open(&directory)
            .and_then(|d| d.sync_all())
            .expect("it is synced");
    }
    let clone = began.elapsed();
    let once = || match options.runtime {
        Runtime::Process => start_process(world, &data, &run),
        Runtime::Docker => start_container(world, &data, &run),
    };
    let start = once();
    let wake = once();
    if world.method == "btrfs-snapshot" {
        btrfs(&["subvolume", "delete"], &[&data]);
    }
    fs::remove_dir_all(&directory).expect("it is removed");
    Floor { clone, start, wake }
}

fn btrfs(verb: &[&str], paths: &[&Path]) {
    let status = Command::new("btrfs")
        .args(verb)
        .args(paths)
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("btrfs runs").success());
}

/// FICLONE of each file, and nothing else that a clone can do without.
fn clone_tree(from: &Path, to: &Path) {
    let metadata = fs::metadata(from).expect("the snapshot is there");
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .expect("a directory is made");
    chown(to, Some(metadata.uid()), Some(metadata.gid())).expect("it is given away");
    for entry in fs::read_dir(from).expect("it is listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clone_tree(&entry.path(), &target);
            continue;
        }
        let source = fs::File::open(entry.path()).expect("it opens");
        let copy = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target);
        let copy = copy.expect("it is made");
        fchown(&copy, Some(metadata.uid()), Some(metadata.gid())).expect("it is given away");
        if source.metadata().is_ok_and(|m| m.len() > 0) {
            rustix::fs::ioctl_ficlone(&copy, &source).expect("it is cloned");
        }
    }
}

fn arguments(data: &Path, run: &Path) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    let directories = format!("unix_socket_directories={}", run.display());
    for setting in SETTINGS.iter().copied().chain([directories.as_str()]) {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    arguments
}

/// Until `select 1` is answered, asked each millisecond.
fn first_answer(run: &Path) {
    let socket = Address::Socket(run.join(".s.PGSQL.5432"));
    loop {
        if let Some(mut open) = Target::new(socket.clone(), "postgres").try_open() {
            open.send("select 1");
            return open.row();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn start_process(world: &World, data: &Path, run: &Path) -> Duration {
    let began = Instant::now();
    let mut server = as_postgres("postgres", world.owner)
        .args(arguments(data, run))
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres starts");
    first_answer(run);
    let took = began.elapsed();
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is told to stop");
    server.wait().expect("it stops");
    took
}

/// Creates and starts a container as multidb does: in the namespace of its pause container.
fn start_container(world: &World, data: &Path, run: &Path) -> Duration {
    let listed = engine("GET", "/containers/json?all=false", "");
    let containers: serde_json::Value = serde_json::from_str(&listed).unwrap_or_default();
    let pause = containers
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|container| {
            let names = container["Names"].to_string();
            names
                .contains("pause")
                .then(|| container["Id"].as_str().map(str::to_owned))?
        });
    let network = pause.map_or("none".to_owned(), |id| format!("container:{id}"));
    let (data_text, run_text) = (data.display().to_string(), run.display().to_string());
    let body = serde_json::json!({
        "Image": "postgres:15",
        "Entrypoint": ["/usr/lib/postgresql/15/bin/postgres"],
        "Cmd": arguments(data, run),
        "User": format!("{}:{}", world.owner.0, world.owner.1),
        "StopSignal": "SIGINT",
        "HostConfig": {
            "Binds": [format!("{data_text}:{data_text}"), format!("{run_text}:{run_text}")],
            "NetworkMode": network, "ShmSize": 512 << 20, "Memory": 1u64 << 30,
            "NanoCpus": 2_000_000_000u64, "CapDrop": ["ALL"],
        },
    });
    let began = Instant::now();
    let created = engine("POST", "/containers/create", &body.to_string());
    let created: serde_json::Value = serde_json::from_str(&created).unwrap_or_default();
    let id = created["Id"]
        .as_str()
        .expect("a container is created")
        .to_owned();
    engine("POST", &format!("/containers/{id}/start"), "");
    first_answer(run);
    let took = began.elapsed();
    engine("POST", &format!("/containers/{id}/stop?t=20"), "");
    engine("DELETE", &format!("/containers/{id}?force=true"), "");
    took
}

/// One request to the engine; its answer's body.
fn engine(method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect("/var/run/docker.sock").expect("an engine answers");
    let request = format!(
        "{method} /v1.41{path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
        .split_once("\r\n\r\n")
        .map_or(String::new(), |(_, body)| body.to_owned())
}
