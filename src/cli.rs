//! The command line: parses, asks the daemon, prints.
//!
//! `serve` is the daemon; all other commands talk to it over the admin socket, but for `config`,
//! which only reads the file. Data goes to standard output, talk to standard error. The exit
//! status is 0 when it is done, 1 when it failed, 2 when it was asked wrongly.

mod config;
mod confirm;
mod connection;
mod doctor;
mod errors;
mod import;
mod instance;
mod output;
mod serve;
mod snapshot;
mod status;
mod table;
#[cfg(test)]
mod tests;
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
/// Connect with `psql -h HOST -p 6432 -U instance:NAME,gitref:REF DATABASE`: the first connection
/// makes the instance, as a copy-on-write clone of the newest snapshot that suits the revision;
/// later ones reach it, whatever its state.
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
    /// The configuration; without it, /etc/multidb/multidb.toml if there is one
    #[arg(
        long,
        global = true,
        env = "MULTIDB_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// The admin socket; without it, the one that the configuration names
    #[arg(
        long,
        global = true,
        env = "MULTIDB_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    socket: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon, in the foreground
    Serve(serve::ServeArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Examine this machine, and say what to do about what is wrong
    Doctor,
    /// Show what the daemon is and has
    Status,
    /// Import, show and delete snapshots, and explain how one is chosen
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Show, start, stop, reset, pin and delete instances
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// Add, list and remove users, and change their passwords
    #[command(subcommand)]
    User(user::UserCommand),
    /// Show and end clients' sessions
    #[command(subcommand)]
    Connection(connection::ConnectionCommand),
}

/// What a command works with.
struct Invocation {
    global: Global,
    output: Output,
}

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure. Where nobody reads
            // them, there is nobody to tell.
            let _unread = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            errors::print(&error);
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
        // It makes its own runtime, one with actors.
        Command::Serve(args) => serve::run(&args, &invocation),
        Command::Config(command) => config::run(&command, &invocation),
        Command::Doctor => wait(doctor::run(&invocation)),
        Command::Status => wait(status::run(&invocation)),
        Command::Snapshot(command) => wait(snapshot::run(command, &invocation)),
        Command::Instance(command) => wait(instance::run(command, &invocation)),
        Command::User(command) => wait(user::run(command, &invocation)),
        Command::Connection(command) => wait(connection::run(&command, &invocation)),
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
    /// The configuration, as the options choose it.
    fn loaded(&self) -> Result<Loaded, ConfigFaults> {
        let mut loaded = Loaded::load(self.global.config.as_deref())?;
        if let Some(socket) = &self.global.socket {
            loaded.config.admin_socket.clone_from(socket);
        }
        Ok(loaded)
    }

    /// A way to the daemon. A configuration with faults is in the way only if it is needed.
    fn client(&self) -> anyhow::Result<AdminClient> {
        let socket = match &self.global.socket {
            Some(socket) => socket.clone(),
            None => self.loaded()?.config.admin_socket,
        };
        Ok(AdminClient::new(socket))
    }
}
