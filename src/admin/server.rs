//! The daemon's side of the admin socket: a handler for each path of [`api`](super::api), which
//! hands a typed request to [`Control`].

use std::io;
use std::path::Path;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, get, post, web};

use crate::control::model::{NotifyTestView, StatusView, UsersView};
use crate::control::{Caller, Control, ControlError};
use crate::doctor::{Finding, Refusal};
use crate::fsutil::socket;
use crate::metrics;

pub(crate) mod caller;
mod connections;
mod dedup;
pub(crate) mod document;
mod events;
pub(crate) mod failure;
mod instances;
mod jobs;
mod page;
mod snapshots;

use self::document::{Methods, Paths, Problems, document};
use self::failure::{Answer, Failure};

/// Any process that may write to the socket commands the daemon.
const SOCKET_MODE: u32 = 0o660;

/// The longest body, but for dumps.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// The service, as handlers receive it.
type Service = web::Data<Control>;

/// Serves the admin socket on this system until its handle is told to stop.
///
/// # Errors
///
/// The socket cannot be created.
pub fn serve(path: &Path, control: Control) -> io::Result<ServerHandle> {
    let listener = socket::listen(path, SOCKET_MODE)?;
    let control = web::Data::new(control);
    let methods = web::Data::new(Methods::of(&document(|_| {})));
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(caller::as_administrator))
            .configure(|paths| routes(paths, control.clone(), methods.clone()))
            .default_service(web::to(failure::no_such_path))
    })
    .workers(1)
    .disable_signals()
    .listen_uds(listener)?
    .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// The paths of [`api`](super::api) on any listener. Each request must have its [`Caller`] by
/// [`caller::set`]: without it, it fails.
pub(crate) fn routes(
    paths: &mut web::ServiceConfig,
    control: Service,
    methods: web::Data<Methods>,
) {
    paths
        .app_data(control)
        .app_data(methods)
        // The one worker of a listener makes this once.
        .app_data(web::Data::new(events::Streams::default()))
        .app_data(
            web::JsonConfig::default()
                .limit(BODY_BYTES_MAX)
                .error_handler(failure::bad_json),
        )
        .app_data(web::QueryConfig::default().error_handler(failure::bad_query))
        .app_data(web::PathConfig::default().error_handler(failure::bad_path));
    describe(&mut Paths::new(paths));
}

/// The paths with their descriptions.
fn describe(paths: &mut Paths<'_>) {
    paths
        .service(status)
        .service(doctor)
        .service(reload_users)
        .service(test_notifications)
        .configure(instances::routes)
        .configure(snapshots::routes)
        .configure(jobs::routes)
        .configure(dedup::routes)
        .configure(connections::routes)
        .configure(metrics::routes);
}

/// Shows the daemon
#[utoipa::path(operation_id = "status", tag = "daemon", responses((status = 200, body = StatusView, description = "The daemon."), Problems))]
#[get("/v1/status")]
async fn status(caller: Caller, control: Service) -> Answer<StatusView> {
    Ok(web::Json(control.status(&caller).await?))
}

/// Checks the machine and the installation, for administrators
#[utoipa::path(operation_id = "doctor", tag = "daemon", responses((status = 200, body = Vec<Finding>, description = "What was found, with advice."), Problems))]
#[get("/v1/doctor")]
async fn doctor(caller: Caller, control: Service) -> Answer<Vec<Finding>> {
    Ok(web::Json(control.doctor(&caller, refusal).await?))
}

/// An error of the service, worded as this API words it.
pub(crate) fn refusal(error: ControlError) -> Refusal {
    Failure::from(error).into()
}

/// Reads the file of users again
#[utoipa::path(operation_id = "reload_users", tag = "daemon", responses((status = 200, body = UsersView, description = "The number of users."), Problems))]
#[post("/v1/users/reload")]
async fn reload_users(caller: Caller, control: Service) -> Answer<UsersView> {
    Ok(web::Json(control.reload_users(&caller).await?))
}

/// Sends a test to each target of notifications
#[utoipa::path(operation_id = "test_notifications", tag = "daemon", responses((status = 200, body = Vec<NotifyTestView>, description = "What became of it."), Problems))]
#[post("/v1/notify/test")]
async fn test_notifications(caller: Caller, control: Service) -> Answer<Vec<NotifyTestView>> {
    Ok(web::Json(control.test_notifications(&caller).await?))
}
