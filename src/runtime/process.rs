//! The `process` runtime: Postgres as local processes.
//!
//! A server is started under its own user and in its own process group, so that a signal to the
//! daemon's group does not reach it. It outlives the daemon: a restarted one finds it again by
//! `run/<uid>/server.json` and `postmaster.pid`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{Endpoint, FoundPostgres, RunningPostgres, RuntimeError, StartError};
use multidb_store::{InstanceUid, Layout};
use nix::unistd::{Uid, User};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::binaries::Binaries;
use super::postmaster::Postmaster;
use super::program;
use super::readiness::Readiness;
use super::settings::{self, SOCKET_NAME};
use super::{PostgresHost, ProgramOutput, ProgramRun, Purpose, ServerSpec, log_tail};

/// The lines of the log that a failed start reports.
const START_LOG_LINES: usize = 10;
/// How long the backends of a postmaster that was killed may take to notice.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(5);

/// Local processes.
pub struct ProcessHost {
    layout: Layout,
    binaries: Binaries,
    owner: (u32, u32),
    settings: Vec<(String, String)>,
}

/// What a server's run directory says of it.
#[derive(Serialize, Deserialize)]
struct ServerFile {
    purpose: Purpose,
    data_dir: PathBuf,
}

const SERVER_FILE: &str = "server.json";

/// Who Postgres runs as: the configured user where the daemon is root, since Postgres refuses to
/// be; else whoever we are.
///
/// # Errors
///
/// There is no such user.
pub fn data_owner(user: &str) -> Result<(u32, u32), RuntimeError> {
    if !Uid::effective().is_root() {
        return Ok((
            Uid::effective().as_raw(),
            nix::unistd::Gid::effective().as_raw(),
        ));
    }
    let found = User::from_name(user).ok().flatten();
    let found = found.filter(|found| !found.uid.is_root());
    let found = found.ok_or_else(|| RuntimeError {
        message: format!("there is no user \"{user}\" to run Postgres as"),
        hint: Some("Set runtime.user to an existing user other than root.".to_owned()),
    })?;
    Ok((found.uid.as_raw(), found.gid.as_raw()))
}

impl ProcessHost {
    /// Servers under this root, as this owner, with these settings.
    pub fn new(layout: Layout, owner: (u32, u32), settings: Vec<(String, String)>) -> Self {
        Self {
            layout,
            binaries: Binaries::default(),
            owner,
            settings,
        }
    }

    /// The programs that are installed.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    fn spawn(&self, spec: &ServerSpec, run_dir: &Path) -> Result<(Child, u64), RuntimeError> {
        let server = self
            .binaries
            .directory(spec.postgres_major)?
            .join("postgres");
        let start = || -> io::Result<(Child, u64)> {
            prepare_run_dir(run_dir, self.owner)?;
            let settings: [&[_]; 2] = [&self.settings, &spec.settings];
            settings::write_files(run_dir, spec.postgres_major, &settings)?;
            let file = ServerFile {
                purpose: spec.purpose,
                data_dir: spec.data_dir.clone(),
            };
            fs::write(run_dir.join(SERVER_FILE), serde_json::to_vec(&file)?)?;
            let (log, start) = log_tail::open(&spec.log)?;
            let mut command = Command::new(&server);
            command
                .args(settings::arguments(&spec.data_dir, run_dir))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0);
            program::set_identity(&mut command, self.owner);
            Ok((command.spawn()?, start))
        };
        start().map_err(|error| RuntimeError {
            message: format!("cannot start {}: {error}", server.display()),
            hint: None,
        })
    }

    fn endpoint(&self, uid: InstanceUid) -> Endpoint {
        Endpoint::Unix(self.layout.run_dir(uid).join(SOCKET_NAME))
    }

    fn server_file(&self, uid: InstanceUid) -> Option<ServerFile> {
        let bytes = fs::read(self.layout.run_dir(uid).join(SERVER_FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Makes the directory of one start, empty.
pub(super) fn prepare_run_dir(run_dir: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    remove_run_dir(run_dir)?;
    fs::DirBuilder::new().mode(0o700).create(run_dir)?;
    if Uid::effective().is_root() {
        chown(run_dir, Some(uid), Some(gid))?;
    }
    // Only what Postgres itself may read is written into it.
    fs::set_permissions(run_dir, fs::Permissions::from_mode(0o700))
}

/// Removes the directory of one start. One that is not there is removed.
pub(super) fn remove_run_dir(run_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Kills a server whose start was given up.
struct Unfinished {
    child: Option<Child>,
    run_dir: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // An immediate shutdown takes the server's children along; nobody was served, so nothing
        // is lost.
        if let Some(Ok(postmaster)) = child.id().map(Postmaster::of_child) {
            postmaster.signal(Signal::QUIT);
        }
        let run_dir = std::mem::take(&mut self.run_dir);
        tokio::spawn(async move {
            let exited = tokio::time::timeout(ORPHANS_PATIENCE, child.wait()).await;
            if exited.is_err()
                && let Err(error) = child.kill().await
            {
                tracing::error!(%error, "a postgres whose start was given up does not end");
            }
            if let Err(error) = remove_run_dir(&run_dir) {
                tracing::warn!(path = %run_dir.display(), %error, "run directory was not removed");
            }
        });
    }
}

#[async_trait]
impl PostgresHost for ProcessHost {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn data_owner(&self) -> (u32, u32) {
        self.owner
    }

    async fn start_server(&self, spec: &ServerSpec) -> Result<RunningPostgres, StartError> {
        let run_dir = self.layout.run_dir(spec.uid);
        wait_for_orphans(&spec.data_dir).await?;
        let readiness = Readiness::watch(&spec.data_dir, &run_dir);
        let (child, log_start) = self.spawn(spec, &run_dir)?;
        let mut unfinished = Unfinished {
            child: Some(child),
            run_dir,
        };
        let exited = async {
            match &mut unfinished.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = exited => {
                unfinished.child = None;
                let status = status.map_or_else(|error| error.to_string(), describe);
                let log = log_tail::last_lines(&spec.log, log_start, START_LOG_LINES);
                return Err(StartError::Exited { status, log: log.unwrap_or_default() });
            }
            () = readiness.ready() => {}
        }
        let child = unfinished.child.take();
        Ok(RunningPostgres {
            endpoint: self.endpoint(spec.uid),
            exited: Box::pin(async move {
                match child {
                    Some(mut child) => child.wait().await.map_or_else(|e| e.to_string(), describe),
                    None => std::future::pending().await,
                }
            }),
        })
    }

    async fn stop_server(&self, uid: InstanceUid, patience: Duration) -> Result<(), RuntimeError> {
        let run_dir = self.layout.run_dir(uid);
        let data_dir = match self.server_file(uid) {
            Some(file) => file.data_dir,
            None => self.layout.instance_data(uid),
        };
        if let Some(postmaster) = Postmaster::find(&data_dir) {
            postmaster
                .stop(patience)
                .await
                .map_err(|error| RuntimeError {
                    message: format!("postgres on {} does not stop: {error}", data_dir.display()),
                    hint: Some("Look at it with ps, and end it by hand.".to_owned()),
                })?;
        }
        remove_run_dir(&run_dir).map_err(|error| RuntimeError {
            message: format!("cannot remove {}: {error}", run_dir.display()),
            hint: None,
        })
    }

    async fn running_servers(&self) -> Result<Vec<(Purpose, FoundPostgres)>, RuntimeError> {
        let run = self.layout.run();
        let entries = fs::read_dir(&run).map_err(|error| RuntimeError {
            message: format!("cannot list {}: {error}", run.display()),
            hint: None,
        })?;
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let uid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(uid) = uid else {
                continue;
            };
            let server = self.server_file(uid);
            let postmaster = server.as_ref().and_then(|s| Postmaster::find(&s.data_dir));
            let (Some(server), Some(postmaster)) = (server, postmaster) else {
                // What a server that ended with the daemon left.
                if let Err(error) = remove_run_dir(&entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "run directory was not removed");
                }
                continue;
            };
            let postgres = RunningPostgres {
                endpoint: self.endpoint(uid),
                exited: Box::pin(async move {
                    match postmaster.exited().await {
                        Ok(()) => "it exited, nobody knows how".to_owned(),
                        Err(error) => {
                            tracing::error!(%error, "a postgres that was taken over cannot be watched");
                            std::future::pending().await
                        }
                    }
                }),
            };
            found.push((server.purpose, FoundPostgres { uid, postgres }));
        }
        Ok(found)
    }

    async fn server_logs(
        &self,
        _: InstanceUid,
        log: &Path,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        log_tail::last_lines(log, 0, lines).map_err(|error| RuntimeError {
            message: format!("cannot read {}: {error}", log.display()),
            hint: None,
        })
    }

    async fn run_program(&self, run: &ProgramRun) -> Result<ProgramOutput, RuntimeError> {
        let directory = self.binaries.directory(run.postgres_major)?;
        program::run(&directory, run, self.owner).await
    }

    async fn close(&self) {}
}

/// After a kill of the postmaster alone, its backends go on for a moment and hold the shared
/// memory; a new one then refuses to start ("pre-existing shared memory block is still in use").
/// They notice the death of their postmaster by themselves.
///
/// # Errors
///
/// They do not end. Postgres itself does not see the server of a container, so it must not be
/// started beside one.
async fn wait_for_orphans(data_dir: &Path) -> Result<(), RuntimeError> {
    if !data_dir.join("postmaster.pid").exists() {
        return Ok(());
    }
    let deadline = tokio::time::Instant::now() + ORPHANS_PATIENCE;
    while has_orphans(data_dir) {
        if tokio::time::Instant::now() >= deadline {
            return Err(RuntimeError {
                message: format!("another postgres runs on {}", data_dir.display()),
                hint: Some("Stop it; a container of another runtime may be left over.".to_owned()),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Whether any process has this data directory as its working directory, as all of a server's
/// processes have.
fn has_orphans(data_dir: &Path) -> bool {
    let (Ok(entries), Ok(data_dir)) = (fs::read_dir("/proc"), data_dir.canonicalize()) else {
        return false;
    };
    let is_process = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        .any(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data_dir))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests;
