//! The edges between crates and between modules, and dependencies that nothing uses.

use std::path::Path;

use super::{assert_none, files, repository};

/// A crate: its manifest, and its sources, with those of its tests that are elsewhere.
const CRATES: [(&str, &[&str]); 4] = [
    ("Cargo.toml", &["src", "integration-tests/tests"]),
    ("actors/Cargo.toml", &["actors/src", "actors/tests"]),
    ("store/Cargo.toml", &["store/src"]),
    ("integration-tests/Cargo.toml", &["integration-tests/src"]),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).expect("a manifest is a text file")
}

/// The names in a section of a manifest.
fn names<'a>(manifest: &'a str, section: &str) -> Vec<&'a str> {
    let header = format!("[{section}]");
    manifest
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

/// The lines of code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a text uses a crate: by a path that begins with its name, or by a name in quotes, as
/// attributes have it.
fn uses(text: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    code(text).any(|line| {
        ["::", ";", " as ", "\""].iter().any(|after| {
            line.match_indices(&format!("{name}{after}"))
                .any(|(at, _)| begins(line, at))
        })
    })
}

/// The part of a source file that is built without tests.
fn without_tests<'a>(path: &Path, text: &'a str) -> &'a str {
    let is_test = path.iter().any(|part| part == "tests") || path.ends_with("tests.rs");
    if is_test {
        return "";
    }
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    let mut named = String::new();
    for (path, directories) in CRATES {
        let manifest = read(path);
        let sources: Vec<_> = directories
            .iter()
            .flat_map(|directory| files(directory, ".rs"))
            .collect();
        for name in names(&manifest, "dependencies") {
            let is_used = sources
                .iter()
                .any(|(path, text)| uses(without_tests(path, text), name));
            if !is_used {
                unused.push(format!("{path}: {name}, at most by tests"));
            }
        }
        for name in names(&manifest, "dev-dependencies") {
            if !sources.iter().any(|(_, text)| uses(text, name)) {
                unused.push(format!("{path}: {name}"));
            }
        }
        for section in ["dependencies", "dev-dependencies"] {
            for name in names(&manifest, section) {
                named.push_str(&format!("[{name}]"));
            }
        }
    }
    for name in names(&read("Cargo.toml"), "workspace.dependencies") {
        if !named.contains(&format!("[{name}]")) {
            unused.push(format!("the workspace: {name}"));
        }
    }
    assert_none("dependencies that nothing uses", &unused);
}

/// The imports of these modules of the root package that name another than the allowed ones.
fn foreign_imports(module: &str, allowed: &[&str]) -> Vec<String> {
    let mut sources = files(&format!("src/{module}"), ".rs");
    sources.extend(files("src", &format!("/src/{module}.rs")));
    let mut wrong = Vec::new();
    for (path, text) in sources {
        for line in code(&text).filter(|line| line.contains("crate::")) {
            let others = line.split("crate::").skip(1);
            for other in others.filter(|rest| !allowed.iter().any(|name| rest.starts_with(name))) {
                wrong.push(format!("{}: crate::{other}", path.display()));
            }
        }
    }
    wrong
}

#[test]
fn config_imports_nothing_but_its_own_modules() {
    let wrong = foreign_imports("config", &["config"]);
    assert_none("imports that config must not have", &wrong);
}

#[test]
fn runtimes_do_not_import_each_other() {
    let mut wrong = Vec::new();
    for (runtime, other) in [("docker", "process"), ("process", "docker")] {
        let mut sources = files(&format!("src/runtime/{runtime}"), ".rs");
        sources.extend(files("src/runtime", &format!("/{runtime}.rs")));
        for (path, text) in sources {
            let reaches = |line: &&str| {
                [format!("runtime::{other}"), format!("super::{other}")]
                    .iter()
                    .any(|name| line.contains(name.as_str()))
            };
            for line in code(&text).filter(reaches) {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert_none("imports between the runtimes", &wrong);
}
