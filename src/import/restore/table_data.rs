//! The rows of a table, in a transaction of their own and frozen where that is possible.

use super::runner::ScriptRunner;
use crate::import::error::ImportError;
use crate::import::script::{literal, name_end};
use crate::sql::AnswerLimits;

/// The query that finds out whether a table can be filled with FREEZE, before and after the name of the table.
/// It returns a row if so, with the TRUNCATE that FREEZE needs.
///
/// FREEZE requires that the table was created or truncated in the same transaction. TRUNCATE
/// requires that no foreign key refers to the table, and must not lose rows (the configuration table
/// of an extension has some already) or fire triggers.
const FREEZE_QUERY_HEAD: &str = "SELECT pg_catalog.format('TRUNCATE TABLE ONLY %s', n.t) \
    FROM (SELECT pg_catalog.to_regclass(";
const FREEZE_QUERY_TAIL: &str = ") AS t) AS n JOIN pg_catalog.pg_class AS c ON c.oid = n.t \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT c.relhastriggers \
    AND pg_catalog.pg_relation_size(c.oid) = 0 AND NOT EXISTS \
    (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.confrelid = c.oid)";
/// A single name.
const LIMITS: AnswerLimits = AnswerLimits {
    time: None,
    rows: 1,
    bytes: 1 << 20,
};

/// The statements of a table's data.
pub(super) struct TableData {
    /// Run in the transaction before the COPY.
    pub(super) truncate: Option<String>,
    /// The COPY.
    pub(super) copy: Vec<u8>,
    /// The places of the primary key's columns in its rows, if they are to be sorted.
    pub(super) key: Option<Vec<usize>>,
}

impl ScriptRunner<'_> {
    /// The statements for a COPY as pg_dump writes it, if it is one.
    pub(super) async fn table_data(
        &mut self,
        copy: &[u8],
    ) -> Result<Option<TableData>, ImportError> {
        let Some(head) = copy.strip_suffix(b" FROM stdin;") else {
            return Ok(None);
        };
        let Some(rest) = head.strip_prefix(b"COPY ") else {
            return Ok(None);
        };
        let (name, columns) = rest.split_at(name_end(rest, b" "));
        let table = literal(name);
        // In another encoding, a name may not be UTF-8: that table is not frozen.
        let rows = match str::from_utf8(&table) {
            Ok(table) => {
                let query = format!("{FREEZE_QUERY_HEAD}{table}{FREEZE_QUERY_TAIL}");
                let answer = self.session.query(&query, LIMITS).await;
                match answer {
                    Err(error) if error.is_of_server() => Vec::new(),
                    answer => answer.map_err(|error| self.session_error(&error))?,
                }
            }
            Err(_) => Vec::new(),
        };
        let truncate = rows.first().and_then(|row| row.text(0).ok());
        let truncate = truncate.map(str::to_owned);
        let options: &[u8] = match truncate {
            Some(_) => b" FROM stdin WITH (FREEZE)",
            None => b" FROM stdin",
        };
        Ok(Some(TableData {
            truncate,
            copy: [head, options].concat(),
            key: self.keys.places(name, columns.trim_ascii_start()),
        }))
    }
}
