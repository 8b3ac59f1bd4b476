//! The shared libraries of programs, which a package may keep apart from them, such as Homebrew or a Python wheel.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::runtime::version::listing_of;

/// The programs whose libraries are looked for.
const PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_controldata", "pg_restore"];

/// The directories of the libraries that the dynamic loader finds for the programs of a directory, by the paths of
/// the loader and without links. None for a program that is linked statically.
pub(super) fn directories(programs: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    for program in PROGRAMS.map(|program| programs.join(program)) {
        if !program.exists() {
            continue;
        }
        match listing_of(&program) {
            Ok(listing) => found.extend(listing.lines().filter_map(library).flat_map(parents)),
            Err(error) => {
                tracing::debug!(program = %program.display(), %error, "cannot list the libraries of a program");
            }
        }
    }
    found.into_iter().collect()
}

/// The path in a line such as `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f3a)`.
fn library(line: &str) -> Option<&Path> {
    let (_, found) = line.split_once("=> ")?;
    let path = Path::new(found.rsplit_once(" (")?.0);
    path.is_absolute().then_some(path)
}

/// The directory of a library as the loader reaches it, and as it is without links.
fn parents(library: &Path) -> Vec<PathBuf> {
    let mut parents = Vec::new();
    let without_links = library.canonicalize().ok();
    let reached = library.parent().and_then(|parent| {
        let has_dots = parent
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        if has_dots {
            parent.canonicalize().ok()
        } else {
            Some(parent.to_owned())
        }
    });
    parents.extend(reached);
    parents.extend(without_links.and_then(|library| Some(library.parent()?.to_owned())));
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_is_what_the_loader_found() {
        let path = |line| library(line).map(|path| path.display().to_string());
        let line = "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f3a5e2b0000)";
        assert_eq!(
            path(line).as_deref(),
            Some("/lib/x86_64-linux-gnu/libz.so.1")
        );
        for other in [
            "\tlinux-vdso.so.1 (0x00007ffd6e5f2000)",
            "\tlibicuuc.so.60 => not found",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f3a5e4f1000)",
            "\tstatically linked",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn directories_of_a_programs_libraries_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/ls", dir.path().join("postgres")).unwrap();
        let found = directories(dir.path());
        assert!(
            found.iter().any(|path| path.join("libc.so.6").exists()),
            "{found:?}"
        );
    }
}
