//! The table has every variant of the domain errors, by the code words in the sources.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::{all, refusals, terminations};

/// The code words in a source file: the arms of each `fn code`.
fn code_words(source: &str) -> impl Iterator<Item = &str> {
    let functions = source.split("pub fn code(").skip(1);
    let bodies = functions.filter_map(|rest| rest.split("\n    }\n").next());
    let arms = bodies.flat_map(|body| body.split("=> \"").skip(1));
    arms.filter_map(|arm| arm.split('"').next())
}

#[test]
fn table_has_every_variant_of_the_domain_errors() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![package.join("src")];
    let covered: BTreeSet<&str> = all().iter().map(|(code, _)| *code).collect();
    let disk = std::fs::read_to_string(package.join("../store/src/disk_fault.rs")).unwrap();
    let mut seen = code_words(&disk)
        .filter(|code| covered.contains(code))
        .count();
    assert_eq!(seen, 3, "the faults of a disk");
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for code in code_words(&source) {
                assert!(covered.contains(code), "{}: {code}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= covered.len(), "{seen} code words in the sources");
}

#[test]
fn serialized_reason_has_its_code_word_and_no_secret() {
    let refused = refusals();
    let refused = refused.iter().map(|reason| (reason.code(), json!(reason)));
    let terminated = terminations();
    let terminated = terminated
        .iter()
        .map(|reason| (reason.code(), json!(reason)));
    for (code, value) in refused.chain(terminated) {
        assert_eq!(value["code"], code, "{value}");
        assert!(!value.to_string().contains("secret"), "{value}");
    }
}
