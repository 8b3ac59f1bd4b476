//! The command line: parses arguments, asks the daemon, prints answers.
//!
//! `serve` is the daemon. The other commands talk to it over the admin socket, except for `config`,
//! `doctor` and `user`, which also work without it. Data goes to standard output, messages to
//! standard error. The exit status is 0 for success, 1 for failure, 2 for wrong usage.

mod config;
mod confirm;
mod connection;
mod dedup;
mod doctor;
mod errors;
mod generate;
mod import;
mod instance;
mod job;
mod listing;
mod notify;
mod output;
mod progress;
mod serve;
mod snapshot;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod top;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::admin::client::AdminClient;
use crate::config::{ConfigFaults, Loaded};

use self::output::Output;

/// A Postgres proxy whose connections create database instances.
///
/// Connect with `psql -h HOST -p 6432 -U instance:NAME,gitref:REF DATABASE`. The first connection
/// creates the instance as a copy-on-write clone of the newest snapshot that is compatible with the
/// revision. Later connections reach the same instance, and start it if it is stopped.
#[derive(Debug, Parser)]
#[command(name = "multidb", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// Options of all commands.
#[derive(Debug, Args)]
struct Global {
    /// Configuration file [default: /etc/multidb/multidb.toml, if it exists]
    #[arg(
        long,
        global = true,
        env = "MULTIDB_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// Admin socket [default: admin_socket in the configuration]
    #[arg(
        long,
        global = true,
        env = "MULTIDB_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Serve(serve::ServeArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check this machine for problems and suggest fixes
    Doctor,
    /// Show the daemon's status
    Status,
    /// Show instances, jobs and connections live on the terminal
    Top,
    /// Import, list, show and delete snapshots; explain the choice for a revision
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// List, show, start, stop, reset, pin and delete instances
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// List, show, wait for and cancel jobs, such as imports
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Show, run, pause and resume the de-duplication of snapshots
    #[command(subcommand)]
    Dedup(dedup::DedupCommand),
    /// Add, list and remove users; change passwords
    #[command(subcommand)]
    User(user::UserCommand),
    /// List and end client sessions
    #[command(subcommand)]
    Connection(connection::ConnectionCommand),
    /// Try the targets of notifications
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Print a migration listing from the code, without a database
    #[command(subcommand)]
    Listing(listing::ListingCommand),
    /// Write what is made from the program itself, for its package and its documentation
    #[command(subcommand, hide = true)]
    Generate(generate::GenerateCommand),
}

/// The context of a command.
struct Invocation {
    global: Global,
    output: Output,
}

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { 2 } else { 0 };
            errors::print_usage(error, arguments.iter().any(|word| word == "--json"));
            return ExitCode::from(status);
        }
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            errors::print(&error, json);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let invocation = Invocation {
        output: Output::new(cli.global.json),
        global: cli.global,
    };
    match cli.command {
        // It has a runtime of its own, with actors.
        Command::Serve(args) => serve::run(&args, &invocation),
        Command::Config(command) => config::run(&command, &invocation),
        Command::Doctor => wait(doctor::run(&invocation)),
        Command::Status => wait(status::run(&invocation)),
        Command::Top => wait(top::run(&invocation)),
        Command::Snapshot(command) => wait(snapshot::run(command, &invocation)),
        Command::Instance(command) => wait(instance::run(command, &invocation)),
        Command::Job(command) => wait(job::run(&command, &invocation)),
        Command::Dedup(command) => wait(dedup::run(&command, &invocation)),
        Command::User(command) => wait(user::run(command, &invocation)),
        Command::Connection(command) => wait(connection::run(&command, &invocation)),
        Command::Notify(command) => wait(notify::run(&command, &invocation)),
        Command::Listing(command) => listing::run(&command, &invocation),
        Command::Generate(command) => generate::run(&command, &invocation),
    }
}

fn wait(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(command)
}

impl Invocation {
    /// The configuration that the options select.
    fn loaded(&self) -> Result<Loaded, ConfigFaults> {
        let mut loaded = Loaded::load(self.global.config.as_deref())?;
        if let Some(socket) = &self.global.socket {
            loaded.config.admin_socket.clone_from(socket);
        }
        Ok(loaded)
    }

    /// A client for the daemon. The configuration is read only if no option names the socket.
    fn client(&self) -> anyhow::Result<AdminClient> {
        let socket = match &self.global.socket {
            Some(socket) => socket.clone(),
            None => self.loaded()?.config.admin_socket,
        };
        Ok(AdminClient::new(socket))
    }
}
