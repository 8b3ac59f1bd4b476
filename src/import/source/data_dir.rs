//! A data directory as the source of a snapshot: its checks and its copy.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use multidb_store::{PassedErrors, TakenAtOrigin};

use super::LoadedSource;
use super::configuration::{self, Configuration};
use super::contents::{self, Contents};
use super::running::check_not_running;
use super::settings::{self, Chosen};
use crate::fsutil::beneath::Directory;
use crate::import::cluster::{Cluster, find_superuser};
use crate::import::context::Context;
use crate::import::control::Control;
use crate::import::copy::Transfer;
use crate::import::error::{ImportError, refused, tree_error};
use crate::import::progress::Step;
use crate::import::trim::clear_alter_system;
use crate::sql::SearchPath;

const STOP_HINT: &str = "Start Postgres on it once and stop it cleanly (pg_ctl stop -m fast), \
                           then import again.";

/// For a copy with the `postmaster.pid` of its original.
const PID_FILE_HINT: &str = "Remove its postmaster.pid before, which names the server of the original: \
                           pg_ctl would stop that one.";

/// The most that is read of a `PG_VERSION`.
const VERSION_BYTES_MAX: u64 = 64;
/// The links that a warning names.
const LINKS_MAX: usize = 20;
/// The settings that a warning names.
const SETTINGS_MAX: usize = 100;

/// The facts about the data directory that a copy was made of.
pub(super) struct Original {
    pub(super) configuration: Configuration,
    pub(super) contents: Contents,
}

/// A data directory that can be imported.
#[derive(Debug)]
pub(in crate::import) struct DataDir {
    pub(super) path: PathBuf,
    pub(super) postgres_major: u16,
    pub(super) control: Control,
    pub(super) contents: Contents,
    pub(super) configuration: Configuration,
    /// The settings that its snapshot carries, once they are chosen.
    chosen: Option<Chosen>,
}

impl DataDir {
    /// Checks a data directory before all of it is copied.
    pub(super) async fn open(context: &Context, path: PathBuf) -> Result<Self, ImportError> {
        let (read, data_owner) = (path.clone(), context.host().data_owner());
        let (major, control, mut contents) = Self::inspect(context, &path).await?;
        let configuration = context
            .run_blocking(move || configuration::read(&read, data_owner))
            .await?;
        warn_of_links(context, &mut contents).await;
        Self::checked(context, path, (major, control), contents, configuration).await
    }

    /// Checks a copy that multidb has made of another one.
    pub(super) async fn of_copy(
        context: &Context,
        path: PathBuf,
        original: Original,
    ) -> Result<Self, ImportError> {
        let (major, control, mut contents) = Self::inspect(context, &path).await?;
        contents.owner_name = original.contents.owner_name;
        let configuration = original.configuration;
        Self::checked(context, path, (major, control), contents, configuration).await
    }

    async fn inspect(
        context: &Context,
        path: &Path,
    ) -> Result<(u16, Control, Contents), ImportError> {
        let checked = path.to_owned();
        let postgres_major = context.run_blocking(move || check_files(&checked)).await?;
        let control = read_control(context, postgres_major, path).await?;
        let (inspected, read) = (path.to_owned(), control.clone());
        let contents = context
            .run_blocking(move || contents::inspect(&inspected, postgres_major, &read))
            .await?;
        Ok((postgres_major, control, contents))
    }

    async fn checked(
        context: &Context,
        path: PathBuf,
        (postgres_major, control): (u16, Control),
        contents: Contents,
        configuration: Configuration,
    ) -> Result<Self, ImportError> {
        let mut opened = Self {
            path,
            postgres_major,
            control,
            contents,
            configuration,
            chosen: None,
        };
        opened.chosen = opened.check_early(context).await?;
        Ok(opened)
    }

    /// Copies it, and starts a server on the copy.
    pub(super) async fn load(self, context: &Context) -> Result<LoadedSource, ImportError> {
        self.copy(context, Transfer::Copy).await?;
        self.check_unchanged(context).await?;
        self.start(context).await
    }

    /// Moves it, and starts a server on it: it is in this directory of the import.
    pub(super) async fn load_own(
        self,
        context: &Context,
        directory: PathBuf,
    ) -> Result<LoadedSource, ImportError> {
        self.copy(context, Transfer::Move).await?;
        // The listing of a directory that loses its files meanwhile is stable on the usual file systems, and not on all.
        let (moved, all) = (
            context.copy.files_done.load(Ordering::Relaxed),
            self.contents.size.files,
        );
        if moved != all {
            let problem = format!("{moved} of its {all} files were moved into the snapshot");
            return Err(refused(
                &self.path,
                problem,
                "Keep the root on XFS, Btrfs or ext4.",
            ));
        }
        context.remove(directory).await?;
        self.start(context).await
    }

    async fn copy(&self, context: &Context, transfer: Transfer) -> Result<(), ImportError> {
        context.progress.begin(Step::Copy).await;
        let copied = context.copy_parts(self.path.clone(), self.contents.parts.clone(), transfer);
        let (bytes, total) = (&context.copy.bytes_done, Some(self.contents.size.bytes));
        context.progress.with_bytes(bytes, total, copied).await
    }

    /// Starts a server on the data directory of the snapshot, with the settings of this one.
    async fn start(self, context: &Context) -> Result<LoadedSource, ImportError> {
        clear_alter_system(context).await?;
        let (major, prepared) = (self.postgres_major, self.contents.prepared);
        if let Some(chosen) = &self.chosen {
            context.write_carried(chosen.carried.clone()).await?;
        }
        let mut server = context.start_server(major, prepared).await?;
        let project = &context.request.settings;
        let owner = self.contents.owner_name.as_deref();
        let search = find_superuser(&server, project, owner).await?;
        let entry = search.into_entry(&self.path)?;
        let chosen = match self.chosen {
            Some(chosen) => chosen,
            None => {
                let (superuser, database) = (&entry.superuser, &entry.database);
                let connected = server.connect(superuser, database, SearchPath::Catalog);
                let mut session = connected.await?;
                let chosen = settings::choose(&mut session, &self.configuration).await?;
                session.close().await;
                server.stop().await?;
                context.write_carried(chosen.carried.clone()).await?;
                server = context.start_server(major, prepared).await?;
                chosen
            }
        };
        warn_of_settings(context, &chosen, &self.configuration).await;
        Ok(LoadedSource {
            carried: chosen.carried,
            cluster: Cluster {
                server,
                superuser: entry.superuser,
                entry_database: entry.database,
                postgres_major: self.postgres_major,
            },
            taken_at: self.control.checkpoint_at.unwrap_or_else(Timestamp::now),
            taken_at_origin: match self.control.checkpoint_at {
                Some(_) => TakenAtOrigin::Known,
                None => TakenAtOrigin::ImportTime,
            },
            passed_errors: PassedErrors::default(),
            descent: None,
        })
    }

    /// Refuses a source on which a server was started during the copy: the copy would mix states.
    async fn check_unchanged(&self, context: &Context) -> Result<(), ImportError> {
        check_not_running(&self.path)?;
        check_unchanged(context, self.postgres_major, &self.path, &self.control).await
    }
}

/// Refuses a source whose control file differs from the one before its copy.
pub(super) async fn check_unchanged(
    context: &Context,
    postgres_major: u16,
    path: &Path,
    before: &Control,
) -> Result<(), ImportError> {
    if read_control(context, postgres_major, path).await? == *before {
        return Ok(());
    }
    Err(refused(
        path,
        "Postgres was started on it during the import",
        "Import it again while it is stopped.",
    ))
}

/// Checks the files of a data directory, and returns its Postgres major. Blocks.
pub(super) fn check_files(path: &Path) -> Result<u16, ImportError> {
    let failed = |error| tree_error(path, path, error);
    let directory = Directory::open(path).map_err(failed)?;
    let postgres_major = read_version(&directory)?;
    check_not_running(path)?;
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

/// Tells of the links of configuration and logs, but for that of the settings, which were read.
pub(super) async fn warn_of_links(context: &Context, contents: &mut Contents) {
    let is_read = |link: &PathBuf| link == Path::new(configuration::MAIN_FILE);
    contents.left_out.retain(|link| !is_read(link));
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

/// Tells of the settings of the source's server that are left out.
async fn warn_of_settings(context: &Context, chosen: &Chosen, configuration: &Configuration) {
    let Chosen { carried, left_out } = chosen;
    if !configuration.problems.is_empty() {
        let problems = configuration.problems.join("; ");
        let warning = format!("its configuration is not read completely: {problems}");
        context.progress.warn(warning).await;
    }
    if !left_out.is_empty() {
        let shown = &left_out[..left_out.len().min(SETTINGS_MAX)];
        let warning = format!(
            "settings of its server are left out: {}; those that instances need belong under [postgres.settings]",
            shown.join(", ")
        );
        context.progress.warn(warning).await;
    }
    let names: Vec<&str> = carried.iter().map(|(name, _)| name.as_str()).collect();
    tracing::info!(id = %context.request.id, ?names, "settings of the source are carried");
}

/// Refuses a control file that cannot be read.
pub(super) fn refuse_damage(control: &Control, path: &Path) -> Result<(), ImportError> {
    let Some(damage) = &control.damage else {
        return Ok(());
    };
    Err(refused(
        path,
        format!("its control file is damaged, or of another machine type: {damage}"),
        "Copy the data directory again while its server is stopped; or import a dump instead.",
    ))
}

/// Reads the control file of a data directory, and refuses a damaged one, or a cluster that was not shut down cleanly.
pub(super) async fn read_control(
    context: &Context,
    postgres_major: u16,
    path: &Path,
) -> Result<Control, ImportError> {
    let control = Control::read(context, postgres_major, path).await?;
    refuse_damage(&control, path)?;
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
