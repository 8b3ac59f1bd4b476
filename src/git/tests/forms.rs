//! Tests of the forms of repositories, and of broken mirrors.

use std::fs;
use std::path::PathBuf;

use super::*;

/// The source of a repository as it lies there, and by its URL with a mirror in `root`.
fn both(path: &Path, root: &Path) -> [GitSource; 2] {
    let url = format!("file://{}", path.display());
    [GitRemote::Local(path.to_owned()), GitRemote::Remote(url)]
        .map(|git| source(git, root, Duration::from_secs(20)))
}

fn form_of(error: RevisionError) -> RepositoryForm {
    match error {
        RevisionError::Repository {
            form: Some(form), ..
        } => form,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn repositories_of_sha256_are_read() {
    let fixture = Fixture::of_form("--object-format=sha256");
    let root = tempfile::tempdir().unwrap();
    let commit = fixture.commit("a.0001\n");
    assert_eq!(commit.len(), 64);
    for source in both(fixture.path(), root.path()) {
        for gitref in ["main", "HEAD", &commit, &commit[..12], &commit[..40]] {
            let found = resolve(&source, gitref).await.unwrap();
            assert_eq!(found.commit, commit, "{gitref}");
            let project = project_name();
            let defined = source.defined_migrations(&project, &found.listing);
            assert_eq!(defined.await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn references_in_reftables_are_mirrored_and_refused_in_place_by_name() {
    let fixture = Fixture::of_form("--ref-format=reftable");
    let root = tempfile::tempdir().unwrap();
    let commit = fixture.commit("a.0001\n");
    let [local, remote] = both(fixture.path(), root.path());
    let error = resolve(&local, "main").await.unwrap_err();
    assert_eq!(form_of(error), RepositoryForm::Reftable);
    assert_eq!(resolve(&remote, "main").await.unwrap().commit, commit);
    let git = GitRemote::Local(fixture.path().to_owned());
    let none = Path::new("/none");
    assert_eq!(refused_form(&git, none), Some(RepositoryForm::Reftable));
}

#[tokio::test]
async fn shallow_clones_are_read_and_told_where_they_lack_a_commit() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let lacking = fixture.commit("a.0001\n");
    let commit = fixture.commit("a.0001\na.0002\n");
    let shallow = root.path().join("shallow.git");
    let url = format!("file://{}", fixture.path().display());
    let to = shallow.display().to_string();
    fixture.git(&["clone", "--quiet", "--bare", "--depth", "1", &url, &to]);
    for source in both(&shallow, root.path()) {
        for gitref in ["main", "HEAD", &commit[..9]] {
            let found = resolve(&source, gitref).await.unwrap();
            assert_eq!(found.commit, commit, "{gitref}");
        }
        let error = resolve(&source, &lacking).await.unwrap_err();
        let RevisionError::Unknown { why, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(why, WhyUnknown::Shallow);
    }
}

#[tokio::test]
async fn partial_clones_are_refused_by_name_where_a_file_is_lacking() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    fixture.commit("a.0001\n");
    fixture.git(&["config", "uploadpack.allowFilter", "true"]);
    let partial = root.path().join("partial.git");
    let url = format!("file://{}", fixture.path().display());
    let to = partial.display().to_string();
    fixture.git(&[
        "clone",
        "--quiet",
        "--bare",
        "--filter=blob:none",
        &url,
        &to,
    ]);
    let [local, remote] = both(&partial, root.path());
    let found = resolve(&local, "main").await.unwrap();
    let project = project_name();
    let defined = local.defined_migrations(&project, &found.listing);
    assert_eq!(form_of(defined.await.unwrap_err()), RepositoryForm::Partial);
    let error = resolve(&remote, "main").await.unwrap_err();
    assert_eq!(form_of(error), RepositoryForm::Partial);
    let git = GitRemote::Remote(format!("file://{to}"));
    let none = Path::new("/none");
    assert_eq!(refused_form(&git, none), Some(RepositoryForm::Partial));
    let elsewhere = GitRemote::Remote(url);
    assert_eq!(refused_form(&elsewhere, none), None);
    // By the fetch above.
    let mirror = Layout::new(root.path()).git_mirror(&project_name());
    assert_eq!(
        refused_form(&elsewhere, &mirror),
        Some(RepositoryForm::Partial)
    );
    // The next fetch is from a complete one.
    let complete = source(elsewhere.clone(), root.path(), Duration::from_secs(20));
    resolve(&complete, "main").await.unwrap();
    assert_eq!(refused_form(&elsewhere, &mirror), None);
}

/// Files below `directory` that are packs or loose objects.
fn object_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(object_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn overwrite(path: &Path, contents: &str) {
    // Objects are read-only, so that a write in place fails.
    let _missing = fs::remove_file(path);
    fs::write(path, contents).unwrap();
}

/// Breaks the mirror at this path.
type Damage = fn(&Path);

/// Damages that a mirror may have.
const DAMAGES: [(&str, Damage); 6] = [
    ("no HEAD", |mirror| {
        fs::remove_file(mirror.join("HEAD")).unwrap()
    }),
    ("a damaged configuration", |mirror| {
        overwrite(&mirror.join("config"), "[core\n");
    }),
    ("empty objects", |mirror| {
        for object in object_files(&mirror.join("objects")) {
            overwrite(&object, "");
        }
    }),
    ("no objects", |mirror| {
        for object in object_files(&mirror.join("objects")) {
            fs::remove_file(object).unwrap();
        }
    }),
    ("a damaged branch", |mirror| {
        let _missing = fs::remove_file(mirror.join("packed-refs"));
        fs::create_dir_all(mirror.join("refs/heads")).unwrap();
        overwrite(&mirror.join("refs/heads/main"), "nonsense\n");
    }),
    ("another format", |mirror| {
        fs::remove_dir_all(mirror).unwrap();
        fs::create_dir(mirror).unwrap();
        let init = Command::new("git")
            .current_dir(mirror)
            .args(["init", "--quiet", "--bare", "--object-format=sha256"])
            .status();
        assert!(init.unwrap().success());
    }),
];

#[tokio::test]
async fn broken_mirror_is_made_again() {
    for (damage, inflict) in DAMAGES {
        let fixture = Fixture::new();
        let root = tempfile::tempdir().unwrap();
        let commit = fixture.commit("a.0001\n");
        resolve(&fixture.remote(root.path()), "main").await.unwrap();
        let mirror = Layout::new(root.path()).git_mirror(&project_name());
        inflict(&mirror);
        for gitref in ["main", &commit] {
            let found = resolve(&fixture.remote(root.path()), gitref).await;
            let found = found.unwrap_or_else(|error| panic!("{damage}, {gitref}: {error:?}"));
            assert_eq!(found.commit, commit, "{damage}");
            assert_eq!(found.unconfirmed, None, "{damage}");
        }
        let left = fs::read_dir(mirror.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "{damage}: a leftover");
    }
}

#[tokio::test]
async fn broken_mirror_is_left_alone_while_its_remote_is_away() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    fixture.commit("a.0001\n");
    resolve(&fixture.remote(root.path()), "main").await.unwrap();
    let mirror = Layout::new(root.path()).git_mirror(&project_name());
    overwrite(&mirror.join("config"), "[core\n");
    let away = fixture.path().with_extension("away");
    fs::rename(fixture.path(), &away).unwrap();
    assert!(resolve(&fixture.remote(root.path()), "main").await.is_err());
    assert!(mirror.join("refs/heads/main").exists() || mirror.join("packed-refs").exists());
    fs::rename(&away, fixture.path()).unwrap();
}
