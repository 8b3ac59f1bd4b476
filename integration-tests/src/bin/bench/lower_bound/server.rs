//! Postgres as multidb starts it, started by hand: the same program, command line and settings, or the
//! same container, copied from an instance that runs.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multidb_integration_tests::{Engine, postmaster_pid};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::environment::Environment;
use crate::http::Http;

/// The Docker engine's own socket.
const ENGINE: &str = "/var/run/docker.sock";

/// The oldest version of the API that has all that is used here.
const API: &str = "/v1.41";

/// The line of `postmaster.pid` that says whether the server accepts connections.
const STATUS_LINE: usize = 7;

/// Nothing starts or stops more slowly.
const LIMIT: Duration = Duration::from_secs(60);

/// The command line or container of a server, and its files.
pub(super) struct Recipe {
    how: How,
    run_dir: PathBuf,
    owner: (u32, u32),
    /// The configuration files, which say nothing of the place that they are in.
    files: Vec<(String, String)>,
}

enum How {
    /// A command line.
    Process(Vec<String>),
    /// The body of a request that creates a container.
    Container(Http, Value),
}

/// A server that was started.
pub(super) struct Server {
    running: Running,
    pid_file: PathBuf,
}

enum Running {
    Process(Child),
    Container(Http, String),
}

impl Recipe {
    /// Reads how an instance was started, with other directories in the place of its own.
    pub(super) fn read(environment: &Environment, instance: &str, dir: &Path) -> Self {
        let data = environment.data_dir(instance);
        let theirs = environment.run_dir(instance);
        let run_dir = dir.join("run");
        let replace = |text: &str| {
            text.replace(
                &data.display().to_string(),
                &dir.join("data").display().to_string(),
            )
            .replace(
                &theirs.display().to_string(),
                &run_dir.display().to_string(),
            )
        };
        let how = match environment.engine() {
            Engine::Process => {
                let pid = postmaster_pid(&data).expect("the instance runs");
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .expect("the postmaster's command line can be read");
                let words = line.trim_end_matches('\0').split('\0');
                How::Process(words.map(replace).collect())
            }
            Engine::Docker => {
                let engine = Http::new(Path::new(ENGINE));
                let shown = environment.instance(instance);
                let uid = shown["uid"].as_str().expect("an instance has a uid");
                let filter = format!("%7B%22label%22%3A%5B%22multidb.uid%3D{uid}%22%5D%7D");
                let path = format!("{API}/containers/json?filters={filter}");
                let listed = engine.request("GET", &path, None);
                let id = listed[0]["Id"].as_str().expect("the instance runs");
                let path = format!("{API}/containers/{id}/json");
                let body = container_body(&engine.request("GET", &path, None), dir);
                let body = replace(&body.to_string());
                How::Container(engine, serde_json::from_str(&body).expect("it was JSON"))
            }
        };
        let owner = fs::metadata(&theirs).expect("the run directory is there");
        let files = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"].map(|name| {
            let text = fs::read_to_string(theirs.join(name)).expect("a setting's file is there");
            (name.to_owned(), text)
        });
        Self {
            how,
            owner: (owner.uid(), owner.gid()),
            files: files.to_vec(),
            run_dir,
        }
    }

    /// Makes the run directory; not on the clock.
    pub(super) fn prepare(&self) {
        let _ = fs::remove_dir_all(&self.run_dir);
        DirBuilder::new()
            .mode(0o700)
            .create(&self.run_dir)
            .expect("a run directory can be made");
        chown(&self.run_dir, Some(self.owner.0), Some(self.owner.1))
            .expect("root can give a directory away");
        for (name, text) in &self.files {
            fs::write(self.run_dir.join(name), text).expect("a file can be written");
        }
    }

    /// The server's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir.join(".s.PGSQL.5432")
    }

    /// Starts a server, and does not wait.
    pub(super) fn start(&self, data: &Path) -> Server {
        let running = match &self.how {
            How::Process(words) => Running::Process(self.spawn(words)),
            How::Container(engine, body) => {
                let made = engine.request("POST", &format!("{API}/containers/create"), Some(body));
                let id = made["Id"]
                    .as_str()
                    .expect("a container has an id")
                    .to_owned();
                engine.request("POST", &format!("{API}/containers/{id}/start"), None);
                Running::Container(engine.clone(), id)
            }
        };
        Server {
            running,
            pid_file: data.join("postmaster.pid"),
        }
    }

    fn spawn(&self, words: &[String]) -> Child {
        Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .uid(self.owner.0)
            .gid(self.owner.1)
            .spawn()
            .expect("postgres can be started")
    }
}

impl Server {
    /// Waits until it accepts connections.
    pub(super) fn wait_ready(&self) {
        let begin = Instant::now();
        loop {
            let text = fs::read_to_string(&self.pid_file).unwrap_or_default();
            if text.lines().nth(STATUS_LINE).map(str::trim) == Some("ready") {
                return;
            }
            assert!(
                begin.elapsed() < LIMIT,
                "the lower bound's postgres does not start"
            );
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Shuts it down cleanly, and waits until nothing of it is left.
    pub(super) fn stop(self) {
        match self.running {
            Running::Process(mut child) => {
                let pid = Pid::from_raw(child.id().cast_signed()).expect("it is above 0");
                kill_process(pid, Signal::INT).expect("a child can be signalled");
                child.wait().expect("a child can be waited for");
            }
            Running::Container(engine, id) => {
                let path = format!("{API}/containers/{id}");
                engine.request("POST", &format!("{path}/kill?signal=SIGINT"), None);
                engine.request("POST", &format!("{path}/wait"), None);
                engine.request("DELETE", &format!("{path}?force=true&v=true"), None);
            }
        }
    }
}

/// The request body that creates a container like this one. Its labels are others: multidb must not think it is its
/// own.
fn container_body(inspected: &Value, dir: &Path) -> Value {
    let mut body = json!({
        "Labels": {"multidb.root": dir},
        "HostConfig": inspected["HostConfig"],
    });
    let keys = [
        "Image",
        "User",
        "Entrypoint",
        "Cmd",
        "Env",
        "WorkingDir",
        "StopSignal",
        "StopTimeout",
        "Healthcheck",
    ];
    for key in keys {
        body[key] = inspected["Config"][key].clone();
    }
    body
}
