//! The applied migrations of a cluster, read by the project's query.

use std::collections::BTreeSet;

use multidb_store::error_chain;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::Cluster;
use crate::import::ProjectImport;
use crate::import::error::ImportError;

const CORRECT_QUERY: &str = "Correct the project's `migrations`.";

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
        let client = self.connect(database).await.map_err(|error| {
            let hint = format!("The databases are: {}.", databases.join(", "));
            failed(error_chain(&error), hint)
        })?;
        let answer = async {
            client.batch_execute("BEGIN READ ONLY").await?;
            client.simple_query(&query.sql).await
        };
        let messages = answer
            .await
            .map_err(|error| failed(message(&error), hint(&error, database, databases)))?;
        texts(&messages).ok_or_else(|| {
            failed(
                "the query does not return one column of text without nulls".to_owned(),
                CORRECT_QUERY.to_owned(),
            )
        })
    }
}

fn message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error_chain(error),
    }
}

fn hint(error: &tokio_postgres::Error, database: &str, databases: &[String]) -> String {
    if error.code() != Some(&SqlState::UNDEFINED_TABLE) {
        return CORRECT_QUERY.to_owned();
    }
    format!(
        "Is \"{database}\" the project's database, and does its tool keep this table? The \
         databases are: {}. Set the project's `database` or `migrations`.",
        databases.join(", ")
    )
}

/// The texts of a one-column result. `None` if it has other columns or a null.
fn texts(messages: &[SimpleQueryMessage]) -> Option<Vec<String>> {
    let mut texts = BTreeSet::new();
    for message in messages {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        match (row.len(), row.try_get(0)) {
            (1, Ok(Some(text))) => texts.insert(text.to_owned()),
            _ => return None,
        };
    }
    Some(texts.into_iter().collect())
}
