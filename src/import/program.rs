//! The errors of Postgres' programs.

use super::error::ImportError;
use crate::runtime::ProgramOutput;

/// The lines of a message that are shown.
const LINES_MAX: usize = 6;
/// The longest line that is shown.
const LINE_CHARS_MAX: usize = 500;

/// The failure of a program, in one line.
pub(super) fn failure(program: &'static str, output: &ProgramOutput) -> ImportError {
    ImportError::Program {
        program,
        message: message(output),
    }
}

/// The first error and the lines after it; without one, the exit status.
pub(super) fn message(output: &ProgramOutput) -> String {
    let lines: Vec<&str> = output.stderr_tail.iter().map(|line| line.trim()).collect();
    let is_error = |line: &&str| {
        ["ERROR:", "FATAL:", "PANIC:", "error:", "fatal:"]
            .iter()
            .any(|word| line.contains(word))
    };
    let first = lines.iter().position(is_error).unwrap_or(0);
    let shown: Vec<String> = lines[first..]
        .iter()
        .filter(|line| !line.is_empty())
        .take(LINES_MAX)
        .map(|line| {
            with_line_number(line)
                .chars()
                .take(LINE_CHARS_MAX)
                .collect()
        })
        .collect();
    if shown.is_empty() {
        return output.status.clone();
    }
    shown.join("; ")
}

/// psql begins a message with the path of its script, here a FIFO, and the line in it.
fn with_line_number(line: &str) -> String {
    let located = line
        .strip_prefix("psql:")
        .and_then(|rest| rest.split_once(": "))
        .and_then(|(location, text)| Some((location.rsplit_once(':')?.1, text)));
    match located {
        Some((number, text)) if number.parse::<u64>().is_ok() => format!("line {number}: {text}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_the_first_error_with_its_line() {
        let output = |lines: &[&str]| ProgramOutput {
            success: false,
            status: "exit status: 3".to_owned(),
            stdout: Vec::new(),
            stderr_tail: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let lines = [
            "psql:/x/pipes/script.fifo:3: NOTICE:  hello",
            "psql:/x/pipes/script.fifo:12: ERROR:  relation \"x\" does not exist",
            "LINE 1: select * from x;",
            "                      ^",
        ];
        assert_eq!(
            message(&output(&lines)),
            "line 12: ERROR:  relation \"x\" does not exist; LINE 1: select * from x;; ^"
        );
        assert_eq!(
            message(&output(&["pg_restore: error: could not read: end of file"])),
            "pg_restore: error: could not read: end of file"
        );
        assert_eq!(message(&output(&[])), "exit status: 3");
    }
}
