//! `multidb generate`: makes files from the program itself: man pages, completions, the package's configuration file
//! and pages of the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, Subcommand};
use clap_complete::Shell;

use super::{Cli, Invocation};
use crate::config::reference;

/// The program's name.
const PROGRAM: &str = "multidb";

/// The width of help texts in the documentation, in characters.
const HELP_WIDTH: usize = 100;

#[derive(Debug, Subcommand)]
pub(super) enum GenerateCommand {
    /// Write a man page for each command
    Man {
        /// Directory of the pages, which is created if it is missing
        directory: PathBuf,
    },
    /// Write completions for bash, zsh and fish
    Completions {
        /// Directory of the files, which is created if it is missing
        directory: PathBuf,
    },
    /// Write the documentation's pages of commands and settings
    Reference {
        /// Directory of the pages, which is created if it is missing
        directory: PathBuf,
    },
    /// Print a configuration file with every setting, commented out
    Config,
}

pub(super) fn run(command: &GenerateCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    match command {
        GenerateCommand::Man { directory } => in_directory(directory, man)?,
        GenerateCommand::Completions { directory } => in_directory(directory, completions)?,
        GenerateCommand::Reference { directory } => in_directory(directory, reference_pages)?,
        GenerateCommand::Config => {
            let file = reference::commented_file()?;
            invocation.output.show(&file, String::clone)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn in_directory(
    directory: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let wrote = fs::create_dir_all(directory)
        .map_err(anyhow::Error::from)
        .and_then(|()| write(directory));
    wrote.with_context(|| format!("cannot write to {}", directory.display()))
}

/// The commands, without those that are hidden.
fn shown_command() -> Command {
    let command = Cli::command();
    let subcommands: Vec<Command> = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
        .cloned()
        .collect();
    // clap cannot take one away, so they are added to a command without any.
    let mut shown = Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(HELP_WIDTH)
        .term_width(HELP_WIDTH)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(command.get_arguments().cloned())
        .subcommands(subcommands);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    shown
}

fn man(directory: &Path) -> anyhow::Result<()> {
    let command = shown_command().disable_help_subcommand(true);
    Ok(clap_mangen::generate_to(command, directory)?)
}

fn completions(directory: &Path) -> anyhow::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut shown_command(), PROGRAM, directory)?;
    }
    Ok(())
}

fn reference_pages(directory: &Path) -> anyhow::Result<()> {
    fs::write(directory.join("commands.md"), commands_page())?;
    fs::write(directory.join("settings.md"), reference::settings_page()?)?;
    Ok(())
}

/// The help of each command.
fn commands_page() -> String {
    let mut page = String::from(
        "# Commands\n\nAs `multidb help` has them. In a usage line `[…]` is optional, `<…>` is needed. The exit status is 0 for success, 1 for\n\
         failure and 2 for wrong usage. The options of all commands are told once, at the top.\n",
    );
    let mut command = shown_command()
        .disable_help_flag(true)
        .disable_help_subcommand(true);
    command.build();
    let global = global_options(&command);
    add_command(&mut page, &mut command, &global);
    page
}

/// The paragraph about the options that all commands have, which clap repeats for each.
fn global_options(command: &Command) -> String {
    let help = command.clone().render_long_help().to_string();
    let start = help.find("\nGlobal options:\n");
    start
        .map(|start| help[start..].to_owned())
        .unwrap_or_default()
}

fn add_command(page: &mut String, command: &mut Command, global: &str) {
    let name = command.get_bin_name().unwrap_or(PROGRAM).to_owned();
    let help = command.render_long_help().to_string();
    let is_top = !name.contains(' ');
    let help = if is_top {
        &help
    } else {
        help.strip_suffix(global).unwrap_or(&help)
    };
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(
        page,
        "\n## {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for subcommand in command.get_subcommands_mut() {
        add_command(page, subcommand, global);
    }
}
