//! The extensions of a cluster, and the ones that the programs of its server lack.

use std::collections::BTreeSet;

use super::{CATALOG_LIMITS, Cluster, Databases};
use crate::import::error::ImportError;
use crate::import::server::server_error;
use crate::runtime::extensions::BUILT_IN;
use crate::sql::{SqlError, identifier};

/// The extensions that a warning names.
const NAMES_MAX: usize = 20;

/// The extensions of a cluster.
#[derive(Debug, Default)]
pub(in crate::import) struct Extensions {
    /// Their names.
    pub(in crate::import) names: BTreeSet<String>,
    /// The extensions for which there are no files where Postgres runs here, each with its database, for people.
    missing: Vec<String>,
}

impl Cluster {
    /// The extensions in these databases. A dump fails at a CREATE EXTENSION whose files are missing; a data directory has
    /// them as they are, so that only their use fails.
    pub(in crate::import) async fn extensions(
        &self,
        databases: &Databases,
    ) -> Result<Extensions, ImportError> {
        const QUERY: &str = "SELECT extname::pg_catalog.text, \
            (extname IN (SELECT name FROM pg_catalog.pg_available_extensions()))::pg_catalog.text \
            FROM pg_catalog.pg_extension ORDER BY extname";
        let failed = |error: SqlError| server_error("list the extensions", &error);
        let mut extensions = Extensions::default();
        for database in &databases.open {
            let mut session = self.connect(database).await?;
            for row in session.query(QUERY, CATALOG_LIMITS).await.map_err(failed)? {
                let (name, is_available) =
                    (row.text(0).map_err(failed)?, row.text(1).map_err(failed)?);
                if name != BUILT_IN {
                    extensions.names.insert(name.to_owned());
                }
                if is_available != "true" {
                    let missing = format!("{} of {}", identifier(name), identifier(database));
                    extensions.missing.push(missing);
                }
            }
            session.close().await;
        }
        Ok(extensions)
    }
}

impl Extensions {
    /// The warning that names the missing ones.
    pub(in crate::import) fn warning(&self) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let mut named: Vec<String> = self.missing.iter().take(NAMES_MAX).cloned().collect();
        let more = self.missing.len() - named.len();
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        Some(format!(
            "extensions that Postgres lacks here: {}; what uses their libraries fails until they are installed where it \
             runs (a package, or an image that has them as runtime.image)",
            named.join(", ")
        ))
    }
}
