//! Migration tools that docs/listings.md has a query and a pattern for: a project that the tool itself makes fits its
//! revisions by the documented ones, before and after the tool has migrated an instance.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{Daemon, PlainPostgres, run};

use crate::daemon;
use crate::frameworks::PYTHON;

/// The directory where scripts/lib/packages.sh installs packages of npm.
const NODE_MODULES: &str = "/usr/local/share/multidb-tests/frameworks-node/node_modules";
/// The parameters of a connection to the source's database, and to an instance.
const AT_SOURCE: &str = "postgres";
const IN_INSTANCE: &str = "instance=a,gitref=main";

/// A migration tool.
struct Tool {
    /// Its name in the tables of docs/listings.md.
    name: &'static str,
    /// The directory of its migrations, in the project's.
    dir: &'static str,
    /// The program that makes a migration of this name.
    make: fn(&Project<'_>, &str) -> Command,
    /// The program that migrates the database of this URL.
    migrate: fn(&Project<'_>, &str) -> Command,
}

const SEQUELIZE: Tool = Tool {
    name: "Sequelize",
    dir: "migrations",
    make: |project, name| project.node("sequelize-cli", &["migration:generate", "--name", name]),
    migrate: |project, url| project.node("sequelize-cli", &["db:migrate", "--url", url]),
};

const NODE_PG_MIGRATE: Tool = Tool {
    name: "node-pg-migrate",
    dir: "migrations",
    make: |project, name| {
        let language = if name == "second" { "sql" } else { "js" };
        let language = format!("--migration-file-language={language}");
        project.node("node-pg-migrate", &["create", &language, name])
    },
    migrate: |project, url| {
        let mut up = project.node("node-pg-migrate", &["up"]);
        up.env("DATABASE_URL", url);
        up
    },
};

const KNEX: Tool = Tool {
    name: "knex",
    dir: "migrations",
    make: |project, name| {
        let file = "module.exports = { client: 'pg', connection: process.env.DATABASE_URL };\n";
        std::fs::write(project.directory.join("knexfile.js"), file).expect("it can be written");
        project.node("knex", &["migrate:make", name])
    },
    migrate: |project, url| {
        let mut latest = project.node("knex", &["migrate:latest"]);
        latest.env("DATABASE_URL", url);
        latest
    },
};

const YOYO: Tool = Tool {
    name: "yoyo",
    dir: "migrations",
    make: |project, name| {
        let (source, message) = (project.url(AT_SOURCE), format!("--message={name}"));
        let form: &[&str] = if name == "second" { &["--sql"] } else { &[] };
        project.yoyo(&source, &[&["new", &message], form].concat())
    },
    migrate: |project, url| project.yoyo(url, &["apply"]),
};

/// A project of a tool, in the daemon's repository.
struct Project<'a> {
    daemon: &'a Daemon,
    source: &'a PlainPostgres,
    directory: PathBuf,
}

impl Project<'_> {
    fn url(&self, user: &str) -> String {
        let port = match user {
            AT_SOURCE => self.source.port(),
            _ => self.daemon.port(),
        };
        format!("postgresql://{user}@127.0.0.1:{port}/app")
    }

    fn node(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(NODE_MODULES).join(".bin").join(program));
        command.args(arguments).current_dir(&self.directory);
        command.env("NODE_PATH", NODE_MODULES);
        command
    }

    fn yoyo(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(PYTHON).with_file_name("yoyo"));
        let url = url.replace("postgresql:", "postgresql+psycopg:");
        command.args(arguments).current_dir(&self.directory);
        command.args([
            "--batch",
            "--no-config-file",
            "--database",
            &url,
            "migrations",
        ]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Makes a migration and commits it.
    #[track_caller]
    fn add(&self, tool: &Tool, name: &str) {
        run(&mut (tool.make)(self, name)).ok();
        self.daemon.repository().git(&["add", "--all"]);
        let message = ["commit", "--quiet", "--message", name];
        self.daemon.repository().git(&message);
    }

    #[track_caller]
    fn migrate(&self, tool: &Tool, user: &str) {
        run(&mut (tool.migrate)(self, &self.url(user))).ok();
    }
}

/// The cells of a tool's row in docs/listings.md, without their backquotes.
fn documented(tool: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/listings.md");
    let text = std::fs::read_to_string(path).expect("the page exists");
    let rows = text.lines().map(|line| line.replace("\\|", "\u{1}"));
    let mut rows = rows.map(|row| {
        let cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
        let cells = cells.map(|cell| cell.replace('\u{1}', "|"));
        cells.collect::<Vec<String>>()
    });
    let row = rows.find(|cells| cells.get(1).is_some_and(|name| name == tool));
    row.unwrap_or_else(|| panic!("{tool} has no row in {path}"))
}

/// A daemon whose project is configured as is documented.
fn configured(tool: &Tool) -> Daemon {
    let daemon = daemon().without_snapshots().prepare();
    let row = documented(tool.name);
    let dir = tool.dir;
    let (migrations, listing) = match row.get(2) {
        // A tool with a preset. A remark may follow.
        Some(listing) if listing.contains("dir =") => {
            let preset = format!("migrations = \"{}\"", tool.name);
            let listing = listing.split('`').next().unwrap_or_default();
            (preset, format!("listing = {listing}"))
        }
        query => {
            let query = query.expect("it has a query");
            (
                format!("migrations = {{ query = '''{query}''' }}"),
                format!("listing = {{ dir = \"{dir}\", pattern = '{}' }}", row[3]),
            )
        }
    };
    daemon.reconfigure("migrations = \"django\"", &migrations);
    daemon.reconfigure("listing = \"migrations.txt\"", &listing);
    daemon.start();
    daemon
}

#[track_caller]
fn check(tool: &Tool) {
    let source = PlainPostgres::start();
    let daemon = configured(tool);
    let project = Project {
        daemon: &daemon,
        source: &source,
        directory: daemon.repository().path().to_owned(),
    };
    std::fs::create_dir(project.directory.join(tool.dir)).expect("it can be made");
    // Knex looks for itself among the project's packages.
    symlink(NODE_MODULES, project.directory.join("node_modules")).expect("it can be made");
    project.add(tool, "first");
    daemon.repository().git(&["branch", "before"]);
    project.add(tool, "second");
    project.migrate(tool, AT_SOURCE);
    let dump = daemon.dir().join("dump");
    source.dump(&dump);
    let dump = dump.display().to_string();
    let import = ["snapshot", "import", "two", "--project", "demo"];
    let imported = daemon.cli(&[&import[..], &["--dump", &dump]].concat());
    imported.ok();
    assert!(!imported.stderr.contains("warning"), "{imported:?}");
    assert_eq!(daemon.json(&["snapshot", "show", "two"])["migrations"], 2);
    // Each of the two is told from the other.
    let refused = daemon.refused("instance:b,gitref:before");
    assert_eq!(refused.code.as_deref(), Some("55000"), "{refused:?}");
    let detail = refused.detail.expect("it says what the revision lacks");
    assert!(
        detail.contains("second") && !detail.contains("first"),
        "{detail}"
    );
    project.add(tool, "third");
    project.migrate(tool, IN_INSTANCE);
    // An instance has the migrations that its tool then recorded.
    let import = Daemon::import_args("three", &["--from-instance", "a"]);
    let imported = daemon.cli(&import);
    imported.ok();
    assert!(!imported.stderr.contains("warning"), "{imported:?}");
    assert_eq!(daemon.json(&["snapshot", "show", "three"])["migrations"], 3);
}

#[test]
fn migrations_of_sequelize_are_known_as_documented() {
    check(&SEQUELIZE);
}

#[test]
fn migrations_of_node_pg_migrate_are_known_as_documented() {
    check(&NODE_PG_MIGRATE);
}

#[test]
fn migrations_of_knex_are_known_as_documented() {
    check(&KNEX);
}

#[test]
fn migrations_of_yoyo_are_known_as_documented() {
    check(&YOYO);
}
