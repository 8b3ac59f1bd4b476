//! Who a client is, and what it may do. Nothing here is asynchronous or knows of sockets.
//!
//! | module | owns |
//! | --- | --- |
//! | [`verifier`] | a password in the form that Postgres stores |
//! | [`scram`] | the exchange that proves a password without telling it |
//! | [`users`] | users, and the roles, projects and numbers that they are bound to |
//! | [`attempts`] | which addresses have failed too often |
//! | `error` | why a client is not authenticated, or denied something |

pub mod attempts;
mod error;
pub mod scram;
pub mod users;
pub mod verifier;

pub use self::attempts::{Attempts, address_of};
pub use self::error::{AuthenticationError, DenyReason};
pub use self::scram::{Exchange, MockSecret, ScramError};
pub use self::users::{Identity, User, Users};
pub use self::verifier::Verifier;
