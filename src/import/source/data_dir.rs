//! A data directory as the source of a snapshot: its checks and its copy.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use multidb_store::PassedErrors;

use super::LoadedSource;
use super::contents::{self, Contents};
use super::running::check_not_running;
use crate::fsutil::beneath::Directory;
use crate::import::cluster::{Cluster, find_superuser};
use crate::import::context::Context;
use crate::import::control::Control;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::progress::Step;
use crate::import::trim::drop_alter_system;

const STOP_HINT: &str = "Start Postgres on it once and stop it cleanly (pg_ctl stop -m fast), \
                           then import again.";

/// For a copy with the `postmaster.pid` of its original.
const PID_FILE_HINT: &str = "Remove its postmaster.pid before, which names the server of the original: \
                           pg_ctl would stop that one.";

/// The most that is read of a `PG_VERSION`.
const VERSION_BYTES_MAX: u64 = 64;
/// The links that a warning names.
const LINKS_MAX: usize = 20;

/// A data directory that can be imported.
#[derive(Debug)]
pub(in crate::import) struct DataDir {
    path: PathBuf,
    postgres_major: u16,
    control: Control,
    contents: Contents,
}

impl DataDir {
    /// Checks a data directory as far as possible without a server on it.
    pub(super) async fn open(context: &Context, path: PathBuf) -> Result<Self, ImportError> {
        let checked = path.clone();
        let postgres_major = context.run_blocking(move || check_files(&checked)).await?;
        let control = read_control(context, postgres_major, &path).await?;
        let (inspected, read) = (path.clone(), control.clone());
        let contents = context
            .run_blocking(move || contents::inspect(&inspected, postgres_major, &read))
            .await?;
        warn_of_links(context, &contents).await;
        Ok(Self {
            path,
            postgres_major,
            control,
            contents,
        })
    }

    /// Copies it, and starts a server on the copy.
    pub(super) async fn load(self, context: &Context) -> Result<LoadedSource, ImportError> {
        context.progress.begin(Step::Copy).await;
        let copied = context.copy_parts(self.path.clone(), self.contents.parts.clone());
        let (bytes, total) = (&context.copy.bytes_done, Some(self.contents.size.bytes));
        context.progress.with_bytes(bytes, total, copied).await?;
        self.check_unchanged(context).await?;
        drop_alter_system(context).await?;
        let server = context
            .start_server(self.postgres_major, self.contents.prepared)
            .await?;
        let project = &context.request.settings;
        let owner = self.contents.owner_name.as_deref();
        let entry = find_superuser(&server, project, owner, &self.path).await?;
        Ok(LoadedSource {
            cluster: Cluster {
                server,
                superuser: entry.superuser,
                entry_database: entry.database,
                postgres_major: self.postgres_major,
            },
            taken_at: self.control.checkpoint_at.unwrap_or_else(Timestamp::now),
            passed_errors: PassedErrors::default(),
        })
    }

    /// Refuses a source on which a server was started during the copy: the copy would mix states.
    async fn check_unchanged(&self, context: &Context) -> Result<(), ImportError> {
        check_not_running(&self.path)?;
        let control = read_control(context, self.postgres_major, &self.path).await?;
        if control == self.control {
            return Ok(());
        }
        Err(refused(
            &self.path,
            "Postgres was started on it during the import",
            "Import it again while it is stopped.",
        ))
    }
}

/// Checks the files of a data directory, and returns its Postgres major. Blocks.
fn check_files(path: &Path) -> Result<u16, ImportError> {
    let failed = |error| tree_error(path, path, error);
    let directory = Directory::open(path).map_err(failed)?;
    let postgres_major = read_version(&directory)?;
    check_not_running(path)?;
    if directory.find("backup_label").map_err(failed)?.is_some() {
        return Err(refused(
            path,
            "it is a backup that no server has recovered yet: it has backup_label",
            "Start Postgres on it once and stop it cleanly (pg_ctl stop -m fast), then import again.",
        ));
    }
    Ok(postgres_major)
}

fn read_version(directory: &Directory) -> Result<u16, ImportError> {
    let path = directory.path();
    let version = directory.read("PG_VERSION", VERSION_BYTES_MAX);
    let Some(version) = version.map_err(|error| tree_error(path, path, error))? else {
        return Err(refused(
            path,
            "it is not a Postgres data directory: it has no PG_VERSION",
            "Give the directory that contains PG_VERSION and base/.",
        ));
    };
    let version = String::from_utf8_lossy(&version);
    version.trim().parse().map_err(|_| {
        refused(
            path,
            format!("its version \"{}\" is not supported", version.trim()),
            "Upgrade it, or import a dump instead.",
        )
    })
}

/// Tells of the links of configuration and logs.
async fn warn_of_links(context: &Context, contents: &Contents) {
    if contents.left_out.is_empty() {
        return;
    }
    let shown = contents.left_out.iter().take(LINKS_MAX);
    let names: Vec<String> = shown.map(|link| link.display().to_string()).collect();
    let warning = format!(
        "symbolic links that are not of data are left out: {}",
        names.join(", ")
    );
    context.progress.warn(warning).await;
}

/// Reads the control file of a data directory, and refuses one that is damaged or was not shut down cleanly.
async fn read_control(
    context: &Context,
    postgres_major: u16,
    path: &Path,
) -> Result<Control, ImportError> {
    let control = Control::read(context, postgres_major, path).await?;
    if let Some(damage) = &control.damage {
        return Err(refused(
            path,
            format!("its control file is damaged, or of another machine type: {damage}"),
            "Copy the data directory again while its server is stopped; or import a dump instead.",
        ));
    }
    if control.is_shut_down() {
        return Ok(control);
    }
    if control.is_standby() {
        return Err(refused(
            path,
            format!("it is a standby: its state is \"{}\"", control.state),
            "Promote it (pg_ctl promote), stop it cleanly, then import again.",
        ));
    }
    let copied = Directory::open(path).and_then(|directory| directory.find("postmaster.pid"));
    let hint = match copied {
        // pg_ctl would signal the process that it names.
        Ok(Some(_)) => format!("It was copied from a running server. {STOP_HINT} {PID_FILE_HINT}"),
        _ => STOP_HINT.to_owned(),
    };
    Err(refused(
        path,
        format!(
            "it was not shut down cleanly: its state is \"{}\"",
            control.state
        ),
        hint,
    ))
}
