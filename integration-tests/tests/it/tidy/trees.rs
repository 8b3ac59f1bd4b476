//! The rule for work in trees that other users or programs can write.

use super::{assert_none, files, repository};

/// The modules that work in data directories, run directories and imported files.
const MODULES: [&str; 10] = [
    "src/clone/copy.rs",
    "src/clone/create.rs",
    "src/clone/extents.rs",
    "src/clone/trash.rs",
    "src/clone/tree.rs",
    "src/fsutil/beneath",
    "src/import/",
    "src/runtime/postmaster.rs",
    "src/runtime/run_dir.rs",
    "src/runtime/settings.rs",
];

/// Calls that look a path up from the root, and follow a symbolic link in it.
const CALLS: [&str; 21] = [
    "fs::read(",
    "fs::read_to_string(",
    "fs::read_dir(",
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::metadata(",
    "fs::symlink_metadata(",
    "fs::remove_",
    "fs::create_dir",
    "fs::set_permissions(",
    "fs::hard_link(",
    "fs::canonicalize(",
    "File::open(",
    "File::create(",
    "File::options(",
    "OpenOptions::new(",
    ".exists()",
    ".is_dir() {",
    "lchown(",
    "tokio::fs",
];

/// A path whose parents only multidb can write is marked, with the reason.
const MARK: &str = "// Trusted path: ";

/// The lines above a call in which the mark is looked for.
const MARK_DISTANCE: usize = 5;

#[test]
fn work_in_trees_of_others_goes_by_descriptors() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", ".rs") {
        let relative = path
            .strip_prefix(repository())
            .expect("it is in the repository");
        let shown = relative.display().to_string();
        let is_meant = MODULES.iter().any(|module| shown.starts_with(module));
        if !is_meant || shown.contains("/tests") {
            continue;
        }
        let lines: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .collect();
        for (number, line) in lines.iter().enumerate() {
            let calls =
                CALLS.iter().any(|call| line.contains(call)) && !line.contains("rustix::fs::");
            let above = &lines[number.saturating_sub(MARK_DISTANCE)..number];
            let is_trusted = above.iter().any(|line| line.contains(MARK));
            if calls && !is_trusted && !line.trim_start().starts_with("//") {
                wrong.push(format!("{shown}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(
        "paths in trees that somebody else can write: use fsutil::beneath",
        &wrong,
    );
}
