//! Documents lead where they say.

use std::path::{Path, PathBuf};

use super::{assert_none, files, repository};

/// The documents at the top of the repository.
const AT_TOP: [&str; 4] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];

fn documents() -> Vec<(PathBuf, String)> {
    let read = |name| {
        let path = repository().join(name);
        let text = std::fs::read_to_string(&path).expect("the document is there");
        (path, text)
    };
    AT_TOP
        .into_iter()
        .map(read)
        .chain(files("docs", ".md"))
        .collect()
}

/// The targets of the links of a Markdown text, `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The file of the repository that a link leads to; none for a link to elsewhere.
fn target(document: &Path, link: &str) -> Option<PathBuf> {
    let (path, _) = link.split_once('#').unwrap_or((link, ""));
    let is_elsewhere = path.is_empty() || path.contains("://");
    (!is_elsewhere).then(|| document.with_file_name("").join(path))
}

#[test]
fn links_of_documents_lead_to_files() {
    let documents = documents();
    let found = documents.iter().flat_map(|(document, text)| {
        let broken = links(text)
            .filter(|link| target(document, link).is_some_and(|target| !target.exists()));
        broken.map(|link| format!("{}: {link}", document.display()))
    });
    assert_none("links to no file", &found.collect::<Vec<_>>());
    let all = documents.iter().flat_map(|(_, text)| links(text));
    assert!(all.count() > 40, "links are found");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = repository().join("docs/SUMMARY.md");
    let text = std::fs::read_to_string(&summary).expect("it is there");
    let listed = links(&text).filter_map(|link| target(&summary, link)?.canonicalize().ok());
    let listed: Vec<PathBuf> = listed.collect();
    let pages = files("docs", ".md").into_iter().map(|(path, _)| path);
    let missing = pages.filter(|page| *page != summary).filter(|page| {
        let page = page.canonicalize().expect("it is there");
        !listed.contains(&page)
    });
    let missing: Vec<String> = missing.map(|page| page.display().to_string()).collect();
    assert_none("pages that docs/SUMMARY.md lacks", &missing);
}
