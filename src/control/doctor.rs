//! The checks of [`doctor`](crate::doctor), for the administrators of the daemon.

use std::sync::Arc;

use multidb_store::error_chain;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::{Action, Caller, Resource, authorize};
use super::default_branch::DEFAULT_BRANCH;
use super::model::InstanceFilter;
use super::{Control, ControlError};
use crate::doctor::{Finding, Refusal, Told, examine_daemon};

/// The last examination. It is held during one, so there is one at a time.
#[derive(Debug, Default)]
pub(super) struct LastExamination(Option<(Instant, Vec<Finding>)>);

impl Control {
    /// Checks the machine and the installation, which can take as long as a repository does not answer. `refusal` words
    /// an error for people, as the caller's face does.
    pub(crate) async fn doctor(
        &self,
        caller: &Caller,
        refusal: fn(ControlError) -> Refusal,
    ) -> Result<Vec<Finding>, ControlError> {
        authorize(caller, Action::View, Resource::Machine, "run the doctor")?;
        let asked_at = Instant::now();
        let mut last = Arc::clone(&self.examination).lock_owned().await;
        // Callers who asked during one examination share the next.
        if let LastExamination(Some((began_at, findings))) = &*last
            && *began_at >= asked_at
        {
            return Ok(findings.clone());
        }
        let began_at = Instant::now();
        let told = self.tell_doctor(caller, refusal).await?;
        let config = Arc::clone(&self.deps.config);
        let (answer, answered) = oneshot::channel();
        // Many checks block for as long as the disk or a program takes. The thread keeps the lock, even if the caller
        // goes away.
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let findings = match runtime {
                Ok(runtime) => runtime.block_on(examine_daemon(&config, &told)),
                Err(error) => {
                    tracing::error!(error = error_chain(&error), "the doctor cannot run");
                    return;
                }
            };
            last.0 = Some((began_at, findings.clone()));
            drop(last);
            let _gone = answer.send(findings);
        };
        let thread = std::thread::Builder::new().name("doctor".to_owned());
        if let Err(error) = thread.spawn(work) {
            tracing::error!(error = error_chain(&error), "the doctor has no thread");
        }
        answered.await.map_err(|_| ControlError::ActorEnded)
    }

    async fn tell_doctor(
        &self,
        caller: &Caller,
        refusal: fn(ControlError) -> Refusal,
    ) -> Result<Told, ControlError> {
        let mut branches = Vec::new();
        for project in self.deps.config.projects.keys() {
            let explained = self
                .explain(caller, Some(project), DEFAULT_BRANCH.to_owned())
                .await;
            branches.push((project.clone(), explained.map_err(refusal)));
        }
        Ok(Told {
            status: Some(self.status(caller).await?),
            instances: self
                .list_instances(caller, InstanceFilter::default())
                .await?,
            branches,
        })
    }
}
