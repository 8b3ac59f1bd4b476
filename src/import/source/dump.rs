//! A dump as the source of a snapshot: the choice of the Postgres major, and the restore into a
//! copy of the template cluster.

use super::LoadedSource;
use crate::import::cluster::{Cluster, create_database};
use crate::import::context::Context;
use crate::import::copy::{copy_data, make_dir};
use crate::import::dump::{Dump, DumpFormat};
use crate::import::error::ImportError;
use crate::import::major::choose_major;
use crate::import::progress::Step;
use crate::import::restore::{self, RestoreTarget};
use crate::import::server::SUPERUSER;
use crate::import::template::template;

/// Restores a dump, and leaves the server on its data running.
pub(super) async fn load(mut dump: Dump, context: &Context) -> Result<LoadedSource, ImportError> {
    let postgres_major = choose_major(context, dump.server_major).await?;
    let tools_major = dump
        .archive_major
        .map_or(postgres_major, |major| major.max(postgres_major));
    context.progress.begin(Step::Copy).await;
    let template = template(context, postgres_major).await?;
    context.copy_template(template).await?;
    make_readable(&mut dump, context, tools_major).await?;
    let server = context.start_server(postgres_major, 0).await?;
    let project = &context.request.settings;
    create_database(&server, project).await?;
    context.progress.begin(Step::Restore).await;
    let total = (dump.bytes > 0).then_some(dump.bytes);
    let bytes_read = dump.bytes_read.clone();
    let (taken_at, taken_at_origin) = (dump.made_at, dump.made_at_origin);
    let target = RestoreTarget {
        server: &server,
        project,
        postgres_major,
        tools_major,
        staging: context.staging.path(),
        errors: context.request.errors,
        progress: &context.progress,
    };
    let restored = restore::restore(&mut dump, &target);
    let passed_errors = context
        .progress
        .with_bytes(&bytes_read, total, restored)
        .await?;
    Ok(LoadedSource {
        passed_errors,
        carried: Vec::new(),
        cluster: Cluster {
            server,
            superuser: SUPERUSER.to_owned(),
            entry_database: "postgres".to_owned(),
            postgres_major,
        },
        taken_at,
        taken_at_origin,
        descent: None,
    })
}

/// Copies a dump in directory format that the user of the servers cannot read, since pg_restore
/// reads it by path. Dumps in one file are read by multidb itself.
async fn make_readable(
    dump: &mut Dump,
    context: &Context,
    tools_major: u16,
) -> Result<(), ImportError> {
    let host = context.host();
    if dump.format != DumpFormat::Directory
        || restore::can_read_directory(host, tools_major, &dump.directory).await?
    {
        return Ok(());
    }
    let (from, to) = (dump.directory.clone(), context.staging.path().join("dump"));
    let (owner, state) = (host.data_owner(), context.copy.clone());
    dump.directory.clone_from(&to);
    context
        .run_blocking(move || {
            make_dir(&to, 0o700, owner)?;
            copy_data(&from, &to, owner, &state)
        })
        .await
}
