//! The checks of a data directory that need a server, before all of it is copied: a small copy has the roles, the list of
//! databases and the files for a start.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::contents::Contents;
use super::data_dir::DataDir;
use super::settings::{self, Chosen};
use crate::import::cluster::{Cluster, find_superuser};
use crate::import::context::Context;
use crate::import::control::Control;
use crate::import::error::ImportError;
use crate::import::trim::may_be_needed;

/// initdb's databases have lower numbers (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: u32 = 16384;
/// The most bytes of such a database: some fill `postgres` with data of their own.
const DATABASE_BYTES_MAX: u64 = 256 << 20;

impl DataDir {
    /// Refuses a cluster that cannot be imported, and chooses the settings that its snapshot carries. `None` where
    /// the databases of the small copy refuse connections, so that the whole copy has to be asked.
    pub(super) async fn check_early(
        &self,
        context: &Context,
    ) -> Result<Option<Chosen>, ImportError> {
        let copy = context.staging.path().join("check");
        let (databases, control) = (small_databases(&self.contents), self.control.clone());
        let is_needed = move |place: &Path| is_needed(place, &databases, &control);
        let (root, parts) = (self.path.clone(), self.contents.parts.clone());
        context
            .copy_needed(root, parts, copy.clone(), is_needed)
            .await?;
        let major = self.postgres_major;
        // Prepared transactions are left out.
        let server = context.start_server_on(copy.clone(), major, 0).await?;
        let project = &context.request.settings;
        let owner = self.contents.owner_name.as_deref();
        let search = find_superuser(&server, project, owner).await?;
        let chosen = if search.is_final() {
            let entry = search.into_entry(&self.path)?;
            let cluster = Cluster {
                server,
                superuser: entry.superuser,
                entry_database: entry.database,
                postgres_major: major,
            };
            let chosen = self.check_cluster(context, &cluster).await?;
            cluster.server.stop().await?;
            Some(chosen)
        } else {
            server.stop().await?;
            None
        };
        context.remove(copy).await?;
        Ok(chosen)
    }

    async fn check_cluster(
        &self,
        context: &Context,
        cluster: &Cluster,
    ) -> Result<Chosen, ImportError> {
        let project = &context.request.settings;
        let databases = cluster.databases().await?;
        let renamed = databases.renamed(&project.rename_database, &self.path)?;
        cluster.check_project(&renamed, project, &self.path).await?;
        cluster.check_locales(&self.path).await?;
        let mut session = cluster.connect_to_entry().await?;
        let chosen = settings::choose(&mut session, &self.configuration).await?;
        session.close().await;
        Ok(chosen)
    }
}

/// The directories of the databases that every cluster has, as far as they are small.
fn small_databases(contents: &Contents) -> BTreeSet<OsString> {
    let is_of_initdb = |name: &OsStr| {
        let oid = name.to_str().and_then(|name| name.parse::<u32>().ok());
        oid.is_some_and(|oid| oid < FIRST_NORMAL_OID)
    };
    let databases = contents.databases.iter();
    databases
        .filter(|(name, bytes)| is_of_initdb(name) && **bytes <= DATABASE_BYTES_MAX)
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether a server needs this to tell of roles and databases after a clean shutdown.
fn is_needed(place: &Path, databases: &BTreeSet<OsString>, control: &Control) -> bool {
    let mut names = place.iter();
    let top = names.next().and_then(OsStr::to_str).unwrap_or_default();
    match (top, names.next()) {
        ("PG_VERSION" | "global" | "pg_multixact" | "pg_xact", _) => true,
        ("base", database) => database.is_none_or(|name| databases.contains(name)),
        ("pg_wal", None) => true,
        ("pg_wal", Some(name)) => name != "archive_status" && may_be_needed(name, control),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_copy_has_what_a_start_needs_and_small_databases() {
        let sizes = [("1", 8 << 20), ("5", DATABASE_BYTES_MAX + 1), ("16385", 1)];
        let contents = Contents {
            databases: sizes
                .map(|(name, bytes)| (OsString::from(name), bytes))
                .into(),
            ..Contents::default()
        };
        let databases = small_databases(&contents);
        let control = Control {
            state: "shut down".to_owned(),
            checkpoint_at: None,
            redo_wal_file: "00000001000000010000002A".to_owned(),
            redo_offset: 40,
            wal_segment_bytes: 16 << 20,
            catalog_version: "202209061".to_owned(),
            prepared_max: 0,
            damage: None,
        };
        for (place, needed) in [
            ("PG_VERSION", true),
            ("global/1262", true),
            ("base", true),
            ("base/1/1259", true),
            ("base/5", false),
            ("base/5/1259", false),
            ("base/16385", false),
            ("pg_wal/00000001000000010000002A", true),
            ("pg_wal/00000001000000010000002B", false),
            ("pg_wal/00000002.history", true),
            ("pg_wal/archive_status/x.done", false),
            ("pg_tblspc/16400", false),
            ("pg_twophase/1", false),
            ("postgresql.conf", false),
        ] {
            assert_eq!(
                is_needed(Path::new(place), &databases, &control),
                needed,
                "{place}"
            );
        }
    }
}
