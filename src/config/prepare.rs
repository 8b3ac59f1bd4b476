//! `[[project.*.prepare]]`: the preparations that run on restored data before it becomes a snapshot.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::section::{Report, Section, full_key, kind};
use super::{Config, Fault};

/// The most preparations of a project.
const PREPARATIONS_MAX: usize = 100;

/// One preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// Its work.
    pub run: PreparationRun,
    /// The time that it may take; without one, as long as the import is not cancelled.
    pub timeout: Option<Duration>,
}

/// The work of a preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparationRun {
    /// The statements of a file, as a superuser and in one transaction.
    Sql(PathBuf),
    /// A program, by its absolute path, and its arguments.
    Command(Vec<String>),
}

/// Reads the preparations of a project, in their order.
pub(super) fn read(project: &mut Section, report: &mut Report) -> Vec<Preparation> {
    let key = project.key("prepare");
    let items = match project.take("prepare") {
        None => return Vec::new(),
        Some(toml::Value::Array(items)) => items,
        // A single section, as `[project.x.prepare]` makes it, would lose its place in the order.
        Some(other) => {
            let message = format!(
                "is {}, but must be a list of sections: write [[{key}]]",
                kind(&other)
            );
            report.fault(key, message);
            return Vec::new();
        }
    };
    if items.len() > PREPARATIONS_MAX {
        report.fault(&key, format!("has more than {PREPARATIONS_MAX} sections"));
    }
    let mut preparations = Vec::new();
    for (number, item) in (1..).zip(items) {
        let item_key = format!("{key}[{number}]");
        match item {
            toml::Value::Table(table) => {
                preparations.extend(one(Section::at(item_key, table), report));
            }
            other => {
                let message = format!("is {}, but must be a section", kind(&other));
                report.fault(item_key, message);
            }
        }
    }
    preparations
}

fn one(mut section: Section, report: &mut Report) -> Option<Preparation> {
    let sql: Option<PathBuf> = section.optional("sql", report);
    let is_both = section.sets("command") && sql.is_some();
    let is_neither = !section.sets("command") && sql.is_none();
    let command: Option<Vec<String>> = section.optional("command", report);
    let timeout: Option<Duration> = section.optional("timeout", report);
    let key = section.path().to_owned();
    let faults = report.faults.len();
    if is_both {
        report.fault(&key, "has both sql and command: one preparation does one");
    } else if is_neither
        && !report
            .faults
            .iter()
            .any(|fault| fault.key.starts_with(&key))
    {
        report.fault(
            &key,
            "needs sql = \"/a/file.sql\" or command = [\"/a/program\"]",
        );
    }
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        report.fault(section.key("timeout"), "is zero; leave it out for no limit");
    }
    if let Some(message) = command.as_deref().and_then(absolute_program) {
        report.fault(section.key("command"), message);
    }
    section.close(report);
    if report.faults.len() > faults {
        return None;
    }
    let run = match (sql, command) {
        (Some(sql), None) => PreparationRun::Sql(sql),
        (None, Some(command)) => PreparationRun::Command(command),
        _ => return None,
    };
    Some(Preparation { run, timeout })
}

impl Preparation {
    /// Why it cannot run on this machine, if that shows in its files.
    fn problem(&self) -> Option<String> {
        match &self.run {
            PreparationRun::Sql(path) => match File::open(path).and_then(|file| file.metadata()) {
                Err(error) => Some(format!("cannot read {}: {error}", path.display())),
                Ok(metadata) if !metadata.is_file() => {
                    Some(format!("{} is not a file", path.display()))
                }
                Ok(_) => None,
            },
            PreparationRun::Command(command) => program_problem(command),
        }
    }
}

/// Why a command line does not name a program by its absolute path.
pub(super) fn absolute_program(command: &[String]) -> Option<String> {
    match command.first() {
        None => Some("is empty".to_owned()),
        Some(program) if !program.starts_with('/') => {
            Some(format!("\"{program}\" is not an absolute path"))
        }
        Some(_) => None,
    }
}

/// Why the program of a command line cannot run on this machine.
pub(super) fn program_problem(command: &[String]) -> Option<String> {
    let program = command.first().map(String::as_str).unwrap_or_default();
    match fs::metadata(program) {
        Err(error) => Some(format!("cannot find {program}: {error}")),
        Ok(metadata) if !metadata.is_file() => Some(format!("{program} is not a file")),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
            Some(format!("{program} is not executable"))
        }
        Ok(_) => None,
    }
}

/// The preparations whose files are not there: an import of their project would fail.
pub fn missing_files(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, project) in &config.projects {
        let key = full_key(&full_key("project", name.as_str()), "prepare");
        for (number, preparation) in (1..).zip(&project.prepare) {
            if let Some(problem) = preparation.problem() {
                faults.push(Fault::new(format!("{key}[{number}]"), problem));
            }
        }
    }
    faults
}
