//! Which file the configuration is read from, and how any file of settings is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::section::Report;
use super::{ConfigFaults, DEFAULT_PATH, Fault};

/// The file and its text; none where no file was named and there is none at the default path.
pub(super) fn read(path: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigFaults> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some((file.to_owned(), text))),
        Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigFaults {
            file: Some(file.to_owned()),
            faults: vec![Fault::new("", format!("it cannot be read: {error}"))],
        }),
    }
}

/// What `read` makes of the text, with what it reports beside faults; or all faults, with their lines.
pub(super) fn parse<T>(
    file: Option<&Path>,
    text: &str,
    read: impl FnOnce(toml::Table, &mut Report) -> T,
) -> Result<(T, Report), ConfigFaults> {
    let refuse = |faults| ConfigFaults {
        file: file.map(Path::to_owned),
        faults,
    };
    let table = text
        .parse::<toml::Table>()
        .map_err(|error| refuse(vec![Fault::syntax(&error)]))?;
    let mut report = Report::default();
    let value = read(table, &mut report);
    report.locate(&Lines::of(text));
    match report.faults.is_empty() {
        true => Ok((value, report)),
        false => Err(refuse(report.faults)),
    }
}
