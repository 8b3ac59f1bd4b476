//! Error messages on standard error: text for people, with `--json` an object in the form of the admin socket's.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::error::{ContextKind, ContextValue};

use super::output::{escaped_json, lines};
use crate::admin::api::ErrorInfo;
use crate::admin::client::AdminError;
use crate::config::ConfigFaults;

/// The code of a command line that means nothing.
const USAGE: &str = "usage";
/// The code of a configuration with faults.
const CONFIGURATION: &str = "configuration";
/// The code of an error that is told in words only.
const FAILED: &str = "failed";

/// The commands of other programs that do what ours do under another name.
const OTHER_NAMES: [(&str, &str); 7] = [
    ("delete", "rm"),
    ("remove", "rm"),
    ("destroy", "rm"),
    ("drop", "rm"),
    ("list", "ls"),
    ("new", "create"),
    ("describe", "show"),
];

/// Prints an error.
pub(super) fn print(error: &anyhow::Error, json: bool) {
    let text = if json {
        as_json(&info(error))
    } else {
        text(error)
    };
    write(&text);
}

/// Prints that the command line means nothing, or the help that it asks for.
pub(super) fn print_usage(mut error: clap::Error, json: bool) {
    if json && error.use_stderr() {
        let message = error.render().to_string();
        let message = message.trim_end().trim_start_matches("error: ").to_owned();
        return write(&as_json(&ErrorInfo {
            code: USAGE.to_owned(),
            message,
            detail: None,
            hint: None,
        }));
    }
    suggest_our_name(&mut error);
    // Help and version go to standard output. A closed output has no reader.
    let _closed = error.print();
}

/// Replaces the suggestion by the command that does it here: clap compares letters, and takes `delete` for `reset`.
fn suggest_our_name(error: &mut clap::Error) {
    let ours = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => OTHER_NAMES.iter().find(|(other, _)| other == name),
        _ => None,
    };
    if let Some((_, ours)) = ours {
        let suggested = ContextValue::Strings(vec![(*ours).to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, suggested);
    }
}

fn write(text: &str) {
    // A closed standard error has no reader.
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

fn as_json(info: &ErrorInfo) -> String {
    let body = serde_json::json!({ "error": info });
    format!("{}\n", escaped_json(&format!("{body:#}")))
}

/// The error as the admin socket would tell it.
fn info(error: &anyhow::Error) -> ErrorInfo {
    let refused = error.downcast_ref::<AdminError>();
    let code = match refused {
        Some(refused) => refused.code(),
        None if error.is::<ConfigFaults>() => CONFIGURATION,
        None => FAILED,
    };
    ErrorInfo {
        code: code.to_owned(),
        message: format!("{error:#}"),
        detail: refused.and_then(AdminError::detail).map(str::to_owned),
        hint: refused.and_then(AdminError::hint).map(str::to_owned),
    }
}

/// The error with its causes in one line, then detail and hint of the daemon.
pub(super) fn text(error: &anyhow::Error) -> String {
    let mut text = format!("multidb: {error:#}\n");
    if let Some(refused) = error.downcast_ref::<AdminError>() {
        let more = [("detail", refused.detail()), ("hint", refused.hint())];
        for (label, more) in more {
            if let Some(more) = more {
                // Writing to a String does not fail.
                let _infallible = writeln!(text, "{label}: {more}");
            }
        }
    }
    lines(&text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn names_of_other_programs_get_ours_suggested() {
        for (line, ours) in [
            ("instance delete a", "'rm'"),
            ("instance list", "'ls'"),
            ("snapshot remove a", "'rm'"),
            ("instance renam a b", "'rename'"),
        ] {
            let words = std::iter::once("multidb").chain(line.split(' '));
            let mut error = Cli::command().try_get_matches_from(words).unwrap_err();
            suggest_our_name(&mut error);
            let text = error.render().to_string();
            assert!(text.contains(ours), "{text}");
            assert!(!text.contains("reset"), "{text}");
        }
    }
}
