//! The settings of a project.

use super::{Row, SectionKind, SectionRows, setting};

/// The sections of a project, in the order of the documentation.
pub(super) const SECTIONS: &[SectionRows] = &[
    SectionRows {
        path: "project.NAME",
        example_name: "mathspace",
        kind: SectionKind::OnDemand,
        about: "A code base with its repository and its database.",
        rows: PROJECT,
    },
    SectionRows {
        path: "project.NAME.refresh",
        example_name: "mathspace",
        kind: SectionKind::OnDemand,
        about: "Where the project's next snapshot comes from, and when.",
        rows: REFRESH,
    },
    SectionRows {
        path: "project.NAME.prepare",
        example_name: "mathspace",
        kind: SectionKind::Item,
        about: "What is run on restored data before it becomes a snapshot, in the order of the file.",
        rows: PREPARE,
    },
];

const AS_LIMITS: &str = "as in `[limits]`";

const PROJECT: &[Row] = &[
    setting(
        "git",
        "path or URL",
        "The repository: a directory of this machine, or what `git fetch` takes.",
    )
    .required("\"https://git.internal/mathspace.git\""),
    setting(
        "listing",
        "path",
        "The file in the repository that has a migration a line.",
    ),
    setting(
        "listing.dir",
        "path",
        "In place of a listing: the directory of the migrations, in the repository; `.` is all of it.",
    )
    .else_("\"db/migrate\"", "`listing` is a file")
    .alternative(),
    setting(
        "listing.pattern",
        "regular expression",
        "Its group `migration` is a migration's name in that of its file, or in the path if it has a slash.",
    )
    .else_("'(?<migration>\\d+)_.*\\.rb'", "the one of the tool in `migrations`")
    .alternative(),
    setting(
        "migrations",
        "`django`, `rails`, `flyway`, `alembic`, `sqlx`, `diesel`, `goose`, `knex` or `prisma`",
        "The tool whose table has the applied migrations.",
    )
    .required("\"django\""),
    setting(
        "migrations.query",
        "SQL",
        "In place of a tool: a query for the applied migrations, with one column of text.",
    )
    .else_("\"select version from schema\"", "`migrations` is a tool")
    .alternative(),
    setting("migrations.database", "text", "The database that the query runs in.")
        .else_("\"mathspace_default\"", "`database`")
        .alternative(),
    setting(
        "ignore",
        "list of globs",
        "Applied migrations that are not compared, such as those of packages.",
    ),
    setting("database", "text", "The database of clients that name none.")
        .required("\"mathspace_default\""),
    setting("role", "text", "The role of clients that name none."),
    setting("encoding", "text", "The encoding of the database where a dump does not say it.")
        .else_("\"UTF8\"", "Postgres' own"),
    setting("locale", "text", "The locale of the database where a dump has none that is here.")
        .else_("\"C.UTF-8\"", "Postgres' own"),
    setting("session_idle_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"15m\"", AS_LIMITS),
    setting("transaction_idle_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"1h\"", AS_LIMITS),
    setting("listen_idle_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"12h\"", AS_LIMITS),
    setting("copy_idle_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"1h\"", AS_LIMITS),
    setting("active_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"12h\"", AS_LIMITS),
    setting("replication_timeout", "time", "In place of the one in `[limits]`.")
        .else_("\"1h\"", AS_LIMITS),
    setting(
        "publish",
        "`never` or `auto`",
        "With `auto`, an instance that ran migrations and stopped becomes a derived snapshot.",
    ),
    setting("prewarm", "count", "So many clones of the newest snapshot are kept ready."),
];

const REFRESH: &[Row] = &[
    setting(
        "source",
        "URL",
        "The server that is copied, without a password.",
    )
    .else_(
        "\"postgres://backup@replica.internal/mathspace\"",
        "snapshots come by `incoming` alone",
    ),
    setting(
        "source.command",
        "list of texts",
        "In place of a server: a program, by its absolute path, that writes a dump to its standard output.",
    )
    .else_("[\"/usr/local/bin/get-dump\"]", "`source` is a URL")
    .alternative(),
    setting(
        "method",
        "`physical` or `logical`",
        "All files of the server by `pg_basebackup`, or one database by `pg_dump`.",
    ),
    setting("passfile", "path", "The file with the server's password, in the form of `.pgpass`.")
        .else_("\"/etc/multidb/pgpass\"", "no password"),
    setting(
        "exclude_table",
        "list of texts",
        "Tables that a logical copy leaves out, as `pg_dump --exclude-table`.",
    )
    .else_("[\"audit.*\"]", "none")
    .alternative(),
    setting(
        "exclude_table_data",
        "list of texts",
        "Tables of which a logical copy has no rows, as `pg_dump --exclude-table-data`.",
    )
    .else_("[\"audit.*\"]", "none")
    .alternative(),
    setting("schedule", "cron expression", "When a refresh begins by itself.")
        .else_("\"0 3 * * *\"", "by `multidb snapshot refresh` alone"),
    setting("every", "time", "In place of a schedule: so long after the last one began.")
        .else_("\"24h\"", "`schedule`")
        .alternative(),
    setting("timezone", "text", "The time zone of the schedule, by its IANA name."),
    setting(
        "incoming",
        "path",
        "A folder whose complete dumps and data directories are imported.",
    )
    .else_("\"/srv/incoming\"", "none"),
    setting("keep.last", "count", "The newest snapshots that are kept.").else_(
        "3",
        "0; without any `keep`, all snapshots are kept",
    ),
    setting("keep.daily", "count", "Of so many days with snapshots the newest one is kept."),
    setting("keep.weekly", "count", "Of so many weeks with snapshots the newest one is kept."),
    setting("keep.monthly", "count", "Of so many months with snapshots the newest one is kept."),
    setting(
        "rename_database.NAME",
        "text",
        "The name that the database NAME gets in every import of the project.",
    )
    .else_("\"mathspace_default\"", "its own name"),
];

const PREPARE: &[Row] = &[
    setting(
        "sql",
        "path",
        "A file of statements that a superuser runs in one transaction.",
    )
    .else_("\"/etc/multidb/mask.sql\"", "`command`"),
    setting(
        "command",
        "list of texts",
        "In place of statements: a program, by its absolute path, and its arguments.",
    )
    .else_(
        "[\"/usr/local/bin/prune\", \"--keep-days\", \"90\"]",
        "`sql`",
    )
    .alternative(),
    setting("timeout", "time", "How long it may take.").else_("\"1h\"", "no limit"),
];
