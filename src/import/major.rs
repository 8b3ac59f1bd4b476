//! The choice of the Postgres major that restores a dump.

use multidb_actors::ports::RuntimeError;

use super::context::Context;
use super::error::ImportError;
use crate::runtime::binaries::{MAJORS, major_in};
use crate::runtime::{PROGRAM_TIMEOUT, ProgramNetwork, ProgramRun};

/// The requested major; else the major of the dump's server; else the newest installed one that is
/// newer than the dump's server.
pub(super) async fn choose_major(
    context: &Context,
    server_major: Option<u16>,
) -> Result<u16, ImportError> {
    if let Some(requested) = context.request.postgres_major {
        check_installed(context, requested).await?;
        return Ok(requested);
    }
    let Some(server_major) = server_major else {
        let newest = newest_installed(context, *MAJORS.start()).await;
        return newest.ok_or_else(|| none_installed().into());
    };
    let Err(missing) = check_installed(context, server_major).await else {
        return Ok(server_major);
    };
    let Some(newer) = newest_installed(context, server_major.saturating_add(1)).await else {
        return Err(missing.into());
    };
    let warning = format!(
        "the dump is from PostgreSQL {server_major}, which is not available; restoring with \
         PostgreSQL {newer}"
    );
    context.progress.warn(warning).await;
    Ok(newer)
}

pub(super) async fn newest_installed(context: &Context, oldest: u16) -> Option<u16> {
    let wanted = oldest.max(*MAJORS.start())..=*MAJORS.end();
    for major in wanted.clone().rev() {
        // An image that is the same for all majors has another one.
        if let Ok(Some(found)) = major_of_programs(context, major).await
            && wanted.contains(&found)
        {
            return Some(found);
        }
    }
    None
}

pub(super) async fn check_installed(
    context: &Context,
    postgres_major: u16,
) -> Result<(), RuntimeError> {
    let found = major_of_programs(context, postgres_major).await?;
    if found == Some(postgres_major) {
        return Ok(());
    }
    let found = found.map_or_else(|| "an unknown one".to_owned(), |found| found.to_string());
    Err(RuntimeError {
        for_clients: false,
        message: format!(
            "PostgreSQL {postgres_major} is not available: the programs that run for it are of version {found}"
        ),
        hint: Some("Set runtime.image to a name with {major}.".to_owned()),
    })
}

/// The major of the programs that run for this one, if they tell.
async fn major_of_programs(
    context: &Context,
    postgres_major: u16,
) -> Result<Option<u16>, RuntimeError> {
    let run = ProgramRun {
        postgres_major,
        program: "postgres",
        args: vec!["--version".to_owned()],
        env: Vec::new(),
        binds: Vec::new(),
        network: ProgramNetwork::None,
        timeout: Some(PROGRAM_TIMEOUT),
    };
    let output = context.host().run_program(&run).await?;
    Ok(major_in(&String::from_utf8_lossy(&output.stdout)))
}

pub(super) fn none_installed() -> RuntimeError {
    RuntimeError {
        for_clients: false,
        message: "no programs of PostgreSQL are installed".to_owned(),
        hint: Some("Install them, or use the docker runtime.".to_owned()),
    }
}
