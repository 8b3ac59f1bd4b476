//! The files of a cluster's relations.

use std::time::Duration;

use super::Cluster;
use crate::import::error::ImportError;
use crate::import::server::server_error;
use crate::relations::Relations;
use crate::sql::{AnswerLimits, SqlError};

/// The bounds of one database's relations.
const LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(60)),
    rows: 1_000_000,
    bytes: 128 << 20,
};

/// A TOAST table and its index are named by their table, since their own names have its object id.
const QUERY: &str = "SELECT CASE WHEN o.oid IS NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) \
        ELSE pg_catalog.format('%s of %I.%I', CASE c.relkind WHEN 't' THEN 'toast' ELSE 'toast index' END, \
            m.nspname, o.relname) END, \
        pg_catalog.pg_relation_filepath(c.oid) \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid AND n.nspname = 'pg_toast' \
    LEFT JOIN pg_catalog.pg_class AS o \
        ON o.reltoastrelid = COALESCE(i.indrelid, c.oid) AND n.nspname = 'pg_toast' \
    LEFT JOIN pg_catalog.pg_namespace AS m ON m.oid = o.relnamespace \
    WHERE c.relpersistence <> 't' AND pg_catalog.pg_relation_filepath(c.oid) IS NOT NULL";

impl Cluster {
    /// The files of all relations in these databases.
    pub(in crate::import) async fn relations(
        &self,
        databases: &[String],
    ) -> Result<Relations, ImportError> {
        let failed = |error: SqlError| server_error("list the files of the relations", &error);
        let mut relations = Relations::default();
        for database in databases {
            let mut session = self.connect(database).await?;
            for row in session.query(QUERY, LIMITS).await.map_err(failed)? {
                let (name, path) = (row.text(0).map_err(failed)?, row.text(1).map_err(failed)?);
                relations.add(database, name, path);
            }
        }
        Ok(relations)
    }
}
