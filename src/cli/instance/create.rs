//! `multidb instance create`.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use multidb_store::{Class, InstanceName, ProjectName};

use crate::admin::api::CreateBody;
use crate::admin::client::{AdminClient, AdminError};
use crate::control::model::InstanceView;

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// Name of the new instance
    name: InstanceName,
    #[command(flatten)]
    source: SourceArgs,
    /// Project, if several are configured
    #[arg(long)]
    project: Option<ProjectName>,
    /// Time without use after which it expires, such as 2h, at most limits.retention
    #[arg(long, value_name = "TIME", value_parser = super::pin_time)]
    ttl: Option<Duration>,
    /// How safely its data is kept; scratch runs without fsync, and is cloned afresh after a crash
    #[arg(long, value_parser = PossibleValuesParser::new(Class::ALL.map(Class::name)), default_value = "durable")]
    class: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SourceArgs {
    /// From the newest snapshot that is compatible with this revision
    #[arg(long, value_name = "REF")]
    gitref: Option<String>,
    /// From the snapshot of this id, or "latest"
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// From the newest snapshot taken at or before this date or time
    #[arg(long, value_name = "TIME")]
    asof: Option<String>,
    /// From another instance as it is now, whose sessions go on
    #[arg(long, value_name = "NAME")]
    from: Option<InstanceName>,
}

/// Creates the instance.
pub(super) async fn create(
    client: &AdminClient,
    args: CreateArgs,
) -> Result<InstanceView, AdminError> {
    let body = CreateBody {
        name: args.name.to_string(),
        project: args.project.map(|project| project.to_string()),
        gitref: args.source.gitref,
        snapshot: args.source.snapshot,
        asof: args.source.asof,
        from: args.source.from.map(|name| name.to_string()),
        ttl_seconds: args.ttl.map(|ttl| ttl.as_secs()),
        class: Class::from_name(&args.class),
    };
    client.post("/v1/instances", &body).await
}
