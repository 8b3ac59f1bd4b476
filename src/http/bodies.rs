//! Bodies, which are read before anything else is done: within a time, and not without end.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::admin::server::BODY_BYTES_MAX;
use crate::admin::server::failure::Failure;

/// A client that has not sent its request's body by then is refused.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Middleware that reads bodies, except for dumps, which are sent by PUT.
pub(super) async fn read(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if *request.method() != Method::PUT {
        let payload = request.take_payload();
        match read_within(payload, BODY_BYTES_MAX).await {
            Ok(body) => request.set_payload(Payload::from(body)),
            Err(failure) => {
                let mut refused = failure.error_response();
                // The rest of the body is not read.
                refused
                    .head_mut()
                    .set_connection_type(actix_web::http::ConnectionType::Close);
                return Ok(request.into_response(refused).map_into_right_body());
            }
        }
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Reads a body of at most this length within the time for it.
pub(super) async fn read_within(mut payload: Payload, bytes_max: usize) -> Result<Bytes, Failure> {
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Failure::new(StatusCode::BAD_REQUEST, "broken_body", error.to_string())
            })?;
            if body.len() + chunk.len() > bytes_max {
                return Err(too_long(bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    read.unwrap_or_else(|_| {
        Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body was sent too slowly",
        ))
    })
}

fn too_long(bytes_max: usize) -> Failure {
    Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body has more than {bytes_max} bytes"),
    )
}
