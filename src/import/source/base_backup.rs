//! A physical copy of a running server: a base backup with all the WAL that it needs, recovered and stopped cleanly.
//!
//! The next steps are the import of a data directory, with the same checks and the same choice of settings.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::data_dir::DataDir;
use super::instance::Descent;
use super::refusal::no_programs;
use super::server::{Client, SourceServer};
use crate::fsutil::beneath::{Directory, Kind, TreeError, Walk};
use crate::import::context::Context;
use crate::import::copy::make_dir;
use crate::import::error::{ImportError, tree_error};
use crate::import::major::check_installed;
use crate::import::progress::Step;

/// The directory of the backup in the staging directory.
const DIRECTORY: &str = "backup";
/// The data directory in it; its tablespaces are beside.
const DATA: &str = "data";
/// They would make the copy follow the source, or recover to another moment than that of the backup.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];
/// Settings of the source by ALTER SYSTEM, which a server reads regardless of its configuration file.
const AUTO_CONF: &str = "postgresql.auto.conf";
/// The command line of the last server.
const OPTIONS: &str = "postmaster.opts";
/// The most that is read of the settings.
const AUTO_CONF_BYTES_MAX: u64 = 16 << 20;
/// How often a copy that grows is measured.
const GROWTH_INTERVAL: Duration = Duration::from_secs(1);
/// The size of the source; 0 where its role may not know the sizes of all databases.
const SIZE: &str = "SELECT CASE WHEN pg_catalog.bool_and(known) THEN pg_catalog.sum(bytes) ELSE 0 END FROM (\
                    SELECT known, CASE WHEN known THEN pg_catalog.pg_database_size(oid) END AS bytes FROM (\
                    SELECT oid, pg_catalog.has_database_privilege(oid, 'CONNECT') AS known FROM pg_catalog.pg_database\
                    ) AS databases) AS sizes";
/// Where the source's tablespaces are, but for the ones inside its data directory.
const TABLESPACES: &str = "SELECT pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace \
                           WHERE pg_catalog.pg_tablespace_location(oid) LIKE '/%' ORDER BY oid";

/// A physical copy, recovered.
pub(in crate::import) struct BaseBackup {
    pub(super) data_dir: DataDir,
    /// The moment of its data.
    pub(super) taken_at: Timestamp,
    pub(super) directory: PathBuf,
    /// Set for a copy of an instance.
    pub(super) descent: Option<Descent>,
}

impl BaseBackup {
    /// Copies a running server.
    pub(super) async fn take(
        context: &Context,
        server: &SourceServer,
    ) -> Result<Self, ImportError> {
        let client = Client::open(context, server).await?;
        let info = client.inspect_for_backup().await?;
        check_installed(context, info.major)
            .await
            .map_err(|error| {
                let hint = error.hint.unwrap_or_default();
                no_programs(&server.name, info.major, &error.message, &hint)
            })?;
        let (directory, data) = make_directory(context).await?;
        let Extent { bytes, tablespaces } = extent(context, &client, server).await;
        context.progress.begin(Step::Backup).await;
        let args = arguments(&client, &directory, info.major, &tablespaces);
        let mut run = client.program(info.major, "pg_basebackup", args);
        run.binds.push(directory.clone());
        let copied = AtomicU64::new(0);
        let program = async {
            tokio::select! {
                output = context.host().run_program(&run) => {
                    client.check(&output?)?;
                    measure(context, &directory, &copied).await
                }
                never = measure_growth(context, &directory, &copied) => match never {},
            }
        };
        context.progress.with_bytes(&copied, bytes, program).await?;
        let taken_at = Timestamp::now();
        context.progress.begin(Step::Recover).await;
        recover(context, &data, info.major, info.max_prepared_transactions).await?;
        Ok(Self {
            data_dir: DataDir::open(context, data).await?,
            taken_at,
            directory,
            descent: None,
        })
    }
}

/// Makes the directory of a copy, and returns it with the path of the data directory to be made in it.
pub(super) async fn make_directory(context: &Context) -> Result<(PathBuf, PathBuf), ImportError> {
    let directory = context.staging.path().join(DIRECTORY);
    let (to, owner) = (directory.clone(), context.host().data_owner());
    context
        .run_blocking(move || make_dir(&to, 0o700, owner))
        .await?;
    let data = directory.join(DATA);
    Ok((directory, data))
}

/// Measures the copy at intervals, without end. A file that goes meanwhile is no error.
pub(super) async fn measure_growth(
    context: &Context,
    directory: &Path,
    bytes: &AtomicU64,
) -> Infallible {
    loop {
        tokio::time::sleep(GROWTH_INTERVAL).await;
        if let Err(error) = measure(context, directory, bytes).await {
            tracing::debug!(id = %context.request.id, %error, "the copy was not measured");
        }
    }
}

async fn measure(
    context: &Context,
    directory: &Path,
    bytes: &AtomicU64,
) -> Result<(), ImportError> {
    let path = directory.to_owned();
    let source = context.source_path().to_owned();
    let measured = move || bytes_in(&path).map_err(|error| tree_error(&source, &path, error));
    bytes.store(context.run_blocking(measured).await?, Ordering::Relaxed);
    Ok(())
}

/// The bytes of all files of a tree.
fn bytes_in(path: &Path) -> Result<u64, TreeError> {
    let mut bytes = 0;
    let mut walk = Walk::new(Directory::open(path)?)?;
    while let Some(kind) = walk.advance()? {
        let visited = match kind {
            Kind::Directory => walk.enter().map(|_| ()),
            Kind::File => walk.stat().map(|stat| bytes += stat.st_size.unsigned_abs()),
            // Links of tablespaces, whose directories are in the tree too.
            Kind::Other | Kind::End => Ok(()),
        };
        visited.or_else(|error| {
            if error.is_missing() {
                Ok(())
            } else {
                Err(error)
            }
        })?;
    }
    Ok(bytes)
}

/// The size and the tablespaces of the source, by its own account.
#[derive(Default)]
struct Extent {
    /// About how many bytes there are, if its role may know.
    bytes: Option<u64>,
    tablespaces: Vec<String>,
}

/// The extent of the source; nothing and no tablespaces where its role may not connect to a database.
async fn extent(context: &Context, client: &Client<'_>, server: &SourceServer) -> Extent {
    let own = server.url.database();
    let database = own
        .as_deref()
        .unwrap_or(context.request.settings.source_database());
    match client
        .ask(&client.url(database, &[]), &[SIZE, TABLESPACES])
        .await
    {
        Ok(answer) => {
            let mut lines = answer.lines();
            let bytes = lines.next().and_then(|bytes| bytes.parse().ok());
            Extent {
                bytes: bytes.filter(|bytes| *bytes > 0),
                tablespaces: lines.map(str::to_owned).collect(),
            }
        }
        Err(error) => {
            let id = &context.request.id;
            tracing::info!(%id, %error, "the source does not tell of its tablespaces, so it must have none");
            Extent::default()
        }
    }
}

fn arguments(
    client: &Client<'_>,
    directory: &Path,
    major: u16,
    tablespaces: &[String],
) -> Vec<String> {
    let mut args = vec![
        format!("--dbname={}", client.url("replication", &[])),
        format!("--pgdata={}", directory.join(DATA).display()),
        "--format=plain".to_owned(),
        "--wal-method=stream".to_owned(),
        "--checkpoint=fast".to_owned(),
        "--no-password".to_owned(),
        // The snapshot is made durable as a whole.
        "--no-sync".to_owned(),
        "--label=multidb".to_owned(),
    ];
    if major >= 13 {
        args.push("--no-manifest".to_owned());
    }
    for (number, from) in tablespaces.iter().enumerate() {
        let to = directory.join(format!("tablespace-{number}"));
        let to = to.display().to_string();
        let [from, to] = [from, &to].map(|path| path.replace('=', "\\="));
        args.push(format!("--tablespace-mapping={from}={to}"));
    }
    args
}

/// Replays the WAL of the backup by a server that then stops cleanly. The signals of the source are removed before, and
/// its settings by ALTER SYSTEM are not in force meanwhile.
pub(super) async fn recover(
    context: &Context,
    data: &Path,
    postgres_major: u16,
    prepared: u32,
) -> Result<(), ImportError> {
    let path = data.to_owned();
    let source = context.source_path().to_owned();
    let taken = move || take_settings(&path).map_err(|error| tree_error(&source, &path, error));
    let auto_conf = context.run_blocking(taken).await?;
    let server = context
        .start_server_on(data.to_owned(), postgres_major, prepared)
        .await?;
    server.stop().await?;
    let path = data.to_owned();
    let source = context.source_path().to_owned();
    let put_back = move || {
        let done = put_back(&path, auto_conf.as_deref());
        done.map_err(|error| tree_error(&source, &path, error))
    };
    context.run_blocking(put_back).await
}

/// Puts the settings of ALTER SYSTEM back, and removes the command line of the server that has recovered the copy.
fn put_back(data: &Path, auto_conf: Option<&[u8]>) -> Result<(), TreeError> {
    let directory = Directory::open(data)?;
    directory.remove(OsStr::new(OPTIONS))?;
    match auto_conf {
        Some(auto_conf) => directory.replace(OsStr::new(AUTO_CONF), auto_conf),
        None => Ok(()),
    }
}

/// Removes the signals, and empties the settings of ALTER SYSTEM, which it returns.
fn take_settings(data: &Path) -> Result<Option<Vec<u8>>, TreeError> {
    let directory = Directory::open(data)?;
    for signal in SIGNALS {
        directory.remove(OsStr::new(signal))?;
    }
    let auto_conf = directory.read(AUTO_CONF, AUTO_CONF_BYTES_MAX)?;
    if auto_conf.is_some() {
        directory.replace(OsStr::new(AUTO_CONF), b"")?;
    }
    Ok(auto_conf)
}
