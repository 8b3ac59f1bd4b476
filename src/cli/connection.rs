//! `multidb connection`: open sessions.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use super::Invocation;
use super::table::{Align, WidthArgs, ago, coarse, fitted, or_none};
use crate::control::model::ConnectionView;

#[derive(Debug, Subcommand)]
pub(super) enum ConnectionCommand {
    /// List open sessions
    Ls(WidthArgs),
    /// End a session; its client receives error 57P01
    Kill {
        /// Number of the session in `connection ls`
        id: u64,
    },
}

pub(super) async fn run(
    command: &ConnectionCommand,
    invocation: &Invocation,
) -> anyhow::Result<ExitCode> {
    let client = invocation.client()?;
    match command {
        ConnectionCommand::Ls(args) => {
            let connections: Vec<ConnectionView> = client.get("/v1/connections").await?;
            let now = Timestamp::now();
            invocation
                .output
                .show(&connections, |views| text(views, now, args.limit()))?;
        }
        ConnectionCommand::Kill { id } => {
            let () = client.delete(&format!("/v1/connections/{id}")).await?;
            let done = json!({"id": id, "killed": true});
            invocation
                .output
                .show(&done, |_| format!("connection {id} ended"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A table for a terminal of this width, if there is one.
pub(super) fn text(connections: &[ConnectionView], now: Timestamp, width: Option<usize>) -> String {
    let columns = [
        ("ID", Align::Right),
        ("PEER", Align::Left),
        ("TLS", Align::Left),
        ("USER", Align::Left),
        ("INSTANCE", Align::Left),
        ("DATABASE", Align::Left),
        ("ROLE", Align::Left),
        ("APPLICATION", Align::Left),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
    ];
    let rows = connections.iter().map(|connection| {
        let application = Some(&connection.application_name).filter(|name| !name.is_empty());
        [
            connection.id.to_string(),
            connection.peer.clone(),
            or_none(connection.tls.as_ref()),
            connection.user.clone(),
            connection
                .instance
                .clone()
                .unwrap_or_else(|| "(console)".to_owned()),
            connection.database.clone(),
            or_none(connection.role.as_ref()),
            or_none(application),
            connection.state.clone(),
            ago(connection.connected_at, now),
            coarse(Duration::from_secs(connection.idle_seconds)),
        ]
    });
    let spare = ["TLS", "APPLICATION", "ROLE", "DATABASE", "AGE", "USER"];
    fitted(columns, rows, &spare, width)
}
