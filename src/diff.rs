//! The difference of two databases: their migrations, the statements that make their objects, and their rows per table.
//!
//! | module | owns |
//! | --- | --- |
//! | `schema` | the output of pg_dump, split by object and compared |
//! | `rows` | the rows of each table, counted or estimated |
//! | `copy` | a server on a throw-away copy of a snapshot's data |
//!
//! Nothing is believed of a server that a stranger may be the superuser of: each answer has a bound and a limit of
//! time, and so has pg_dump.

mod copy;
mod rows;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use multidb_actors::ports::{CloneError, Endpoint, StartError, SuperuserAccess};
use multidb_actors::wire::sqlstate;
use multidb_store::error_chain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::copy::Copy;
pub use self::rows::COUNT_TIME_MAX;
use self::rows::Rows;
use crate::runtime::{PostgresHost, ProgramNetwork, ProgramRun};
use crate::sql::{AnswerLimits, Login, Privileges, Row, SearchPath, Session, SqlError};

/// The limit for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit of pg_dump.
const DUMP_TIMEOUT: Duration = Duration::from_secs(120);
/// Both runtimes keep this much of a program's output.
const DUMP_BYTES_MAX: usize = 16 << 20;
/// How long pg_dump waits for others that change tables.
const LOCK_WAIT: &str = "--lock-wait-timeout=10s";
/// Settings of the role or the database that could keep pg_dump out.
const DUMP_OPTIONS: &str =
    "-c session_preload_libraries= -c local_preload_libraries= -c role=none -c jit=off";
/// The bounds of an answer with migrations.
const MIGRATIONS_LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(60)),
    rows: 100_000,
    bytes: 16 << 20,
};

/// The difference of two databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    /// The first one.
    pub a: SideView,
    /// The second one.
    pub b: SideView,
    /// The migrations that are applied in one of them.
    pub migrations: MigrationsDiff,
    /// The objects that differ, by name.
    pub schema: Vec<ObjectDiff>,
    /// All tables, by name.
    pub tables: Vec<TableRows>,
}

/// One of the databases that are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SideView {
    /// `instance`, `snapshot`, or `base`: the state that a clone of another instance began with.
    pub kind: String,
    /// The instance or the snapshot; of a base, the instance that has it.
    pub name: String,
    /// The database.
    pub database: String,
    /// The major version of its server.
    pub postgres_major: u16,
}

/// Migrations that are applied in one database alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MigrationsDiff {
    /// In the first one.
    pub only_a: Vec<String>,
    /// In the second one.
    pub only_b: Vec<String>,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectDiff {
    /// Its type and its name, as pg_dump has them: `TABLE public.polls`.
    pub object: String,
    /// The statements that make it in the first database; none where it is missing.
    pub a: Option<String>,
    /// Those in the second one.
    pub b: Option<String>,
}

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableRows {
    /// Its schema and its name.
    pub name: String,
    /// Its rows in the first database; none where it is missing, or where nothing tells.
    pub rows_a: Option<u64>,
    /// Those in the second one.
    pub rows_b: Option<u64>,
    /// Whether the first number is an estimate: the table was not counted in time.
    pub estimated_a: bool,
    /// Whether the second one is.
    pub estimated_b: bool,
}

/// Why databases were not compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A server, or its pg_dump, did not tell.
    #[error("cannot {action} of {of}: {message}")]
    Unread {
        /// The side, for people.
        of: String,
        /// The attempted operation.
        action: &'static str,
        /// The cause.
        message: String,
    },
    /// Its statements exceed the limit for a comparison.
    #[error("the schema of {of} is too long to be compared")]
    TooLong {
        /// The side, for people.
        of: String,
    },
    /// The server of the copy of a snapshot did not start.
    #[error("cannot start a server on a copy of {of}")]
    Start {
        /// The side, for people.
        of: String,
        /// The cause.
        #[source]
        source: StartError,
    },
    /// The copy could not be made or removed.
    #[error(transparent)]
    Storage(#[from] CloneError),
}

impl DiffError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unread { .. } | Self::Start { .. } => "diff_failed",
            Self::TooLong { .. } => "schema_too_long",
            Self::Storage(error) => error.code(),
        }
    }

    fn unread(side: &Side, action: &'static str, error: &SqlError) -> Self {
        Self::Unread {
            of: side.of.clone(),
            action,
            message: error_chain(error),
        }
    }
}

/// A database that is compared, on a running server.
#[derive(Debug, Clone)]
pub struct Side {
    /// The instance or snapshot that it belongs to, for people.
    pub of: String,
    /// Its server.
    pub server: SuperuserAccess,
    /// Its name.
    pub database: String,
    /// The database with the migrations.
    pub migrations_database: String,
    /// The query for them.
    pub migrations: String,
}

/// The migrations, the schema and the rows of a database.
#[derive(Debug, Default)]
pub struct State {
    migrations: BTreeSet<String>,
    schema: BTreeMap<String, String>,
    tables: BTreeMap<String, Rows>,
}

/// Reads the migrations, the schema and the rows of a database. Its schema is read by the pg_dump of this major, which
/// is its own or a newer one, and its tables are counted for so long.
///
/// # Errors
///
/// The server or pg_dump refuses, or does not follow the protocol in time.
pub async fn read(
    host: &dyn PostgresHost,
    side: &Side,
    tools_major: u16,
    count_time: Duration,
) -> Result<State, DiffError> {
    let (migrations, schema, tables) = tokio::try_join!(
        read_migrations(side),
        read_schema(host, side, tools_major),
        rows::read(side, count_time),
    )?;
    Ok(State {
        migrations,
        schema,
        tables,
    })
}

/// Compares two databases.
pub fn compare(a: (SideView, State), b: (SideView, State)) -> DiffView {
    let ((a, of_a), (b, of_b)) = (a, b);
    let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect();
    DiffView {
        a,
        b,
        migrations: MigrationsDiff {
            only_a: only(&of_a.migrations, &of_b.migrations),
            only_b: only(&of_b.migrations, &of_a.migrations),
        },
        schema: schema::compare(&of_a.schema, &of_b.schema),
        tables: rows::compare(&of_a.tables, &of_b.tables),
    }
}

impl Side {
    async fn connect(&self, database: &str, path: SearchPath) -> Result<Session, SqlError> {
        let login = Login {
            endpoint: &self.server.endpoint,
            role: &self.server.superuser,
            privileges: Privileges::Superuser,
            database,
            postgres_major: self.server.postgres_major,
            search_path: path,
            statement_timeout: None,
        };
        Session::connect(&login, CONNECT_TIMEOUT).await
    }
}

/// The applied migrations; none where their table is missing.
async fn read_migrations(side: &Side) -> Result<BTreeSet<String>, DiffError> {
    let text = |row: &Row| match row.columns() {
        1 => row.text(0).map(str::to_owned),
        _ => Err(SqlError::Unexpected("it has not one column".to_owned())),
    };
    let read = async {
        let path = SearchPath::Configured;
        let mut session = side.connect(&side.migrations_database, path).await?;
        session
            .execute("BEGIN READ ONLY", MIGRATIONS_LIMITS.time)
            .await?;
        let rows = session.query(&side.migrations, MIGRATIONS_LIMITS).await?;
        session.close().await;
        rows.iter().map(text).collect()
    };
    match read.await {
        Err(error) if error.has_state(sqlstate::UNDEFINED_TABLE) => Ok(BTreeSet::new()),
        read => read.map_err(|error| DiffError::unread(side, "read the migrations", &error)),
    }
}

/// The statements of the objects, by the objects.
async fn read_schema(
    host: &dyn PostgresHost,
    side: &Side,
    tools_major: u16,
) -> Result<BTreeMap<String, String>, DiffError> {
    let unread = |message| DiffError::Unread {
        of: side.of.clone(),
        action: "read the schema",
        message,
    };
    let (address, binds, network) = match &side.server.endpoint {
        Endpoint::Unix(socket) => {
            let directory = socket.parent().unwrap_or(Path::new("/")).to_owned();
            let address = format!("host={}", quoted(&directory.display().to_string()));
            (address, vec![directory], ProgramNetwork::None)
        }
        Endpoint::Tcp(address) => {
            let text = format!("host={} port={}", address.ip(), address.port());
            (text, Vec::new(), ProgramNetwork::Host)
        }
    };
    let (role, database) = (quoted(&side.server.superuser), quoted(&side.database));
    let args = [
        "--schema-only",
        "--no-password",
        "--encoding=UTF8",
        LOCK_WAIT,
    ];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.push(format!("--dbname={address} user={role} dbname={database}"));
    let env = [("PGOPTIONS", DUMP_OPTIONS), ("PGCONNECT_TIMEOUT", "10")];
    let run = ProgramRun {
        postgres_major: tools_major,
        program: "pg_dump",
        args,
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        binds,
        network,
        timeout: Some(DUMP_TIMEOUT),
    };
    let output = host.run_program(&run).await;
    let output = output.map_err(|error| unread(error_chain(&error)))?;
    if output.stdout.len() >= DUMP_BYTES_MAX {
        return Err(DiffError::TooLong {
            of: side.of.clone(),
        });
    }
    if !output.success {
        let said = output.stderr_tail.join("; ");
        let message = crate::sql::one_line(&said);
        return Err(unread(match message.is_empty() {
            true => output.status,
            false => message,
        }));
    }
    Ok(schema::objects(&String::from_utf8_lossy(&output.stdout)))
}

/// A value of a connection string of libpq.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}
