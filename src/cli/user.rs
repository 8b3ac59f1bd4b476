//! `multidb user`: the users that may log in. It changes the users file, with or without a daemon.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use multidb_actors::auth::User;
use serde::Serialize;
use serde_json::json;

use super::Invocation;
use super::output::printable;
use super::table::{Align, or_none, table};
use crate::admin::client::AdminError;
use crate::config::{Auth, AuthMethod};
use crate::control::model::UsersView;
use crate::users::{self, NewUser, UsersFile};

mod token;

use self::token::TokenCommand;

/// The time limit for a running daemon to reload the file.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; prompt for the password, or read it from standard input
    Add(AddArgs),
    /// List users
    Ls,
    /// Remove a user; open sessions continue
    Rm {
        /// Name of the user
        name: String,
    },
    /// Tokens of a user, with which programs use the API over the network
    #[command(subcommand)]
    Token(TokenCommand),
    /// Change a user's password; prompt for it, or read it from standard input
    Passwd {
        /// Name of the user
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Name of the user
    name: String,
    /// Postgres role that the user may log in as; can be repeated
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
    /// Project that the user may use; can be repeated [default: all projects]
    #[arg(long = "project", value_name = "PROJECT")]
    projects: Vec<String>,
    /// Let the user see and change the instances and connections of all users, in the console and over HTTP
    #[arg(long)]
    admin: bool,
    /// Most instances of the user that may exist at a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    max_instances: Option<i64>,
    /// Most instances that the user may create in a minute
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    creations_per_minute: Option<i64>,
}

/// A user in the answer of `user ls`.
#[derive(Debug, Serialize)]
struct UserView {
    name: String,
    roles: Vec<String>,
    /// None for all.
    projects: Option<Vec<String>>,
    admin: bool,
    max_instances: Option<usize>,
    creations_per_minute: Option<usize>,
    /// `config` or `file`.
    origin: &'static str,
}

pub(super) async fn run(command: UserCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let config = invocation.loaded()?.config;
    let auth = config.auth;
    match command {
        UserCommand::Add(args) => {
            let new = NewUser {
                roles: args.roles,
                projects: args.projects,
                admin: args.admin,
                max_instances: args.max_instances,
                creations_per_minute: args.creations_per_minute,
            };
            new.check_projects(config.projects.keys())?;
            let name = &args.name;
            let password = password(&auth, name, Existence::New)?;
            let add = |file: &mut UsersFile| file.add(name, &password, &new);
            change(invocation, &auth, name, "added", add).await?;
        }
        UserCommand::Ls => {
            let views: Vec<_> = users::load(&auth)?
                .iter()
                .map(|(name, user)| view(name, user, auth.users.contains_key(name)))
                .collect();
            invocation.output.show(&views, |views| text(views))?;
        }
        UserCommand::Token(command) => token::run(command, &auth, invocation).await?,
        UserCommand::Rm { name } => {
            let remove = |file: &mut UsersFile| file.remove(&name);
            change(invocation, &auth, &name, "removed", remove).await?;
        }
        UserCommand::Passwd { name } => {
            let password = password(&auth, &name, Existence::Existing)?;
            let set = |file: &mut UsersFile| file.set_password(&name, &password);
            change(invocation, &auth, &name, "changed", set).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes the file, has a running daemon reload it, and prints the result.
async fn change(
    invocation: &Invocation,
    auth: &Auth,
    name: &str,
    done: &str,
    change: impl FnOnce(&mut UsersFile) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let note = change_file(invocation, auth, name, change).await?;
    let shown = json!({"name": name, done: true, "users_file": auth.users_file});
    invocation
        .output
        .show(&shown, |_| format!("user {} {done}{note}", printable(name)))
}

/// Changes the file and has a running daemon reload it. Returns a note for people.
async fn change_file(
    invocation: &Invocation,
    auth: &Auth,
    name: &str,
    change: impl FnOnce(&mut UsersFile) -> anyhow::Result<()>,
) -> anyhow::Result<&'static str> {
    refuse_configured(auth, name)?;
    let mut file = UsersFile::open(&auth.users_file)?;
    change(&mut file)?;
    file.save()?;
    drop(file);
    match auth.method {
        AuthMethod::ScramSha256 => tell_daemon(invocation).await,
        AuthMethod::Trust => {
            Ok("\nnote: auth.method is \"trust\", so no password and no token is checked")
        }
    }
}

/// Has a running daemon reload the file at once. A daemon that does not answer sees the change by
/// itself; one that refuses keeps the old users. Returns a note for people.
async fn tell_daemon(invocation: &Invocation) -> anyhow::Result<&'static str> {
    let client = invocation.client()?.with_timeout(RELOAD_TIMEOUT);
    let nothing = json!({});
    let told = client.post::<UsersView>("/v1/users/reload", &nothing);
    match told.await {
        Ok(_) | Err(AdminError::NotRunning { .. }) => Ok(""),
        Err(error @ AdminError::Refused(_)) => {
            Err(anyhow!(error)
                .context("the file was changed, but the daemon keeps the previous users"))
        }
        Err(_) => Ok(
            "\nnote: the daemon could not be reached; it reloads the file by itself within seconds",
        ),
    }
}

/// A user of the configuration overrides the file, so a change of the file would have no effect.
fn refuse_configured(auth: &Auth, name: &str) -> anyhow::Result<()> {
    if auth.users.contains_key(name) {
        return Err(anyhow!(
            "user \"{name}\" is defined in the configuration; change auth.users.{name} there"
        ));
    }
    Ok(())
}

/// Whether a command needs a new or an existing name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existence {
    New,
    Existing,
}

/// Reads a new password, after checking that the command can succeed. The file is not locked
/// meanwhile: a person may take long.
fn password(auth: &Auth, name: &str, existence: Existence) -> anyhow::Result<String> {
    refuse_configured(auth, name)?;
    let exists = UsersFile::open(&auth.users_file)?.contains(name);
    match (existence, exists) {
        (Existence::New, true) => Err(users::user_exists(name)),
        (Existence::Existing, false) => Err(users::no_such_user(name, &auth.users_file)),
        (Existence::New, false) | (Existence::Existing, true) => read_password(name),
    }
}

/// Prompts twice at a terminal, else reads the first line of standard input.
fn read_password(name: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() {
        let first = rpassword::prompt_password(format!("New password for {}: ", printable(name)))?;
        let second = rpassword::prompt_password("Repeat the password: ")?;
        if first != second {
            return Err(anyhow!("the passwords do not match"));
        }
        first
    } else {
        let mut line = String::new();
        let read = stdin.lock().read_line(&mut line);
        read.context("cannot read the password from standard input")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() {
        return Err(anyhow!("the password is empty"));
    }
    Ok(password)
}

fn view(name: &str, user: &User, configured: bool) -> UserView {
    let projects = user.projects.as_ref();
    UserView {
        name: name.to_owned(),
        roles: user.roles.clone(),
        projects: projects.map(|all| all.iter().map(ToString::to_string).collect()),
        admin: user.admin,
        max_instances: user.max_instances,
        creations_per_minute: user.creations_per_minute,
        origin: if configured { "config" } else { "file" },
    }
}

fn text(users: &[UserView]) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("ROLES", Align::Left),
        ("PROJECTS", Align::Left),
        ("ADMIN", Align::Left),
        ("MAX INSTANCES", Align::Right),
        ("PER MINUTE", Align::Right),
        ("ORIGIN", Align::Left),
    ];
    let rows = users.iter().map(|user| {
        [
            user.name.clone(),
            user.roles.join(", "),
            user.projects
                .as_ref()
                .map_or_else(|| "all".to_owned(), |some| some.join(", ")),
            if user.admin { "yes" } else { "no" }.to_owned(),
            or_none(user.max_instances),
            or_none(user.creations_per_minute),
            user.origin.to_owned(),
        ]
    });
    table(columns, rows)
}
