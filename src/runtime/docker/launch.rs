//! Creates and starts a container in its network, also where the network has vanished meanwhile.

use std::sync::atomic::Ordering;

use bollard::container::AttachContainerResults;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use multidb_actors::ports::RuntimeError;

use super::container::{FirstProcess, Output, Plan};
use super::engine::{CallError, Engine};
use super::pause::is_join_failure;
use super::{Inner, Network};

/// The pause container can vanish during one attempt, and its successor during the next.
const ATTEMPTS_MAX: usize = 3;

/// Why a container was not launched. Nothing of it is left.
pub(super) enum LaunchError {
    /// A container has this name already.
    NameTaken(RuntimeError),
    /// Anything else.
    Failed(RuntimeError),
}

impl From<CallError> for LaunchError {
    fn from(error: CallError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<RuntimeError> for LaunchError {
    fn from(error: RuntimeError) -> Self {
        Self::Failed(error)
    }
}

impl From<LaunchError> for RuntimeError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::NameTaken(error) | LaunchError::Failed(error) => error,
        }
    }
}

impl Inner {
    /// Creates and starts a container in this network. Returns its output, if the plan says so. An engine without an init
    /// starts the program as process 1.
    ///
    /// Must not be dropped half-way: the engine would go on with the call.
    pub(super) async fn launch(
        &self,
        mut plan: Plan<'_>,
        network: &Network,
    ) -> Result<Option<AttachContainerResults>, LaunchError> {
        let mut attempt = 1;
        loop {
            let pause = match network {
                Network::None => Some(self.pause.id(&self.engine, plan.image).await?),
                Network::Private | Network::Named(_) => None,
            };
            if self.lacks_init.load(Ordering::Relaxed) {
                plan.first_process = FirstProcess::Program;
            }
            plan.network = match (network, &pause) {
                (_, Some(id)) => format!("container:{id}"),
                (Network::Named(name), _) => name.clone(),
                _ => "none".to_owned(),
            };
            let error = match self.engine.create_and_start(&plan).await {
                Ok(attached) => return Ok(attached),
                Err(error) => error,
            };
            let vanished = pause.filter(|id| is_join_failure(&error, id));
            match vanished {
                Some(id) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.pause.forget(&id).await;
                    tracing::info!(attempt, "the pause container has vanished");
                }
                _ if plan.first_process == FirstProcess::Init && is_init_missing(&error) => {
                    self.lacks_init.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        error = error.engine_message(),
                        "the docker engine has no docker-init, so a process that a superuser leaves behind ends all sessions of its instance when it fails; install it beside the engine (Debian's docker.io has it) and restart multidb"
                    );
                }
                _ if is_name_taken(&error) => return Err(LaunchError::NameTaken(error.into())),
                _ => {
                    let missing = plan.image.missing_program(plan.program, &error);
                    return Err(LaunchError::Failed(missing.unwrap_or_else(|| error.into())));
                }
            }
        }
    }
}

impl Engine {
    async fn create_and_start(
        &self,
        plan: &Plan<'_>,
    ) -> Result<Option<AttachContainerResults>, CallError> {
        let id = match self.create(plan).await {
            Ok(id) => id,
            Err(error) => {
                if let CallError::Failed(_) = error {
                    // The engine may have made it after the limit.
                    self.remove_after(&plan.name, &error).await;
                }
                return Err(error);
            }
        };
        let started = async {
            let attached = match plan.output {
                Output::Kept => None,
                // Before it starts: output without an attached client is lost.
                Output::Attached => Some(self.attach(&id).await?),
            };
            self.start(&id).await?;
            Ok(attached)
        };
        let started = started.await;
        if let Err(error) = &started {
            self.remove_after(&id, error).await;
        }
        started
    }

    async fn attach(&self, id: &str) -> Result<AttachContainerResults, CallError> {
        let options = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdout(true)
            .stderr(true)
            .build();
        self.call("attaching to a container", |docker| {
            let options = options.clone();
            async move { docker.attach_container(id, Some(options)).await }
        })
        .await
    }

    /// Removes the container of a failed step. If that fails too, the labels lead to it later.
    async fn remove_after(&self, name: &str, cause: &CallError) {
        if let Err(error) = self.remove(name).await {
            tracing::warn!(
                container = name,
                error = error.message,
                ?cause,
                "cannot remove a failed container, the next start removes it"
            );
        }
    }
}

fn is_name_taken(error: &CallError) -> bool {
    error.is_conflict() && error.engine_message().contains("already in use")
}

/// Whether a container was not started since the engine lacks its init: `docker-init` of Docker, `container-init` of
/// Podman.
fn is_init_missing(error: &CallError) -> bool {
    ["docker-init", "container-init"]
        .iter()
        .any(|program| error.engine_message().contains(program))
}
