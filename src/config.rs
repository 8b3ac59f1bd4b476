//! The configuration: what may be set, what holds where nothing is, and what is refused.
//!
//! The file is read once, at start, into types that cannot be wrong. All its faults are reported
//! together, each with its key. `limits`, `runtime`, `project` and so on own one section each;
//! `section` reads keys and remembers where each effective value came from.

mod fault;
mod limits;
mod lines;
mod listen;
mod migrations;
mod postgres;
mod project;
mod runtime;
mod section;
mod server;
mod source;
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

pub use self::fault::{ConfigFaults, Fault};
pub use self::listen::ListenAddress;
pub use self::migrations::{CustomQuery, MigrationsQuery, Preset};
pub use self::postgres::OWNED_SETTINGS;
pub(crate) use self::project::without_secret;
pub use self::project::{GitRemote, Project};
pub use self::runtime::{CloneMethod, Network, RuntimeConfig, RuntimeKind};
pub use self::section::{Origin, Setting};
pub use self::server::{Auth, AuthMethod};
pub use self::tls::TlsConfig;
pub use self::user::{parse_users, read_users_file};

use self::section::{Report, Section};

/// Where the configuration is when nobody says where.
pub const DEFAULT_PATH: &str = "/etc/multidb/multidb.toml";

/// Where the admin socket is when nobody says where.
pub const ROOT_ADMIN_SOCKET: &str = "/run/multidb/admin.sock";

/// The longest path of a Unix socket, in bytes: what `sockaddr_un` holds, without its NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<ListenAddress>,
    /// The directory of snapshots, instances, sockets and records.
    pub root: PathBuf,
    /// The socket that the commands talk to.
    pub admin_socket: PathBuf,
    /// What runs Postgres.
    pub runtime: RuntimeConfig,
    /// How snapshots are cloned.
    pub clone_method: CloneMethod,
    /// What the actors keep to.
    pub limits: Limits,
    /// Clones are refused where they would leave less than this free on the root's file system.
    pub disk_reserve_bytes: u64,
    /// How long a fetch from a project's repository may take.
    pub fetch_timeout: Duration,
    /// Settings of every Postgres, over multidb's own, ordered by name.
    pub postgres_settings: Vec<(String, String)>,
    /// Who clients are.
    pub auth: Auth,
    /// TLS, if clients may ask for it.
    pub tls: Option<TlsConfig>,
    /// The projects.
    pub projects: BTreeMap<ProjectName, Project>,
}

/// A configuration with where it came from, for `multidb config show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Each setting's effective value and its origin.
    pub settings: Vec<Setting>,
    /// What is valid, but hardly meant.
    pub warnings: Vec<Fault>,
    /// The file; none where there was none, and all is default.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads the file, or the one at [`DEFAULT_PATH`] if it exists, or nothing: then all is
    /// default.
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
    /// Reads all sections. What has a fault gets its default, so that the rest can be checked.
    fn read(table: toml::Table, report: &mut Report) -> Self {
        let mut top = Section::top(table);
        let listen = listen::read(&mut top, report);
        let root = server::root(&mut top, report);
        let admin_socket = server::admin_socket(&mut top, &root, report);
        let runtime = runtime::read(top.section("runtime", report), report);
        let clone_method = runtime::clone_method(top.section("clone", report), report);
        let (limits, disk_reserve_bytes, fetch_timeout) =
            limits::read(top.section("limits", report), report);
        let postgres_settings = postgres::read(top.section("postgres", report), report);
        let auth = server::auth(top.section("auth", report), &root, &listen, report);
        let tls = tls::read(&mut top, report);
        if tls.is_none() && !listen.iter().all(ListenAddress::is_local) {
            let message = "can be reached from other machines, and there is no [tls]: what clients \
                send and get can be read on the way";
            report.warning("listen", message);
        }
        let projects = project::read_all(top.section("project", report), report);
        top.close(report);
        Self {
            listen,
            root,
            admin_socket,
            runtime,
            clone_method,
            limits,
            disk_reserve_bytes,
            fetch_timeout,
            postgres_settings,
            auth,
            tls,
            projects,
        }
    }
}
