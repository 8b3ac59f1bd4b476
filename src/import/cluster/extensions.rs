//! The extensions of a cluster that the programs of its server lack.

use super::{CATALOG_LIMITS, Cluster, Databases, first_text};
use crate::import::error::ImportError;
use crate::import::server::server_error;
use crate::sql::{SqlError, identifier};

/// The extensions that a warning names.
const NAMES_MAX: usize = 20;

impl Cluster {
    /// The warning that names the extensions for which there are no files where Postgres runs here, each with its
    /// database. A dump fails at its CREATE EXTENSION; a data directory has them as they are, so that only their use
    /// fails.
    pub(in crate::import) async fn missing_extensions(
        &self,
        databases: &Databases,
    ) -> Result<Option<String>, ImportError> {
        const QUERY: &str = "SELECT extname::pg_catalog.text FROM pg_catalog.pg_extension \
            WHERE extname NOT IN (SELECT name FROM pg_catalog.pg_available_extensions()) ORDER BY extname";
        let failed = |error: SqlError| server_error("list the extensions", &error);
        let mut missing = Vec::new();
        for database in &databases.open {
            let mut session = self.connect(database).await?;
            for row in session.query(QUERY, CATALOG_LIMITS).await.map_err(failed)? {
                let name = first_text(&row).map_err(failed)?;
                missing.push(format!("{} of {}", identifier(&name), identifier(database)));
            }
            session.close().await;
        }
        if missing.is_empty() {
            return Ok(None);
        }
        let more = missing.len().saturating_sub(NAMES_MAX);
        missing.truncate(NAMES_MAX);
        if more > 0 {
            missing.push(format!("and {more} more"));
        }
        Ok(Some(format!(
            "extensions that Postgres lacks here: {}; what uses their libraries fails until they are installed where it \
             runs (a package, or an image that has them as runtime.image)",
            missing.join(", ")
        )))
    }
}
