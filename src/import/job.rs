//! One import, from the check of its source to the published snapshot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use multidb_actors::ports::RuntimeError;
use multidb_store::{InstanceUid, SnapshotRecord, error_chain, manifest};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Control;
use super::data_dir::{DataDir, check_files, check_not_running, read_control};
use super::dump::{Dump, DumpFormat};
use super::error::{ImportError, refused};
use super::files::{self, Shared};
use super::restore::{self, Target};
use super::server::{self, ImportServer, SUPERUSER};
use super::template::template;
use super::{ImportRequest, ImportSource, Importer, Progress, Step, trim};
use crate::runtime::ProgramRun;

/// How often the bytes of a step are told.
const BYTES_INTERVAL: Duration = Duration::from_millis(200);
/// How often the free space is looked at. A disk writes less than the usual reserve in that time.
const RESERVE_INTERVAL: Duration = Duration::from_millis(200);
/// How long a server that nobody needs any more may take to end.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);
/// The newest major version that is looked for when a dump names none that is installed.
const MAJOR_MAX: u16 = 20;
const MAJOR_MIN: u16 = 12;

/// One import.
pub(super) struct Job {
    importer: Importer,
    request: ImportRequest,
    news: mpsc::Sender<Progress>,
    uid: InstanceUid,
    staging: PathBuf,
    data: PathBuf,
    shared: Shared,
    /// Blocking work, which cannot be dropped but must have ended before the cleaning up.
    blocking: TaskTracker,
}

/// A source that was looked at.
enum Source {
    DataDir(PathBuf, DataDir),
    Dump(Box<Dump>),
}

impl Job {
    pub(super) fn new(
        importer: Importer,
        request: ImportRequest,
        news: mpsc::Sender<Progress>,
    ) -> Self {
        let staging = importer.layout.snapshot_staging(&request.id);
        Self {
            data: staging.join("data"),
            staging,
            importer,
            request,
            news,
            uid: InstanceUid::from_bits(rand::random()),
            shared: Shared::default(),
            blocking: TaskTracker::new(),
        }
    }

    /// Runs the import; where it fails or is interrupted, removes all that it made.
    pub(super) async fn run(
        self,
        cancelled: CancellationToken,
    ) -> Result<SnapshotRecord, ImportError> {
        let id = &self.request.id;
        self.make_staging()?;
        let result = tokio::select! {
            result = self.import() => result,
            error = self.reserve_reached() => Err(error),
            () = cancelled.cancelled() => Err(ImportError::Cancelled),
        };
        match &result {
            Ok(snapshot) => {
                tracing::info!(
                    %id,
                    migrations = snapshot.migrations.len(),
                    bytes = snapshot.bytes,
                    "snapshot imported"
                );
                (self.importer.announce)(snapshot.clone()).await;
            }
            Err(error) => {
                tracing::info!(%id, error = error_chain(error), "import failed");
                self.clean_up().await;
            }
        }
        result
    }

    /// Resolves when no more is free than the reserve, which is for the instances that run.
    async fn reserve_reached(&self) -> ImportError {
        loop {
            let cloner = self.importer.cloner.clone();
            let checked = tokio::task::spawn_blocking(move || cloner.check_reserve(0)).await;
            if let Ok(Err(error)) = checked {
                return error.into();
            }
            tokio::time::sleep(RESERVE_INTERVAL).await;
        }
    }

    /// Making the directory is what reserves the id.
    fn make_staging(&self) -> Result<(), ImportError> {
        let id = || self.request.id.clone();
        if self.importer.layout.snapshot(&self.request.id).exists() {
            return Err(ImportError::Exists { id: id() });
        }
        // Postgres passes through to its data.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        match fs::create_dir(&self.staging) {
            Ok(()) => fs::set_permissions(&self.staging, mode)
                .map_err(|source| ImportError::io("prepare", &self.staging, source)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ImportError::UnderWay { id: id() })
            }
            Err(source) => Err(ImportError::io("make", &self.staging, source)),
        }
    }

    async fn clean_up(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.blocking.close();
        self.blocking.wait().await;
        let host = &self.importer.host;
        if let Err(error) = host.stop_server(self.uid, ABORT_PATIENCE).await {
            tracing::error!(%error, uid = %self.uid, "the server of a failed import does not stop");
            return;
        }
        let cloner = self.importer.cloner.clone();
        // Interrupted at the very end, it has its final name already, which nobody knows yet.
        let published = self.importer.layout.snapshot(&self.request.id);
        let made = if self.staging.exists() {
            self.staging.clone()
        } else {
            published
        };
        let removed = tokio::task::spawn_blocking(move || cloner.remove_tree(&made)).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(%error, "a failed import was not removed, the next start of multidb tries again");
        }
    }

    async fn import(&self) -> Result<SnapshotRecord, ImportError> {
        self.tell(Progress::Step(Step::Check)).await;
        let cloner = self.importer.cloner.clone();
        let data = self.data.clone();
        self.block(move || Ok(cloner.make_data_dir(&data)?)).await?;
        let (postgres_major, taken_at, superuser, server) = match self.check().await? {
            Source::DataDir(path, found) => self.take_data(&path, found).await?,
            Source::Dump(dump) => self.take_dump(*dump).await?,
        };
        let settings = &self.request.settings;
        let databases = server::databases(&server, &superuser).await?;
        server::check_project(
            &server,
            &superuser,
            &databases,
            settings,
            self.source_path(),
        )
        .await?;
        self.tell(Progress::Step(Step::Migrations)).await;
        let migrations = server::migrations(&server, &superuser, &databases, settings).await?;
        self.tell(Progress::Step(Step::Vacuum)).await;
        server::vacuum(&server, &superuser, &databases).await?;
        self.tell(Progress::Step(Step::Finish)).await;
        server.stop().await?;
        self.trim(postgres_major).await?;
        let record = SnapshotRecord {
            id: self.request.id.clone(),
            project: self.request.project.clone(),
            taken_at: self.request.taken_at.unwrap_or(taken_at),
            imported_at: Timestamp::now(),
            postgres_major,
            superuser,
            bytes: 0,
            files: 0,
            migrations,
            source: self.describe_source(),
        };
        self.publish(record).await
    }

    /// Looks at the source, without changing anything.
    async fn check(&self) -> Result<Source, ImportError> {
        match &self.request.source {
            ImportSource::DataDir(path) => {
                let path = self.resolve(path).await?;
                let looked_at = path.clone();
                let (major, size) = self.block(move || check_files(&looked_at)).await?;
                let host = self.importer.host.as_ref();
                let control =
                    read_control(host, major, &path, &self.staging.join("control")).await?;
                let found = DataDir {
                    postgres_major: major,
                    control,
                    size,
                };
                Ok(Source::DataDir(path, found))
            }
            ImportSource::Dump(path) => {
                let path = self.resolve(path).await?;
                // Not waited for when the import is interrupted: it only reads, and a FIFO may
                // never have anything to read.
                let dump = tokio::task::spawn_blocking(move || Dump::open(&path)).await??;
                Ok(Source::Dump(Box::new(dump)))
            }
        }
    }

    /// Programs run in another directory, so a path must be absolute.
    async fn resolve(&self, path: &Path) -> Result<PathBuf, ImportError> {
        let path = path.to_owned();
        self.block(move || {
            fs::canonicalize(&path).map_err(|source| ImportError::io("open", &path, source))
        })
        .await
    }

    async fn take_data(
        &self,
        path: &Path,
        found: DataDir,
    ) -> Result<(u16, Timestamp, String, ImportServer), ImportError> {
        self.tell(Progress::Step(Step::Copy)).await;
        let copied = self.copy(path.to_owned());
        let bytes = &self.shared.bytes;
        self.with_bytes(bytes, Some(found.size.bytes), copied)
            .await?;
        // Had a server been started meanwhile, the copy would be of no one moment.
        check_not_running(path)?;
        let host = self.importer.host.as_ref();
        let after = read_control(
            host,
            found.postgres_major,
            path,
            &self.staging.join("control"),
        )
        .await?;
        if after != found.control {
            return Err(refused(
                path,
                "Postgres was started on it during the import",
                "Import it again while it is stopped.",
            ));
        }
        self.drop_alter_system().await?;
        let server = self.start(found.postgres_major).await?;
        let role = &self.request.settings.role;
        let superuser = server::find_superuser(&server, role, path).await?;
        let taken_at = found.control.checkpoint_at.unwrap_or_else(Timestamp::now);
        Ok((found.postgres_major, taken_at, superuser, server))
    }

    async fn take_dump(
        &self,
        mut dump: Dump,
    ) -> Result<(u16, Timestamp, String, ImportServer), ImportError> {
        let postgres_major = self.choose_major(dump.server_major).await?;
        let tools_major = dump
            .archive_major
            .map_or(postgres_major, |major| major.max(postgres_major));
        let Importer { host, layout, .. } = &self.importer;
        self.tell(Progress::Step(Step::Copy)).await;
        let template = template(host.as_ref(), layout, postgres_major, &self.staging).await?;
        self.copy(template).await?;
        self.make_readable(&mut dump, tools_major).await?;
        let server = self.start(postgres_major).await?;
        let project = &self.request.settings;
        server::make_database(&server, project).await?;
        self.tell(Progress::Step(Step::Restore)).await;
        let total = (dump.bytes > 0).then_some(dump.bytes);
        let made_at = dump.made_at;
        let target = Target {
            server: &server,
            project,
            postgres_major,
            tools_major,
            staging: &self.staging,
        };
        let bytes = dump.bytes_read.clone();
        let restored = restore::restore(&mut dump, &target);
        self.with_bytes(&bytes, total, restored).await?;
        Ok((postgres_major, made_at, SUPERUSER.to_owned(), server))
    }

    /// A dump in one file is read by us, but one that is a directory by pg_restore: where its user
    /// cannot, it gets a copy, by reflink if that can be.
    async fn make_readable(&self, dump: &mut Dump, tools_major: u16) -> Result<(), ImportError> {
        let host = self.importer.host.as_ref();
        if dump.format != DumpFormat::Directory
            || restore::can_read_directory(host, tools_major, &dump.directory).await?
        {
            return Ok(());
        }
        let (from, to) = (dump.directory.clone(), self.staging.join("dump"));
        let (owner, shared) = (host.data_owner(), self.shared.clone());
        dump.directory.clone_from(&to);
        self.block(move || {
            files::make_dir(&to, 0o700, owner)?;
            files::copy_data(&from, &to, owner, &shared)
        })
        .await
    }

    /// The major version that was asked for; else the dump's own, else the newest that is
    /// installed and newer than that.
    async fn choose_major(&self, own: Option<u16>) -> Result<u16, ImportError> {
        if let Some(asked) = self.request.postgres_major {
            self.look_for(asked).await?;
            return Ok(asked);
        }
        let missing = match own {
            Some(own) => match self.look_for(own).await {
                Ok(()) => return Ok(own),
                Err(error) => Some(error),
            },
            None => None,
        };
        let oldest = own.map_or(MAJOR_MIN, |own| own.saturating_add(1));
        for major in (oldest.max(MAJOR_MIN)..=MAJOR_MAX).rev() {
            if self.look_for(major).await.is_ok() {
                if let Some(own) = own {
                    let text = format!(
                        "PostgreSQL {own}, which the dump is of, is not available: it is restored \
                         with PostgreSQL {major}"
                    );
                    self.tell(Progress::Warning(text)).await;
                }
                return Ok(major);
            }
        }
        let missing = missing.unwrap_or_else(|| RuntimeError {
            message: "no programs of PostgreSQL are installed".to_owned(),
            hint: Some("Install them, or use the docker runtime.".to_owned()),
        });
        Err(missing.into())
    }

    async fn look_for(&self, postgres_major: u16) -> Result<(), RuntimeError> {
        let run = ProgramRun {
            postgres_major,
            program: "postgres",
            args: vec!["--version".to_owned()],
            env: Vec::new(),
            binds: Vec::new(),
        };
        self.importer.host.run_program(&run).await.map(|_| ())
    }

    async fn copy(&self, from: PathBuf) -> Result<(), ImportError> {
        let (to, owner) = (self.data.clone(), self.importer.host.data_owner());
        let shared = self.shared.clone();
        self.block(move || files::copy_data(&from, &to, owner, &shared))
            .await
    }

    async fn start(&self, postgres_major: u16) -> Result<ImportServer, ImportError> {
        let host = self.importer.host.clone();
        let id = &self.request.id;
        ImportServer::start(host, self.uid, id, postgres_major, &self.staging).await
    }

    /// Checks that the server ended cleanly, and takes out what no clone needs.
    async fn trim(&self, postgres_major: u16) -> Result<(), ImportError> {
        let host = self.importer.host.as_ref();
        let control = Control::read(host, postgres_major, &self.data).await?;
        if !control.is_shut_down() {
            return Err(ImportError::Server {
                action: "stop the server of the import cleanly",
                message: format!("its state is \"{}\"", control.state),
            });
        }
        let data = self.data.clone();
        self.block(move || trim::trim(&data, &control)).await?;
        // A dump may have some too.
        self.drop_alter_system().await
    }

    async fn drop_alter_system(&self) -> Result<(), ImportError> {
        let data = self.data.clone();
        let dropped = self.block(move || trim::drop_alter_system(&data)).await?;
        if !dropped.is_empty() {
            let names = dropped.join(", ");
            tracing::warn!(id = %self.request.id, settings = names, "settings by ALTER SYSTEM dropped");
            let text = format!("settings made by ALTER SYSTEM are left out: {names}");
            self.tell(Progress::Warning(text)).await;
        }
        Ok(())
    }

    /// Makes everything durable, then visible.
    async fn publish(&self, record: SnapshotRecord) -> Result<SnapshotRecord, ImportError> {
        let (cloner, layout) = (self.importer.cloner.clone(), self.importer.layout.clone());
        let (staging, data) = (self.staging.clone(), self.data.clone());
        self.block(move || {
            // This also refuses links: a dump may have made a tablespace.
            let size = files::data_size(&data)?;
            let record = SnapshotRecord {
                bytes: size.bytes,
                files: size.files,
                ..record
            };
            remove_all_but_data(&staging)?;
            manifest::write(&staging, &record)?;
            cloner.sync(&staging)?;
            let place = layout.snapshot(&record.id);
            renameat_with(CWD, &staging, CWD, &place, RenameFlags::NOREPLACE)
                .map_err(|error| ImportError::io("make", &place, error.into()))?;
            manifest::sync_directory(&layout.snapshots())?;
            Ok(record)
        })
        .await
    }

    async fn tell(&self, news: Progress) {
        // Nobody who listens means interrupted, which is seen elsewhere.
        let _ = self.news.send(news).await;
    }

    /// Runs a step, telling every now and then how far it is.
    async fn with_bytes<T>(
        &self,
        bytes: &AtomicU64,
        total: Option<u64>,
        step: impl Future<Output = Result<T, ImportError>>,
    ) -> Result<T, ImportError> {
        tokio::pin!(step);
        let mut ticks = tokio::time::interval(BYTES_INTERVAL);
        loop {
            let ended = tokio::select! {
                result = &mut step => Some(result),
                _ = ticks.tick() => None,
            };
            let done = bytes.load(Ordering::Relaxed);
            // Not waited for: news of bytes may be lost where nobody takes them in time.
            let _ = self.news.try_send(Progress::Bytes { done, total });
            if let Some(result) = ended {
                return result;
            }
        }
    }

    /// Runs blocking work on a thread of its own.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
    ) -> Result<T, ImportError> {
        self.blocking.spawn_blocking(work).await?
    }

    fn source_path(&self) -> &Path {
        match &self.request.source {
            ImportSource::DataDir(path) | ImportSource::Dump(path) => path,
        }
    }

    fn describe_source(&self) -> String {
        match &self.request.source {
            ImportSource::DataDir(path) => format!("data directory {}", path.display()),
            ImportSource::Dump(path) => format!("dump {}", path.display()),
        }
    }
}

/// Removes the log, the FIFOs and whatever else the import needed.
fn remove_all_but_data(staging: &Path) -> Result<(), ImportError> {
    let failed = |source| ImportError::io("tidy", staging, source);
    for entry in fs::read_dir(staging).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() == "data" {
            continue;
        }
        let removed = if entry.file_type().map_err(failed)?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.map_err(|source| ImportError::io("remove", &entry.path(), source))?;
    }
    Ok(())
}
