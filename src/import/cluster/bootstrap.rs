//! The first connections to a cluster: they find its superuser, or create the project's database.

use std::path::Path;

use multidb_store::error_chain;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::import::ProjectImport;
use crate::import::error::{ImportError, refused};
use crate::import::server::{ImportServer, SUPERUSER, server_error};
use crate::probe::connect;

/// Creates the project's role and database in a cluster of the template.
pub(in crate::import) async fn create_database(
    server: &ImportServer,
    project: &ProjectImport,
) -> Result<(), ImportError> {
    let client = server.connect(SUPERUSER, "postgres").await?;
    let (role, database) = (identifier(&project.role), identifier(&project.database));
    let create_role = format!("CREATE ROLE {role} LOGIN");
    create(&client, &create_role, &SqlState::DUPLICATE_OBJECT)
        .await
        .map_err(|error| server_error("create the project's role", &error))?;
    let create_database = format!("CREATE DATABASE {database} OWNER {role}");
    create(&client, &create_database, &SqlState::DUPLICATE_DATABASE)
        .await
        .map_err(|error| server_error("create the project's database", &error))
}

/// Runs a CREATE; `duplicate` means that the object exists already.
async fn create(
    client: &Client,
    statement: &str,
    duplicate: &SqlState,
) -> Result<(), tokio_postgres::Error> {
    match client.batch_execute(statement).await {
        Err(error) if error.code() == Some(duplicate) => Ok(()),
        other => other,
    }
}

/// Finds a superuser that can log in. Every role can read the list, so any login will do.
pub(in crate::import) async fn find_superuser(
    server: &ImportServer,
    role: &str,
    path: &Path,
) -> Result<String, ImportError> {
    const QUERY: &str = "SELECT rolname::text FROM pg_catalog.pg_roles \
        WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1";
    let mut last_error = None;
    for candidate in [SUPERUSER, role] {
        for database in ["postgres", "template1"] {
            let client = match connect(&server.endpoint, candidate, database).await {
                Ok(client) => client,
                Err(error) => {
                    last_error = Some(error_chain(&error));
                    continue;
                }
            };
            let answer = client.query_opt(QUERY, &[]).await;
            let answer = answer.map_err(|error| server_error("find a superuser", &error))?;
            if let Some(row) = answer {
                return Ok(row.get(0));
            }
        }
    }
    Err(refused(
        path,
        format!(
            "no superuser was found: {}",
            last_error.unwrap_or_else(|| "none can log in".to_owned())
        ),
        "Start Postgres on it, make a superuser named \"postgres\" that can log in (CREATE ROLE \
         postgres SUPERUSER LOGIN), stop it cleanly, then import again.",
    ))
}

/// A quoted identifier of SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
