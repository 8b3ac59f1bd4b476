//! The names of the databases of a cluster: the names of its source give way to the configured ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Cluster, Databases};
use crate::import::error::{ImportError, refused};
use crate::import::server::server_error;
use crate::sql::{SearchPath, Session, identifier};

/// The limit of a renaming. It waits up to 5 s for the backends of sessions that have ended.
const RENAME_TIMEOUT: Duration = Duration::from_secs(60);

impl Databases {
    /// The names that they will have. Refuses a new name that another database has. `path` is the source, for the
    /// error.
    pub(in crate::import) fn renamed(
        &self,
        names: &BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Self, ImportError> {
        for (old, new) in names {
            if self.has(old) && self.has(new) {
                return Err(refused(
                    path,
                    format!(
                        "its database \"{old}\" is to be renamed \"{new}\", and it has a database of that name"
                    ),
                    "Give it another name in the project's refresh.rename_database, or drop one of them at the source.",
                ));
            }
        }
        let renamed = |all: &[String]| -> Vec<String> {
            let new_name = |name| names.get(name).unwrap_or(name).clone();
            all.iter().map(new_name).collect()
        };
        Ok(Self {
            open: renamed(&self.open),
            closed: renamed(&self.closed),
            broken: renamed(&self.broken),
        })
    }

    fn has(&self, name: &str) -> bool {
        let all = [&self.open, &self.closed, &self.broken];
        all.into_iter().flatten().any(|known| known == name)
    }
}

impl Cluster {
    /// Gives databases their new names, for which [`Databases::renamed`] has no objection. Returns the old names that
    /// none of them has.
    pub(in crate::import) async fn rename_databases(
        &mut self,
        databases: &Databases,
        names: &BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Vec<String>, ImportError> {
        let mut missing = Vec::new();
        for (old, new) in names {
            if !databases.has(old) {
                missing.push(old.clone());
                continue;
            }
            let is_entry = *old == self.entry_database;
            let mut session = match is_entry {
                false => self.connect_to_entry().await?,
                true => self.connect_to_another(databases, names, path).await?,
            };
            let rename = format!(
                "ALTER DATABASE {} RENAME TO {}",
                identifier(old),
                identifier(new)
            );
            let renamed = session.execute(&rename, Some(RENAME_TIMEOUT)).await;
            renamed
                .map_err(|error| server_error(format!("rename the database \"{old}\""), &error))?;
            session.close().await;
            if is_entry {
                new.clone_into(&mut self.entry_database);
            }
            tracing::info!(old, new, "a database of an import is renamed");
        }
        Ok(missing)
    }

    /// Connects to a database that keeps its name: no session can rename its own.
    async fn connect_to_another(
        &self,
        databases: &Databases,
        names: &BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Session, ImportError> {
        for other in databases
            .open
            .iter()
            .filter(|name| !names.contains_key(*name))
        {
            let connected = self
                .server
                .connect(&self.superuser, other, SearchPath::Catalog);
            if let Ok(session) = connected.await {
                return Ok(session);
            }
        }
        Err(refused(
            path,
            format!(
                "only its database \"{}\", which is to be renamed, lets in a session of multidb's own",
                self.entry_database
            ),
            "Let roles log in to the database \"postgres\" where it comes from, then import it again.",
        ))
    }
}
