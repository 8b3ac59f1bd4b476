//! How a project's applied migrations are read: presets for the common tools, or any SQL.

use serde::{Deserialize, Serialize};

/// The query for the applied migrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MigrationsQuery {
    /// The query of a known tool.
    Preset(Preset),
    /// The project's own query.
    Query(CustomQuery),
}

/// A project's own query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomQuery {
    /// The query: one column of text, a row for each applied migration.
    pub query: String,
    /// The database that the query runs in; by default the project's.
    #[serde(default)]
    pub database: Option<String>,
}

/// A migration tool with a known table of applied migrations.
///
/// The query returns migrations as the listing file has them, one a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Django: `app.name`, such as `polls.0001_initial`.
    Django,
    /// Ruby on Rails: the version, such as `20260102030405`.
    Rails,
    /// Flyway: the version of each successful versioned migration, such as `1.2`.
    Flyway,
    /// Alembic: the revision of each head, such as `ae1027a6acf`. The listing holds all revisions.
    Alembic,
    /// sqlx: the version of each successful migration.
    Sqlx,
    /// Diesel: the version, such as `20260102030405`.
    Diesel,
    /// goose: the version of each migration that is applied and not rolled back.
    Goose,
    /// Knex: the file's name.
    Knex,
    /// Prisma: the directory's name, of each migration that finished and is not rolled back.
    Prisma,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 9] = [
        Self::Django,
        Self::Rails,
        Self::Flyway,
        Self::Alembic,
        Self::Sqlx,
        Self::Diesel,
        Self::Goose,
        Self::Knex,
        Self::Prisma,
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Django => "django",
            Self::Rails => "rails",
            Self::Flyway => "flyway",
            Self::Alembic => "alembic",
            Self::Sqlx => "sqlx",
            Self::Diesel => "diesel",
            Self::Goose => "goose",
            Self::Knex => "knex",
            Self::Prisma => "prisma",
        }
    }

    /// The query that reads the applied migrations.
    pub fn query(self) -> &'static str {
        match self {
            Self::Django => "SELECT app || '.' || name FROM django_migrations",
            Self::Rails => "SELECT version FROM schema_migrations",
            // A baseline stands for migrations that were never run; an undo and a removal add rows of their
            // own, so the last row of a version counts.
            Self::Flyway => {
                "SELECT version FROM (SELECT DISTINCT ON (version) version, type \
                 FROM flyway_schema_history WHERE success AND version IS NOT NULL \
                 ORDER BY version, installed_rank DESC) AS last \
                 WHERE type NOT IN ('BASELINE', 'DELETE') AND type NOT LIKE 'UNDO%'"
            }
            Self::Alembic => "SELECT version_num FROM alembic_version",
            Self::Sqlx => "SELECT version::text FROM _sqlx_migrations WHERE success",
            Self::Diesel => "SELECT version FROM __diesel_schema_migrations",
            // Each up and each down adds a row, so the last row of a version counts. goose itself
            // inserts version 0.
            Self::Goose => {
                "SELECT version_id::text FROM (SELECT DISTINCT ON (version_id) version_id, is_applied \
                 FROM goose_db_version WHERE version_id > 0 ORDER BY version_id, id DESC) AS last \
                 WHERE is_applied"
            }
            Self::Knex => "SELECT name FROM knex_migrations",
            Self::Prisma => {
                "SELECT migration_name FROM _prisma_migrations \
                 WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
            }
        }
    }
}

impl MigrationsQuery {
    /// The query's text.
    pub fn sql(&self) -> &str {
        match self {
            Self::Preset(preset) => preset.query(),
            Self::Query(custom) => &custom.query,
        }
    }

    /// The known tool.
    pub fn preset(&self) -> Option<Preset> {
        match self {
            Self::Preset(preset) => Some(*preset),
            Self::Query(_) => None,
        }
    }

    /// The database that the query runs in, if it is not the project's.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Preset(_) => None,
            Self::Query(custom) => custom.database.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_deserialize_from_their_names() {
        for preset in Preset::ALL {
            let text = format!("\"{}\"", preset.name());
            let query: MigrationsQuery = serde_json::from_str(&text).unwrap();
            assert_eq!(query, MigrationsQuery::Preset(preset));
            assert_eq!(query.database(), None);
        }
    }

    #[test]
    fn custom_query_can_name_its_database() {
        let query: MigrationsQuery =
            serde_json::from_str(r#"{"query": "select 'a'", "database": "other"}"#).unwrap();
        assert_eq!(
            (query.sql(), query.database()),
            ("select 'a'", Some("other"))
        );
        serde_json::from_str::<MigrationsQuery>(r#"{"query": "select 1", "x": 1}"#).unwrap_err();
        serde_json::from_str::<MigrationsQuery>(r#""unknown""#).unwrap_err();
    }
}
