//! The template cluster: the empty cluster from which each restore of one Postgres major starts.
//!
//! initdb creates it once, and it is kept: two restores share blocks only if they start from the
//! same cluster.

use std::io;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::copy::make_dir;
use super::error::ImportError;
use super::program::failure;
use super::server::SUPERUSER;
use crate::fsutil::beneath::{self, Directory};
use crate::fsutil::directory;
use crate::runtime::{PROGRAM_TIMEOUT, PostgresHost, ProgramNetwork, ProgramOutput, ProgramRun};

/// The locales to try. Some systems lack C.UTF-8; C sorts text alike, but knows the case of ASCII
/// letters only.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// The errors of a rename to the cluster of another import.
const EXISTS: [io::ErrorKind; 2] = [
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::DirectoryNotEmpty,
];

/// The path of the template cluster, which is created in the staging directory if there is none.
pub(super) async fn template(
    context: &Context,
    postgres_major: u16,
) -> Result<PathBuf, ImportError> {
    let path = context.importer.layout.template(postgres_major);
    let found = Directory::open(&path).and_then(|directory| directory.find("PG_VERSION"));
    if found.is_ok_and(|version| version.is_some()) {
        return Ok(path);
    }
    let fresh = context.staging.path().join("template");
    init(context.host(), postgres_major, &fresh).await?;
    let published = path.clone();
    tokio::task::spawn_blocking(move || publish(&fresh, &published)).await??;
    tracing::info!(postgres_major, "template cluster created");
    Ok(path)
}

async fn init(
    host: &dyn PostgresHost,
    postgres_major: u16,
    data_dir: &Path,
) -> Result<(), ImportError> {
    let [preferred, fallback] = LOCALES;
    let output = initdb(host, postgres_major, data_dir, preferred).await?;
    if output.success {
        return Ok(());
    }
    beneath::remove(data_dir).map_err(|error| ImportError::io("remove", data_dir, error.into()))?;
    let output = initdb(host, postgres_major, data_dir, fallback).await?;
    if output.success {
        return Ok(());
    }
    Err(failure("initdb", &output))
}

async fn initdb(
    host: &dyn PostgresHost,
    postgres_major: u16,
    data_dir: &Path,
    locale: &str,
) -> Result<ProgramOutput, ImportError> {
    make_dir(data_dir, 0o700, host.data_owner())?;
    let mut args = vec!["-D".to_owned(), data_dir.display().to_string()];
    let options = ["--encoding=UTF8", "--auth=trust", "--no-sync"];
    args.extend(options.map(str::to_owned));
    args.push(format!("--username={SUPERUSER}"));
    args.push(format!("--locale={locale}"));
    let run = ProgramRun {
        postgres_major,
        program: "initdb",
        args,
        env: Vec::new(),
        binds: vec![data_dir.to_owned()],
        network: ProgramNetwork::None,
        timeout: Some(PROGRAM_TIMEOUT),
    };
    Ok(host.run_program(&run).await?)
}

/// Makes a cluster durable and renames it to its path. Another import may have done so before.
fn publish(fresh: &Path, path: &Path) -> Result<(), ImportError> {
    let failed = |source| ImportError::io("create", path, source);
    let parent = path.parent().unwrap_or(path);
    directory::create_missing(parent, 0o711).map_err(failed)?;
    let fresh_directory = Directory::open(fresh).map_err(|error| failed(error.into()))?;
    rustix::fs::syncfs(fresh_directory).map_err(|error| failed(error.into()))?;
    match directory::rename_new(fresh, path) {
        Err(error) if EXISTS.contains(&error.kind()) => Ok(()),
        renamed => renamed.map_err(failed),
    }
}
