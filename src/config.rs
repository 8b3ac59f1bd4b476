//! The configuration: its settings, their defaults, and their validation.
//!
//! The file is read once, at start, into types without invalid values. All its faults are reported
//! together, each with its key. `limits`, `runtime`, `project` and so on own one section each;
//! `section` reads keys and records the origin of each effective value.
//!
//! A leaf: it imports no other module of this crate. `daemon/convert.rs` converts its types into the
//! types of the parts.

mod cron;
mod dedup;
mod fault;
mod hooks;
mod http;
mod limits;
mod lines;
mod listen;
mod migrations;
mod notify;
mod postgres;
mod prepare;
mod project;
pub mod reference;
mod refresh;
mod rename_database;
mod runtime;
mod section;
mod server;
mod source;
mod source_url;
#[cfg(test)]
mod tests;
mod tls;
mod user;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multidb_actors::limits::Limits;
use multidb_store::ProjectName;

pub use self::cron::Cron;
pub use self::dedup::DedupConfig;
pub use self::fault::{ConfigFaults, Fault};
pub use self::hooks::{HookConfig, NamePattern};
pub use self::http::{Certificate, HttpConfig};
pub use self::listen::ListenAddress;
pub use self::migrations::{CustomQuery, MigrationsQuery, Preset};
pub use self::notify::{
    NotifyConfig, NotifyEvent, NotifySecret, NotifyTarget, WebhookUrl, unusable_targets,
};
pub use self::postgres::OWNED_SETTINGS;
pub use self::prepare::{Preparation, PreparationRun, missing_files};
pub(crate) use self::project::without_secret;
pub use self::project::{FilePattern, GitRemote, Listing, Project, Publish};
pub use self::refresh::{RefreshConfig, RefreshMethod, RefreshSchedule, RefreshSource};
pub use self::runtime::{CloneMethod, Network, RuntimeConfig};
pub use self::section::{Origin, Setting};
pub use self::server::{Auth, AuthMethod};
pub use self::source_url::SourceUrl;
pub use self::tls::TlsConfig;
pub use self::user::{parse_users, read_users_file};
pub use multidb_store::RuntimeKind;

use self::section::{Report, Section};

/// The default path of the configuration.
pub const DEFAULT_PATH: &str = "/etc/multidb/multidb.toml";

/// The default path of the admin socket of a daemon that runs as root.
pub const ROOT_ADMIN_SOCKET: &str = "/run/multidb/admin.sock";

/// The longest path of a Unix socket, in bytes: the size in `sockaddr_un`, without the NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The addresses for clients.
    pub listen: Vec<ListenAddress>,
    /// The directory of snapshots, instances, sockets and records.
    pub root: PathBuf,
    /// The socket for the commands.
    pub admin_socket: PathBuf,
    /// The runtime of the Postgres servers.
    pub runtime: RuntimeConfig,
    /// How snapshots are cloned.
    pub clone_method: CloneMethod,
    /// How snapshots come to share their blocks.
    pub dedup: DedupConfig,
    /// The limits of the actors.
    pub limits: Limits,
    /// A clone must leave at least this much free on the root's file system.
    pub disk_reserve_bytes: u64,
    /// The percentage of the root's file system above which multidb makes room; `None` where it does not.
    pub disk_high_water: Option<u8>,
    /// The most bytes that an instance may have of its own; `None` for no limit.
    pub max_instance_bytes: Option<u64>,
    /// The limit of a fetch from a project's repository.
    pub fetch_timeout: Duration,
    /// Settings of every Postgres, over multidb's own, ordered by name.
    pub postgres_settings: Vec<(String, String)>,
    /// The authentication of clients.
    pub auth: Auth,
    /// TLS, if it is offered.
    pub tls: Option<TlsConfig>,
    /// The API and the web page over the network, if they are offered.
    pub http: Option<HttpConfig>,
    /// Who is told of which events.
    pub notify: Vec<NotifyConfig>,
    /// The projects.
    pub projects: BTreeMap<ProjectName, Project>,
}

/// A configuration with the origins of its values, for `multidb config show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Each setting's effective value and its origin.
    pub settings: Vec<Setting>,
    /// Valid settings that are probably mistakes.
    pub warnings: Vec<Fault>,
    /// The file; none if all values are defaults.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads the file, or the one at [`DEFAULT_PATH`] if it exists; otherwise all values are defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigFaults> {
        Ok(Loaded::load(path)?.config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::read(toml::Table::new(), &mut Report::default())
    }
}

impl Loaded {
    /// As [`Config::load`], with the origin of each value.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigFaults> {
        let Some((file, text)) = source::read(path)? else {
            return Self::parse(None, "");
        };
        Self::parse(Some(file), &text)
    }

    fn parse(file: Option<PathBuf>, text: &str) -> Result<Self, ConfigFaults> {
        let (config, report) = source::parse(file.as_deref(), text, Config::read)?;
        Ok(Self {
            config,
            settings: report.settings,
            warnings: report.warnings,
            file,
        })
    }
}

impl Config {
    /// Reads all sections. A faulty value is replaced by its default, so that the others are checked.
    fn read(table: toml::Table, report: &mut Report) -> Self {
        let mut top = Section::top(table);
        let listen = listen::read(&mut top, report);
        let root = server::root(&mut top, report);
        let admin_socket = server::admin_socket(&mut top, &root, report);
        let runtime = runtime::read(top.section("runtime", report), report);
        let clone_method = runtime::clone_method(top.section("clone", report), report);
        let dedup = dedup::read(top.section("dedup", report), report);
        let limits = limits::read(top.section("limits", report), report);
        let postgres_settings = postgres::read(top.section("postgres", report), report);
        let auth = server::auth(top.section("auth", report), &root, &listen, report);
        let tls = tls::read(&mut top, report);
        if tls.is_none() && !listen.iter().all(ListenAddress::is_local) {
            let message = "can be reached from other machines, and there is no [tls]: queries and \
                results can be read on the network";
            report.warning("listen", message);
        }
        let http = http::read(&mut top, auth.method, tls.as_ref(), report);
        let notify = notify::read(&mut top, report);
        let projects = project::read_all(top.section("project", report), report);
        let hooks = http.iter().flat_map(|http| &http.hooks);
        hooks::check(hooks, &projects, report);
        top.close(report);
        Self {
            listen,
            root,
            admin_socket,
            runtime,
            clone_method,
            dedup,
            limits: limits.limits,
            disk_reserve_bytes: limits.disk_reserve_bytes,
            disk_high_water: limits.disk_high_water,
            max_instance_bytes: limits.max_instance_bytes,
            fetch_timeout: limits.fetch_timeout,
            postgres_settings,
            auth,
            tls,
            http,
            notify,
            projects,
        }
    }
}
