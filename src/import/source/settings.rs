//! Which settings of the source's server go into the snapshot: the settings that change the answer of a statement or
//! its plan, and the settings that the data needs. The machine, the log, durability, replication and background work
//! are multidb's affair, and the rest is named once.

use std::collections::HashMap;

use super::configuration::Configuration;
use crate::config::OWNED_SETTINGS;
use crate::import::cluster::CATALOG_LIMITS;
use crate::import::error::ImportError;
use crate::import::server::server_error;
use crate::sql::{Session, SqlError, identifier, literal};

/// The settings that are carried, by their names in lower case.
const CARRIED: [&str; 62] = [
    // Statements.
    "bytea_output",
    "check_function_bodies",
    "client_encoding",
    "client_min_messages",
    "createrole_self_grant",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_toast_compression",
    "event_triggers",
    "gin_fuzzy_search_limit",
    "icu_validation_level",
    "max_stack_depth",
    "password_encryption",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path",
    "session_replication_role",
    "track_commit_timestamp",
    "xmlbinary",
    "xmloption",
    // Locale and formats.
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "timezone",
    "timezone_abbreviations",
    // Compatibility.
    "array_nulls",
    "backslash_quote",
    "escape_string_warning",
    "lo_compat_privileges",
    "operator_precedence_warning",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "synchronize_seqscans",
    "transform_null_equals",
    // Plans.
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "debug_parallel_query",
    "default_statistics_target",
    "effective_cache_size",
    "force_parallel_mode",
    "from_collapse_limit",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "recursive_worktable_factor",
    "seq_page_cost",
];

/// The beginnings of the names of more such settings.
const CARRIED_PREFIXES: [&str; 2] = ["enable_", "geqo"];

/// Carried, and not tried before: a server takes any name at its start, and looks for the object when it is used.
const CARRIED_NAMES: [&str; 4] = [
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "temp_tablespaces",
];

/// The limits that are carried where they are higher than Postgres' default, with that.
const LIMITS: [(&str, u64); 4] = [
    ("max_connections", 100),
    ("max_locks_per_transaction", 64),
    ("max_pred_locks_per_transaction", 64),
    ("max_prepared_transactions", 0),
];

/// The settings that are not even named, beside multidb's own: they are for the machine, and initdb or a distribution
/// has written them.
const OF_THE_MACHINE: [&str; 5] = [
    "bonjour",
    "cluster_name",
    "max_wal_size",
    "min_wal_size",
    "stats_temp_directory",
];

/// The beginnings of the names of more such settings.
const OF_THE_MACHINE_PREFIXES: [&str; 5] =
    ["log_", "logging_collector", "ssl", "tcp_", "unix_socket_"];

/// The treatment of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Carried,
    CarriedUntried,
    /// Carried if it is higher.
    Limit(u64),
    OfTheMachine,
    LeftOut,
}

impl Treatment {
    fn of(name: &str) -> Self {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        // Of an extension or of the user's own: without effect where nothing knows it.
        if name.contains('.') || CARRIED_NAMES.contains(&name) {
            Self::CarriedUntried
        } else if CARRIED.contains(&name) || starts(&CARRIED_PREFIXES) {
            Self::Carried
        } else if let Some((_, default)) = LIMITS.iter().find(|(limit, _)| *limit == name) {
            Self::Limit(*default)
        } else if OWNED_SETTINGS.contains(&name)
            || OF_THE_MACHINE.contains(&name)
            || starts(&OF_THE_MACHINE_PREFIXES)
        {
            Self::OfTheMachine
        } else {
            Self::LeftOut
        }
    }
}

/// The settings of the source's server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The settings that the snapshot carries.
    pub(super) carried: Vec<(String, String)>,
    /// The names of the others, some with the reason.
    pub(super) left_out: Vec<String>,
}

/// Chooses the settings that the snapshot carries, each tried by a session of a superuser on the server of the import.
pub(super) async fn choose(
    session: &mut Session,
    configuration: &Configuration,
) -> Result<Chosen, ImportError> {
    let failed = |error| server_error("read the settings of Postgres", &error);
    let known = known(session).await.map_err(failed)?;
    let mut chosen = Chosen::default();
    for (name, value) in &configuration.settings {
        let setting = (name.clone(), value.clone());
        let known = known.get(name);
        match Treatment::of(name) {
            Treatment::CarriedUntried => chosen.carried.push(setting),
            Treatment::Carried => match known {
                None => chosen.left_out.push(format!("{name} (unknown here)")),
                Some(known) => match try_out(session, name, value, known).await {
                    Ok(()) => chosen.carried.push(setting),
                    Err(error @ SqlError::Server(_)) => {
                        chosen.left_out.push(format!("{name} ({error})"));
                    }
                    Err(error) => return Err(failed(error)),
                },
            },
            Treatment::Limit(default) => {
                if value.parse().is_ok_and(|limit: u64| limit > default) {
                    chosen.carried.push(setting);
                }
            }
            Treatment::OfTheMachine => {}
            Treatment::LeftOut => {
                if known.is_none_or(|known| !known.is_default(value)) {
                    chosen.left_out.push(name.clone());
                }
            }
        }
    }
    Ok(chosen)
}

/// The properties of a setting at a server.
#[derive(Debug)]
struct Parameter {
    /// A session can set it.
    is_of_session: bool,
    /// Its default, as Postgres has it.
    default: String,
    /// Its default, with a unit.
    shown_default: String,
}

impl Parameter {
    fn is_default(&self, value: &str) -> bool {
        let value = match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => "on".to_owned(),
            "false" | "no" | "0" => "off".to_owned(),
            _ => value.to_owned(),
        };
        [&self.default, &self.shown_default]
            .iter()
            .any(|default| default.eq_ignore_ascii_case(&value))
    }
}

async fn known(session: &mut Session) -> Result<HashMap<String, Parameter>, SqlError> {
    const QUERY: &str = "SELECT pg_catalog.lower(name), context IN ('user', 'superuser'), \
        COALESCE(boot_val, ''), \
        CASE unit WHEN '8kB' THEN pg_catalog.concat(boot_val::pg_catalog.int8 / 128, 'MB') \
        WHEN 'kB' THEN pg_catalog.concat(boot_val::pg_catalog.int8 / 1024, 'MB') ELSE '' END \
        FROM pg_catalog.pg_settings";
    let rows = session.query(QUERY, CATALOG_LIMITS).await?;
    let mut known = HashMap::new();
    for row in rows {
        let setting = Parameter {
            is_of_session: row.text(1)? == "t",
            default: row.text(2)?.to_owned(),
            shown_default: row.text(3)?.to_owned(),
        };
        known.insert(row.text(0)?.to_owned(), setting);
    }
    Ok(known)
}

/// Whether Postgres takes a value. Changes nothing that stays.
async fn try_out(
    session: &mut Session,
    name: &str,
    value: &str,
    parameter: &Parameter,
) -> Result<(), SqlError> {
    if parameter.is_of_session {
        // For its own transaction, which is this statement.
        let (name, value) = (literal(name), literal(value));
        let statement = format!("SELECT pg_catalog.set_config({name}, {value}, true)");
        return session.query(&statement, CATALOG_LIMITS).await.map(drop);
    }
    let name = identifier(name);
    let set = format!("ALTER SYSTEM SET {name} = {}", literal(value));
    session.execute(&set, CATALOG_LIMITS.time).await?;
    let reset = format!("ALTER SYSTEM RESET {name}");
    session.execute(&reset, CATALOG_LIMITS.time).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_treated_by_their_name() {
        for (name, treatment) in [
            ("datestyle", Treatment::Carried),
            ("enable_seqscan", Treatment::Carried),
            ("geqo_threshold", Treatment::Carried),
            ("default_text_search_config", Treatment::CarriedUntried),
            ("app.tenant", Treatment::CarriedUntried),
            ("max_connections", Treatment::Limit(100)),
            ("port", Treatment::OfTheMachine),
            ("log_timezone", Treatment::OfTheMachine),
            ("ssl_cert_file", Treatment::OfTheMachine),
            ("archive_command", Treatment::LeftOut),
            ("primary_conninfo", Treatment::LeftOut),
            ("shared_preload_libraries", Treatment::LeftOut),
            ("fsync", Treatment::LeftOut),
        ] {
            assert_eq!(Treatment::of(name), treatment, "{name}");
        }
    }

    #[test]
    fn defaults_are_known_however_they_are_written() {
        let known = |default: &str, shown: &str| Parameter {
            is_of_session: true,
            default: default.to_owned(),
            shown_default: shown.to_owned(),
        };
        assert!(known("on", "").is_default("ON"));
        assert!(known("on", "").is_default("true"));
        assert!(known("4096", "4MB").is_default("4mb"));
        assert!(known("4096", "4MB").is_default("4096"));
        assert!(!known("on", "").is_default("off"));
        assert!(!known("4096", "4MB").is_default("64MB"));
    }
}
