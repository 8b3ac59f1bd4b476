//! Tests of the names of references, and of the requests to a remote.

use super::*;

/// A repository whose `main` and `v1` are its first commit, and a proposal with two more.
struct Proposal {
    fixture: Fixture,
    main: String,
    middle: String,
    tip: String,
}

impl Proposal {
    fn new() -> Self {
        let fixture = Fixture::new();
        let main = fixture.commit("a.0001\n");
        fixture.git(&["tag", "-a", "v1", "-m", "annotated"]);
        fixture.git(&["checkout", "--quiet", "-b", "proposal"]);
        let middle = fixture.commit("a.0001\na.0002\n");
        let tip = fixture.commit("a.0001\na.0002\na.0003\n");
        fixture.git(&["checkout", "--quiet", "main"]);
        fixture.git(&["branch", "-D", "proposal"]);
        for name in ["refs/pull/7/merge", "refs/merge-requests/3/head"] {
            fixture.git(&["update-ref", name, &tip]);
        }
        Self {
            fixture,
            main,
            middle,
            tip,
        }
    }
}

#[tokio::test]
async fn references_are_found_as_ci_systems_write_them() {
    let proposal = Proposal::new();
    let root = tempfile::tempdir().unwrap();
    let sources = [
        proposal.fixture.local(),
        proposal.fixture.remote(root.path()),
    ];
    for (gitref, commit) in [
        ("refs/heads/main", &proposal.main),
        ("heads/main", &proposal.main),
        ("origin/main", &proposal.main),
        ("refs/remotes/origin/main", &proposal.main),
        ("refs/tags/v1", &proposal.main),
        ("tags/v1", &proposal.main),
        ("HEAD", &proposal.main),
        ("refs/pull/7/merge", &proposal.tip),
        ("pull/7/merge", &proposal.tip),
        ("7/merge", &proposal.tip),
        ("refs/merge-requests/3/head", &proposal.tip),
    ] {
        for source in &sources {
            let found = resolve(source, gitref).await.unwrap();
            assert_eq!(&found.commit, commit, "{gitref}");
            assert_eq!(found.unconfirmed, None, "{gitref}");
        }
    }
    for gitref in [
        "refs/heads/none",
        "refs/pull/8/merge",
        "origin/none",
        "abcdef",
    ] {
        for source in &sources {
            let error = resolve(source, gitref).await.unwrap_err();
            let RevisionError::Unknown { why, .. } = error else {
                panic!("{gitref}: {error}");
            };
            assert_eq!(why, WhyUnknown::NoSuch, "{gitref}");
        }
    }
}

#[tokio::test]
async fn abbreviated_commits_that_only_other_references_reach_are_fetched() {
    let proposal = Proposal::new();
    for commit in [&proposal.tip, &proposal.middle] {
        for digits in [10, 40] {
            let root = tempfile::tempdir().unwrap();
            let source = proposal.fixture.remote(root.path());
            let found = resolve(&source, &commit[..digits]).await.unwrap();
            assert_eq!(&found.commit, commit, "{digits} digits");
        }
    }
}

#[tokio::test]
async fn reference_that_moved_is_followed_at_once() {
    let proposal = Proposal::new();
    let fixture = &proposal.fixture;
    let root = tempfile::tempdir().unwrap();
    let source = fixture.remote(root.path());
    for number in 0..3 {
        let commit = fixture.commit(&format!("a.000{number}\n"));
        fixture.git(&["tag", "-f", "moving"]);
        fixture.git(&["update-ref", "refs/pull/7/merge", &commit]);
        for gitref in ["main", "moving", "HEAD", "refs/pull/7/merge"] {
            let found = resolve(&source, gitref).await.unwrap();
            assert_eq!(found.commit, commit, "{gitref}");
        }
    }
    fixture.git(&["update-ref", "-d", "refs/pull/7/merge"]);
    for freshness in [Freshness::Fetch, Freshness::Local] {
        let project = project_name();
        let gone = source.resolve(&project, "refs/pull/7/merge", freshness);
        let error = gone.await.unwrap_err();
        assert!(matches!(error, RevisionError::Unknown { .. }), "{error}");
    }
}

#[tokio::test]
async fn commit_pushed_after_it_was_unknown_is_found_at_once() {
    let fixture = Fixture::new();
    let root = tempfile::tempdir().unwrap();
    fixture.commit("a.0001\n");
    let source = fixture.remote(root.path());
    let other = Fixture::new();
    let commit = other.commit("a.0009\n");
    assert!(resolve(&source, &commit).await.is_err());
    let path = other.path().display().to_string();
    fixture.git(&["fetch", "--quiet", &path, "main:refs/pull/1/head"]);
    assert_eq!(resolve(&source, &commit).await.unwrap().commit, commit);
}

#[tokio::test]
async fn remote_that_is_away_serves_as_it_was_with_the_age_of_its_state() {
    let proposal = Proposal::new();
    let root = tempfile::tempdir().unwrap();
    let source = proposal.fixture.remote(root.path());
    for gitref in ["main", "refs/pull/7/merge"] {
        resolve(&source, gitref).await.unwrap();
    }
    let away = proposal.fixture.path().with_extension("away");
    std::fs::rename(proposal.fixture.path(), &away).unwrap();
    // A daemon that was started since.
    let restarted = proposal.fixture.remote(root.path());
    for (gitref, commit) in [
        ("main", &proposal.main),
        ("refs/pull/7/merge", &proposal.tip),
    ] {
        let found = resolve(&restarted, gitref).await.unwrap();
        assert_eq!(&found.commit, commit);
        let age = found.unconfirmed.unwrap().age.unwrap();
        assert!(age < Duration::from_secs(60), "{gitref}: {age:?}");
    }
    let commit = resolve(&restarted, &proposal.tip[..9]).await.unwrap();
    assert_eq!(commit.unconfirmed, None, "a commit needs no question");
    let error = resolve(&restarted, "none").await.unwrap_err();
    let RevisionError::Unknown { why, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(why, WhyUnknown::RemoteFailed(_)), "{why:?}");
    std::fs::rename(&away, proposal.fixture.path()).unwrap();
}
