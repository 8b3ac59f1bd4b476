//! The first connections to a cluster: they find its superuser, or create the project's database.

use std::path::Path;
use std::time::Duration;

use multidb_actors::wire::{SqlState, sqlstate};
use multidb_store::error_chain;

use super::{CATALOG_LIMITS, first_text};
use crate::import::ProjectImport;
use crate::import::error::{ImportError, refused};
use crate::import::server::{ImportServer, SUPERUSER, server_error};
use crate::sql::{SearchPath, Session, SqlError, identifier};

/// The limit of a CREATE in a new cluster.
const CREATE_TIMEOUT: Duration = Duration::from_secs(600);

/// Creates the project's role and database in a cluster of the template.
pub(in crate::import) async fn create_database(
    server: &ImportServer,
    project: &ProjectImport,
) -> Result<(), ImportError> {
    let mut session = server
        .connect(SUPERUSER, "postgres", SearchPath::Catalog)
        .await?;
    let (role, database) = (identifier(&project.role), identifier(&project.database));
    let create_role = format!("CREATE ROLE {role} LOGIN");
    create(&mut session, &create_role, sqlstate::DUPLICATE_OBJECT)
        .await
        .map_err(|error| server_error("create the project's role", &error))?;
    let create_database = format!("CREATE DATABASE {database} OWNER {role}");
    create(&mut session, &create_database, sqlstate::DUPLICATE_DATABASE)
        .await
        .map_err(|error| server_error("create the project's database", &error))
}

/// Runs a CREATE; `duplicate` means that the object exists already.
async fn create(
    session: &mut Session,
    statement: &str,
    duplicate: SqlState,
) -> Result<(), SqlError> {
    match session.execute(statement, Some(CREATE_TIMEOUT)).await {
        Err(error) if error.has_state(duplicate) => Ok(()),
        other => other,
    }
}

/// Finds a superuser that can log in. Every role can read the list, so any login will do.
pub(in crate::import) async fn find_superuser(
    server: &ImportServer,
    role: &str,
    path: &Path,
) -> Result<String, ImportError> {
    const QUERY: &str = "SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles \
        WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1";
    let mut last_error = None;
    for candidate in [SUPERUSER, role] {
        for database in ["postgres", "template1"] {
            let mut session = match server.connect_as(candidate, database).await {
                Ok(session) => session,
                Err(error) => {
                    last_error = Some(error_chain(&error));
                    continue;
                }
            };
            let answer = session.query(QUERY, CATALOG_LIMITS).await;
            let name = answer.and_then(|rows| rows.first().map(first_text).transpose());
            if let Some(name) = name.map_err(|error| server_error("find a superuser", &error))? {
                return Ok(name);
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
