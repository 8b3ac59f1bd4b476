//! The references of a remote that are neither branches nor tags, searched for an abbreviated commit.

use super::{FetchError, Mirror};
use crate::git::names;

/// The most references that are fetched to search their histories. A big server keeps one or two for each proposal
/// that there ever was.
const SEARCHED_MAX: usize = 20_000;
/// The most references whose newest commits have one abbreviation.
const TIPS_MAX: usize = 100;
/// All of them.
const REFSPECS: [&str; 5] = [
    "+refs/*:refs/*",
    "^refs/heads/*",
    "^refs/tags/*",
    "^refs/remotes/*",
    "^refs/multidb/*",
];

impl Mirror {
    /// Fetches the references whose newest commit has this abbreviation; if there is none, the references in whose
    /// histories it may be.
    pub(super) async fn fetch_abbreviation(&self, digits: &str) -> Result<(), FetchError> {
        let listed = self
            .run_anywhere()
            .output(&["ls-remote", "--quiet", &self.url])
            .await
            .map_err(FetchError::of)?;
        let digits = digits.to_ascii_lowercase();
        let others: Vec<(&str, &str)> = others(&listed).collect();
        let tips: Vec<String> = others
            .iter()
            .filter(|(id, _)| id.starts_with(&digits))
            .map(|(_, name)| format!("+{name}:{name}"))
            .take(TIPS_MAX)
            .collect();
        let refspecs: Vec<&str> = match (tips.is_empty(), others.len()) {
            (false, _) => tips.iter().map(String::as_str).collect(),
            (true, 0) => return Err(FetchError::Absent),
            (true, 1..=SEARCHED_MAX) => REFSPECS.to_vec(),
            (true, _) => return Err(FetchError::TooMany),
        };
        self.git(&[&["--no-tags", &self.url][..], &refspecs].concat())
            .await
    }
}

/// The ids and names of other references in the output of `git ls-remote`.
fn others(listed: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = listed.lines().filter_map(|line| line.split_once('\t'));
    lines.filter(|(_, name)| {
        name.starts_with("refs/")
            && names::is_fetched_when_asked_for(name)
            && names::is_plain_name(name)
    })
}
