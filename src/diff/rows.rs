//! The rows of each table: counted from the smallest table on for as long as there is time, else estimated as the
//! planner of Postgres does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{DiffError, Side, TableRows};
use crate::sql::{AnswerLimits, Row, SearchPath, Session, SqlError, identifier};

/// The longest time for the counts of one database.
pub const COUNT_TIME_MAX: Duration = Duration::from_secs(300);
/// The longest wait for a session that changes a table.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '1s'";
/// How much later than the server's own limit an answer may come.
const GRACE: Duration = Duration::from_secs(2);
/// The bounds of the list of tables.
const TABLES_LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(30)),
    rows: 50_000,
    bytes: 32 << 20,
};
/// The tables with their estimates, the smallest first.
const TABLES: &str = "\
    SELECT nspname::pg_catalog.text, relname::pg_catalog.text, \
           (CASE WHEN size = 0 THEN 0 \
                 WHEN relpages > 0 AND reltuples >= 0 \
                 THEN reltuples / relpages * (size / pg_catalog.current_setting('block_size')::pg_catalog.int8) \
            END)::pg_catalog.int8::pg_catalog.text \
      FROM (SELECT n.nspname, c.relname, c.relpages, c.reltuples, pg_catalog.pg_relation_size(c.oid) AS size \
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' \
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')) AS tables \
     ORDER BY size, nspname, relname";

/// The rows of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    count: Option<u64>,
    is_estimate: bool,
}

struct Table {
    name: String,
    quoted: String,
    estimate: Option<u64>,
}

/// The rows of all tables of a database, by name.
pub(super) async fn read(
    side: &Side,
    count_time: Duration,
) -> Result<BTreeMap<String, Rows>, DiffError> {
    let failed = |error| DiffError::unread(side, "list the tables", &error);
    let session = side.connect(&side.database, SearchPath::Catalog).await;
    let mut session = session.map_err(failed)?;
    let tables = session.query(TABLES, TABLES_LIMITS).await.map_err(failed)?;
    let tables: Result<Vec<Table>, SqlError> = tables.iter().map(table).collect();
    let tables = tables.map_err(failed)?;
    let deadline = Instant::now() + count_time.min(COUNT_TIME_MAX);
    let set = session.execute(LOCK_TIMEOUT, TABLES_LIMITS.time).await;
    set.map_err(failed)?;
    let mut session = Some(session);
    let mut all = BTreeMap::new();
    for table in tables {
        let count = count(&mut session, &table, deadline).await;
        let rows = Rows {
            count: count.or(table.estimate),
            is_estimate: count.is_none(),
        };
        all.insert(table.name, rows);
    }
    if let Some(session) = session {
        session.close().await;
    }
    Ok(all)
}

fn table(row: &Row) -> Result<Table, SqlError> {
    let (schema, name) = (row.text(0)?, row.text(1)?);
    let estimate = match row.text_or_empty(2)? {
        "" => None,
        _ => Some(row.value(2)?),
    };
    Ok(Table {
        name: format!("{schema}.{name}"),
        quoted: format!("{}.{}", identifier(schema), identifier(name)),
        estimate,
    })
}

/// Counts a table, if there is time. A session that does not answer in time is given up.
async fn count(session: &mut Option<Session>, table: &Table, deadline: Instant) -> Option<u64> {
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_millis();
    if millis == 0 {
        return None;
    }
    let mut counting = session.take()?;
    let limits = AnswerLimits {
        time: Some(left + GRACE),
        rows: 1,
        bytes: 64 << 10,
    };
    let answer = async {
        let limit = format!("SET statement_timeout = {millis}");
        counting.execute(&limit, limits.time).await?;
        let statement = format!(
            "SELECT pg_catalog.count(*)::pg_catalog.text FROM ONLY {}",
            table.quoted
        );
        counting.query(&statement, limits).await
    };
    match answer.await {
        Ok(rows) => {
            *session = Some(counting);
            rows.first().and_then(|row| row.value(0).ok())
        }
        // It took too long, or was locked, dropped or not filled.
        Err(SqlError::Server(_)) => {
            *session = Some(counting);
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a server does not count its tables");
            None
        }
    }
}

/// All tables of both, by name.
pub(super) fn compare(a: &BTreeMap<String, Rows>, b: &BTreeMap<String, Rows>) -> Vec<TableRows> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let rows = |name: &String| {
        let (a, b) = (a.get(name), b.get(name));
        TableRows {
            name: name.clone(),
            rows_a: a.and_then(|rows| rows.count),
            rows_b: b.and_then(|rows| rows.count),
            estimated_a: a.is_some_and(|rows| rows.is_estimate),
            estimated_b: b.is_some_and(|rows| rows.is_estimate),
        }
    };
    names.into_iter().map(rows).collect()
}
