//! Rules for names and types.

use super::{assert_none, rust_files, words};

/// A metaphor has to be learned before the code. The types' names are split, so that this file does
/// not match itself.
const METAPHORS: [[&str; 2]; 11] = [
    ["Ro", "oms"],
    ["Pl", "ace"],
    ["Wi", "sh"],
    ["Kno", "wn"],
    ["Fa", "cts"],
    ["Me", "ter"],
    ["Go", "als"],
    ["Th", "en"],
    ["Rem", "ains"],
    ["End", "ing"],
    ["Found", "ation"],
];

/// The ends of constants that are called `_TIMEOUT` or `_DELAY`.
const SUFFIXES: [[&str; 2]; 3] = [["_PAT", "IENCE"], ["_PA", "USE"], ["_FARE", "WELL"]];

const MODULES: [&str; 4] = ["rooms.rs", "goals.rs", "meter.rs", "words.rs"];

#[test]
fn types_constants_and_modules_have_the_terms_of_the_field() {
    let metaphors = METAPHORS.map(|parts| parts.concat());
    let suffixes = SUFFIXES.map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        if MODULES.iter().any(|module| path.ends_with(module)) {
            wrong.push(path.display().to_string());
        }
        for (number, line) in text.lines().enumerate() {
            let names: Vec<&str> = words(line).filter(|word| !word.is_empty()).collect();
            let defined = names.windows(2).filter_map(|pair| {
                let defines = ["struct", "enum", "trait", "type"].contains(&pair[0]);
                defines.then_some(pair[1])
            });
            let metaphor = defined
                .filter(|name| metaphors.iter().any(|metaphor| metaphor == name))
                .count();
            let constant = names
                .iter()
                .filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
                .count();
            if metaphor + constant > 0 {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("names that the field has a term for", &wrong);
}

/// An enum with names says what happened.
#[test]
fn no_result_or_option_is_nested_in_its_like() {
    let nested = [["Result<Re", "sult<"], ["Option<Op", "tion<"]].map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if nested.iter().any(|nested| line.contains(nested)) {
                wrong.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("nested results and options", &wrong);
}
