//! Subscriptions, which came with the data and would act by themselves in each clone, and prepared transactions, whose
//! locks a clone cannot end.
//!
//! A subscription makes each clone attach to the slot of the real subscriber, which then lacks the rows, and
//! its DROP drops that slot. Replication slots are not copied, and the settings of the source's
//! server, such as `primary_conninfo`, `archive_command` and `shared_preload_libraries`, are not in force.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CATALOG_LIMITS, Cluster, Databases, run};
use crate::import::error::{ImportError, refused};
use crate::import::server::server_error;
use crate::sql::{Row, Session, SqlError, identifier, literal};

/// The names that a warning has.
const NAMES_MAX: usize = 20;

impl Cluster {
    /// Disables subscriptions and ends prepared transactions. Returns the warnings.
    pub(in crate::import) async fn cut_off(
        &self,
        databases: &Databases,
        path: &Path,
    ) -> Result<Vec<String>, ImportError> {
        let mut session = self.connect_to_entry().await?;
        let subscriptions = self.disable_subscriptions(&mut session, databases).await?;
        let prepared = self.end_prepared(&mut session, databases, path).await?;
        let mut warnings = Vec::new();
        if !subscriptions.is_empty() {
            warnings.push(format!(
                "subscriptions are disabled, and have lost the name of their slot: {}",
                listed(&subscriptions)
            ));
        }
        if !prepared.is_empty() {
            warnings.push(format!(
                "prepared transactions are rolled back: {}",
                listed(&prepared)
            ));
        }
        Ok(warnings)
    }

    /// As ALTER SUBSCRIPTION … DISABLE and SET (slot_name = NONE) do, by one statement also for the
    /// databases that refuse connections.
    async fn disable_subscriptions(
        &self,
        session: &mut Session,
        databases: &Databases,
    ) -> Result<Vec<String>, ImportError> {
        const QUERY: &str = "UPDATE pg_catalog.pg_subscription \
            SET subenabled = false, subslotname = NULL \
            RETURNING subname::pg_catalog.text, \
            (SELECT datname FROM pg_catalog.pg_database WHERE oid = subdbid)::pg_catalog.text";
        let disabled = two_texts(session, QUERY).await;
        let disabled = disabled.map_err(|error| server_error("disable subscriptions", &error))?;
        let with_tables: BTreeSet<&String> =
            disabled.iter().map(|(_, database)| database).collect();
        for database in databases
            .open
            .iter()
            .filter(|name| with_tables.contains(name))
        {
            // DROP SUBSCRIPTION drops the slots that the publisher has for tables that are still copied.
            const FORGET: &str =
                "DELETE FROM pg_catalog.pg_subscription_rel WHERE srsubstate <> 'r'";
            let mut session = self.connect(database).await?;
            run(&mut session, "disable subscriptions", FORGET).await?;
        }
        Ok(disabled
            .iter()
            .map(|(name, database)| format!("{} of {}", identifier(name), identifier(database)))
            .collect())
    }

    /// No client of a clone can know of them, and they keep their locks for ever.
    async fn end_prepared(
        &self,
        session: &mut Session,
        databases: &Databases,
        path: &Path,
    ) -> Result<Vec<String>, ImportError> {
        const QUERY: &str = "SELECT gid::pg_catalog.text, database::pg_catalog.text \
            FROM pg_catalog.pg_prepared_xacts ORDER BY prepared";
        let prepared = two_texts(session, QUERY).await;
        let prepared =
            prepared.map_err(|error| server_error("list prepared transactions", &error))?;
        let mut ended = Vec::new();
        for (gid, database) in prepared {
            if !databases.open.contains(&database) {
                return Err(refused(
                    path,
                    format!(
                        "its prepared transaction {} is of the database \"{database}\", which accepts no \
                         connections",
                        literal(&gid)
                    ),
                    "End it by COMMIT PREPARED or ROLLBACK PREPARED where the data comes from, then import it again.",
                ));
            }
            let mut session = self.connect(&database).await?;
            let statement = format!("ROLLBACK PREPARED {}", literal(&gid));
            run(&mut session, "end a prepared transaction", &statement).await?;
            ended.push(format!("{} of {}", literal(&gid), identifier(&database)));
        }
        Ok(ended)
    }
}

async fn two_texts(session: &mut Session, query: &str) -> Result<Vec<(String, String)>, SqlError> {
    let texts = |row: &Row| Ok((row.text(0)?.to_owned(), row.text_or_empty(1)?.to_owned()));
    let rows = session.query(query, CATALOG_LIMITS).await?;
    rows.iter().map(texts).collect()
}

fn listed(names: &[String]) -> String {
    let mut shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>();
    if let Some(more) = names.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
