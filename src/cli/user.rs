//! `multidb user`: who may log in. It works on the file of users, with or without a daemon.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use multidb_actors::auth::User;
use serde::Serialize;
use serde_json::json;

use super::Invocation;
use super::table::{Align, or_none, printable, table};
use crate::admin::client::AdminError;
use crate::config::{Auth, AuthMethod};
use crate::control::model::UsersView;
use crate::users::{self, NewUser, UsersFile};

/// How long a running daemon may take to read the file again.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Let a user in; asks for the password, or reads it from standard input
    Add(AddArgs),
    /// List the users
    Ls,
    /// Let a user in no more; open sessions go on
    Rm {
        /// The user's name
        name: String,
    },
    /// Change a user's password; asks for it, or reads it from standard input
    Passwd {
        /// The user's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The user's name
    name: String,
    /// A Postgres role that the user may log in as; can be given several times
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<String>,
    /// A project that the user may use; can be given several times; all if it is left out
    #[arg(long = "project", value_name = "PROJECT")]
    projects: Vec<String>,
    /// How many instances that the user created may exist at one time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    max_instances: Option<i64>,
    /// How many instances the user may create within a minute
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    creations_per_minute: Option<i64>,
}

/// A user, as `user ls` shows it.
#[derive(Debug, Serialize)]
struct UserView {
    name: String,
    roles: Vec<String>,
    /// All, where there is none.
    projects: Option<Vec<String>>,
    max_instances: Option<usize>,
    creations_per_minute: Option<usize>,
    /// `config` or `file`.
    origin: &'static str,
}

pub(super) async fn run(command: UserCommand, invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let auth = invocation.loaded()?.config.auth;
    match command {
        UserCommand::Add(args) => {
            let new = NewUser {
                roles: args.roles,
                projects: args.projects,
                max_instances: args.max_instances,
                creations_per_minute: args.creations_per_minute,
            };
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
        UserCommand::Rm { name } => {
            let remove = |file: &mut UsersFile| file.remove(&name);
            change(invocation, &auth, &name, "removed", remove).await?;
        }
        UserCommand::Passwd { name } => {
            let password = password(&auth, &name, Existence::Known)?;
            let set = |file: &mut UsersFile| file.set_password(&name, &password);
            change(invocation, &auth, &name, "changed", set).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes the file, and says that it is done: in the running daemon too, if there is one.
async fn change(
    invocation: &Invocation,
    auth: &Auth,
    name: &str,
    done: &str,
    change: impl FnOnce(&mut UsersFile) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    refuse_configured(auth, name)?;
    let mut file = UsersFile::open(&auth.users_file)?;
    change(&mut file)?;
    file.save()?;
    drop(file);
    let shown = json!({"name": name, done: true, "users_file": auth.users_file});
    let note = match auth.method {
        AuthMethod::ScramSha256 => tell_daemon(invocation).await?,
        AuthMethod::Trust => "\nauth.method is \"trust\", so nobody is asked for a password yet",
    };
    invocation
        .output
        .show(&shown, |_| format!("user {} {done}{note}", printable(name)))
}

/// Has a running daemon read the file at once. Where it does not answer, it sees the change by itself; where it
/// answers that it cannot, the change has no effect.
async fn tell_daemon(invocation: &Invocation) -> anyhow::Result<&'static str> {
    let client = invocation.client()?.with_timeout(RELOAD_TIMEOUT);
    let nothing = json!({});
    let told = client.post::<UsersView>("/v1/users/reload", &nothing);
    match told.await {
        Ok(_) | Err(AdminError::NotRunning { .. }) => Ok(""),
        Err(error @ AdminError::Refused(_)) => Err(anyhow!(error)
            .context("the file is changed, but the daemon goes on with the users before")),
        Err(_) => {
            Ok("\nthe daemon could not be told, it reads the file again by itself within seconds")
        }
    }
}

/// The configuration's word counts, so a change of the file would have no effect.
fn refuse_configured(auth: &Auth, name: &str) -> anyhow::Result<()> {
    match auth.users.contains_key(name) {
        true => Err(anyhow!(
            "user \"{name}\" is in the configuration, change auth.users.{name} there"
        )),
        false => Ok(()),
    }
}

/// Whether a command needs a name that is there, or one that is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existence {
    New,
    Known,
}

/// A new password, once it is clear that it is not asked for in vain. The file is not held meanwhile: somebody may
/// think about a password for long.
fn password(auth: &Auth, name: &str, existence: Existence) -> anyhow::Result<String> {
    refuse_configured(auth, name)?;
    let is_there = UsersFile::open(&auth.users_file)?.contains(name);
    match (existence, is_there) {
        (Existence::New, true) => Err(users::user_exists(name)),
        (Existence::Known, false) => Err(users::no_such_user(name, &auth.users_file)),
        (Existence::New, false) | (Existence::Known, true) => read_password(name),
    }
}

/// Asked for twice at a terminal, else the first line of standard input.
fn read_password(name: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() {
        let first = rpassword::prompt_password(format!("New password of {}: ", printable(name)))?;
        let second = rpassword::prompt_password("Again: ")?;
        if first != second {
            return Err(anyhow!("the passwords are not the same"));
        }
        first
    } else {
        let mut line = String::new();
        let read = stdin.lock().read_line(&mut line);
        read.context("the password cannot be read from standard input")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    match password.is_empty() {
        true => Err(anyhow!("the password is empty")),
        false => Ok(password),
    }
}

fn view(name: &str, user: &User, configured: bool) -> UserView {
    let projects = user.projects.as_ref();
    UserView {
        name: name.to_owned(),
        roles: user.roles.clone(),
        projects: projects.map(|all| all.iter().map(ToString::to_string).collect()),
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
            or_none(user.max_instances),
            or_none(user.creations_per_minute),
            user.origin.to_owned(),
        ]
    });
    table(columns, rows)
}
