//! `multidb listing`: prints the migrations that a revision of a project defines, from its code and without a database.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Invocation;
use super::output::lines;

/// Prints the migrations that Django's own loader finds in all installed apps, those of packages too.
const DJANGO: &str = include_str!("listing/django.py");
/// The start of each line that it prints for us: a project's settings may print lines of their own.
const MARK: &str = "multidb-listing ";
/// The lines of a failure that are shown.
const ERROR_LINES: usize = 20;

#[derive(Debug, Subcommand)]
pub(super) enum ListingCommand {
    /// Print the migrations of a Django project and of the packages that it installs, with what squashed ones replace
    Django(DjangoArgs),
}

#[derive(Debug, Args)]
pub(super) struct DjangoArgs {
    /// Directory of the project's manage.py
    #[arg(long, value_name = "DIR", default_value = ".")]
    project_dir: PathBuf,
    /// Python that has the project's packages
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: OsString,
}

/// The answer with `--json`.
#[derive(Debug, Serialize)]
struct Listing {
    /// The lines of the listing.
    migrations: Vec<String>,
}

pub(super) fn run(command: &ListingCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let ListingCommand::Django(arguments) = command;
    let migrations = django(&arguments.project_dir, &arguments.python)?;
    invocation.output.show(&Listing { migrations }, |listing| {
        listing.migrations.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn django(project: &Path, python: &OsStr) -> anyhow::Result<Vec<String>> {
    if !project.join("manage.py").is_file() {
        bail!(
            "{} has no manage.py; name the directory that has it with --project-dir",
            project.display()
        );
    }
    let run = Command::new(python)
        // Settings of the project are found as by any command of it.
        .args(["-B", "manage.py", "shell", "--command", DJANGO])
        .current_dir(project)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !run.status.success() {
        let error = String::from_utf8_lossy(&run.stderr);
        let end: Vec<&str> = error.lines().rev().take(ERROR_LINES).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        bail!(
            "Django cannot load the migrations of {} ({}); --python names the Python that has its packages\n{}",
            project.display(),
            run.status,
            lines(&end.join("\n"))
        );
    }
    let printed = String::from_utf8_lossy(&run.stdout);
    let migrations: Vec<String> = printed
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .map(str::to_owned)
        .collect();
    if migrations.is_empty() {
        bail!("the apps of {} have no migrations", project.display());
    }
    Ok(migrations)
}
