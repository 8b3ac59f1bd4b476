//! The image of a Postgres major, pulled where the engine lacks it.

use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use multidb_actors::ports::{RuntimeError, StartError};
use tokio::time::Instant;

use super::engine::{CallError, Engine};

/// The limit of silence of a registry.
const PULL_SILENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a pull in progress is logged.
const PULL_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The name, such as `postgres:15`.
    pub(super) name: String,
    /// The id, since a name can mean another image at the next call.
    pub(super) id: String,
    /// The directories that it declares as volumes.
    pub(super) volumes: Vec<String>,
    path: String,
    postgres_major: u16,
}

impl Image {
    /// The `PATH` in its containers. Debian's directory of that major comes first, since an image may
    /// have several majors, or wrappers.
    pub(super) fn path_variable(&self) -> String {
        let (major, path) = (self.postgres_major, &self.path);
        format!("PATH=/usr/lib/postgresql/{major}/bin:{path}")
    }

    /// The error for a container that did not start because `program` is not in the image; `None` if
    /// it did not start for another reason.
    pub(super) fn missing_program(&self, program: &str, error: &CallError) -> Option<RuntimeError> {
        let said = error.engine_message();
        let missing = said.contains("executable file not found")
            || (said.contains("exec:") && said.contains("no such file or directory"));
        missing.then(|| self.lacks(program))
    }

    /// The same for a container with an init, which starts without the program and then exits.
    pub(super) fn explain_exit(&self, program: &str, error: StartError) -> StartError {
        let said = format!("exec {program} failed: No such file");
        match &error {
            StartError::Exited { log, .. } if log.iter().any(|line| line.contains(&said)) => {
                self.lacks(program).into()
            }
            _ => error,
        }
    }

    fn lacks(&self, program: &str) -> RuntimeError {
        RuntimeError {
            for_clients: true,
            message: format!(
                "the image \"{}\" has no PostgreSQL {}: no program \"{program}\" is in it",
                self.name, self.postgres_major
            ),
            hint: Some(
                "Set runtime.image to an image like Docker's official postgres:{major}.".to_owned(),
            ),
        }
    }
}

/// The image's name for a major: the template with its `{major}` filled in, and a tag.
pub(super) fn image_name(template: &str, postgres_major: u16) -> String {
    let name = template.replace("{major}", &postgres_major.to_string());
    let last = name.rsplit('/').next().unwrap_or(&name);
    if last.contains(':') || last.contains('@') {
        name
    } else {
        // Without a tag the engine pulls all tags.
        name + ":latest"
    }
}

impl Engine {
    /// The image, pulled if the engine lacks it.
    pub(super) async fn image(
        &self,
        template: &str,
        postgres_major: u16,
    ) -> Result<Image, RuntimeError> {
        let name = image_name(template, postgres_major);
        if let Some(image) = self.inspect_image(&name, postgres_major).await? {
            return Ok(image);
        }
        // In a separate task: a caller that gives up does not discard the download, and the engine
        // joins two pulls of one image.
        let (engine, pulled) = (self.clone(), name.clone());
        let pull = tokio::spawn(async move { engine.pull(&pulled).await });
        pull.await.map_err(|error| RuntimeError {
            for_clients: false,
            message: format!("pulling the image \"{name}\" failed: {error}"),
            hint: None,
        })??;
        self.inspect_image(&name, postgres_major)
            .await?
            .ok_or_else(|| not_pulled(&name, "the engine does not have it after pulling it"))
    }

    pub(super) async fn inspect_image(
        &self,
        name: &str,
        postgres_major: u16,
    ) -> Result<Option<Image>, RuntimeError> {
        let inspected = self
            .call("inspecting an image", |docker| async move {
                docker.inspect_image(name).await
            })
            .await;
        let image = match inspected {
            Ok(image) => image,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let config = image.config.unwrap_or_default();
        let path = config
            .env
            .unwrap_or_default()
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH=").map(str::to_owned))
            .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
        Ok(Some(Image {
            name: name.to_owned(),
            id: image.id.unwrap_or_else(|| name.to_owned()),
            volumes: config.volumes.unwrap_or_default(),
            path,
            postgres_major,
        }))
    }

    async fn pull(&self, name: &str) -> Result<(), RuntimeError> {
        tracing::info!(image = name, "pulling an image");
        let started = Instant::now();
        let options = CreateImageOptionsBuilder::new().from_image(name).build();
        let mut progress = self.docker()?.create_image(Some(options), None, None);
        let mut logged = started;
        loop {
            let next = tokio::time::timeout(PULL_SILENCE_TIMEOUT, progress.next()).await;
            let step = match next {
                Err(_) => return Err(not_pulled(name, "the registry does not answer")),
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    return Err(match self.error("pulling an image", &error) {
                        CallError::Refused { message, .. } => not_pulled(name, &message),
                        CallError::Failed(_) => not_pulled(name, &error.to_string()),
                    });
                }
                Ok(Some(Ok(step))) => step,
            };
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(not_pulled(name, &error));
            }
            if logged.elapsed() >= PULL_LOG_INTERVAL {
                logged = Instant::now();
                let done = step.progress_detail.unwrap_or_default();
                tracing::info!(
                    image = name,
                    layer = step.id,
                    status = step.status,
                    bytes = done.current,
                    bytes_total = done.total,
                    "pulling an image"
                );
            }
        }
        let elapsed_ms = started.elapsed().as_millis();
        tracing::info!(image = name, elapsed_ms, "pulled an image");
        Ok(())
    }
}

fn not_pulled(name: &str, cause: &str) -> RuntimeError {
    RuntimeError {
        for_clients: true,
        message: format!("the image \"{name}\" is missing and cannot be pulled: {cause}"),
        hint: Some(format!(
            "Pull it by hand (docker pull {name}), load it (docker load), or set runtime.image to one that the engine has."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_name_gets_its_major_and_a_tag() {
        assert_eq!(image_name("postgres:{major}", 15), "postgres:15");
        assert_eq!(
            image_name("postgres:{major}-alpine", 15),
            "postgres:15-alpine"
        );
        assert_eq!(
            image_name("host:5000/pg{major}", 16),
            "host:5000/pg16:latest"
        );
        assert_eq!(image_name("pg@sha256:abc", 16), "pg@sha256:abc");
    }
}
