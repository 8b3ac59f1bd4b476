//! The limits and mounts of a container, and the calls that create, start, signal and remove one.
//!
//! Every container runs as the owner of the data, without capabilities, on a read-only root file
//! system, with directories of the host at the same paths as on the host, so that one description
//! of a server serves both runtimes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerSummary, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt;
use multidb_actors::ports::RuntimeError;

use super::engine::{CallError, Engine};
use super::image::Image;

/// Shared memory for parallel queries: Docker's default of 64 MiB is too small. It counts as memory.
const SHM_BYTES_MIN: i64 = 256 << 20;

/// Backends, workers and Postgres' own processes of one server.
const PROCESSES_MAX: i64 = 4096;

/// The size of each of the two files in which the engine keeps a server's output until it is saved.
const LOG_FILE_SIZE_MAX: &str = "10m";

/// The limit of a removal that another caller has begun.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits of one container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The memory that it may use, its page cache included.
    pub memory_bytes: u64,
    /// The processors that it may keep busy.
    pub cpus: f64,
}

/// The destination of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// The engine keeps the last part.
    Kept,
    /// It goes to the attached client.
    Attached,
}

/// Process 1 of a container, to which the kernel gives its orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstProcess {
    /// The engine's init, which forwards signals and the exit status. Postgres would take an orphan that fails for a
    /// crashed backend, and end all sessions.
    Init,
    /// The program.
    Program,
}

/// A container to create.
#[derive(Debug, Clone)]
pub(super) struct Plan<'a> {
    pub(super) name: String,
    pub(super) image: &'a Image,
    pub(super) labels: HashMap<String, String>,
    pub(super) program: &'a str,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    /// Directories and files of the host, at the same paths inside.
    pub(super) binds: Vec<PathBuf>,
    /// A file of the host, at another path inside and not writable there.
    pub(super) passwd: Option<&'a Path>,
    pub(super) owner: (u32, u32),
    pub(super) network: String,
    pub(super) limits: Limits,
    pub(super) output: Output,
    pub(super) first_process: FirstProcess,
}

/// The exit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerExit {
    pub(super) exit_code: i64,
    /// For people, without a full stop.
    pub(super) text: String,
}

impl ContainerExit {
    fn of(exit_code: i64) -> Self {
        let text = match exit_code {
            137 => "killed by SIGKILL".to_owned(),
            exit_code => format!("exit code {exit_code}"),
        };
        Self { exit_code, text }
    }

    fn removed() -> Self {
        Self {
            exit_code: -1,
            text: "its container was removed".to_owned(),
        }
    }
}

impl Plan<'_> {
    fn body(&self) -> ContainerCreateBody {
        let attached = self.output == Output::Attached;
        let mut env = vec![self.image.path_variable(), "LC_ALL=C.UTF-8".to_owned()];
        env.extend(self.env.iter().cloned());
        ContainerCreateBody {
            image: Some(self.image.id.clone()),
            user: Some(format!("{}:{}", self.owner.0, self.owner.1)),
            labels: Some(self.labels.clone()),
            entrypoint: Some(vec![self.program.to_owned()]),
            cmd: Some(self.args.clone()),
            env: Some(env),
            working_dir: Some("/".to_owned()),
            attach_stdout: Some(attached),
            attach_stderr: Some(attached),
            stop_signal: Some("SIGINT".to_owned()),
            stop_timeout: Some(60),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let memory = i64::try_from(self.limits.memory_bytes).unwrap_or(i64::MAX);
        HostConfig {
            mounts: Some(self.mounts()),
            tmpfs: Some(self.tmpfs()),
            network_mode: Some(self.network.clone()),
            ipc_mode: Some("private".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            memory: Some(memory),
            // As much as the memory: no swap on top.
            memory_swap: Some(memory),
            nano_cpus: Some(nano_cpus(self.limits.cpus)),
            init: Some(self.first_process == FirstProcess::Init),
            pids_limit: Some(PROCESSES_MAX),
            shm_size: Some((memory / 2).max(SHM_BYTES_MIN)),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            log_config: Some(self.log_config()),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let bind = |source: &Path, target: &Path, read_only| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.to_string_lossy().into_owned()),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let same_path = self.binds.iter().map(|path| bind(path, path, false));
        let passwd = self
            .passwd
            .map(|path| bind(path, Path::new("/etc/passwd"), true));
        same_path.chain(passwd).collect()
    }

    /// Writable memory besides the binds. A volume that the image declares would otherwise be made and
    /// copied for every container.
    fn tmpfs(&self) -> HashMap<String, String> {
        let options = "rw,noexec,nosuid,nodev,mode=1777,size=256m";
        self.image
            .volumes
            .iter()
            .map(String::as_str)
            .chain(["/tmp"])
            .filter(|path| !self.binds.iter().any(|bind| bind == Path::new(path)))
            .map(|path| (path.to_owned(), options.to_owned()))
            .collect()
    }

    fn log_config(&self) -> HostConfigLogConfig {
        match self.output {
            Output::Attached => HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            },
            Output::Kept => HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), LOG_FILE_SIZE_MAX.to_owned()),
                    ("max-file".to_owned(), "2".to_owned()),
                ])),
            },
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest integer; no machine has 9e9 processors"
)]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

impl Engine {
    pub(super) async fn create(&self, plan: &Plan<'_>) -> Result<String, CallError> {
        let options = CreateContainerOptionsBuilder::new()
            .name(&plan.name)
            .build();
        let created = self
            .call("creating a container", |docker| {
                let (options, body) = (options.clone(), plan.body());
                async move { docker.create_container(Some(options), body).await }
            })
            .await?;
        for warning in created.warnings {
            tracing::debug!(container = plan.name, warning, "docker warned");
        }
        Ok(created.id)
    }

    pub(super) async fn start(&self, name: &str) -> Result<(), CallError> {
        self.call("starting a container", |docker| async move {
            docker
                .start_container(name, None::<StartContainerOptions>)
                .await
        })
        .await
    }

    /// The containers with these labels, running or not.
    pub(super) async fn list(
        &self,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, CallError> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(filters)
            .build();
        self.call("listing containers", |docker| {
            let options = options.clone();
            async move { docker.list_containers(Some(options)).await }
        })
        .await
    }

    /// The state of a container; `None` if there is none of this name.
    pub(super) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<bollard::models::ContainerInspectResponse>, CallError> {
        let inspected = self
            .call("inspecting a container", |docker| async move {
                docker
                    .inspect_container(name, None::<InspectContainerOptions>)
                    .await
            })
            .await;
        match inspected {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal. No error when the container does not run or does not exist.
    pub(super) async fn signal(&self, name: &str, signal: &str) -> Result<(), CallError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = self
            .call("signalling a container", |docker| {
                let options = options.clone();
                async move { docker.kill_container(name, Some(options)).await }
            })
            .await;
        match sent {
            Err(error) if error.is_missing() || error.is_conflict() => Ok(()),
            result => result,
        }
    }

    /// Waits until the container has stopped, and returns its exit code if the engine tells it.
    /// Unbounded: it lasts as long as the container.
    pub(super) async fn wait(&self, name: &str) -> Result<Option<i64>, CallError> {
        let mut answers = self
            .docker()?
            .wait_container(name, None::<WaitContainerOptions>);
        match answers.next().await {
            None => Ok(None),
            Some(Ok(answer)) => Ok(Some(answer.status_code)),
            // bollard calls an exit code above 0 an error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
            Some(Err(error)) => Err(self.error("waiting for a container", &error)),
        }
    }

    /// Kills and removes a container with its volumes, and returns when it is gone.
    pub(super) async fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let deadline = tokio::time::Instant::now() + REMOVE_TIMEOUT;
        loop {
            let removed = self
                .call("removing a container", |docker| {
                    let options = options.clone();
                    async move { docker.remove_container(name, Some(options)).await }
                })
                .await;
            match removed {
                Ok(()) => return Ok(()),
                Err(error) if error.is_missing() => return Ok(()),
                // Another caller is removing it.
                Err(error) if error.is_conflict() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The exit of the container; `None` while it runs. `exit_code` is used where the container is
    /// gone by now.
    pub(super) async fn exit(
        &self,
        name: &str,
        exit_code: Option<i64>,
    ) -> Result<Option<ContainerExit>, CallError> {
        let Some(container) = self.inspect(name).await? else {
            return Ok(Some(
                exit_code.map_or_else(ContainerExit::removed, ContainerExit::of),
            ));
        };
        let state = container.state.unwrap_or_default();
        if state.running == Some(true) {
            return Ok(None);
        }
        let mut exit = ContainerExit::of(state.exit_code.or(exit_code).unwrap_or(-1));
        if state.oom_killed == Some(true) {
            exit.text.push_str(", out of its memory limit");
        }
        Ok(Some(exit))
    }
}
