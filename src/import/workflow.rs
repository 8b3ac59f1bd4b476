//! The steps of an import, in their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use multidb_store::{Prepared, SnapshotPin, SnapshotRecord, TakenAtOrigin, error_chain};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::context::Context;
use super::early_write::write_early;
use super::error::ImportError;
use super::prepare::{Kept, prepare, rewrite};
use super::progress::Step;
use super::source::{LoadedSource, Source, describe_instance};
use super::trim::trim;
use crate::relations::Relations;

/// Runs an import. Whether it fails or is cancelled, everything that it made is removed.
pub(super) async fn run(
    context: Context,
    cancelled: CancellationToken,
) -> Result<SnapshotRecord, ImportError> {
    let id = &context.request.id;
    context.staging.create()?;
    let result = tokio::select! {
        result = import(&context) => result,
        error = context.reserve_reached() => Err(error),
        never = write_early(context.staging.path()) => match never {},
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
            (context.importer.announce)(snapshot.clone()).await;
        }
        Err(error) => {
            tracing::info!(%id, error = error_chain(error), "import failed");
            context.clean_up().await;
        }
    }
    result
}

/// Reads the migrations of a source, and removes everything that this made.
pub(super) async fn migrations_of(
    context: Context,
    cancelled: CancellationToken,
) -> Result<Vec<String>, ImportError> {
    context.staging.create()?;
    let read = async {
        context.create_data_dir().await?;
        let source = Source::open(&context).await?;
        let LoadedSource { cluster, .. } = source.load(&context).await?;
        let databases = cluster.databases().await?;
        let project = &context.request.settings;
        let migrations = cluster.applied_migrations(&databases.open, project).await?;
        cluster.server.stop().await?;
        Ok(migrations)
    };
    let result = tokio::select! {
        result = read => result,
        error = context.reserve_reached() => Err(error),
        () = cancelled.cancelled() => Err(ImportError::Cancelled),
    };
    context.clean_up().await;
    result
}

async fn import(context: &Context) -> Result<SnapshotRecord, ImportError> {
    let Context {
        progress, request, ..
    } = context;
    progress.begin(Step::Check).await;
    context.create_data_dir().await?;
    let source = Source::open(context).await?;
    let LoadedSource {
        mut cluster,
        taken_at,
        taken_at_origin,
        passed_errors,
        carried,
        descent,
    } = source.load(context).await?;
    let Ready {
        migrations,
        extensions,
        prepared_by,
        kept,
        relations,
    } = make_ready(context, &mut cluster).await?;
    progress.begin(Step::Finish).await;
    cluster.server.stop().await?;
    trim(context, cluster.postgres_major, carried, kept).await?;
    let source = match &descent {
        Some(descent) => describe_instance(&descent.from),
        None => request.source.describe(),
    };
    let (from_instance, earlier) = match descent {
        Some(descent) => (Some(descent.from), descent.prepared_by),
        None => (None, Vec::new()),
    };
    let record = SnapshotRecord {
        id: request.id.clone(),
        project: request.project.clone(),
        taken_at: request.taken_at.unwrap_or(taken_at),
        taken_at_origin: match request.taken_at {
            Some(_) => TakenAtOrigin::Known,
            None => taken_at_origin,
        },
        imported_at: Timestamp::now(),
        postgres_major: cluster.postgres_major,
        superuser: cluster.superuser,
        bytes: 0,
        files: 0,
        migrations,
        source,
        passed_errors: match prepared_by.is_empty() {
            true => passed_errors,
            false => passed_errors.without_rows(),
        },
        prepared_by: earlier.into_iter().chain(prepared_by).collect(),
        pin: SnapshotPin::None,
        from_instance,
        extensions,
    };
    let (staging, cloner) = (
        context.staging.clone(),
        Arc::clone(&context.importer.cloner),
    );
    let source = context.source_path().to_owned();
    context
        .run_blocking(move || {
            // It may have been reached since the last look.
            cloner.check_reserve(0)?;
            staging.publish(&cloner, record, relations.as_ref(), &source)
        })
        .await
}

/// The warning of a `rename_database` that has no effect.
pub(super) fn no_database_to_rename(name: &str) -> String {
    format!("rename_database: the source has no database \"{name}\"")
}

/// A cluster whose files are as they will be in the snapshot.
struct Ready {
    migrations: Vec<String>,
    extensions: Vec<String>,
    prepared_by: Vec<Prepared>,
    /// The files that it has, if it was written anew.
    kept: Option<Kept>,
    /// None if they cannot be read, which only costs shared blocks.
    relations: Option<Relations>,
}

/// Cuts the cluster off from its source, gives its databases their names, prepares and vacuums it.
async fn make_ready(context: &Context, cluster: &mut Cluster) -> Result<Ready, ImportError> {
    let Context {
        progress, request, ..
    } = context;
    let mut databases = cluster.databases().await?;
    let project = &request.settings;
    let none = BTreeMap::new();
    let new_names = match request.source.is_physical() {
        true => &project.rename_database,
        // A dump was restored under the new ones.
        false => &none,
    };
    let renamed = databases.renamed(new_names, context.source_path())?;
    cluster
        .check_project(&renamed, project, context.source_path())
        .await?;
    for warning in cluster.cut_off(&databases, context.source_path()).await? {
        tracing::warn!(id = %request.id, warning, "the snapshot is cut off from its source");
        progress.warn(warning).await;
    }
    let path = context.source_path();
    for missing in cluster
        .rename_databases(&databases, new_names, path)
        .await?
    {
        progress.warn(no_database_to_rename(&missing)).await;
    }
    databases = renamed;
    let mut extensions = cluster.extensions(&databases).await?;
    if let Some(warning) = extensions.warning() {
        tracing::warn!(id = %request.id, warning, "the snapshot needs what Postgres lacks here");
        progress.warn(warning).await;
    }
    let prepared_by = prepare(context, cluster).await?;
    if !prepared_by.is_empty() {
        // A preparation can have dropped databases and extensions.
        databases = cluster.databases().await?;
        cluster
            .check_project(&databases, project, context.source_path())
            .await?;
        extensions = cluster.extensions(&databases).await?;
    }
    if let Some(refusal) = cluster.refusal_of_clients(project).await {
        progress.warn(refusal).await;
    }
    progress.begin(Step::Migrations).await;
    let migrations = cluster.applied_migrations(&databases.open, project).await?;
    let kept = if prepared_by.is_empty() {
        progress.begin(Step::Vacuum).await;
        cluster.vacuum(&databases.open).await?;
        None
    } else {
        Some(rewrite(context, cluster).await?)
    };
    let relations = cluster.relations(&databases.open).await;
    let relations = relations.inspect_err(|error| {
        let error = error_chain(error);
        tracing::warn!(id = %request.id, error, "the files of the snapshot's relations are not known; fewer blocks may be shared");
    });
    Ok(Ready {
        migrations,
        extensions: extensions.names.into_iter().collect(),
        prepared_by,
        kept,
        relations: relations.ok(),
    })
}
