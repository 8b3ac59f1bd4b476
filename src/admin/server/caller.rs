//! The author of a request, which the listener knows and each handler asks for.

use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};

use super::failure::Failure;
use crate::control::Caller;

/// Says who the author of this request is.
pub(crate) fn set(request: &ServiceRequest, caller: Caller) {
    request.extensions_mut().insert(caller);
}

/// Middleware of the admin socket: its file permissions are the authentication.
pub(super) async fn as_administrator(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    set(&request, Caller::Administrator);
    next.call(request).await
}

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| {
            Failure::new(
                StatusCode::UNAUTHORIZED,
                "not_authenticated",
                "the request is not authenticated",
            )
            .into()
        }))
    }
}
