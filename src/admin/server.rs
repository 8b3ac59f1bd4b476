//! The daemon's side of the admin socket: a handler for each path of [`api`](super::api), which
//! asks the actors and shows what they say.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use jiff::Timestamp;
use multidb_actors::clone_worker::CloneWorker;
use multidb_actors::ports::{Cloner, ServerProbe};
use multidb_actors::sessions::SessionTable;
use multidb_actors::snapshot_index::{ListSnapshots, SnapshotIndex};
use multidb_actors::supervisor::{ListInstances, Supervisor};
use multidb_store::Layout;

use super::api::{StatusView, UsersView};
use crate::clone::TreeCloner;
use crate::config::Config;
use crate::import::Importer;
use crate::runtime::PostgresHost;
use crate::users::LiveUsers;

mod connections;
mod failure;
mod instances;
mod snapshots;

use self::failure::{Answer, Failure};

/// What the handlers ask.
#[derive(Clone)]
pub struct AdminDeps {
    /// The configuration.
    pub config: Arc<Config>,
    /// Makes snapshots.
    pub importer: Arc<Importer>,
    /// Knows the disk.
    pub cloner: Arc<TreeCloner>,
    /// Runs Postgres.
    pub host: Arc<dyn PostgresHost>,
    /// The paths.
    pub layout: Layout,
    /// The instances.
    pub supervisor: Addr<Supervisor>,
    /// The snapshots.
    pub index: Addr<SnapshotIndex>,
    /// Deletes and measures.
    pub worker: Addr<CloneWorker>,
    /// The open sessions.
    pub sessions: SessionTable,
    /// The users, unless everybody is trusted.
    pub users: Option<Arc<LiveUsers>>,
    /// Asks the instances' Postgres.
    pub probe: Arc<dyn ServerProbe>,
    /// When the daemon started.
    pub started_at: Timestamp,
}

/// Serves the admin socket on this system until it is told to stop.
///
/// # Errors
///
/// The socket cannot be made.
pub fn serve(deps: AdminDeps) -> io::Result<ServerHandle> {
    let path = deps.config.admin_socket.clone();
    make_room(&path)?;
    let deps = web::Data::new(deps);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(deps.clone())
            .app_data(web::JsonConfig::default().error_handler(failure::bad_json))
            .app_data(web::QueryConfig::default().error_handler(failure::bad_query))
            .service(status)
            .service(read_users)
            .configure(instances::routes)
            .configure(snapshots::routes)
            .configure(connections::routes)
            .default_service(web::to(failure::no_such_path))
    })
    .workers(1)
    .disable_signals()
    .bind_uds(&path)?
    .run();
    // Whoever may write to the socket commands the daemon.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// Replaces the socket of a daemon that is gone, and no other file.
fn make_room(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is no socket",
        )),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another multidb listens on it",
        )),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

#[actix_web::get("/v1/status")]
async fn status(deps: web::Data<AdminDeps>) -> Answer<StatusView> {
    let all = deps.supervisor.send(ListInstances).await?;
    let snapshots = deps.index.send(ListSnapshots).await?;
    let mut instances = std::collections::BTreeMap::new();
    for status in all {
        *instances.entry(status.state.name().to_owned()).or_insert(0) += 1;
    }
    Ok(web::Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: deps.started_at,
        listen: deps.config.listen.iter().map(ToString::to_string).collect(),
        root: deps.config.root.clone(),
        runtime: deps.host.kind().to_owned(),
        instances,
        connections: *deps.sessions.count().borrow(),
        snapshots: snapshots.len(),
        clone_method: deps.cloner.method().to_owned(),
        disk_free_bytes: deps.cloner.disk_free_bytes().map_err(Failure::internal)?,
    }))
}

/// Reads the file of users again, at once.
#[actix_web::post("/v1/users/reload")]
async fn read_users(deps: web::Data<AdminDeps>) -> Answer<UsersView> {
    let Some(live) = deps.users.clone() else {
        return Ok(web::Json(UsersView { users: 0 }));
    };
    let read = web::block(move || live.read_again());
    let users = read
        .await
        .map_err(Failure::internal)?
        .map_err(Failure::internal)?;
    Ok(web::Json(UsersView { users }))
}
