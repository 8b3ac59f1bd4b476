//! Tests with real repositories.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::config::Config;
use crate::daemon::convert::git_project;

mod forms;
mod mirror;
mod references;

struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::of_form("--object-format=sha1")
    }

    fn of_form(form: &str) -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fixture.git(&["init", "--quiet", "--initial-branch", "main", form, "."]);
        fixture
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, listing: &str) -> String {
        std::fs::write(self.path().join("migrations.txt"), listing).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn local(&self) -> GitSource {
        source(
            GitRemote::Local(self.path().to_owned()),
            self.path(),
            Duration::from_secs(20),
        )
    }

    fn remote(&self, root: &Path) -> GitSource {
        let url = format!("file://{}", self.path().display());
        source(GitRemote::Remote(url), root, Duration::from_secs(20))
    }
}

fn source(git: GitRemote, root: &Path, timeout: Duration) -> GitSource {
    let project = GitProject {
        git,
        listing: Listing::File("migrations.txt".to_owned()),
        tool: Some(Preset::Django),
    };
    source_of(project, root, timeout)
}

fn source_of(project: GitProject, root: &Path, timeout: Duration) -> GitSource {
    let projects = [(project_name(), project)];
    GitSource::new(
        &Layout::new(root),
        projects.into(),
        timeout,
        &Arc::default(),
    )
}

fn project_name() -> ProjectName {
    "p".parse().unwrap()
}

async fn resolve(source: &GitSource, gitref: &str) -> Result<Revision, RevisionError> {
    source
        .resolve(&project_name(), gitref, Freshness::Fetch)
        .await
}

#[tokio::test]
async fn commits_branches_and_tags_are_found_by_name_and_id() {
    let fixture = Fixture::new();
    let first = fixture.commit("a.0001\n");
    fixture.git(&["tag", "-a", "v1", "-m", "annotated"]);
    fixture.git(&["branch", "feature/x"]);
    let second = fixture.commit("a.0001\na.0002\n");
    let source = fixture.local();
    for (gitref, commit) in [
        (first.as_str(), &first),
        (&first[..10], &first),
        (&first.to_uppercase()[..12], &first),
        ("v1", &first),
        ("feature/x", &first),
        ("main", &second),
    ] {
        assert_eq!(
            &resolve(&source, gitref).await.unwrap().commit,
            commit,
            "{gitref}"
        );
    }
    let same = resolve(&source, "v1").await.unwrap();
    assert_eq!(
        same.listing,
        resolve(&source, "feature/x").await.unwrap().listing
    );
    let defined = source
        .defined_migrations(&project_name(), &same.listing)
        .await
        .unwrap();
    assert_eq!(defined, HashSet::from(["a.0001".to_owned()]));
}

#[tokio::test]
async fn clones_worktrees_and_bare_repositories_are_read_in_place() {
    let fixture = Fixture::new();
    let first = fixture.commit("a.0001\n");
    let elsewhere = tempfile::tempdir().unwrap();
    let path_of = |name: &str| elsewhere.path().join(name).display().to_string();
    fixture.git(&["clone", "--quiet", ".", &path_of("clone")]);
    fixture.git(&["clone", "--quiet", "--bare", ".", &path_of("bare.git")]);
    fixture.git(&[
        "worktree",
        "add",
        "--quiet",
        "-b",
        "side",
        &path_of("worktree"),
    ]);
    for (name, gitref) in [
        ("clone", "origin/main"),
        ("clone", "no-such-branch"),
        ("bare.git", "main"),
        ("worktree", "side"),
        ("worktree", "main"),
    ] {
        let git = GitRemote::Local(elsewhere.path().join(name));
        let source = source(git, elsewhere.path(), Duration::from_secs(20));
        let found = resolve(&source, gitref).await;
        match gitref {
            "no-such-branch" => assert!(matches!(found, Err(RevisionError::Unknown { .. }))),
            _ => assert_eq!(found.unwrap().commit, first, "{name} {gitref}"),
        }
    }
}

#[tokio::test]
async fn expressions_are_told_from_unknown_names() {
    let fixture = Fixture::new();
    fixture.commit("");
    let source = fixture.local();
    for gitref in [
        "main^",
        "main~1",
        "HEAD@{0}",
        "main:migrations.txt",
        "a..b",
        "@",
        "nope",
        "abc",
        "--all",
    ] {
        let error = resolve(&source, gitref).await.unwrap_err();
        let is_name = ["nope", "abc"].contains(&gitref);
        let as_expected = match error {
            RevisionError::Unknown { .. } => is_name,
            RevisionError::Expression { .. } => !is_name,
            _ => false,
        };
        assert!(as_expected, "{gitref}: {error}");
    }
}

#[tokio::test]
async fn abbreviation_of_several_commits_is_ambiguous() {
    let fixture = Fixture::new();
    let mut seen = std::collections::HashMap::new();
    let mut script = String::new();
    // Of 1,000 commits, two share their first four digits almost certainly.
    for number in 0..1000 {
        script.push_str(&format!(
            "commit refs/heads/main\ncommitter t <t@example.org> {} +0000\ndata 1\nx\n",
            1_700_000_000 + number
        ));
    }
    std::fs::write(fixture.path().join("script"), script).unwrap();
    let import = Command::new("git")
        .current_dir(fixture.path())
        .args(["fast-import", "--quiet"])
        .stdin(std::fs::File::open(fixture.path().join("script")).unwrap())
        .status();
    assert!(import.unwrap().success());
    let source = fixture.local();
    for id in fixture.git(&["log", "--format=%H", "main"]).lines() {
        if let Some(other) = seen.insert(id[..4].to_owned(), id.to_owned()) {
            let error = resolve(&source, &id[..4]).await.unwrap_err();
            let RevisionError::Ambiguous { candidates, .. } = error else {
                panic!("{error}");
            };
            assert!(candidates.contains(&id[..12].to_owned()));
            assert!(candidates.contains(&other[..12].to_owned()));
            return;
        }
    }
    panic!("no two commits share an abbreviation");
}

#[tokio::test]
async fn revision_without_a_listing_has_an_error_of_its_own() {
    let fixture = Fixture::new();
    fixture.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
    let error = resolve(&fixture.local(), "main").await.unwrap_err();
    assert!(
        matches!(error, RevisionError::ListingMissing { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn listing_is_found_behind_a_link_and_what_is_in_its_place_is_named() {
    let fixture = Fixture::new();
    let commit = |target: &str| {
        let path = fixture.path().join("migrations.txt");
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, path).unwrap();
        fixture.git(&["add", "."]);
        fixture.git(&["commit", "--quiet", "-m", "x"]);
    };
    std::fs::create_dir(fixture.path().join("db")).unwrap();
    std::fs::write(fixture.path().join("db/Listing"), "a.0001\n").unwrap();
    commit("./db/../db/Listing");
    let source = fixture.local();
    let listing = resolve(&source, "main").await.unwrap().listing;
    let defined = source.defined_migrations(&project_name(), &listing).await;
    assert_eq!(defined.unwrap(), HashSet::from(["a.0001".to_owned()]));
    for (target, expected) in [
        ("db", "a directory"),
        ("db/listing", "\"Listing\""),
        ("../outside", "leads out"),
        ("/etc/passwd", "leads out"),
        ("migrations.txt", "to itself"),
    ] {
        commit(target);
        let error = resolve(&source, "main").await.unwrap_err();
        let RevisionError::ListingMissing { instead, .. } = error else {
            panic!("{target}: {error}");
        };
        assert!(instead.unwrap().contains(expected), "{target}");
    }
}

#[tokio::test]
async fn files_of_a_directory_are_a_listing() {
    let fixture = Fixture::new();
    for file in [
        "polls/migrations/__init__.py",
        "polls/migrations/0001_initial.py",
        "polls/models.py",
        "lib/shop/migrations/0001_initial.py",
        "db/migrate/20260102_create.rb",
        "db/migrate/more/20260103_drop.rb",
        "db/migrate/README",
    ] {
        let path = fixture.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    fixture.git(&["add", "."]);
    fixture.git(&["commit", "--quiet", "-m", "x"]);
    let cases = [
        (
            "migrations = \"django\"\nlisting = { dir = \".\" }",
            &["polls.0001_initial", "shop.0001_initial"][..],
        ),
        (
            "migrations = \"rails\"\nlisting = { dir = \"db/migrate/\" }",
            &["20260102", "20260103"],
        ),
        (
            r#"migrations = { query = "select 1" }
               listing = { dir = "db/migrate", pattern = '(?<migration>\d+)_.*\.rb' }"#,
            &["20260102", "20260103"],
        ),
        (
            r#"migrations = { query = "select 1" }
               listing = { dir = "db", pattern = '(?<migration>migrate/\d+)_.*' }"#,
            &["migrate/20260102"],
        ),
    ];
    for (settings, expected) in cases {
        let file = fixture.path().join("multidb.toml");
        let text = format!(
            "root = \"/r\"\n[project.p]\ngit = \"{}\"\ndatabase = \"d\"\n{settings}\n",
            fixture.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file)).unwrap();
        let project = git_project(&config.projects[&project_name()]);
        let source = source_of(project, fixture.path(), Duration::from_secs(20));
        let listing = resolve(&source, "main").await.unwrap().listing;
        let defined = source.defined_migrations(&project_name(), &listing).await;
        let mut defined: Vec<String> = defined.unwrap().into_iter().collect();
        defined.sort();
        assert_eq!(defined, expected, "{settings}");
    }
}

async fn examine(git: GitRemote) -> Result<Condition, String> {
    let listing = Listing::File("migrations.txt".to_owned());
    let tool = Some(Preset::Django);
    let project = GitProject { git, listing, tool };
    project.examine(Duration::from_secs(20)).await
}

#[tokio::test]
async fn repository_is_examined_without_changing_it() {
    let fixture = Fixture::new();
    let local = || GitRemote::Local(fixture.path().to_owned());
    let empty = examine(local()).await.unwrap_err();
    assert!(empty.contains("cannot find a commit in"), "{empty}");
    fixture.git(&["commit", "--quiet", "--allow-empty", "-m", "x"]);
    let no_listing = |condition| match condition {
        Ok(Condition::NoListing(error)) => error.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(no_listing(examine(local()).await), "listing_missing");
    fixture.commit("Operations to perform:\n");
    assert_eq!(no_listing(examine(local()).await), "listing_not_understood");
    fixture.commit("a.0001\n");
    assert_eq!(examine(local()).await, Ok(Condition::Readable));
    let url = |path: &Path| GitRemote::Remote(format!("file://{}", path.display()));
    assert_eq!(examine(url(fixture.path())).await, Ok(Condition::Answers));
    let missing = fixture.path().join("none");
    assert!(examine(url(&missing)).await.unwrap_err().contains("none"));
    assert!(examine(GitRemote::Local(missing)).await.is_err());
}
