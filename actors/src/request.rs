//! The overloaded user name: a client's request to multidb during its login.
//!
//! The same keys come in the user name (`instance:testdb,gitref:abc`) and in the startup packet's
//! `options` (`-c multidb.instance=testdb`). Both are parsed here, merged, and validated as a whole.
//! Nothing is looked up, so an unauthenticated client learns only the rules.
//!
//! # The user name
//!
//! `key:value` pairs separated by commas, in any order, with `=` or `:` between key and value.
//! The first `=` or `:` ends the key, so a value may contain more of them. A value may be
//! percent-encoded (`%2C` is a comma), in `options` too, so that values can be moved between the two.
//!
//! If `options` names the instance, a user name without pairs is the role to log in as.

mod asof;
mod error;
mod options;
mod pairs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use multidb_store::{Class, InstanceName, ProjectName, SnapshotId};

use crate::limits::IdleTimeouts;

pub use error::{KeyPlace, RequestError};

/// All keys, in the order in which errors name them.
pub const KEYS: [&str; 16] = {
    let [session, transaction, listen, copy, active, replication] = IdleTimeouts::KEYS;
    [
        "instance",
        "gitref",
        "snapshot",
        "asof",
        "from",
        "ttl",
        "class",
        "project",
        "role",
        "user",
        session,
        transaction,
        listen,
        copy,
        active,
        replication,
    ]
};
/// The shortest time to live.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest timeout, as in the configuration.
const TIMEOUT_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);
/// The longest revision, in bytes.
pub const GITREF_LENGTH_MAX: usize = 255;
/// The longest role, in bytes: Postgres' `NAMEDATALEN` without its zero byte.
pub const ROLE_LENGTH_MAX: usize = 63;
/// The value of `snapshot` that chooses the newest one.
const LATEST: &str = "latest";

/// A client's request for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The instance.
    pub instance: InstanceName,
    /// The source to create it from, if it does not exist.
    pub source: Option<Source>,
    /// The instance to create it from instead, as that is then.
    pub from: Option<InstanceName>,
    /// The project; needed only if several are configured.
    pub project: Option<ProjectName>,
    /// The Postgres role to log in as.
    pub role: Option<String>,
    /// The multidb user.
    pub user: Option<String>,
    /// The idle limits of the session.
    pub idle: IdleTimeouts,
    /// The time without use after which a new instance expires.
    pub ttl: Option<Duration>,
    /// How safely the data of a new instance is kept.
    pub class: Option<Class>,
}

/// A client's request for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLogin {
    /// The multidb user.
    pub user: Option<String>,
    /// The project of statements that name none.
    pub project: Option<ProjectName>,
    /// The idle limits of the session.
    pub idle: IdleTimeouts,
}

/// The request of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A session with an instance.
    Instance(Box<ConnectRequest>),
    /// The console.
    Console(ConsoleLogin),
}

impl Login {
    /// The multidb user that it names.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Instance(request) => request.user.as_deref(),
            Self::Console(login) => login.user.as_deref(),
        }
    }
}

/// The source of a new instance. Displays as its key and value in a user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The newest snapshot that is compatible with this revision.
    GitRef(String),
    /// A snapshot by its id, or the newest one.
    Snapshot(SnapshotSelector),
    /// The newest snapshot taken at or before this time.
    AsOf(Timestamp),
}

/// The value of `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSelector {
    /// The newest snapshot of the project.
    Latest,
    /// Exactly this one. No snapshot can have the id `latest`.
    Id(SnapshotId),
}

impl Source {
    /// The source of this key and value of a user name.
    ///
    /// # Errors
    ///
    /// The key is that of no source, or the value breaks its rule.
    pub fn parse(key: &str, value: &str) -> Result<Self, RequestError> {
        match (key, value) {
            ("gitref", gitref) => Ok(Self::GitRef(checked_gitref(gitref)?)),
            ("snapshot", LATEST) => Ok(Self::Snapshot(SnapshotSelector::Latest)),
            ("snapshot", id) => Ok(Self::Snapshot(SnapshotSelector::Id(id.parse()?))),
            ("asof", time) => Ok(Self::AsOf(asof::parse(time)?)),
            (key, _) => Err(RequestError::UnknownKey {
                key: key.to_owned(),
                place: KeyPlace::UserName,
            }),
        }
    }

    /// Whether it is a date, whose end in UTC was taken.
    pub fn is_date(&self) -> bool {
        matches!(self, Self::AsOf(time) if asof::is_date(*time))
    }

    /// The shortest text that `asof` reads as this time: a date where it is the end of a day.
    pub fn time_text(time: Timestamp) -> String {
        asof::text(time)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GitRef(gitref) => write!(f, "gitref:{gitref}"),
            Self::Snapshot(SnapshotSelector::Latest) => write!(f, "snapshot:{LATEST}"),
            Self::Snapshot(SnapshotSelector::Id(id)) => write!(f, "snapshot:{id}"),
            Self::AsOf(time) => write!(f, "asof:{}", asof::text(*time)),
        }
    }
}

/// Parses a user name and the `options` of the same startup packet.
///
/// Returns the request, and the options for Postgres: the given ones without multidb's settings, byte for byte, or
/// `None` if nothing is left.
///
/// # Errors
///
/// Neither names an instance, they contradict each other, or a key or value is wrong.
pub fn parse(
    user: &[u8],
    options: Option<&[u8]>,
) -> Result<(ConnectRequest, Option<Vec<u8>>), RequestError> {
    let (values, rest) = collect(user, options, Target::Instance)?;
    Ok((values.into_request()?, rest))
}

/// As [`parse`], for a client that asks for this database: without an instance,
/// [`console::DATABASE`](crate::console::DATABASE) is the console.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_login(
    user: &[u8],
    options: Option<&[u8]>,
    database: Option<&[u8]>,
) -> Result<(Login, Option<Vec<u8>>), RequestError> {
    if database != Some(crate::console::DATABASE.as_bytes()) {
        let (request, rest) = parse(user, options)?;
        return Ok((Login::Instance(Box::new(request)), rest));
    }
    let (values, rest) = collect(user, options, Target::Console)?;
    let login = if values.get("instance").is_some() {
        Login::Instance(Box::new(values.into_request()?))
    } else {
        Login::Console(values.into_console()?)
    };
    Ok((login, rest))
}

/// The target of a user name without pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Instance,
    Console,
}

/// The values of both places, and the options for Postgres.
fn collect(
    user: &[u8],
    options: Option<&[u8]>,
    target: Target,
) -> Result<(Values, Option<Vec<u8>>), RequestError> {
    let in_options = match options {
        Some(options) => options::split(options)?,
        None => options::Split::default(),
    };
    let mut values = Values::default();
    for (key, value) in &in_options.pairs {
        values.add(key, value, KeyPlace::Options)?;
    }
    let has_instance_option = values.get("instance").is_some();
    let has_options = !in_options.pairs.is_empty();
    let user = std::str::from_utf8(user).map_err(|_| RequestError::UserNameEncoding)?;
    if pairs::has_pairs(user) {
        for (key, value) in pairs::split(user)? {
            values.add(key, &value, KeyPlace::UserName)?;
        }
    } else if has_instance_option {
        if !user.is_empty() {
            values.add("role", user, KeyPlace::UserName)?;
        }
    } else if target == Target::Console && has_options {
        // The console has no role.
    } else if KEYS.contains(&user) {
        let user = user.to_owned();
        return Err(RequestError::UnescapedUrl { user });
    } else if target == Target::Console {
        return Err(RequestError::PlainUserNameAtConsole {
            user: user.to_owned(),
        });
    } else {
        return Err(RequestError::PlainUserName {
            user: user.to_owned(),
        });
    }
    Ok((values, in_options.rest))
}

/// The values so far, by the position of their key in [`KEYS`].
#[derive(Default)]
struct Values([Option<Given>; KEYS.len()]);

/// One value, and the place of its key.
struct Given {
    /// The decoded value.
    value: String,
    /// The first place of its key.
    place: KeyPlace,
}

impl Values {
    fn add(&mut self, key: &str, value: &str, place: KeyPlace) -> Result<(), RequestError> {
        let slot = KEYS
            .iter()
            .zip(&mut self.0)
            .find_map(|(known, slot)| (*known == key).then_some((*known, slot)));
        let Some((key, slot)) = slot else {
            let key = key.to_owned();
            return Err(RequestError::UnknownKey { key, place });
        };
        match slot {
            None => {
                let value = value.to_owned();
                *slot = Some(Given { value, place });
                Ok(())
            }
            Some(given) if given.place == place => Err(RequestError::RepeatedKey { key, place }),
            Some(given) if given.value == value => Ok(()),
            Some(given) => Err(RequestError::Conflict {
                key,
                user_name: value.to_owned(),
                options: given.value.clone(),
            }),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        KEYS.iter()
            .zip(&self.0)
            .find(|(known, _)| **known == key)
            .and_then(|(_, given)| given.as_ref())
            .map(|given| given.value.as_str())
    }

    fn into_request(self) -> Result<ConnectRequest, RequestError> {
        let instance = self.get("instance").ok_or(RequestError::NoInstance)?;
        Ok(ConnectRequest {
            instance: instance.parse()?,
            source: self.source()?,
            from: self.get("from").map(str::parse).transpose()?,
            project: self.get("project").map(str::parse).transpose()?,
            role: self.identity("role")?,
            user: self.identity("user")?,
            idle: IdleTimeouts::read(|key| self.timeout(key))?,
            ttl: self.ttl()?,
            class: self.class()?,
        })
    }

    /// A login to the console has only keys that mean something there; with any other key it lacks its instance.
    fn into_console(self) -> Result<ConsoleLogin, RequestError> {
        let is_of_console =
            |key: &str| matches!(key, "user" | "project") || IdleTimeouts::KEYS.contains(&key);
        let mut given = KEYS.into_iter().filter(|key| self.get(key).is_some());
        if given.any(|key| !is_of_console(key)) {
            return Err(RequestError::NoInstance);
        }
        Ok(ConsoleLogin {
            user: self.identity("user")?,
            project: self.get("project").map(str::parse).transpose()?,
            idle: IdleTimeouts::read(|key| self.timeout(key))?,
        })
    }

    fn source(&self) -> Result<Option<Source>, RequestError> {
        let sources: Vec<(&'static str, &str)> = ["gitref", "snapshot", "asof", "from"]
            .into_iter()
            .filter_map(|key| Some((key, self.get(key)?)))
            .collect();
        match sources[..] {
            [] | [("from", _)] => Ok(None),
            [(key, value)] => Source::parse(key, value).map(Some),
            [(first, _), (second, _), ..] => Err(RequestError::SeveralSources { first, second }),
        }
    }

    fn ttl(&self) -> Result<Option<Duration>, RequestError> {
        match self.timeout("ttl")? {
            Some(ttl) if ttl < TTL_MIN => {
                let value = self.get("ttl").unwrap_or_default();
                let rule = "it must be at least one second";
                Err(RequestError::invalid_value("ttl", value, rule))
            }
            ttl => Ok(ttl.map(whole_millis)),
        }
    }

    fn class(&self) -> Result<Option<Class>, RequestError> {
        let class = |name| {
            let rule = "it must be \"durable\" or \"scratch\"";
            Class::from_name(name).ok_or_else(|| RequestError::invalid_value("class", name, rule))
        };
        self.get("class").map(class).transpose()
    }

    fn timeout(&self, key: &'static str) -> Result<Option<Duration>, RequestError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let rule = match humantime::parse_duration(value) {
            Ok(time) if time.is_zero() => "it must be longer than zero",
            Ok(time) if time > TIMEOUT_MAX => "it must not be longer than 100 years",
            Ok(time) => return Ok(Some(time)),
            Err(_) => "it must be a duration such as 30s or 15m",
        };
        Err(RequestError::invalid_value(key, value, rule))
    }

    /// The value of `role` or `user`.
    fn identity(&self, key: &'static str) -> Result<Option<String>, RequestError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let rule = if value.is_empty() {
            "it is empty"
        } else if value.len() > ROLE_LENGTH_MAX {
            "it is longer than 63 bytes"
        } else if value.contains(char::is_control) {
            "it contains a control character"
        } else {
            return Ok(Some(value.to_owned()));
        };
        Err(RequestError::invalid_value(key, value, rule))
    }
}

/// A time to live as records keep it.
fn whole_millis(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Checks that git cannot take the text for anything but a revision.
fn checked_gitref(gitref: &str) -> Result<String, RequestError> {
    let rule = if gitref.is_empty() {
        "it is empty"
    } else if gitref.len() > GITREF_LENGTH_MAX {
        "it is longer than 255 bytes"
    } else if gitref.starts_with('-') {
        "it must not start with '-'"
    } else if gitref.contains(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(gitref.to_owned());
    };
    Err(RequestError::invalid_value("gitref", gitref, rule))
}
