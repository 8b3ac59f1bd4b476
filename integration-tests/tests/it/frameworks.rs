//! Projects of frameworks as pip installs them: a new Wagtail site and one of an older Django, whose listing is made by
//! `multidb listing`, with Django's own commands through multidb; and Alembic, whose revisions are read from their
//! files.

use std::path::{Path, PathBuf};
use std::process::Command;

use multidb_integration_tests::{CliOutput, Daemon, PlainPostgres, run};

use crate::daemon;

/// Where scripts/lib/packages.sh installs it.
pub(crate) const PYTHON: &str = "/usr/local/share/multidb-tests/frameworks/bin/python";

/// An older Django, before that of [`PYTHON`].
const DJANGO_4_2: &str = "/usr/local/share/multidb-tests/django-4.2";

/// The site, in the project's repository.
struct Site<'a> {
    daemon: &'a Daemon,
    plain: &'a PlainPostgres,
    /// Packages with precedence over the ones of [`PYTHON`].
    packages: &'static str,
}

impl Site<'_> {
    /// Makes it by Wagtail's own command, with an app whose migrations are the test's.
    fn start(&self) {
        let mut wagtail = Command::new(Path::new(PYTHON).with_file_name("wagtail"));
        run(wagtail
            .args(["start", "mysite"])
            .arg(self.daemon.repository().path()))
        .ok();
        self.copy("polls", ".");
        self.copy("local.py", "mysite/settings");
    }

    /// Makes one of Django's own instead, with the same app.
    fn start_django(&self) {
        let mut django = Command::new(PYTHON);
        django.args(["-B", "-m", "django", "startproject", "mysite", "."]);
        run(self.with_packages(&mut django).current_dir(self.path("."))).ok();
        self.copy("polls", ".");
        self.copy("local.py", "mysite");
        let local = self.path("mysite/local.py");
        let own = std::fs::read_to_string(&local).expect("it is there");
        let own = own.replace("from .base import INSTALLED_APPS\n", "");
        let settings = self.path("mysite/settings.py");
        let text = std::fs::read_to_string(&settings).expect("it is there") + &own;
        std::fs::write(settings, text).expect("it can be written");
        std::fs::remove_file(local).expect("it can be removed");
    }

    fn with_packages<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("PYTHONPATH", self.packages)
    }

    /// Copies one of the test's files into a directory of the site.
    fn copy(&self, from: &str, to: &str) {
        let files = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/integration-tests/frameworks/wagtail"
        );
        let mut copy = Command::new("cp");
        copy.arg("--recursive").arg(Path::new(files).join(from));
        run(copy.arg(self.path(to))).ok();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemon.repository().path().join(name)
    }

    /// Makes the listing as CI would, without a database, and commits all.
    fn commit(&self) {
        let mut listing = self.daemon.cli_command(&["listing", "django"]);
        listing.args(["--python", PYTHON, "--project-dir", "."]);
        let listed = run(self.with_packages(&mut listing).current_dir(self.path(".")));
        std::fs::write(self.path("migrations.txt"), listed.ok()).expect("it can be written");
        self.daemon.repository().git(&["add", "--all"]);
        let message = ["commit", "--quiet", "--message", "the site"];
        self.daemon.repository().git(&message);
    }

    /// Runs a command of Django's in an instance; without one, in the Postgres that the dumps are of.
    #[track_caller]
    fn manage(&self, instance: Option<&str>, arguments: &[&str]) -> String {
        let user = instance.map(|name| format!("instance:{name},gitref:main"));
        let port = instance.map_or(self.plain.port(), |_| self.daemon.port());
        let mut command = Command::new(PYTHON);
        command.args(["-B", "manage.py"]).args(arguments);
        command.current_dir(self.path("."));
        command.env("SITE_PORT", port.to_string());
        command.env("SITE_USER", user.as_deref().unwrap_or("postgres"));
        let output = run(self.with_packages(&mut command));
        format!("{}\n{}", output.ok(), output.stderr)
    }

    /// Dumps the plain Postgres and imports the dump.
    fn import(&self, snapshot: &str) -> CliOutput {
        let dump = self.daemon.dir().join(snapshot);
        self.plain.dump(&dump);
        let dump = dump.display().to_string();
        let import = ["snapshot", "import", snapshot, "--project", "demo"];
        let imported = self.daemon.cli(&[&import[..], &["--dump", &dump]].concat());
        imported.ok();
        imported
    }

    /// The app's migrations in the records of an instance, oldest first.
    fn applied(&self, instance: &str) -> String {
        let session = self.daemon.connect(&format!("instance:{instance}"));
        session.one(
            "select string_agg(name, ' ' order by name collate \"C\") from django_migrations where app = 'polls'",
        )
    }
}

#[test]
fn new_wagtail_site_migrates_and_tests_itself_through_multidb() {
    check("", |site| site.start());
}

#[test]
fn new_site_of_django_4_2_migrates_and_tests_itself_through_multidb() {
    check(DJANGO_4_2, |site| {
        site.start_django();
        let version = site.manage(None, &["version"]);
        assert!(version.starts_with("4.2."), "{version}");
    });
}

fn check(packages: &'static str, start: impl Fn(&Site<'_>)) {
    let plain = PlainPostgres::start();
    let daemon = daemon().without_snapshots().start();
    let site = Site {
        daemon: &daemon,
        plain: &plain,
        packages,
    };
    start(&site);
    site.commit();
    site.manage(None, &["migrate", "--verbosity=0"]);
    let imported = site.import("monday");
    assert!(!imported.stderr.contains("warning"), "{imported:?}");
    let migrated = site.manage(Some("same"), &["migrate"]);
    assert!(migrated.contains("No migrations to apply"), "{migrated}");
    // Django records the migrations that a squashed one replaces, and the code has them no more.
    assert_eq!(
        site.applied("same"),
        "0001_initial 0001_squashed_0002_closed 0002_closed"
    );
    site.copy("0003_votes.py", "polls/migrations");
    site.commit();
    let migrated = site.manage(Some("later"), &["migrate"]);
    let applies = "Applying polls.0003_votes... OK";
    assert!(migrated.contains(applies), "{migrated}");
    let tested = site.manage(Some("later"), &["test", "--parallel=2", "--no-input"]);
    assert!(tested.contains("\nOK"), "{tested}");
    assert!(tested.contains("Cloning test database"), "{tested}");
}

/// A project of Alembic's in the daemon's repository, whose files of revisions have dates in their names.
struct Revisions<'a>(&'a Daemon);

impl Revisions<'_> {
    /// Runs Alembic, for the database at this port.
    #[track_caller]
    fn alembic(&self, user: &str, port: u16, arguments: &[&str]) -> String {
        let alembic = Path::new(PYTHON).with_file_name("alembic");
        let url = format!("postgresql+psycopg://{user}@127.0.0.1:{port}/app");
        let config = self.0.repository().path().join("alembic.ini");
        if let Ok(text) = std::fs::read_to_string(&config) {
            let mut lines: Vec<String> = text
                .lines()
                .filter(|line| {
                    !line.starts_with("sqlalchemy.url") && !line.starts_with("file_template")
                })
                .map(str::to_owned)
                .collect();
            let section = lines.iter().position(|line| line == "[alembic]");
            let settings = [
                format!("sqlalchemy.url = {url}"),
                "file_template = %%(year)d_%%(month).2d_%%(day).2d-%%(rev)s_%%(slug)s".to_owned(),
            ];
            let at = section.expect("it has the section") + 1;
            lines.splice(at..at, settings);
            std::fs::write(&config, lines.join("\n")).expect("it can be written");
        }
        let mut command = Command::new(alembic);
        command.args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
        run(command.current_dir(self.0.repository().path()))
            .ok()
            .to_owned()
    }

    fn commit(&self) {
        self.0.repository().git(&["add", "--all"]);
        let message = ["commit", "--quiet", "--message", "a revision"];
        self.0.repository().git(&message);
    }
}

#[test]
fn revisions_of_alembic_are_read_from_their_files() {
    let plain = PlainPostgres::start();
    let daemon = daemon().without_snapshots().prepare();
    daemon.reconfigure(
        "listing = \"migrations.txt\"",
        "listing = { dir = \"migrations/versions\" }",
    );
    daemon.reconfigure("migrations = \"django\"", "migrations = \"alembic\"");
    daemon.start();
    let project = Revisions(&daemon);
    let at_source = |arguments: &[&str]| project.alembic("postgres", plain.port(), arguments);
    at_source(&["init", "migrations"]);
    at_source(&["revision", "--message=first"]);
    project.commit();
    at_source(&["upgrade", "head"]);
    let dump = daemon.dir().join("first");
    plain.dump(&dump);
    let dump = dump.display().to_string();
    let import = ["snapshot", "import", "first", "--project", "demo"];
    let imported = daemon.cli(&[&import[..], &["--dump", &dump]].concat());
    imported.ok();
    assert!(!imported.stderr.contains("warning"), "{imported:?}");
    at_source(&["revision", "--message=second"]);
    project.commit();
    let user = "instance=a,gitref=main";
    project.alembic(user, daemon.port(), &["upgrade", "head"]);
    assert_eq!(daemon.instance("a")["snapshot"], "first");
    let head = at_source(&["heads"]);
    let applied = daemon
        .connect("instance:a")
        .one("select version_num from alembic_version");
    assert_eq!(head, format!("{applied} (head)"));
}
