//! The question of load balancers whether the daemon answers.

use bytes::BytesMut;

use crate::client_error::ClientError;
use crate::wire::{StartupMessage, encode_authentication_ok};

/// The user name with which load balancers ask whether the daemon answers, such as by HAProxy's `pgsql-check`. It is
/// none of an instance, which would have a key.
const HEALTH_CHECK_USER: &[u8] = b"healthcheck";

pub(super) fn is_health_check(message: &StartupMessage) -> bool {
    // A client that names its instance in the options may have any user name.
    message
        .user()
        .is_some_and(|user| user[..] == *HEALTH_CHECK_USER)
        && message.get("options").is_none()
}

/// The answer that such a check takes for health, then the end, since there is no session.
pub(super) fn health_answer() -> BytesMut {
    let mut answer = BytesMut::new();
    encode_authentication_ok(&mut answer);
    ClientError::health_check().encode(&mut answer);
    answer
}
