//! Reads a file of settings, and chooses the file of the configuration.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::section::Report;
use super::{ConfigFaults, DEFAULT_PATH, Fault};

/// The file and its text; none if no file was named and the default path has none.
pub(super) fn read(path: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigFaults> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some((file.to_owned(), text))),
        Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigFaults {
            file: Some(file.to_owned()),
            faults: vec![Fault::new("", format!("cannot be read: {error}"))],
        }),
    }
}

/// The result of `read` with its report; or all faults with their lines.
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
    if report.faults.is_empty() {
        Ok((value, report))
    } else {
        Err(refuse(report.faults))
    }
}
