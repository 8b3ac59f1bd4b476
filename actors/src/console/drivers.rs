//! The requests of drivers at their start: settings of the session, and functions about it. The console has nothing
//! else that they ask of a database, such as its catalogs.

use super::{Column, ColumnType, ConsoleError, Value};

/// The version that drivers read: that of a server whose settings the console reports, and multidb's own for people.
pub const SERVER_VERSION: &str = concat!("14.0 (multidb ", env!("CARGO_PKG_VERSION"), ")");

/// The facts that a session reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The multidb user.
    pub user: String,
    /// Whether it has the rights of the administrator.
    pub is_admin: bool,
    /// The number in its cancel key.
    pub process_id: i32,
    /// The client's `application_name`.
    pub application_name: String,
}

/// A setting of the session, by its name in lower case, as `SHOW` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSetting(&'static str);

/// The settings whose values no statement changes. The first [`REPORTED`] are reported to each client, under these
/// names.
const FIXED: [(&str, &str); 17] = [
    ("server_version", SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("search_path", "\"\""),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("server_version_num", "140000"),
    ("max_identifier_length", "63"),
    ("extra_float_digits", "1"),
];

/// How many of [`FIXED`] are reported.
const REPORTED: usize = 10;

/// The settings that depend on the session.
const OWN: [&str; 3] = ["application_name", "is_superuser", "session_authorization"];

/// The settings that are reported to a client at its start.
pub fn reported_settings(session: &Session) -> impl Iterator<Item = (&'static str, &str)> {
    let fixed = FIXED.into_iter().take(REPORTED);
    let own = OWN.into_iter().map(|name| (name, own_value(name, session)));
    fixed.chain(own)
}

fn own_value<'a>(name: &str, session: &'a Session) -> &'a str {
    match name {
        "application_name" => &session.application_name,
        "is_superuser" if session.is_admin => "on",
        "is_superuser" => "off",
        _ => &session.user,
    }
}

impl SessionSetting {
    /// The setting of this name, in any case.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let names = FIXED.iter().map(|(name, _)| *name).chain(OWN);
        let mut known = names.filter(|known| known.eq_ignore_ascii_case(name));
        known.next().map(Self)
    }

    /// Its column.
    pub fn column(self) -> Column {
        Column::new(self.0, ColumnType::Text)
    }

    /// Its value.
    pub fn value(self, session: &Session) -> Value {
        let fixed = FIXED.iter().find(|(name, _)| *name == self.0);
        let value = fixed.map_or_else(|| own_value(self.0, session), |(_, value)| value);
        Value::Text(value.to_owned())
    }
}

/// Checks that a setting does not change the form of the answers. Others are accepted and without effect, but for
/// `application_name`.
pub(super) fn check_setting(name: &str, value: &str) -> Result<(), ConsoleError> {
    let value = value.to_ascii_lowercase();
    let fixed = |name, value| Err(ConsoleError::FixedSetting { name, value });
    match name {
        "client_encoding" | "names" => match value.as_str() {
            "utf8" | "utf-8" | "unicode" | "default" => Ok(()),
            _ => fixed("client_encoding", "UTF8"),
        },
        "datestyle" if !value.starts_with("iso") && value != "default" => fixed("DateStyle", "ISO"),
        "standard_conforming_strings" if matches!(value.as_str(), "off" | "false" | "0") => {
            fixed("standard_conforming_strings", "on")
        }
        _ => Ok(()),
    }
}

/// A function about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `version()`.
    Version,
    /// `current_database()` and `current_catalog`.
    CurrentDatabase,
    /// `current_schema`: none.
    CurrentSchema,
    /// `current_user`, `session_user` and `user`.
    CurrentUser,
    /// `pg_backend_pid()`.
    BackendPid,
    /// `pg_is_in_recovery()`.
    IsInRecovery,
    /// `pg_advisory_unlock_all()`, which pools call.
    AdvisoryUnlockAll,
}

/// A function in a `SELECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectItem {
    /// The function.
    pub function: Function,
    /// The name of its column.
    pub name: String,
}

impl Function {
    /// The function of this name, in any case, and whether it may be written without parentheses.
    pub(super) fn of_name(name: &str) -> Option<(Self, bool)> {
        let name = name.to_ascii_lowercase();
        Some(match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
            "version" => (Self::Version, false),
            "current_database" => (Self::CurrentDatabase, false),
            "current_catalog" => (Self::CurrentDatabase, true),
            "current_schema" => (Self::CurrentSchema, true),
            "current_user" | "session_user" | "user" => (Self::CurrentUser, true),
            "pg_backend_pid" => (Self::BackendPid, false),
            "pg_is_in_recovery" => (Self::IsInRecovery, false),
            "pg_advisory_unlock_all" => (Self::AdvisoryUnlockAll, false),
            _ => return None,
        })
    }

    /// The type of its value.
    pub fn kind(self) -> ColumnType {
        match self {
            Self::Version
            | Self::CurrentDatabase
            | Self::CurrentSchema
            | Self::CurrentUser
            | Self::AdvisoryUnlockAll => ColumnType::Text,
            Self::BackendPid => ColumnType::Int8,
            Self::IsInRecovery => ColumnType::Bool,
        }
    }

    /// Its value.
    pub fn value(self, session: &Session) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        match self {
            Self::Version => text(concat!(
                "PostgreSQL 14.0 (the console of multidb ",
                env!("CARGO_PKG_VERSION"),
                ")"
            )),
            Self::CurrentDatabase => text(super::DATABASE),
            Self::CurrentSchema => Value::Null,
            Self::CurrentUser => text(&session.user),
            Self::BackendPid => Value::Int(session.process_id.into()),
            Self::IsInRecovery => Value::Bool(false),
            Self::AdvisoryUnlockAll => text(""),
        }
    }
}
