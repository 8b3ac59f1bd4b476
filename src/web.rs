//! The web page: the state of the instances, the reasons for it, and the actions on them, for people with a browser.
//!
//! Every page is a request to [`Control`] with the rights of the user who is logged in, written as HTML: nothing is
//! decided here. Pages can be read, and every action be done, without script; the script refreshes what is on the
//! screen.
//!
//! | path | page |
//! | --- | --- |
//! | `/instances`, `/instances/{name}` | the instances; one of them |
//! | `/snapshots`, `/snapshots/{id}` | the snapshots; one of them |
//! | `/explain` | why a revision gets its snapshot |
//! | `/jobs`, `/jobs/{id}` | the jobs; one of them |
//! | `/sessions` | the open sessions of Postgres clients |
//! | `/system`, `/system/doctor` | disk, memory, limits, refreshes, waiting logins; the doctor's findings |
//! | `/login`, `/logout` | the way in, and out |
//! | `/assets/` | the stylesheet, the script and the icon |
//!
//! | module | owns |
//! | --- | --- |
//! | `sessions` | the sessions of logged-in users |
//! | `guard` | the checks of each request: login, token against forged requests, headers |
//! | `layout` | the frame of each page, errors, questions |
//! | `text` | times, sizes and counts, for people |

use actix_web::guard::fn_guard;
use actix_web::http::header::LOCATION;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, get, web};

use crate::control::Control;
use crate::http::Authenticator;

mod assets;
mod doctor;
mod explain;
mod guard;
mod instance;
mod instances;
mod jobs;
mod layout;
mod login;
mod sessions;
mod sessions_page;
mod snapshots;
mod system;
mod text;
mod timeline;

pub(crate) use self::sessions::Sessions;

use self::layout::{Answer, Problem};

/// The service, as handlers receive it.
type Service = web::Data<Control>;

/// Paths that are not the page's: the API, and what other machines ask for.
const OTHERS: [&str; 4] = ["/v1", "/healthz", "/metrics", "/api"];

/// Serves the page at every path that is nobody else's.
pub(crate) fn routes(
    paths: &mut web::ServiceConfig,
    control: web::Data<Control>,
    authenticator: web::Data<Authenticator>,
    sessions: web::Data<Sessions>,
) {
    let ours = |path: &str| !OTHERS.iter().any(|other| is_below(path, other));
    let scope = web::scope("")
        .guard(fn_guard(move |request| ours(request.head().uri.path())))
        .app_data(control)
        .app_data(authenticator)
        .app_data(sessions)
        .wrap(from_fn(guard::guard))
        .service(home)
        .configure(assets::routes)
        .configure(login::routes)
        .configure(instances::routes)
        .configure(instance::routes)
        .configure(snapshots::routes)
        .configure(explain::routes)
        .configure(jobs::routes)
        .configure(sessions_page::routes)
        .configure(system::routes)
        .configure(doctor::routes)
        .default_service(web::to(no_such_page));
    paths.service(scope);
}

fn is_below(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[get("/")]
async fn home() -> HttpResponse {
    see("/instances")
}

async fn no_such_page(request: HttpRequest) -> Answer {
    Err(Problem::no_such_page(request.path()))
}

/// Sends the browser to this path of ours, by GET.
fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, path))
        .finish()
}

/// A path of ours that a form or a query has named; none if it could lead elsewhere.
fn local_path(path: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let is_local = path.starts_with('/') && !path.starts_with("//") && path.bytes().all(is_plain);
    is_local.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_to_go_on_with_is_of_this_site() {
        for (path, is_local) in [
            ("/instances?q=a", true),
            ("/", true),
            ("", false),
            ("//other.test/", false),
            ("/\\other.test/", false),
            ("https://other.test/", false),
            ("/a\r\nSet-Cookie: b", false),
        ] {
            assert_eq!(local_path(path).is_some(), is_local, "{path:?}");
        }
    }

    #[test]
    fn other_paths_are_left_to_others() {
        assert!(is_below("/v1/instances", "/v1"));
        assert!(is_below("/metrics", "/metrics"));
        assert!(!is_below("/v12", "/v1"));
    }
}
