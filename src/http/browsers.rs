//! Refuses requests that pages of other origins make a browser send.
//!
//! A browser sends the requests of any page with the password that it remembers, and where all clients are trusted
//! there is none. It does not let that page read the answer, unless the page's name leads here (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::http::{StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

use crate::admin::server::failure::Failure;
use crate::tls::LiveCertificate;

/// How the origin of the page behind a request relates to that of the request (Fetch Metadata, W3C).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The names under which clients may ask for this daemon.
pub(super) enum Hosts {
    /// Any: the client has to know a password, which a browser sends to the name that it was typed for.
    Any,
    /// Addresses, `localhost` and the names of the certificate: no other name can be made to lead here.
    Own(Option<Arc<LiveCertificate>>),
}

impl Hosts {
    fn has(&self, host: &str) -> bool {
        let Self::Own(certificate) = self else {
            return true;
        };
        let host = host.trim_end_matches('.');
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
        address.parse::<IpAddr>().is_ok()
            || is_local(&host.to_ascii_lowercase())
            || certificate.as_ref().is_some_and(|own| own.is_for(host))
    }
}

/// Middleware that refuses the requests of another origin's page.
pub(super) async fn refuse_foreign(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match check(&request) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(failure) => {
            let refused = failure.error_response();
            Ok(request.into_response(refused).map_into_right_body())
        }
    }
}

fn check(request: &ServiceRequest) -> Result<(), Failure> {
    let hosts = request.app_data::<web::Data<Hosts>>();
    let asked = asked_hosts(request)?;
    if let Some(foreign) = asked
        .iter()
        .find(|host| hosts.is_none_or(|hosts| !hosts.has(host.host())))
    {
        let message = format!("\"{}\" is not a name of this daemon", foreign.host());
        return Err(Failure::new(StatusCode::FORBIDDEN, "unknown_host", message));
    }
    if request.method().is_safe() || is_own(request, &asked) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        "cross_site",
        "the page of another origin may not ask for this",
    ))
}

/// The hosts that the request names. A browser always names one.
fn asked_hosts(request: &ServiceRequest) -> Result<Vec<Authority>, Failure> {
    let malformed = || Failure::new(StatusCode::BAD_REQUEST, "invalid_host", "malformed Host");
    let mut hosts: Vec<Authority> = request.uri().authority().cloned().into_iter().collect();
    for header in request.headers().get_all(HOST) {
        let host = Authority::try_from(header.as_bytes()).map_err(|_| malformed())?;
        hosts.push(host);
    }
    Ok(hosts)
}

/// Whether no page is behind a request, or one of the origin that it asks. A page on another port or subdomain of the
/// same site is another origin.
fn is_own(request: &ServiceRequest, asked: &[Authority]) -> bool {
    let header = |name: &str| request.headers().get(name);
    if let Some(site) = header(SEC_FETCH_SITE) {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // Browsers leave Sec-Fetch-Site out where neither TLS nor loopback protects the page.
    let Some(origin) = header(ORIGIN.as_str()) else {
        return true;
    };
    let origin = Uri::try_from(origin.as_bytes()).ok();
    let origin = origin.as_ref().and_then(Uri::authority);
    origin.is_some_and(|origin| asked.contains(origin))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn code(hosts: Hosts, request: TestRequest) -> Option<String> {
        let request = request.app_data(web::Data::new(hosts)).to_srv_request();
        check(&request)
            .err()
            .map(|failure| failure.code().to_owned())
    }

    #[test]
    fn only_own_names_are_served_where_clients_are_trusted() {
        for (host, is_own) in [
            ("127.0.0.1:6433", true),
            ("[::1]:6433", true),
            ("10.0.0.5", true),
            ("localhost:6433", true),
            ("LOCALHOST.", true),
            ("db.localhost", true),
            ("evil.example:6433", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let asked = || TestRequest::get().insert_header((HOST, host));
            let expected = (!is_own).then(|| "unknown_host".to_owned());
            assert_eq!(code(Hosts::Own(None), asked()), expected, "{host}");
            assert_eq!(code(Hosts::Any, asked()), None, "{host}");
        }
        let twice = TestRequest::get()
            .append_header((HOST, "localhost"))
            .append_header((HOST, "evil.example"));
        let absolute = TestRequest::get().uri("http://evil.example/v1/status");
        for request in [twice, absolute] {
            let refused = code(Hosts::Own(None), request);
            assert_eq!(refused.as_deref(), Some("unknown_host"));
        }
        let malformed = TestRequest::get().insert_header((HOST, "a b"));
        let refused = code(Hosts::Any, malformed);
        assert_eq!(refused.as_deref(), Some("invalid_host"));
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        for (name, value, is_own) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("origin", "https://db.internal:6433", true),
            ("origin", "https://db.internal", false),
            ("origin", "https://evil.example", false),
            ("origin", "null", false),
            ("accept", "*/*", true),
        ] {
            let asked = |request: TestRequest| {
                let request = request.insert_header((HOST, "db.internal:6433"));
                code(Hosts::Any, request.insert_header((name, value)))
            };
            let expected = (!is_own).then(|| "cross_site".to_owned());
            for request in [
                TestRequest::post(),
                TestRequest::delete(),
                TestRequest::put(),
            ] {
                assert_eq!(asked(request), expected, "{name}: {value}");
            }
            assert_eq!(asked(TestRequest::get()), None, "{name}: {value}");
        }
    }
}
