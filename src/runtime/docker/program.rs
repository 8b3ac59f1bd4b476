//! One run of one of Postgres' programs in a container, by default without a network.

use std::sync::Arc;

use bollard::container::{AttachContainerResults, LogOutput};
use futures_util::StreamExt;
use multidb_actors::ports::RuntimeError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::container::{FirstProcess, Output, Plan};
use super::engine::CALL_TIMEOUT;
use super::{Inner, Network, unique_bits};
use crate::runtime::log_tail::Tail;
use crate::runtime::{ProgramNetwork, ProgramOutput, ProgramRun};

/// The engine's name for the network of the machine.
const HOST_NETWORK: &str = "host";
/// The most standard output that is kept.
const STDOUT_BYTES_MAX: usize = 16 << 20;

impl Inner {
    /// Runs the program to its end. Its container is gone when this returns, also after a failure.
    pub(super) async fn run_program(
        self: Arc<Self>,
        run: ProgramRun,
        given_up: CancellationToken,
    ) -> Result<ProgramOutput, RuntimeError> {
        let image = self.image(run.postgres_major).await?;
        let name = format!("multidb-run-{:016x}", unique_bits());
        let env = run.env.iter().map(|(key, value)| format!("{key}={value}"));
        let plan = Plan {
            name: name.clone(),
            image: &image,
            labels: self.labels.program(&self.daemon),
            program: run.program,
            args: run.args.clone(),
            env: env.collect(),
            binds: run.binds.clone(),
            passwd: Some(&self.passwd),
            owner: self.settings.data_owner,
            network: String::new(),
            limits: self.settings.limits,
            output: Output::Attached,
            first_process: FirstProcess::Program,
        };
        let network = match (run.network, &self.settings.network) {
            (ProgramNetwork::Host, _) => Network::Named(HOST_NETWORK.to_owned()),
            (ProgramNetwork::None, Network::None) => Network::None,
            (ProgramNetwork::None, Network::Private | Network::Named(_)) => Network::Private,
        };
        let attached = self.launch(plan, &network).await?;
        let result = tokio::select! {
            result = run.within(self.collect(&name, &run, attached)) => result,
            () = given_up.cancelled() => Err(failed(&run, "the caller has given up")),
        };
        let removed = self.engine.remove(&name).await;
        let output = result?;
        removed?;
        Ok(output)
    }

    async fn collect(
        &self,
        name: &str,
        run: &ProgramRun,
        attached: Option<AttachContainerResults>,
    ) -> Result<ProgramOutput, RuntimeError> {
        let mut output = Collected::default();
        let mut chunks = attached
            .ok_or_else(|| failed(run, "docker returned no output"))?
            .output;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                RuntimeError::from(self.engine.error("reading a program's output", &error))
            })?;
            output.take(chunk);
        }
        // Its output has ended, so it exits at once, unless the engine hangs.
        let exit_code = timeout(CALL_TIMEOUT, self.engine.wait(name))
            .await
            .unwrap_or(Ok(None))?;
        let exit = self
            .engine
            .exit(name, exit_code)
            .await?
            .ok_or_else(|| failed(run, "it still runs after the end of its output"))?;
        Ok(ProgramOutput {
            success: exit.exit_code == 0,
            status: exit.text,
            stdout: output.stdout,
            stderr_tail: output.stderr.finish(),
        })
    }
}

fn failed(run: &ProgramRun, cause: &str) -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: format!("running {} in a container failed: {cause}", run.program),
        hint: None,
    }
}

/// The output of a program, within bounds.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Tail,
}

impl Collected {
    fn take(&mut self, chunk: LogOutput) {
        match chunk {
            LogOutput::StdErr { message } => self.stderr.take(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                let spare = STDOUT_BYTES_MAX - self.stdout.len();
                self.stdout
                    .extend_from_slice(&message[..message.len().min(spare)]);
            }
            LogOutput::StdIn { .. } => {}
        }
    }
}
