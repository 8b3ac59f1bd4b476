//! The references that a revision may mean: pure.
//!
//! People write `main`, git and CI systems write the same branch as `refs/heads/main`, `heads/main`, `origin/main`
//! or `refs/remotes/origin/main`, and the state of a pull request as `refs/pull/7/merge`.

/// The reference in a mirror that stands for the remote's `HEAD`.
pub(super) const MIRRORED_HEAD: &str = "refs/multidb/HEAD";
/// The shortest abbreviation that git accepts.
const ABBREVIATION_LENGTH_MIN: usize = 4;
/// The digits of an id by SHA-1, and by SHA-256.
const ID_LENGTHS: [usize; 2] = [40, 64];
/// Where servers keep the states of proposed changes: GitHub and Gitea, GitLab, Bitbucket, Gerrit.
const PROPOSALS: [&str; 4] = ["pull/", "merge-requests/", "pull-requests/", "changes/"];

/// Whether it is a name, rather than an expression of gitrevisions(7).
pub(super) fn is_plain_name(gitref: &str) -> bool {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !gitref.is_empty()
        && !gitref.starts_with(['-', '/', '.'])
        && !gitref.ends_with(['/', '.'])
        && !gitref.contains("..")
        && !gitref.contains("//")
        && !gitref.contains("@{")
        && gitref != "@"
        && !gitref.contains(forbidden)
}

/// Whether it may be the id of a commit, or an abbreviation of it.
pub(super) fn is_id(gitref: &str) -> bool {
    let [_, longest] = ID_LENGTHS;
    (ABBREVIATION_LENGTH_MIN..=longest).contains(&gitref.len())
        && gitref.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it may be a complete id.
pub(crate) fn is_full_id(gitref: &str) -> bool {
    is_id(gitref) && ID_LENGTHS.contains(&gitref.len())
}

/// The references that a name may mean, in the order in which they are tried: the references of exactly this name, then
/// the ones that it is an address of.
pub(super) fn references(gitref: &str) -> Vec<String> {
    if gitref == "HEAD" {
        return vec![gitref.to_owned()];
    }
    let mut references = Vec::new();
    let mut add = |namespace: &str, name: &str| references.push(format!("{namespace}{name}"));
    if let Some(name) = gitref.strip_prefix("refs/") {
        add("refs/", name);
        if let Some(branch) = name.strip_prefix("remotes/origin/") {
            add("refs/heads/", branch);
        }
        return references;
    }
    // The last two are the remote-tracking branches of a clone.
    for namespace in [
        "refs/heads/",
        "refs/tags/",
        "refs/remotes/origin/",
        "refs/remotes/",
    ] {
        add(namespace, gitref);
    }
    let addresses = ["heads/", "tags/", "remotes/"].into_iter().chain(PROPOSALS);
    if addresses
        .into_iter()
        .any(|address| gitref.starts_with(address))
    {
        add("refs/", gitref);
    }
    let tracking = gitref.strip_prefix("remotes/").unwrap_or(gitref);
    if let Some(branch) = tracking.strip_prefix("origin/") {
        add("refs/heads/", branch);
    }
    // The short name of a pull request in GitHub's workflows.
    if let Some((number, "merge" | "head")) = gitref.split_once('/')
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        add("refs/pull/", gitref);
    }
    references
}

/// Whether a mirror always has this reference, rather than only when a client asked for it.
pub(super) fn is_mirrored(reference: &str) -> bool {
    reference.starts_with("refs/heads/") || reference.starts_with("refs/tags/")
}

/// Whether a remote can be asked for this reference. Its own remotes are none of ours.
pub(super) fn is_fetched_when_asked_for(reference: &str) -> bool {
    !is_mirrored(reference) && !reference.starts_with("refs/remotes/")
}

/// The name that a reference of the remote has in its mirror.
pub(super) fn in_mirror(reference: &str) -> &str {
    if reference == "HEAD" {
        MIRRORED_HEAD
    } else {
        reference
    }
}

/// The name that a reference has in a repository that is read in place: its own.
pub(super) fn in_place(reference: &str) -> &str {
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_and_of_ci_systems_mean_the_same_reference() {
        for (gitref, expected) in [
            ("main", "refs/heads/main"),
            ("v1", "refs/tags/v1"),
            ("heads/main", "refs/heads/main"),
            ("tags/v1", "refs/tags/v1"),
            ("refs/heads/main", "refs/heads/main"),
            ("refs/tags/v1", "refs/tags/v1"),
            ("origin/main", "refs/heads/main"),
            ("remotes/origin/main", "refs/heads/main"),
            ("refs/remotes/origin/feature/x", "refs/heads/feature/x"),
            ("HEAD", "HEAD"),
            ("refs/pull/7/merge", "refs/pull/7/merge"),
            ("pull/7/head", "refs/pull/7/head"),
            ("7/merge", "refs/pull/7/merge"),
            ("refs/merge-requests/3/head", "refs/merge-requests/3/head"),
            ("merge-requests/3/merge", "refs/merge-requests/3/merge"),
            ("pull-requests/4/from", "refs/pull-requests/4/from"),
            ("changes/34/1234/5", "refs/changes/34/1234/5"),
        ] {
            assert!(is_plain_name(gitref), "{gitref}");
            let found = references(gitref);
            assert!(found.contains(&expected.to_owned()), "{gitref}: {found:?}");
        }
        assert_eq!(references("refs/heads/main"), ["refs/heads/main"]);
    }

    #[test]
    fn what_is_called_exactly_so_comes_first() {
        for gitref in ["origin/main", "heads/main", "pull/7/head", "7/merge"] {
            let first = references(gitref).into_iter().next();
            assert_eq!(first, Some(format!("refs/heads/{gitref}")));
        }
    }

    #[test]
    fn ids_have_four_to_forty_or_sixty_four_digits() {
        assert!(is_id("abcd") && !is_id("abc") && !is_id("main"));
        assert!(is_full_id(&"a".repeat(40)) && is_full_id(&"A".repeat(64)));
        assert!(!is_full_id(&"a".repeat(41)) && !is_id(&"a".repeat(65)));
    }
}
