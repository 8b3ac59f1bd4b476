//! Tests of mirrors.

use std::fs::File;
use std::time::SystemTime;

use super::*;

/// The failure of the remote for which a revision is unknown.
fn remote_failure(error: RevisionError) -> String {
    match error {
        RevisionError::Unknown {
            why: WhyUnknown::RemoteFailed(failure),
            ..
        } => failure,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn revision_that_the_mirror_lacks_is_fetched() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let source = fixture.remote(root.path());
    let first = fixture.commit("a.0001\n");
    let local = |gitref| {
        let source = &source;
        async move {
            source
                .resolve(&project_name(), gitref, Freshness::Local)
                .await
        }
    };
    assert!(local("main").await.is_err(), "the network was used");
    assert_eq!(resolve(&source, &first[..8]).await.unwrap().commit, first);
    let second = fixture.commit("a.0002\n");
    assert_eq!(resolve(&source, &second).await.unwrap().commit, second);
    assert_eq!(local("main").await.unwrap().commit, second);
    // A commit that no branch reaches any more, but that the server still has.
    fixture.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let lost = fixture.commit("a.0003\n");
    fixture.git(&["reset", "--quiet", "--hard", &second]);
    assert_eq!(resolve(&source, &lost).await.unwrap().commit, lost);
}

#[tokio::test]
async fn deleted_branch_is_pruned() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let source = fixture.remote(root.path());
    fixture.commit("a.0001\n");
    fixture.git(&["branch", "gone"]);
    resolve(&source, "gone").await.unwrap();
    fixture.git(&["branch", "-D", "gone"]);
    assert!(resolve(&source, "never").await.is_err());
    assert!(resolve(&source, "gone").await.is_err());
}

#[tokio::test]
async fn hanging_remote_costs_one_timeout_and_known_commits_none() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let known = fixture.commit("a.0001\n");
    resolve(&fixture.remote(root.path()), "main").await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repo.git", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(500);
    let source = source(GitRemote::Remote(url), root.path(), timeout);
    assert_eq!(resolve(&source, &known).await.unwrap().commit, known);
    let began = Instant::now();
    // A branch is that of the last fetch; an unknown revision has the reason.
    let main = resolve(&source, "main").await.unwrap();
    assert_eq!(main.commit, known);
    let age = main.unconfirmed.unwrap().age.unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
    for _ in 0..5 {
        let error = resolve(&source, "nope").await.unwrap_err();
        assert!(remote_failure(error).contains("did not answer within 500ms"));
    }
    assert!(began.elapsed() < timeout * 4, "each client waited");
}

#[tokio::test]
async fn missing_remote_fails_with_the_message_of_git() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}/none.git", root.path().display());
    let source = source(GitRemote::Remote(url), root.path(), Duration::from_secs(20));
    let error = resolve(&source, "main").await.unwrap_err();
    let failure = remote_failure(error);
    assert!(failure.contains("none.git"), "{failure}");
}

#[tokio::test]
async fn timeout_of_a_remote_is_remembered_after_the_client_has_gone() {
    let root = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let timeout = Duration::from_millis(800);
    let git = GitRemote::Remote(format!("http://robot:secret@{address}/repo.git"));
    let source = source(git, root.path(), timeout);
    let impatient = Duration::from_millis(200);
    let gone = tokio::time::timeout(impatient, resolve(&source, "main")).await;
    assert!(gone.is_err(), "the remote did not hang");
    // This request waits for the rest of the same fetch.
    let error = resolve(&source, "main").await.unwrap_err();
    assert!(remote_failure(error).contains("did not answer within"));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok(), "the remote was not asked");
    assert!(listener.accept().is_err(), "the remote was asked twice");
    let began = Instant::now();
    while let [process, ..] = processes_about(&address).as_slice() {
        assert!(began.elapsed() < Duration::from_secs(10), "{process}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The command lines of processes that contain this text.
fn processes_about(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(text)).collect()
}

#[tokio::test]
async fn messages_of_git_do_not_contain_the_password() {
    let root = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let git = GitRemote::Remote(format!("http://robot:secret@{address}/repo.git"));
    let source = source(git, root.path(), Duration::from_secs(20));
    let error = resolve(&source, "main").await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("git failed with"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn stale_lock_is_removed() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let first = fixture.commit("a.0001\n");
    resolve(&fixture.remote(root.path()), "main").await.unwrap();
    let second = fixture.commit("a.0002\n");
    let mirror = Layout::new(root.path()).git_mirror(&project_name());
    let lock = File::create(mirror.join("refs/heads/main.lock")).unwrap();
    // A new lock may belong to a running git.
    let found = resolve(&fixture.remote(root.path()), "main").await.unwrap();
    assert_eq!(found.commit, first, "the lock did not block the fetch");
    let old = SystemTime::now() - Duration::from_secs(120);
    lock.set_modified(old).unwrap();
    let found = resolve(&fixture.remote(root.path()), "main").await.unwrap();
    assert_eq!(found.commit, second);
}

#[tokio::test]
async fn incomplete_mirror_is_created_again() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    let first = fixture.commit("a.0001\n");
    let mirror = Layout::new(root.path()).git_mirror(&project_name());
    std::fs::create_dir_all(&mirror).unwrap();
    std::fs::write(mirror.join("HEAD"), "ref: refs/heads/master\n").unwrap();
    let found = resolve(&fixture.remote(root.path()), "main").await.unwrap();
    assert_eq!(found.commit, first);
}
