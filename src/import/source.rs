//! The source of a snapshot: a data directory, a dump or a running server. It is opened and checked, then loaded
//! into the data directory of the snapshot.

mod base_backup;
mod command;
mod configuration;
mod contents;
mod data_dir;
mod dump;
mod early_check;
mod feed;
mod instance;
mod refusal;
mod running;
mod server;
mod settings;
mod unrecovered;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use multidb_store::{PassedErrors, TakenAtOrigin};

use self::base_backup::BaseBackup;
pub use self::command::DumpCommand;
pub(super) use self::contents::{MAY_BE_EMPTY, Part};
use self::data_dir::DataDir;
use self::feed::Feed;
pub use self::feed::LogicalSource;
pub use self::instance::{
    AttachInstance, AttachedInstance, InstanceFault, SourceInstance, StoppedInstance,
};
pub(super) use self::instance::{Descent, describe as describe_instance};
pub use self::server::SourceServer;
use super::cluster::Cluster;
use super::context::Context;
use super::dump::Dump;
use super::error::ImportError;
use super::upload::Upload;

/// The source of a snapshot, as requested.
#[derive(Debug, Clone)]
pub enum ImportSource {
    /// A data directory whose server was stopped cleanly.
    DataDir(PathBuf),
    /// A dump: plain SQL, or pg_dump's custom, directory or tar format.
    Dump(PathBuf),
    /// A dump in one file, which a client sends.
    Upload(Upload),
    /// All files of a running server.
    Physical(SourceServer),
    /// One database of a running server.
    Logical(LogicalSource),
    /// The output of a command.
    Command(DumpCommand),
    /// An instance as it is now.
    Instance(SourceInstance),
}

impl ImportSource {
    /// Its path; for a source without a path, its name in messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::DataDir(path) | Self::Dump(path) => path,
            Self::Upload(upload) => upload.name(),
            Self::Physical(server) => &server.name,
            Self::Logical(source) => &source.server.name,
            Self::Command(command) => &command.name,
            Self::Instance(instance) => &instance.name,
        }
    }

    /// Whether its data has the files of a server, and with them libraries that would act by themselves.
    pub(super) fn is_physical(&self) -> bool {
        match self {
            Self::DataDir(_) | Self::Physical(_) | Self::Instance(_) => true,
            Self::Dump(_) | Self::Upload(_) | Self::Logical(_) | Self::Command(_) => false,
        }
    }

    /// The source as the snapshot's record has it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::DataDir(path) => format!("data directory {}", path.display()),
            Self::Dump(path) => format!("dump {}", path.display()),
            Self::Upload(upload) => format!("dump {}, sent by a client", upload.name().display()),
            Self::Physical(server) => format!("physical copy of {}", server.name.display()),
            Self::Logical(source) => format!("dump of {}", source.server.name.display()),
            Self::Command(command) => format!("dump, {}", command.name.display()),
            Self::Instance(instance) => instance.name.display().to_string(),
        }
    }
}

/// A source that was checked.
pub(super) enum Source {
    DataDir(Box<DataDir>),
    Dump(Box<Dump>),
    Backup(Box<BaseBackup>),
    Feed(Box<(Feed, Dump)>),
}

/// A source that was loaded: its cluster, running on the data directory of the snapshot.
pub(super) struct LoadedSource {
    pub(super) cluster: Cluster,
    /// The time of the data, as the source has it.
    pub(super) taken_at: Timestamp,
    /// How that time is known.
    pub(super) taken_at_origin: TakenAtOrigin,
    /// The errors of a dump that its restore went past.
    pub(super) passed_errors: PassedErrors,
    /// The settings of the source's server that its instances have.
    pub(super) carried: Vec<(String, String)>,
    /// Set for a copy of an instance.
    pub(super) descent: Option<Descent>,
}

impl Source {
    /// Opens and checks the requested source. Changes nothing in it.
    pub(super) async fn open(context: &Context) -> Result<Self, ImportError> {
        match &context.request.source {
            ImportSource::DataDir(path) => {
                let path = resolve(context, path).await?;
                let checked = path.clone();
                let is_unrecovered =
                    context.run_blocking(move || unrecovered::is_unrecovered(&checked));
                if is_unrecovered.await? {
                    let backup = BaseBackup::unrecovered(context, path).await?;
                    return Ok(Self::Backup(Box::new(backup)));
                }
                let data_dir = DataDir::open(context, path).await?;
                Ok(Self::DataDir(Box::new(data_dir)))
            }
            ImportSource::Dump(path) => {
                let path = resolve(context, path).await?;
                Self::open_dump(move || Dump::open(&path)).await
            }
            ImportSource::Upload(upload) => {
                let upload = upload.clone();
                Self::open_dump(move || Dump::receive(upload)).await
            }
            ImportSource::Physical(server) => {
                let backup = BaseBackup::take(context, server).await?;
                Ok(Self::Backup(Box::new(backup)))
            }
            ImportSource::Instance(instance) => {
                let backup = BaseBackup::of_instance(context, instance).await?;
                Ok(Self::Backup(Box::new(backup)))
            }
            ImportSource::Logical(source) => {
                let received = feed::dump_server(context, source).await?;
                Ok(Self::Feed(Box::new(received)))
            }
            ImportSource::Command(command) => {
                let (feed, upload) = Feed::run_command(context, command)?;
                let received = feed::receive(feed, upload).await?;
                Ok(Self::Feed(Box::new(received)))
            }
        }
    }

    /// Reads the head of a dump.
    async fn open_dump(
        open: impl FnOnce() -> Result<Dump, ImportError> + Send + 'static,
    ) -> Result<Self, ImportError> {
        // Not tracked, so that the cleanup does not wait for it: it only reads, and a FIFO or a client may
        // never have data.
        let dump = tokio::task::spawn_blocking(open).await??;
        Ok(Self::Dump(Box::new(dump)))
    }

    /// Copies or restores it into the data directory of the snapshot, and starts a server there.
    pub(super) async fn load(self, context: &Context) -> Result<LoadedSource, ImportError> {
        match self {
            Self::DataDir(data_dir) => data_dir.load(context).await,
            Self::Dump(dump) => dump::load(*dump, context).await,
            Self::Backup(backup) => {
                let BaseBackup {
                    data_dir,
                    taken_at,
                    directory,
                    descent,
                } = *backup;
                let loaded = data_dir.load_own(context, directory).await?;
                Ok(LoadedSource {
                    taken_at,
                    taken_at_origin: TakenAtOrigin::Known,
                    descent,
                    ..loaded
                })
            }
            Self::Feed(fed) => {
                let (feed, dump) = *fed;
                match dump::load(dump, context).await {
                    Ok(loaded) => Ok(loaded),
                    Err(error) => Err(feed.explain(error).await),
                }
            }
        }
    }
}

/// Makes a path absolute: programs run in another working directory.
async fn resolve(context: &Context, path: &Path) -> Result<PathBuf, ImportError> {
    let path = path.to_owned();
    context
        .run_blocking(move || {
            // Trusted path: the administrator has named it.
            fs::canonicalize(&path).map_err(|source| ImportError::io("open", &path, source))
        })
        .await
}
