//! The cluster on the data directory of a snapshot, seen through the server of the import.

mod bootstrap;
mod cut_off;
mod extensions;
mod migrations;
mod relations;
mod rename;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use multidb_store::error_chain;

pub(super) use self::bootstrap::{create_database, find_superuser};
use super::ProjectImport;
use super::error::{ImportError, refused};
use super::server::{ImportServer, server_error};
use crate::sql::{
    AnswerLimits, Privileges, Row, SearchPath, Session, SqlError, identifier, literal,
};

/// The bounds of an answer about the cluster's roles and databases.
pub(super) const CATALOG_LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(30)),
    rows: 10_000,
    bytes: 4 << 20,
};

/// For a locale of a data directory that the machine lacks.
const LOCALE_HINT: &str = "Install that locale where Postgres runs (on Debian the package locales-all, or an image that has it as \
                           runtime.image), then import again; or import a dump, whose locale can be mapped.";

/// A running cluster.
pub(super) struct Cluster {
    pub(super) server: ImportServer,
    /// A superuser that can log in.
    pub(super) superuser: String,
    /// A database that lets it in, for questions about the whole cluster.
    pub(super) entry_database: String,
    pub(super) postgres_major: u16,
}

/// The names of a cluster's databases.
#[derive(Debug, Default)]
pub(super) struct Databases {
    /// The databases that accept connections.
    pub(super) open: Vec<String>,
    /// The databases that do not, such as `template0`.
    pub(super) closed: Vec<String>,
    /// The databases whose DROP DATABASE was interrupted.
    pub(super) broken: Vec<String>,
}

impl Databases {
    /// Refuses a cluster without this database, or with one that cannot be used.
    fn check(&self, name: &str, path: &Path) -> Result<(), ImportError> {
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        if is_in(&self.open) {
            return Ok(());
        }
        if is_in(&self.closed) {
            return Err(refused(
                path,
                format!(
                    "its database \"{name}\" accepts no connections: its datallowconn is false"
                ),
                format!(
                    "Allow them where it comes from (ALTER DATABASE {} ALLOW_CONNECTIONS true), then import it \
                     again.",
                    identifier(name)
                ),
            ));
        }
        if is_in(&self.broken) {
            return Err(refused(
                path,
                format!(
                    "its database \"{name}\" is invalid: a DROP DATABASE of it was interrupted"
                ),
                "Restore that database, or set the project's database to another one.",
            ));
        }
        Err(refused(
            path,
            format!("it has no database \"{name}\""),
            format!(
                "Its databases: {}. Set the project's database to one of them, or give one its name by \
                 refresh.rename_database.",
                self.open.join(", ")
            ),
        ))
    }
}

impl Cluster {
    /// The databases, as they stand in `pg_database`.
    pub(super) async fn databases(&self) -> Result<Databases, ImportError> {
        // A connection limit of -2 marks a database whose DROP DATABASE was interrupted.
        const QUERY: &str = "SELECT datname::pg_catalog.text, \
            CASE WHEN datconnlimit = -2 THEN 'broken' WHEN datallowconn THEN 'open' ELSE 'closed' END \
            FROM pg_catalog.pg_database ORDER BY oid";
        let mut session = self.connect_to_entry().await?;
        let rows = session.query(QUERY, CATALOG_LIMITS).await;
        let failed = |error| server_error("list the databases", &error);
        let mut databases = Databases::default();
        for row in rows.map_err(failed)? {
            let list = match row.text(1).map_err(failed)? {
                "open" => &mut databases.open,
                "closed" => &mut databases.closed,
                _ => &mut databases.broken,
            };
            list.push(first_text(&row).map_err(failed)?);
        }
        Ok(databases)
    }

    /// Refuses a cluster without the database or the role of the project. `path` is the source, for
    /// the error.
    pub(super) async fn check_project(
        &self,
        databases: &Databases,
        project: &ProjectImport,
        path: &Path,
    ) -> Result<(), ImportError> {
        databases.check(&project.database, path)?;
        let mut session = self.connect_to_entry().await?;
        let query = format!(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = {} AND rolcanlogin",
            literal(&project.role)
        );
        let roles = session.query(&query, CATALOG_LIMITS).await;
        let roles = roles.map_err(|error| server_error("look for the project's role", &error))?;
        if !roles.is_empty() {
            return Ok(());
        }
        Err(refused(
            path,
            format!("it has no role \"{}\" that can log in", project.role),
            "Set the project's role to a role of the source that can log in.",
        ))
    }

    /// Why a client cannot log in, if it cannot: settings of the role or the database are in force for it.
    pub(super) async fn refusal_of_clients(&self, project: &ProjectImport) -> Option<String> {
        let (role, database) = (&project.role, &project.database);
        let connected = self.server.connect_as(role, Privileges::Unknown, database);
        let error = connected.await.err()?;
        Some(format!(
            "clients cannot log in to database \"{database}\" as \"{role}\": {}",
            error_chain(&error)
        ))
    }

    /// Freezes the rows, sets the hint bits and gathers the statistics of all tables, so that no
    /// clone has to.
    ///
    /// Has no limit of time: it lasts as long as the tables are large, and a job can be cancelled.
    pub(super) async fn vacuum(&self, databases: &[String]) -> Result<(), ImportError> {
        for database in databases {
            // Functions in the indexes of old dumps rely on the search path of their database.
            let mut session = self.connect_with(database, SearchPath::Configured).await?;
            // The WAL positions of blocks would depend on which worker is first.
            run(
                &mut session,
                "vacuum",
                "VACUUM (FREEZE, ANALYZE, PARALLEL 0)",
            )
            .await?;
            // ANALYZE wrote to these tables after they were vacuumed.
            run(
                &mut session,
                "vacuum",
                "VACUUM (FREEZE, PARALLEL 0) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data",
            )
            .await?;
        }
        let mut session = self.connect_to_entry().await?;
        run(&mut session, "make a checkpoint", "CHECKPOINT").await
    }

    /// Refuses a cluster with a locale that the machine lacks: no session can enter the database that has it.
    pub(super) async fn check_locales(&self, path: &Path) -> Result<(), ImportError> {
        const QUERY: &str = "SELECT datname::pg_catalog.text, locale FROM pg_catalog.pg_database, \
            LATERAL (VALUES (datcollate::pg_catalog.text), (datctype::pg_catalog.text)) AS locales (locale) \
            WHERE datallowconn AND datconnlimit <> -2 AND locale IS NOT NULL ORDER BY oid";
        let failed = |error| server_error("read the locales of the databases", &error);
        let mut session = self.connect_to_entry().await?;
        let mut known = BTreeSet::new();
        for row in session.query(QUERY, CATALOG_LIMITS).await.map_err(failed)? {
            let (database, locale) = (row.text(0).map_err(failed)?, row.text(1).map_err(failed)?);
            if !known.insert(locale.to_owned()) {
                continue;
            }
            // Postgres looks for all parts of a locale alike.
            let locale_is_known = format!(
                "SELECT pg_catalog.set_config('lc_monetary', {}, true)",
                literal(locale)
            );
            match session.query(&locale_is_known, CATALOG_LIMITS).await {
                Ok(_) => {}
                Err(SqlError::Server(_)) => {
                    return Err(refused(
                        path,
                        format!(
                            "the locale \"{locale}\" of its database \"{database}\" is not available"
                        ),
                        LOCALE_HINT,
                    ));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Connects for questions about the whole cluster.
    pub(super) async fn connect_to_entry(&self) -> Result<Session, ImportError> {
        self.connect(&self.entry_database).await
    }

    async fn connect(&self, database: &str) -> Result<Session, ImportError> {
        self.connect_with(database, SearchPath::Catalog).await
    }

    async fn connect_with(
        &self,
        database: &str,
        search_path: SearchPath,
    ) -> Result<Session, ImportError> {
        let connected = self.server.connect(&self.superuser, database, search_path);
        connected.await
    }
}

fn first_text(row: &Row) -> Result<String, SqlError> {
    row.text(0).map(str::to_owned)
}

async fn run(
    session: &mut Session,
    action: &'static str,
    statement: &str,
) -> Result<(), ImportError> {
    let done = session.execute(statement, None).await;
    done.map_err(|error| server_error(action, &error))
}
