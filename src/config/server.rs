//! The daemon's own paths, and `[auth]`.

use std::path::{Component, Path, PathBuf};

use multidb_actors::auth::Users;

use super::listen::{ListenAddress, socket_path};
use super::section::{Origin, Report, Section};
use super::user::read_users;
use super::value::{Value, string};
use super::{ROOT_ADMIN_SOCKET, SOCKET_PATH_BYTES_MAX};

/// The length that `run/<uid>/.s.PGSQL.5432` adds to the root's path, in bytes.
const SERVER_SOCKET_BYTES: usize = "/run/0123456789ab/.s.PGSQL.5432".len();

/// The authentication of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The method.
    pub method: AuthMethod,
    /// The user of a client that names none.
    pub default_user: String,
    /// The users by name. They have no effect with `trust`.
    pub users: Users,
    /// The file with more users, which `multidb user` writes.
    pub users_file: PathBuf,
}

/// The methods of authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// No authentication.
    Trust,
    /// By a password or a certificate.
    ScramSha256,
}

pub(super) fn root(top: &mut Section, report: &mut Report) -> PathBuf {
    let root = top.get("root", PathBuf::from("/var/lib/multidb"), report);
    let bytes_max = SOCKET_PATH_BYTES_MAX - SERVER_SOCKET_BYTES;
    let bytes = root.as_os_str().len();
    if bytes > bytes_max {
        let message = format!(
            "is {bytes} bytes long; at most {bytes_max}, since the paths of Unix sockets begin with it"
        );
        report.fault("root", message);
    }
    if root.parent().is_none() {
        report.fault("root", "must be a directory for multidb alone, not /");
    }
    if root.components().any(|part| part == Component::ParentDir) {
        report.fault("root", "must not contain \"..\"");
    }
    if root.as_os_str().as_encoded_bytes().contains(&b',') {
        let message = "must not contain a comma, which separates the directories of sockets in Postgres' \
            unix_socket_directories and in the host of psql";
        report.fault("root", message);
    }
    root
}

/// The path of a Unix socket.
struct SocketPath(PathBuf);

impl Value for SocketPath {
    fn read(value: &toml::Value) -> Result<Self, String> {
        socket_path(&String::read(value)?).map(Self)
    }

    fn show(&self) -> toml::Value {
        self.0.show()
    }
}

pub(super) fn admin_socket(top: &mut Section, root: &Path, report: &mut Report) -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let default = default_admin_socket(
        rustix::process::geteuid().is_root(),
        runtime_dir.as_deref(),
        root,
    );
    top.get("admin_socket", SocketPath(default), report).0
}

/// The default path of the admin socket, in a directory that this user can write to:
/// `$XDG_RUNTIME_DIR` is an ordinary user's `/run` (XDG base directory specification).
pub(super) fn default_admin_socket(
    is_root: bool,
    runtime_dir: Option<&Path>,
    root: &Path,
) -> PathBuf {
    if is_root {
        return PathBuf::from(ROOT_ADMIN_SOCKET);
    }
    match runtime_dir.filter(|directory| directory.is_absolute()) {
        Some(directory) => directory.join("multidb/admin.sock"),
        None => root.join("state/admin.sock"),
    }
}

pub(super) fn auth(
    mut section: Section,
    root: &Path,
    listen: &[ListenAddress],
    report: &mut Report,
) -> Auth {
    let local = listen.iter().all(ListenAddress::is_local);
    let method = section.optional::<String>("method", report);
    let method = match method.as_deref() {
        Some("trust") => {
            if !local {
                refuse_trust(listen, report);
            }
            AuthMethod::Trust
        }
        Some("scram-sha-256") => AuthMethod::ScramSha256,
        Some(other) => {
            let message = format!("\"{other}\" is not one of \"trust\", \"scram-sha-256\"");
            report.fault("auth.method", message);
            AuthMethod::Trust
        }
        None if local => {
            report.setting("auth.method", string("trust"), Origin::Default);
            AuthMethod::Trust
        }
        None => {
            report.setting("auth.method", string("scram-sha-256"), Origin::Default);
            AuthMethod::ScramSha256
        }
    };
    let default_user = section.get("default_user", "staff".to_owned(), report);
    let users = read_users(section.section("users", report), report);
    // An administrator who sets roles expects them to be enforced.
    if !users.is_empty() && method == AuthMethod::Trust {
        let message = "have no effect: with auth.method = \"trust\" no client is asked for a \
            password, and all of them may log in as any role";
        report.warning("auth.users", message);
    }
    let users_file = section.get("users_file", root.join("state/users.toml"), report);
    section.close(report);
    Auth {
        method,
        default_user,
        users,
        users_file,
    }
}

/// Any client that reaches the port could log in as any user.
fn refuse_trust(listen: &[ListenAddress], report: &mut Report) {
    let open = listen.iter().filter(|address| !address.is_local());
    let open: Vec<_> = open.map(|address| format!("\"{address}\"")).collect();
    let message = format!(
        "{} can be reached from other machines, and auth.method = \"trust\" is only for loopback \
         addresses and Unix sockets; \"scram-sha-256\" asks for passwords",
        open.join(", "),
    );
    report.fault("auth.method", message);
}
