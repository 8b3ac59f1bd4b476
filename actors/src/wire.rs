//! The part of Postgres' wire protocol that a transparent proxy must speak.
//!
//! Only the messages before a session are decoded: the startup packets of clients, and the messages
//! of a backend up to its first ReadyForQuery. After that bytes are relayed unread, and [`Tail`]
//! watches the last six of them. multidb's own queries are simple ones, and their answers are decoded. In a session
//! with multidb itself, the console, `client` decodes a client's messages, and `reply` encodes the answers.
//!
//! Every decoder is `fn(&mut BytesMut) -> Result<Option<T>, WireError>`. `None` means that more
//! bytes are needed; nothing is consumed before a message is whole, so a decoder may be called
//! again after any read, even a cancelled one. A length is checked against its floor and
//! its ceiling before anything waits or allocates for it, and no input can cause a panic.
//!
//! This module imports nothing from the rest of the crate, nor from actix or tokio.
//!
//! # The order of a login
//!
//! 1. Any order of at most one SSLRequest and one GSSENCRequest, each answered at once by one byte
//!    ([`ENCRYPTION_REFUSED`]); [`EncryptionRequests`] keeps the count.
//! 2. The startup packet ([`decode_startup`]).
//! 3. The proxy's NegotiateProtocolVersion, if [`StartupMessage::negotiation`] returns one.
//! 4. Authentication of the client, then its instance; on failure one ErrorResponse, and the
//!    connection is closed.
//! 5. To the backend: [`StartupMessage::encode_for_backend`]. From the backend
//!    ([`decode_backend`]): its own `v` and AuthenticationOk are dropped, the rest is passed on.
//! 6. To the client: the proxy's AuthenticationOk and NOTICEs, then the backend's messages unchanged
//!    up to the first ReadyForQuery; then the relay.
//!
//! # Protocol versions
//!
//! The client must be told of a lower version before it is authenticated, when the backend is not
//! known yet (libpq takes `v` only while it waits for an authentication request). So the proxy
//! answers itself, by the rules of Postgres 18's server, and supports 3.0 to 3.2:
//!
//! - A client that asks for at most 3.2 and no `_pq_.` parameter gets no `v`. (libpq fails on
//!   a `v` that changes nothing: "server negotiated but asks for no changes".)
//! - Otherwise it gets a `v` with the lower of its own version and 3.2, and the names of *all* its
//!   `_pq_.` parameters; never a higher version than its own, since libpq fails on that too.
//!
//! The backend is asked for the lower of the client's version and 3.2, and without any `_pq_.`
//! parameter: the client was told that they are off, so a newer backend must not turn one on.
//! An older backend answers with a `v` of its own (Postgres 15: 3.0), which is dropped. The client
//! then assumes 3.2 while the backend uses 3.0. That is sound, because the versions differ in one
//! point only: the cancel key of 3.2 has 4 to 256 bytes instead of exactly 4, its length given by its
//! message. libpq 18 accepts 4 bytes under 3.2, and refuses other lengths only under 3.0; that case
//! cannot arise, as a backend is never asked for a higher version than its client's.

#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod answer;
mod backend;
mod client;
mod encode;
mod encryption;
mod error;
mod error_response;
mod frame;
mod reply;
mod sasl;
pub mod sqlstate;
mod startup;
mod tag;
mod tail;
#[cfg(test)]
mod tests;

pub use answer::{AnswerMessage, decode_answer, encode_own_startup, encode_query};
pub use backend::{BackendFrame, BackendMessage, TransactionStatus, decode_backend};
pub use client::{Bind, ClientMessage, Format, Named, decode_client};
pub use encode::{
    ENCRYPTION_ACCEPTED, ENCRYPTION_REFUSED, TLS_REFUSED, encode_authentication_ok,
    encode_cancel_request, encode_negotiate_protocol_version, encode_old_error,
    encode_sasl_continue, encode_sasl_final, encode_sasl_offer, encode_terminate,
};
pub use encryption::EncryptionRequests;
pub use error::{Refusal, WireError};
pub use error_response::{
    ErrorFields, FIELD_LENGTH_MAX, Report, encode_error_response, encode_notice_response,
};
pub use frame::{Frame, decode_frame};
pub use reply::{
    Acknowledgement, Field, encode_acknowledgement, encode_backend_key, encode_command_complete,
    encode_parameter_description, encode_parameter_status, encode_ready, encode_row,
    encode_row_description,
};
pub use sasl::{SASL_BODY_LENGTH_MAX, SaslInitialResponse, decode_sasl_initial};
pub use sqlstate::SqlState;
pub use startup::{
    BackendStartup, CANCEL_KEY_LENGTH_MAX, CANCEL_KEY_LENGTH_MIN, CancelRequest, Negotiation,
    ProtocolVersion, STARTUP_BODY_LENGTH_MAX, StartupMessage, StartupRequest, decode_startup,
};
pub use tail::{Tail, TailState};
