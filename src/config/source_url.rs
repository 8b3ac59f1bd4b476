//! The URL of a server to copy from, in the form of libpq, without a password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::value::{Value, quoted, string, text};

/// An example for messages.
const EXAMPLE: &str = "postgres://backup@replica.internal/mathspace";

/// The parameters that would hold a secret, or lead around the passfile.
const SECRETS: [&str; 6] = [
    "password",
    "sslpassword",
    "passfile",
    "service",
    "servicefile",
    "oauth_client_secret",
];

/// A server to copy from: `postgres://[user@]host[:port][/database][?parameter=value…]`. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUrl {
    /// Between `//` and the path, as written.
    authority: String,
    /// Decoded.
    database: Option<String>,
    /// Names, and values as written.
    parameters: Vec<(String, String)>,
}

impl SourceUrl {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is no such URL, or has a password. The message does not repeat it, since it may hold one.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(format!("is not a URL such as {EXAMPLE}"));
        };
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("contains a space; write %20 in its place".to_owned());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        if login.is_some_and(|login| login.contains(':')) {
            return Err(has_password());
        }
        let mut parameters = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err("has a parameter without a value".to_owned());
            };
            if SECRETS.contains(&&*decoded(name)) {
                return Err(has_password());
            }
            parameters.push((decoded(name), value.to_owned()));
        }
        let database = decoded(database);
        Ok(Self {
            authority: authority.to_owned(),
            database: Some(database).filter(|name| !name.is_empty()),
            parameters,
        })
    }

    /// The database that it names.
    pub fn database(&self) -> Option<String> {
        self.parameter("dbname").or_else(|| self.database.clone())
    }

    /// A parameter, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut found = self.parameters.iter().filter(|(own, _)| own == name);
        found.next_back().map(|(_, value)| decoded(value))
    }

    /// The directories of Unix sockets among its hosts.
    pub fn socket_directories(&self) -> Vec<PathBuf> {
        let hosts = self.authority.rsplit('@').next().unwrap_or_default();
        let parameter = self.parameter("host").unwrap_or_default();
        let hosts = hosts.split(',').map(decoded);
        let all = hosts.chain(parameter.split(',').map(str::to_owned));
        all.filter(|host| host.starts_with('/'))
            .map(PathBuf::from)
            .collect()
    }

    /// The same server with this database, and with these parameters in place of its own.
    #[must_use]
    pub fn with(&self, database: Option<String>, parameters: &[(&str, &str)]) -> Self {
        let mut changed = self.clone();
        changed.database = database;
        let replaced =
            |name: &str| name == "dbname" || parameters.iter().any(|(own, _)| *own == name);
        changed.parameters.retain(|(name, _)| !replaced(name));
        let added = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), encoded(value)));
        changed.parameters.extend(added);
        changed
    }

    /// The whole of it, for libpq.
    pub fn to_libpq(&self) -> String {
        let separators = ["?", "&"].into_iter().chain(std::iter::repeat("&"));
        let parameters = separators.zip(&self.parameters);
        let parameters =
            parameters.map(|(separator, (name, value))| format!("{separator}{name}={value}"));
        format!("{self}{}", parameters.collect::<String>())
    }
}

impl fmt::Display for SourceUrl {
    /// Without its parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database.as_deref().map(encoded).unwrap_or_default();
        write!(f, "postgres://{}/{database}", self.authority)
    }
}

impl Value for SourceUrl {
    fn read(value: &toml::Value) -> Result<Self, String> {
        Self::parse(text(value, &quoted(EXAMPLE))?)
    }

    fn show(&self) -> toml::Value {
        string(self.to_libpq())
    }
}

fn has_password() -> String {
    "has a password, which others could see: put it into a passfile (host:port:database:user:password, database * or \
     replication for physical copies) and name that file"
        .to_owned()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        let url = "postgresql://backup@[::1]:5433,b/my%20shop?sslmode=require&host=%2Frun%2Fpg";
        let url = SourceUrl::parse(url).unwrap();
        assert_eq!(url.database().unwrap(), "my shop");
        assert_eq!(url.parameter("sslmode").unwrap(), "require");
        assert_eq!(url.socket_directories(), [PathBuf::from("/run/pg")]);
        assert_eq!(url.to_string(), "postgres://backup@[::1]:5433,b/my%20shop");
        let changed = url.with(
            Some("replication".to_owned()),
            &[("sslmode", "disable"), ("a", "b c")],
        );
        assert_eq!(
            changed.to_libpq(),
            "postgres://backup@[::1]:5433,b/replication?host=%2Frun%2Fpg&sslmode=disable&a=b%20c"
        );
        let bare = SourceUrl::parse("postgres://h").unwrap();
        assert_eq!(
            (bare.database(), bare.to_libpq()),
            (None, "postgres://h/".to_owned())
        );
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://h/d?password=hunter2",
            "postgres://h/d?sslpassword=hunter2",
            "postgres://h/d?pass%77ord=hunter2",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h/a b",
        ] {
            let error = SourceUrl::parse(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
