//! The page of settings in the documentation.

use std::fmt::Write;

use super::{Absent, Defaults, Row, SectionKind, SectionRows, sections};
use crate::config::ConfigFaults;

/// The page, in Markdown.
///
/// # Errors
///
/// The parser refuses the table's examples, which a test rules out.
pub fn settings_page() -> Result<String, ConfigFaults> {
    let defaults = Defaults::read()?;
    let mut page = String::from(
        "# Settings\n\nOf `/etc/multidb/multidb.toml`, or of the file of `--config` or `$MULTIDB_CONFIG`. \
         It is TOML, and a key that is not here is refused.\n\
         Times have units (`\"90s\"`, `\"15m\"`, `\"1h 30m\"`, `\"30d\"`), sizes too (`\"512MiB\"`, `\"5GiB\"`), shares are in percent (`\"85%\"`).\n\
         `multidb config check` reports all faults, `multidb config show` prints each value and its origin.\n",
    );
    for section in sections() {
        let _ = write!(page, "\n## {}\n\n{}\n\n", heading(section), section.about);
        page.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        for row in section.rows {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                row.key,
                row.kind,
                default(section, row, &defaults),
                row.text
            );
        }
    }
    Ok(page)
}

fn heading(section: &SectionRows) -> String {
    match (section.path, section.kind) {
        ("", _) => "The daemon".to_owned(),
        (path, SectionKind::Item) => format!("`[[{path}]]`"),
        (path, _) => format!("`[{path}]`"),
    }
}

fn default(section: &SectionRows, row: &Row, defaults: &Defaults) -> String {
    match row.absent {
        Absent::Default => format!("`{}`", defaults.toml(section, row)),
        Absent::Words(words) => words.to_owned(),
        Absent::Required => "required".to_owned(),
    }
}
