//! The generated pages of the documentation are as the program writes them now.

use std::process::Command;

use super::repository;
use crate::PROGRAM;

/// Set, the test writes the pages in place of comparing them.
const REWRITE: &str = "MULTIDB_WRITE_REFERENCE";

#[test]
fn pages_of_commands_and_settings_are_up_to_date() {
    let made = tempfile::tempdir().expect("a directory can be made");
    let mut generate = Command::new(PROGRAM);
    generate.args(["generate", "reference"]).arg(made.path());
    let status = generate.status().expect("the program runs");
    assert!(status.success(), "{status}");
    for page in ["commands.md", "settings.md"] {
        let path = repository().join("docs/reference").join(page);
        let text = std::fs::read_to_string(made.path().join(page)).expect("it was made");
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(&path, &text).expect("the page can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "docs/reference/{page} is out of date: run this test with {REWRITE}=1"
        );
    }
}
