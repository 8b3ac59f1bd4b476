//! The first connections to a cluster: they find its superuser, or create the project's database.

use std::path::Path;
use std::time::Duration;

use multidb_actors::wire::{SqlState, sqlstate};
use multidb_store::error_chain;

use super::{CATALOG_LIMITS, LOCALE_HINT, first_text};
use crate::import::ProjectImport;
use crate::import::error::{ImportError, refused};
use crate::import::server::{ImportServer, SUPERUSER, server_error};
use crate::sql::{Privileges, SearchPath, Session, SqlError, identifier, literal};

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
    let role = identifier(&project.role);
    let create_role = format!("CREATE ROLE {role} LOGIN");
    create(&mut session, &create_role, sqlstate::DUPLICATE_OBJECT)
        .await
        .map_err(|error| server_error("create the project's role", &error))?;
    let create_database = project_database(
        project,
        project.encoding.as_deref(),
        project.locale.as_deref(),
    );
    create(&mut session, &create_database, sqlstate::DUPLICATE_DATABASE)
        .await
        .map_err(|error| server_error("create the project's database", &error))
}

/// The statement that creates the project's database. Without a locale or an encoding, it has the template's.
fn project_database(
    project: &ProjectImport,
    encoding: Option<&str>,
    locale: Option<&str>,
) -> String {
    let (role, database) = (identifier(&project.role), identifier(&project.database));
    let mut create = format!("CREATE DATABASE {database} TEMPLATE template0 OWNER {role}");
    if let Some(encoding) = encoding {
        create.push_str(&format!(" ENCODING {}", literal(encoding)));
    }
    if let Some(locale) = locale {
        let locale = literal(locale);
        create.push_str(&format!(" LC_COLLATE {locale} LC_CTYPE {locale}"));
    }
    create
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

/// A superuser that can log in, and a database that lets it in.
#[derive(Debug)]
pub(in crate::import) struct Entry {
    pub(in crate::import) superuser: String,
    pub(in crate::import) database: String,
}

/// The result of the search for a superuser.
#[derive(Debug)]
pub(in crate::import) enum Search {
    Found(Entry),
    /// None was found, for this reason.
    NoSuperuser(String),
    /// Roles that may be superusers can log in, but to no database that was tried.
    NoDatabase {
        database: String,
        error: SqlError,
    },
}

impl Search {
    /// Whether it ends alike where more databases can be tried. Every database is vacuumed, so a database that no
    /// session can enter ends an import in any case.
    pub(in crate::import) fn is_final(&self) -> bool {
        match self {
            Self::Found(_) | Self::NoSuperuser(_) => true,
            Self::NoDatabase { error, .. } => error.has_state(sqlstate::INTERNAL_ERROR),
        }
    }

    /// `path` is the source, for the error.
    pub(in crate::import) fn into_entry(self, path: &Path) -> Result<Entry, ImportError> {
        match self {
            Self::Found(entry) => Ok(entry),
            Self::NoSuperuser(problem) => Err(refused(
                path,
                format!("no superuser was found: {problem}"),
                "Set the project's `role` to a superuser of it that can log in; or start Postgres on it, make one \
                 (CREATE ROLE postgres SUPERUSER LOGIN), stop it cleanly, then import again.",
            )),
            Self::NoDatabase { database, error } => Err(refused(
                path,
                format!(
                    "no database lets in a session of multidb's own: database \"{database}\": {}",
                    with_detail(&error)
                ),
                if error.has_state(sqlstate::INTERNAL_ERROR) {
                    LOCALE_HINT
                } else {
                    "Start Postgres on it, let roles log in to the database \"postgres\", stop it cleanly, then \
                     import again."
                },
            )),
        }
    }
}

fn with_detail(error: &SqlError) -> String {
    let text = error_chain(error);
    match error {
        SqlError::Server(message) => match message.detail() {
            Some(detail) => format!("{text} ({detail})"),
            None => text,
        },
        _ => text,
    }
}

/// Finds a superuser that can log in. Every role can read the list, so any login will do. `owner` is the user of
/// the system whose name initdb gave to the first superuser, unless it was told another.
pub(in crate::import) async fn find_superuser(
    server: &ImportServer,
    project: &ProjectImport,
    owner: Option<&str>,
) -> Result<Search, ImportError> {
    const QUERY: &str = "SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles \
        WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1";
    let mut tried: Vec<&str> = Vec::new();
    let mut refusal = None;
    for candidate in [SUPERUSER, &project.role].into_iter().chain(owner) {
        if tried.contains(&candidate) {
            continue;
        }
        tried.push(candidate);
        for database in ["postgres", "template1", project.source_database()] {
            let database = database.to_owned();
            let mut session = match log_in(server, candidate, &database).await {
                Ok(session) => session,
                // The role is missing or may not log in, regardless of the database.
                Err(error) if error.has_state(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION) => {
                    break;
                }
                Err(error) => {
                    // The error of a missing database says less than a refusal.
                    let says_more =
                        refusal
                            .as_ref()
                            .is_none_or(|(_, known): &(String, SqlError)| {
                                known.has_state(sqlstate::INVALID_CATALOG_NAME)
                            });
                    if says_more {
                        refusal = Some((database, error));
                    }
                    continue;
                }
            };
            let answer = session.query(QUERY, CATALOG_LIMITS).await;
            let name = answer.and_then(|rows| rows.first().map(first_text).transpose());
            let name = name.map_err(|error| server_error("find a superuser", &error))?;
            return Ok(match name {
                None => Search::NoSuperuser("none can log in".to_owned()),
                Some(superuser) => Search::Found(Entry {
                    superuser,
                    database,
                }),
            });
        }
    }
    Ok(match refusal {
        Some((database, error)) => Search::NoDatabase { database, error },
        None => {
            let tried: Vec<String> = tried.iter().map(|role| format!("\"{role}\"")).collect();
            Search::NoSuperuser(format!("no role {} can log in", tried.join(" or ")))
        }
    })
}

/// Logs in with the settings of a superuser, which a role that is none may not all set.
async fn log_in(server: &ImportServer, role: &str, database: &str) -> Result<Session, SqlError> {
    match server
        .connect_as(role, Privileges::Superuser, database)
        .await
    {
        Err(error) if error.has_state(sqlstate::INSUFFICIENT_PRIVILEGE) => {
            server.connect_as(role, Privileges::Unknown, database).await
        }
        done => done,
    }
}
