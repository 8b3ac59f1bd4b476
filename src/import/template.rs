//! The empty cluster that every restore of one Postgres major starts from.
//!
//! It is made once, by initdb, and kept: two restores share blocks only if they start from the
//! same one.

use std::fs;
use std::path::{Path, PathBuf};

use multidb_store::Layout;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::ImportError;
use super::files::make_dir;
use super::program::failure;
use super::server::SUPERUSER;
use crate::runtime::{PostgresHost, ProgramRun};

/// The locales to try: without C.UTF-8 (some systems lack it), text is sorted alike, but letters
/// beyond ASCII have no case.
const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// The template's path; it is made in `staging` if there is none yet.
pub(super) async fn template(
    host: &dyn PostgresHost,
    layout: &Layout,
    postgres_major: u16,
    staging: &Path,
) -> Result<PathBuf, ImportError> {
    let path = layout.template(postgres_major);
    if path.join("PG_VERSION").exists() {
        return Ok(path);
    }
    let fresh = staging.join("template");
    init(host, postgres_major, &fresh).await?;
    let place = path.clone();
    tokio::task::spawn_blocking(move || publish(&fresh, &place)).await??;
    tracing::info!(postgres_major, "template cluster made");
    Ok(path)
}

async fn init(
    host: &dyn PostgresHost,
    postgres_major: u16,
    data_dir: &Path,
) -> Result<(), ImportError> {
    let mut last = None;
    for locale in LOCALES {
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
        };
        let output = host.run_program(&run).await?;
        if output.success {
            return Ok(());
        }
        last = Some(failure("initdb", &output));
        fs::remove_dir_all(data_dir)
            .map_err(|source| ImportError::io("remove", data_dir, source))?;
    }
    Err(last.unwrap_or(ImportError::Cancelled))
}

/// Moves it to its place, complete and durable. Another import may have been faster.
fn publish(fresh: &Path, path: &Path) -> Result<(), ImportError> {
    let failed = |source| ImportError::io("make", path, source);
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(failed)?;
    let file = fs::File::open(fresh).map_err(failed)?;
    rustix::fs::syncfs(file).map_err(|error| failed(error.into()))?;
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
        Err(error) => return Err(failed(error.into())),
    }
    multidb_store::manifest::sync_directory(parent)?;
    Ok(())
}
