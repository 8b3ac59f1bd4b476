//! Everything of a cluster is written anew after the preparations.
//!
//! An UPDATE or DELETE leaves the old row in its page until that space is used again, an index its old keys, and
//! VACUUM frees space without overwriting it. So each table is written to a new file, with its TOAST table and its
//! indexes, by VACUUM FULL, which takes over rows that are visible and nothing else. In this order:
//!
//! 1. The statistics are deleted: ANALYZE leaves the statistics of a table that is empty now, with values that it had.
//! 2. All tables are rewritten, large objects and the catalogs included.
//! 3. All are analyzed.
//! 4. The catalogs are rewritten again: rewriting a table updated its rows in them, and a default for old rows of
//!    a column that was added (`pg_attribute.attmissingval`) only goes when its table is rewritten.
//! 5. WAL goes on in a new file, so that the file that stays with the snapshot has none of these changes.

use std::collections::{HashMap, HashSet};

use super::leftovers::Kept;
use crate::import::cluster::{Cluster, Databases};
use crate::import::context::Context;
use crate::import::error::ImportError;
use crate::import::server::server_error;
use crate::sql::{AnswerLimits, Row, SearchPath, Session, identifier, literal};

/// The bounds of a list of all relations of a database.
const RELATION_LIMITS: AnswerLimits = AnswerLimits {
    time: None,
    rows: 5_000_000,
    bytes: 1 << 30,
};

/// The relations with files. A sequence has one row, which is overwritten in place.
const RELATIONS: &str = "SELECT oid::pg_catalog.text, pg_catalog.pg_relation_filepath(oid), \
    oid::pg_catalog.regclass::pg_catalog.text \
    FROM pg_catalog.pg_class WHERE pg_catalog.pg_relation_filepath(oid) IS NOT NULL \
    AND relkind <> 'S' AND pg_catalog.pg_relation_size(oid) > 0";

/// The files of all relations, with sequences and empty tables.
const FILES: &str = "SELECT pg_catalog.pg_relation_filepath(oid) FROM pg_catalog.pg_class \
    WHERE pg_catalog.pg_relation_filepath(oid) IS NOT NULL";

/// The tables of the catalog, each as a name for a statement.
const CATALOGS: &str = "SELECT oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class \
    WHERE relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND relkind = 'r' ORDER BY oid";

/// The OIDs and names of the databases.
const DATABASES: &str = "SELECT oid::pg_catalog.text, datname::pg_catalog.text \
    FROM pg_catalog.pg_database ORDER BY oid";

/// The database that initdb makes, and that refuses connections; it keeps its files.
const UNTOUCHED: &str = "template0";

/// Writes the cluster anew, with its statistics. Returns the files that it has then.
pub(super) async fn rewrite(context: &Context, cluster: &Cluster) -> Result<Kept, ImportError> {
    let databases = cluster.databases().await?;
    drop_broken(context, cluster, &databases).await?;
    let closed: Vec<&String> = databases
        .closed
        .iter()
        .filter(|name| *name != UNTOUCHED)
        .collect();
    allow_connections(cluster, &closed, true).await?;
    let mut kept = Kept::default();
    for database in databases.open.iter().chain(closed.iter().copied()) {
        let mut session = connect(cluster, database).await?;
        rewrite_database(&mut session, database, cluster.postgres_major).await?;
        for row in query(&mut session, FILES).await? {
            kept.files.insert(row[0].clone());
        }
        session.close().await;
    }
    allow_connections(cluster, &closed, false).await?;
    let mut session = cluster.connect_to_entry().await?;
    for row in query(&mut session, DATABASES).await? {
        if row[1] == UNTOUCHED {
            kept.directories.insert(format!("base/{}", row[0]));
        }
    }
    execute(&mut session, "CHECKPOINT").await?;
    let switch = "SELECT pg_catalog.pg_switch_wal()";
    query(&mut session, switch).await?;
    Ok(kept)
}

/// Before 15, an extended statistics object always has its row.
fn forget_extended_statistics(major: u16) -> &'static str {
    match major {
        ..14 => {
            "UPDATE pg_catalog.pg_statistic_ext_data SET stxdndistinct = NULL, \
             stxddependencies = NULL, stxdmcv = NULL"
        }
        14 => {
            "UPDATE pg_catalog.pg_statistic_ext_data SET stxdndistinct = NULL, \
             stxddependencies = NULL, stxdmcv = NULL, stxdexpr = NULL"
        }
        15.. => "DELETE FROM pg_catalog.pg_statistic_ext_data",
    }
}

async fn rewrite_database(
    session: &mut Session,
    database: &str,
    major: u16,
) -> Result<(), ImportError> {
    execute(session, "DELETE FROM pg_catalog.pg_statistic").await?;
    execute(session, forget_extended_statistics(major)).await?;
    let before = relations(session).await?;
    execute(session, "VACUUM (FULL, FREEZE)").await?;
    check_rewritten(session, database, &before).await?;
    // This sets the hint bits and the visibility maps too.
    execute(session, "VACUUM (FREEZE, ANALYZE, PARALLEL 0)").await?;
    let catalogs: Vec<String> = query(session, CATALOGS)
        .await?
        .into_iter()
        .map(|mut row| row.remove(0))
        .collect();
    let catalogs = catalogs.join(", ");
    execute(session, &format!("VACUUM (FULL, FREEZE) {catalogs}")).await?;
    execute(session, &format!("VACUUM (FREEZE, PARALLEL 0) {catalogs}")).await
}

/// The files and names of all relations with data, by their oids.
async fn relations(
    session: &mut Session,
) -> Result<HashMap<String, (String, String)>, ImportError> {
    let rows = query(session, RELATIONS).await?;
    let relations = rows
        .into_iter()
        .map(|row| match <[String; 3]>::try_from(row) {
            Ok([oid, file, name]) => (oid, (file, name)),
            Err(_) => Default::default(),
        });
    Ok(relations.collect())
}

/// Refuses a cluster in which something kept its file, such as a table of an access method without VACUUM FULL.
async fn check_rewritten(
    session: &mut Session,
    database: &str,
    before: &HashMap<String, (String, String)>,
) -> Result<(), ImportError> {
    let files: HashSet<&String> = before.values().map(|(file, _)| file).collect();
    let after = relations(session).await?;
    let mut same: Vec<&str> = after
        .values()
        .filter(|(file, _)| files.contains(file))
        .map(|(_, name)| name.as_str())
        .collect();
    same.sort_unstable();
    match same.first() {
        None => Ok(()),
        Some(name) => Err(ImportError::Server {
            action: format!("rewrite {name} of database \"{database}\""),
            message:
                "VACUUM FULL left it in its old file, which may hold what a preparation removed"
                    .to_owned(),
        }),
    }
}

/// Drops the databases whose DROP DATABASE was interrupted: their data is there, and nothing can rewrite it.
async fn drop_broken(
    context: &Context,
    cluster: &Cluster,
    databases: &Databases,
) -> Result<(), ImportError> {
    for name in &databases.broken {
        let mut session = cluster.connect_to_entry().await?;
        execute(&mut session, &format!("DROP DATABASE {}", identifier(name))).await?;
        let warning =
            format!("database \"{name}\", whose DROP DATABASE was interrupted, is dropped");
        context.progress.warn(warning).await;
    }
    Ok(())
}

/// Lets sessions into databases, or no more.
async fn allow_connections(
    cluster: &Cluster,
    databases: &[&String],
    allowed: bool,
) -> Result<(), ImportError> {
    let mut session = cluster.connect_to_entry().await?;
    for name in databases {
        // The statement refuses some databases, and writes the same.
        let statement = format!(
            "UPDATE pg_catalog.pg_database SET datallowconn = {allowed} WHERE datname = {}",
            literal(name)
        );
        execute(&mut session, &statement).await?;
    }
    Ok(())
}

async fn connect(cluster: &Cluster, database: &str) -> Result<Session, ImportError> {
    let connected = cluster
        .server
        .connect(&cluster.superuser, database, SearchPath::Configured);
    connected.await
}

async fn execute(session: &mut Session, statement: &str) -> Result<(), ImportError> {
    let done = session.execute(statement, None).await;
    done.map_err(|error| server_error("rewrite the prepared data", &error))
}

/// The texts of all rows.
async fn query(session: &mut Session, query: &str) -> Result<Vec<Vec<String>>, ImportError> {
    let failed = |error| server_error("list what is rewritten", &error);
    let rows = session.query(query, RELATION_LIMITS).await;
    let rows = rows.map_err(failed)?;
    let texts = |row: &Row| {
        let columns = (0..row.columns()).map(|column| row.text(column).map(str::to_owned));
        columns.collect::<Result<Vec<_>, _>>()
    };
    rows.iter().map(|row| texts(row).map_err(failed)).collect()
}
