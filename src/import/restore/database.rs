//! The project's database, as the dump wants it.

use super::errors::Location;
use super::runner::ScriptRunner;
use crate::import::error::{ImportError, refused};
use crate::import::script::{Kind, SameName, created_database, with_locale};
use crate::import::server::{SUPERUSER, server_error};
use crate::sql::{AnswerLimits, Ended, SearchPath, identifier};

/// The database in which another one is created and dropped: no database is dropped from within.
fn maintenance(database: &str) -> &'static str {
    match database {
        "postgres" => "template1",
        _ => "postgres",
    }
}

impl ScriptRunner<'_> {
    /// Makes the project's database again by the dump's own CREATE DATABASE. Nothing is in it yet.
    pub(super) async fn create_project_database(
        &mut self,
        place: &Location<'_>,
        text: &[u8],
    ) -> Result<(), ImportError> {
        let project = self.target.project;
        let database = identifier(&project.database);
        let back = self.database.clone();
        let maintenance = maintenance(&project.database);
        self.connect(maintenance).await?;
        self.drop_database(&database).await?;
        self.create(place, text).await?;
        if !place_names_owner(text) {
            let role = identifier(&project.role);
            let owner = format!("ALTER DATABASE {database} OWNER TO {role}");
            let owned = self.session.execute(&owner, None).await;
            owned
                .map_err(|error| server_error("give the database to the project's role", &error))?;
        }
        self.database_is_of_dump = true;
        if back != maintenance {
            self.connect(&back).await?;
        }
        Ok(())
    }

    async fn drop_database(&mut self, database: &str) -> Result<(), ImportError> {
        let drop = format!("DROP DATABASE {database}");
        let dropped = self.session.execute(&drop, None).await;
        dropped.map_err(|error| server_error("make the project's database again", &error))
    }

    /// Creates a database that is not the project's.
    pub(super) async fn create_other_database(
        &mut self,
        place: &Location<'_>,
        text: &[u8],
    ) -> Result<(), ImportError> {
        if let Some(name) = created_database(text) {
            let name = String::from_utf8_lossy(&name).into_owned();
            self.other_databases.insert(name);
        }
        self.create(place, text).await
    }

    /// Creates a database, with the project's locale if its own is missing.
    async fn create(&mut self, place: &Location<'_>, text: &[u8]) -> Result<(), ImportError> {
        let Ended::Failed(message) = self.run(text).await? else {
            return Ok(());
        };
        let locales = values_of(text, &LOCALE_OPTIONS);
        let said = message.to_string().to_ascii_lowercase();
        let is_about_locale = ["locale", "collation", "icu", "encoding"]
            .iter()
            .any(|word| said.contains(word));
        if place.kind == Kind::ProjectDatabase && !is_about_locale {
            return Err(place.error(&message));
        }
        if !is_about_locale || locales.is_empty() {
            return self.errors.pass(place, &message);
        }
        let project = self.target.project;
        let named = created_database(text).filter(|name| name != project.database.as_bytes());
        let database = match named {
            Some(name) => format!("database \"{}\"", String::from_utf8_lossy(&name)),
            None => "database".to_owned(),
        };
        let wanted = locales.join("\", \"");
        let Some(locale) = &project.locale else {
            return Err(refused(
                &self.dump,
                format!(
                    "its {database} has the locale \"{wanted}\", which Postgres refuses here: {message}"
                ),
                "Install that locale where Postgres runs (on Debian the package locales-all, or an image that has it \
                 as runtime.image), or map it to another one by the project's `locale = \"C.UTF-8\"`, whose order \
                 of texts is then another.",
            ));
        };
        let mapped = with_locale(text, locale, project.encoding.as_deref());
        if let Ended::Failed(message) = self.run(&mapped).await? {
            return Err(ImportError::Server {
                action: format!(
                    "create the dump's {database} with the project's locale \"{locale}\""
                ),
                message: message.to_string(),
            });
        }
        self.warn(format!(
            "the dump's locale \"{wanted}\" is not available; its {database} has the project's, \"{locale}\", in which \
             the order of texts may be another"
        ))
        .await;
        Ok(())
    }

    /// Whether the configuration gives this database of the dump the name of the project's.
    pub(super) fn is_renamed_to_project(&self, name: &[u8]) -> bool {
        name == self.target.project.source_database().as_bytes()
    }

    /// Refuses dumps of several databases in one file, of which the first was taken for the project's only since it is the first.
    pub(super) fn refuse_second_database(&self, text: &[u8]) -> Result<(), ImportError> {
        let Some((first, second)) = self.adapter.second_database(text) else {
            return Ok(());
        };
        if self.is_renamed_to_project(&first) {
            return Ok(());
        }
        let project = &self.target.project.database;
        let [first, second] =
            [first, second].map(|name| String::from_utf8_lossy(&name).into_owned());
        let hint = if second == *project {
            format!(
                "Put the dump of \"{project}\" before that of \"{first}\", which is then imported beside it; or import the \
                 dump of \"{project}\" alone."
            )
        } else {
            "Import the dump of one of them alone; or set the project's database to one of them, and put its dump first."
                .to_owned()
        };
        Err(refused(
            &self.dump,
            format!(
                "it has dumps of several databases, \"{first}\" and \"{second}\", and the first is not the project's, \"{project}\""
            ),
            hint,
        ))
    }

    /// Refuses a dump in which two databases would have one name.
    pub(super) fn meet_database(&mut self, name: &[u8]) -> Result<(), ImportError> {
        let met = self.adapter.meet_database(name);
        met.map_err(|SameName { first, second, name }| {
            refused(
                &self.dump,
                format!("it has the databases \"{first}\" and \"{second}\", which would both be \"{name}\""),
                "Give the one that is renamed another name in the project's refresh.rename_database, or leave one of \
                 them out of the dump.",
            )
        })
    }

    /// Refuses a dump that has filled other databases than the project's alone.
    pub(super) fn check_project_database(&self) -> Result<(), ImportError> {
        if self.is_filled || self.database_is_of_dump || self.other_databases.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.other_databases.iter().map(String::as_str).collect();
        let names = names.join(", ");
        Err(refused(
            &self.dump,
            format!("it has no database \"{}\"", self.target.project.database),
            format!(
                "Its databases: {names}. Set the project's database to one of them, or import a dump of one alone, made \
                 by pg_dump."
            ),
        ))
    }

    /// Has the server look for locales again, once in a database: the template cluster knows the locales that there
    /// were when it was made. Returns whether it has.
    pub(super) async fn find_collations(&mut self) -> Result<bool, ImportError> {
        const FIND: &[u8] = b"SELECT pg_catalog.pg_import_system_collations('pg_catalog')";
        if self.session.in_transaction() || !self.collations_found.insert(self.database.clone()) {
            return Ok(false);
        }
        Ok(self.run(FIND).await? == Ended::Done)
    }

    /// Tells the encoding and the locale of the database if the dump does not.
    pub(super) async fn tell_of_default_database(&mut self) -> Result<(), ImportError> {
        const QUERY: &str = "SELECT pg_catalog.pg_encoding_to_char(encoding)::pg_catalog.text, \
            datcollate::pg_catalog.text FROM pg_catalog.pg_database WHERE datname = ";
        const LIMITS: AnswerLimits = AnswerLimits {
            time: None,
            rows: 1,
            bytes: 1 << 20,
        };
        let target = self.target;
        let maintenance = maintenance(&target.project.database);
        let connected = target
            .server
            .connect(SUPERUSER, maintenance, SearchPath::Catalog);
        let mut session = connected.await?;
        let query = format!("{QUERY}{}", crate::sql::literal(&target.project.database));
        let failed = |error| server_error("look at the project's database", &error);
        let rows = session.query(&query, LIMITS).await.map_err(failed)?;
        if let Some(row) = rows.first() {
            let (encoding, locale) = (row.text(0).map_err(failed)?, row.text(1).map_err(failed)?);
            self.warn(format!(
                "the dump does not say the encoding and the locale of its database: they are {encoding} and \
                 {locale}; the project's `encoding` and `locale` set others"
            ))
            .await;
        }
        session.close().await;
        Ok(())
    }
}

/// The options of CREATE DATABASE that name a locale.
const LOCALE_OPTIONS: [&str; 5] = [
    "locale",
    "lc_collate",
    "lc_ctype",
    "icu_locale",
    "builtin_locale",
];

/// The values of some options of a CREATE DATABASE, each once.
fn values_of(text: &[u8], options: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut values: Vec<String> = Vec::new();
    let mut rest = text.as_ref();
    while let Some((before, after)) = rest.split_once('\'') {
        let Some((value, after)) = after.split_once('\'') else {
            break;
        };
        let option = before.trim_end().trim_end_matches('=').trim_end();
        let option = option
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default();
        let is_wanted = options
            .iter()
            .any(|wanted| option.eq_ignore_ascii_case(wanted));
        if is_wanted && !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
        rest = after;
    }
    values
}

/// Whether a CREATE DATABASE names the owner of the database.
fn place_names_owner(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_uppercase();
    text.split(|c: char| c.is_whitespace() || c == '=')
        .any(|word| word == "OWNER")
}

/// Whether a statement of this kind leaves something in a database.
pub(super) fn leaves_something(kind: Kind, text: &[u8]) -> bool {
    let is_query = text.len() >= 6 && text[..6].eq_ignore_ascii_case(b"select");
    matches!(kind, Kind::Data | Kind::Structure | Kind::Extension) && !is_query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_database_are_found() {
        let text =
            b"CREATE DATABASE p WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu \
            LOCALE = 'en_US.UTF-8' ICU_LOCALE = 'en-US';";
        assert_eq!(values_of(text, &["encoding"]), ["UTF8"]);
        assert_eq!(values_of(text, &LOCALE_OPTIONS), ["en_US.UTF-8", "en-US"]);
        assert!(!place_names_owner(text));
        assert!(place_names_owner(b"CREATE DATABASE p OWNER = x;"));
        assert!(place_names_owner(b"CREATE DATABASE p OWNER x;"));
    }
}
