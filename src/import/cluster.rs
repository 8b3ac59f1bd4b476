//! The cluster on the data directory of a snapshot, seen through the server of the import.

mod bootstrap;
mod migrations;

use std::path::Path;

use tokio_postgres::Client;

pub(super) use self::bootstrap::{create_database, find_superuser};
use super::ProjectImport;
use super::error::{ImportError, refused};
use super::server::{ImportServer, server_error};

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
        const QUERY: &str = "SELECT datname::text FROM pg_catalog.pg_database \
            WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid";
        let client = match self.connect("postgres").await {
            Ok(client) => client,
            Err(_) => self.connect("template1").await?,
        };
        let rows = client.query(QUERY, &[]).await;
        let rows = rows.map_err(|error| server_error("list the databases", &error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
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
        let client = self.connect(&project.database).await?;
        let role = client
            .query_opt(
                "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolcanlogin",
                &[&project.role],
            )
            .await
            .map_err(|error| server_error("look for the project's role", &error))?;
        if role.is_some() {
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
    pub(super) async fn vacuum(&self, databases: &[String]) -> Result<(), ImportError> {
        for database in databases {
            let client = self.connect(database).await?;
            run(&client, "vacuum", "VACUUM (FREEZE, ANALYZE)").await?;
            // ANALYZE wrote to these tables after they were vacuumed.
            run(
                &client,
                "vacuum",
                "VACUUM (FREEZE) pg_catalog.pg_statistic, pg_catalog.pg_statistic_ext_data",
            )
            .await?;
        }
        let client = self.connect(&databases[0]).await?;
        run(&client, "make a checkpoint", "CHECKPOINT").await
    }

    async fn connect(&self, database: &str) -> Result<Client, ImportError> {
        self.server.connect(&self.superuser, database).await
    }
}

async fn run(client: &Client, action: &'static str, statement: &str) -> Result<(), ImportError> {
    client
        .batch_execute(statement)
        .await
        .map_err(|error| server_error(action, &error))
}
