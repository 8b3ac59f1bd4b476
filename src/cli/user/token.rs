//! `multidb user token`: the tokens of a user.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use multidb_actors::auth::{BearerToken, Scope, Token};
use serde::Serialize;
use serde_json::json;

use super::super::Invocation;
use super::super::instance::pin_time;
use super::super::output::printable;
use super::super::table::{Align, table};
use super::{change, change_file};
use crate::config::Auth;
use crate::users::{self, NewToken, UsersFile};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Make a token and print it, this once
    Add(AddArgs),
    /// List the tokens of a user
    Ls {
        /// Name of the user
        name: String,
    },
    /// Remove a token, which is refused from then on
    Rm {
        /// Name of the user
        name: String,
        /// Id of the token
        id: String,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AddArgs {
    /// Name of the user
    name: String,
    /// What its bearer may do: read sees what the user may see; use changes it, too; admin has the user's own rights of
    /// an administrator
    #[arg(long, default_value = "use", value_parser = ["read", "use", "admin"])]
    scope: String,
    /// Time after which it is refused, such as 12h or 90d, or never
    #[arg(long, default_value = "90d", value_name = "TIME", value_parser = life)]
    expires: Life,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// How long a token is valid.
#[derive(Debug, Clone, Copy)]
enum Life {
    For(Duration),
    Endless,
}

/// A token in the answer of `user token ls`.
#[derive(Debug, Serialize)]
struct TokenView {
    id: String,
    /// `read`, `use` or `admin`.
    scope: &'static str,
    label: Option<String>,
    created_at: Timestamp,
    /// None for never.
    expires_at: Option<Timestamp>,
    expired: bool,
}

fn life(text: &str) -> Result<Life, String> {
    match text {
        "never" => Ok(Life::Endless),
        text => pin_time(text).map(Life::For),
    }
}

pub(super) async fn run(
    command: TokenCommand,
    auth: &Auth,
    invocation: &Invocation,
) -> anyhow::Result<()> {
    match command {
        TokenCommand::Add(args) => add(args, auth, invocation).await,
        TokenCommand::Ls { name } => {
            let users = users::load(auth)?;
            let user = users.get(&name);
            let user = user.ok_or_else(|| users::no_such_user(&name, &auth.users_file))?;
            let now = Timestamp::now();
            let views: Vec<_> = user.tokens.iter().map(|token| view(token, now)).collect();
            invocation.output.show(&views, |views| text(views))
        }
        TokenCommand::Rm { name, id } => {
            let remove = |file: &mut UsersFile| file.remove_token(&name, &id);
            change(invocation, auth, &name, "changed", remove).await
        }
    }
}

async fn add(args: AddArgs, auth: &Auth, invocation: &Invocation) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let expires_at = match args.expires {
        Life::Endless => None,
        Life::For(time) => {
            let time = SignedDuration::try_from(time);
            let end = time.ok().and_then(|time| now.checked_add(time).ok());
            Some(end.context("--expires is too long; \"never\" makes a token without an end")?)
        }
    };
    let scope: Scope = args.scope.parse().map_err(anyhow::Error::msg)?;
    let token = BearerToken::random();
    let new = NewToken {
        scope,
        created_at: now,
        expires_at,
        label: args.label,
    };
    let add = |file: &mut UsersFile| file.add_token(&args.name, &token, &new);
    let note = change_file(invocation, auth, &args.name, add).await?;
    let shown = json!({
        "id": token.id(),
        "user": args.name,
        "scope": scope.name(),
        "label": new.label,
        "created_at": now,
        "expires_at": expires_at,
        "token": token.reveal(),
    });
    invocation.output.show(&shown, |_| token.reveal())?;
    // The token is alone on standard output, for scripts.
    let end = expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string());
    let id = token.id();
    let told = writeln!(
        std::io::stderr(),
        "token {id} of {}, scope {}, expires: {end}; it is shown this once{note}",
        printable(&args.name),
        scope.name(),
    );
    told.context("cannot write to standard error")
}

fn view(token: &Token, now: Timestamp) -> TokenView {
    TokenView {
        id: token.id.clone(),
        scope: token.scope.name(),
        label: token.label.clone(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        expired: token.expires_at.is_some_and(|end| end <= now),
    }
}

fn text(tokens: &[TokenView]) -> String {
    let columns = [
        ("ID", Align::Left),
        ("SCOPE", Align::Left),
        ("CREATED", Align::Left),
        ("EXPIRES", Align::Left),
        ("LABEL", Align::Left),
    ];
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M").to_string();
    let rows = tokens.iter().map(|token| {
        let expires = match token.expires_at {
            None => "never".to_owned(),
            Some(end) if token.expired => format!("{} (expired)", time(end)),
            Some(end) => time(end),
        };
        [
            token.id.clone(),
            token.scope.to_owned(),
            time(token.created_at),
            expires,
            token.label.clone().unwrap_or_default(),
        ]
    });
    table(columns, rows)
}
