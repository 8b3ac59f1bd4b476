//! The applied migrations of a cluster, read by the project's query.

use std::collections::BTreeSet;
use std::time::Duration;

use multidb_actors::wire::sqlstate;
use multidb_store::error_chain;

use super::Cluster;
use crate::import::ProjectImport;
use crate::import::error::ImportError;
use crate::sql::{AnswerLimits, Row, SearchPath, SqlError};

const CORRECT_QUERY: &str = "Correct the project's `migrations`.";

/// The bounds of the query's answer.
const LIMITS: AnswerLimits = AnswerLimits {
    time: Some(Duration::from_secs(300)),
    rows: 100_000,
    bytes: 16 << 20,
};
/// The limit for the begin of its transaction.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

impl Cluster {
    /// The applied migrations, sorted and without duplicates.
    pub(in crate::import) async fn applied_migrations(
        &self,
        databases: &[String],
        project: &ProjectImport,
    ) -> Result<Vec<String>, ImportError> {
        let query = &project.migrations;
        let database = query.database.as_ref().unwrap_or(&project.database);
        let failed = |problem: String, hint: String| ImportError::Migrations {
            database: database.clone(),
            problem,
            hint,
        };
        let session = self.connect_with(database, SearchPath::Configured).await;
        let mut session = session.map_err(|error| {
            let hint = format!("The databases are: {}.", databases.join(", "));
            failed(error_chain(&error), hint)
        })?;
        let answer = async {
            let begin = "BEGIN READ ONLY";
            session.execute(begin, Some(BEGIN_TIMEOUT)).await?;
            session.query(&query.sql, LIMITS).await
        };
        let rows = answer
            .await
            .map_err(|error| failed(error_chain(&error), hint(&error, database, databases)))?;
        texts(&rows).ok_or_else(|| {
            failed(
                "the query does not return one column of text without nulls".to_owned(),
                CORRECT_QUERY.to_owned(),
            )
        })
    }
}

fn hint(error: &SqlError, database: &str, databases: &[String]) -> String {
    if !error.has_state(sqlstate::UNDEFINED_TABLE) {
        return CORRECT_QUERY.to_owned();
    }
    format!(
        "Is \"{database}\" the project's database, and does its tool keep this table? The \
         databases are: {}. Set the project's `database` or `migrations`.",
        databases.join(", ")
    )
}

/// The texts of a one-column result. `None` if it has other columns or a null.
fn texts(rows: &[Row]) -> Option<Vec<String>> {
    let text = |row: &Row| match (row.columns(), row.text(0)) {
        (1, Ok(text)) => Some(text.to_owned()),
        _ => None,
    };
    let texts: Option<BTreeSet<String>> = rows.iter().map(text).collect();
    Some(texts?.into_iter().collect())
}
