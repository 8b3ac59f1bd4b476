//! The cluster on the data directory of a snapshot, seen through the server of the import.

mod bootstrap;
mod migrations;

use std::path::Path;
use std::time::Duration;

pub(super) use self::bootstrap::{create_database, find_superuser};
use super::ProjectImport;
use super::error::{ImportError, refused};
use super::server::{ImportServer, server_error};
use crate::sql::{AnswerLimits, Row, SearchPath, Session, SqlError, literal};

/// The bounds of an answer about the cluster's roles and databases.
const CATALOG_LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(30)),
    rows: 10_000,
    bytes: 4 << 20,
};

/// A running cluster.
pub(super) struct Cluster {
    pub(super) server: ImportServer,
    /// A superuser that can log in.
    pub(super) superuser: String,
    pub(super) postgres_major: u16,
}

impl Cluster {
    /// The databases that accept connections.
    pub(super) async fn databases(&self) -> Result<Vec<String>, ImportError> {
        // A connection limit of -2 marks a database whose DROP DATABASE was interrupted.
        const QUERY: &str = "SELECT datname::pg_catalog.text FROM pg_catalog.pg_database \
            WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid";
        let mut session = match self.connect("postgres").await {
            Ok(session) => session,
            Err(_) => self.connect("template1").await?,
        };
        let rows = session.query(QUERY, CATALOG_LIMITS).await;
        let names = rows.and_then(|rows| rows.iter().map(first_text).collect());
        names.map_err(|error| server_error("list the databases", &error))
    }

    /// Refuses a cluster without the database or the role of the project. `path` is the source, for
    /// the error.
    pub(super) async fn check_project(
        &self,
        databases: &[String],
        project: &ProjectImport,
        path: &Path,
    ) -> Result<(), ImportError> {
        if !databases.contains(&project.database) {
            return Err(refused(
                path,
                format!("it has no database \"{}\"", project.database),
                format!(
                    "Its databases: {}. Set the project's database to one of them.",
                    databases.join(", ")
                ),
            ));
        }
        let mut session = self.connect(&project.database).await?;
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

    /// Freezes the rows, sets the hint bits and gathers the statistics of all tables, so that no
    /// clone has to.
    ///
    /// Has no limit of time: it lasts as long as the tables are large, and a job can be cancelled.
    pub(super) async fn vacuum(&self, databases: &[String]) -> Result<(), ImportError> {
        for database in databases {
            // Functions in the indexes of old dumps rely on the search path of their database.
            let mut session = self.connect_with(database, SearchPath::Configured).await?;
            run(&mut session, "vacuum", "VACUUM (FREEZE, ANALYZE)").await?;
            // ANALYZE wrote to these tables after they were vacuumed.
            run(
                &mut session,
                "vacuum",
                "VACUUM (FREEZE) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data",
            )
            .await?;
        }
        let Some(first) = databases.first() else {
            return Ok(());
        };
        let mut session = self.connect(first).await?;
        run(&mut session, "make a checkpoint", "CHECKPOINT").await
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
