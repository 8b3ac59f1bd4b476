//! The parameters of a login, which overrule the settings of roles and databases.

use std::borrow::Cow;
use std::time::Duration;

use multidb_actors::ports::Endpoint;

/// The settings that change the meaning of a query, or whether it runs.
const FOR_EVERY_ROLE: [(&str, &str); 12] = [
    ("application_name", "multidb"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "error"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("jit", "off"),
    ("local_preload_libraries", ""),
    ("lock_timeout", "0"),
    ("role", "none"),
    ("standard_conforming_strings", "on"),
];

/// The first major version with `idle_session_timeout`.
const MAJOR_OF_IDLE_SESSION_TIMEOUT: u16 = 14;
/// The first major version with event triggers at logins, and with `transaction_timeout`.
const MAJOR_OF_LOGIN_TRIGGERS: u16 = 17;

/// A session to begin.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The server.
    pub endpoint: &'a Endpoint,
    /// The role.
    pub role: &'a str,
    /// Whether the role is a superuser.
    pub privileges: Privileges,
    /// The database.
    pub database: &'a str,
    /// The server's major version.
    pub postgres_major: u16,
    /// Where names without a schema are looked up.
    pub search_path: SearchPath,
    /// The limit of each statement at the server. `None` is no limit.
    pub statement_timeout: Option<Duration>,
}

/// Whether a login may set the parameters that only a superuser may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// A superuser.
    Superuser,
    /// Any role.
    Unknown,
}

/// The schemas in which names are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchPath {
    /// `pg_catalog` alone, where only a superuser who allows it to himself can add an operator.
    Catalog,
    /// The schemas that the role and the database have, for a query of the user's.
    Configured,
}

impl Login<'_> {
    pub(super) fn parameters(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let timeout = self.statement_timeout.unwrap_or_default().as_millis();
        let mut parameters: Vec<(&str, Cow<'_, str>)> = vec![
            ("user", self.role.into()),
            ("database", self.database.into()),
            ("statement_timeout", timeout.to_string().into()),
        ];
        let mut set = |name, value: &'static str| parameters.push((name, value.into()));
        for (name, value) in FOR_EVERY_ROLE {
            set(name, value);
        }
        if self.search_path == SearchPath::Catalog {
            set("search_path", "pg_catalog");
        }
        if self.postgres_major >= MAJOR_OF_IDLE_SESSION_TIMEOUT {
            set("idle_session_timeout", "0");
        }
        if self.postgres_major >= MAJOR_OF_LOGIN_TRIGGERS {
            set("transaction_timeout", "0");
        }
        if self.privileges == Privileges::Superuser {
            set("session_preload_libraries", "");
            if self.postgres_major >= MAJOR_OF_LOGIN_TRIGGERS {
                set("event_triggers", "off");
            }
        }
        parameters
    }
}
