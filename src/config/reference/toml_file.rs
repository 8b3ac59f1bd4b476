//! The configuration file that a package installs: each setting, commented out.

use std::fmt::Write;

use super::{Absent, Defaults, Row, SectionKind, SectionRows, sections};
use crate::config::ConfigFaults;

/// The longest line of a comment, in characters.
const WIDTH: usize = 96;

/// The file. A line that begins with `#` and no space is a setting at its default, or with an example.
///
/// # Errors
///
/// The parser refuses the table's examples, which a test rules out.
pub fn commented_file() -> Result<String, ConfigFaults> {
    let defaults = Defaults::read()?;
    let mut text = String::from(
        "# The settings of multidb.\n\
         #\n\
         # Each one is commented out, at its default, or with an example where it has none. To set one, remove\n\
         # the # before it, and the one before the [section] above it if there is one. `multidb config check`\n\
         # reports what is wrong, `systemctl restart multidb` applies it, after which clients connect again.\n",
    );
    for section in sections() {
        add(&mut text, section, &defaults);
    }
    Ok(text)
}

fn add(text: &mut String, section: &SectionRows, defaults: &Defaults) {
    text.push('\n');
    if let Some(header) = section.example_header() {
        comment(text, section.about);
        // One without mandatory keys does nothing, and keys that are set below it belong to it.
        let mark = if section.kind == SectionKind::Plain {
            ""
        } else {
            "#"
        };
        let _ = writeln!(text, "{mark}{header}");
    }
    for row in section.rows {
        comment(text, &described(row));
        let line = section.example_line(row, defaults);
        match row.is_alternative {
            true => comment(text, &format!("Or: {line}")),
            false => {
                let _ = writeln!(text, "#{line}");
            }
        }
    }
}

fn described(row: &Row) -> String {
    let without = match row.absent {
        Absent::Words(words) if !row.is_alternative => format!(" Without it: {words}."),
        _ => String::new(),
    };
    format!("{}{without}", row.text).replace('`', "")
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
