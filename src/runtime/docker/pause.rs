//! The pause container, whose network namespace the other containers share.
//!
//! Making a namespace takes the engine 120 to 150 ms, half of a container's start; joining one takes no
//! time. It has no interface but loopback, and nothing listens in it. It is made for the first
//! container, found again by the next daemon, and made again after it has vanished.

use std::sync::Arc;

use multidb_actors::ports::RuntimeError;
use tokio::sync::Mutex;

use super::container::{FirstProcess, Limits, Output, Plan};
use super::engine::{CallError, Engine};
use super::image::Image;
use super::labels::{Labels, Role};

/// `sleep` needs less than 1 MiB, but Docker's minimum is 6 MiB.
const LIMITS: Limits = Limits {
    memory_bytes: 16 << 20,
    cpus: 0.1,
};

/// `nobody`, which owns no files.
const NOBODY: (u32, u32) = (65534, 65534);

/// The one pause container of a root.
#[derive(Clone)]
pub(super) struct Pause {
    name: String,
    labels: Labels,
    /// The id of the container, as of the last look.
    current: Arc<Mutex<Option<String>>>,
}

impl Pause {
    pub(super) fn new(labels: &Labels) -> Self {
        Self {
            name: format!("multidb-pause-{}", labels.root_name()),
            labels: labels.clone(),
            current: Arc::default(),
        }
    }

    /// The id of the container to join. It may have vanished since the last look: then joining it
    /// fails, and the caller calls [`Pause::forget`] and tries again.
    pub(super) async fn id(&self, engine: &Engine, image: &Image) -> Result<String, RuntimeError> {
        let mut current = self.current.lock().await;
        if let Some(id) = &*current {
            return Ok(id.clone());
        }
        let id = self.ensure(engine, image).await?;
        *current = Some(id.clone());
        Ok(id)
    }

    /// Forgets the container with this id, which could not be joined.
    pub(super) async fn forget(&self, id: &str) {
        let mut current = self.current.lock().await;
        if current.as_deref() == Some(id) {
            *current = None;
        }
    }

    /// Removes the container. Running containers keep the namespace.
    pub(super) async fn remove(&self, engine: &Engine) -> Result<(), RuntimeError> {
        let mut current = self.current.lock().await;
        *current = None;
        if self.is_ours(engine).await? {
            engine.remove(&self.name).await?;
        }
        Ok(())
    }

    async fn ensure(&self, engine: &Engine, image: &Image) -> Result<String, RuntimeError> {
        if let Some(container) = engine.inspect(&self.name).await? {
            let running = container.state.and_then(|state| state.running) == Some(true);
            if let (true, Some(id)) = (running, container.id) {
                return Ok(id);
            }
            // Its namespace is gone with its process.
            engine.remove(&self.name).await?;
        }
        let plan = Plan {
            name: self.name.clone(),
            image,
            labels: self.labels.pause(),
            program: "sleep",
            args: vec!["infinity".to_owned()],
            env: Vec::new(),
            binds: Vec::new(),
            passwd: None,
            owner: NOBODY,
            network: "none".to_owned(),
            limits: LIMITS,
            output: Output::Kept,
            first_process: FirstProcess::Program,
        };
        let id = engine.create(&plan).await?;
        if let Err(error) = engine.start(&id).await {
            engine.remove(&id).await?;
            return Err(image
                .missing_program("sleep", &error)
                .unwrap_or_else(|| error.into()));
        }
        tracing::info!(container = self.name, "made the pause container");
        Ok(id)
    }

    async fn is_ours(&self, engine: &Engine) -> Result<bool, RuntimeError> {
        let labels = engine
            .inspect(&self.name)
            .await?
            .and_then(|container| container.config)
            .and_then(|config| config.labels)
            .unwrap_or_default();
        Ok(self.labels.role(&labels) == Some(Role::Pause))
    }
}

/// Whether a container was not created or started because the pause container has vanished or stopped.
pub(super) fn is_join_failure(error: &CallError, pause_id: &str) -> bool {
    let said = error.engine_message();
    (said.contains("No such container") && said.contains(pause_id))
        || said.contains("cannot join network of a non running container")
        || said.contains("cannot join network namespace of a non running container")
}
