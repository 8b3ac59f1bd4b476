//! Authentication of clients, and the rights of users. Nothing here is asynchronous or uses sockets.
//!
//! | module | owns |
//! | --- | --- |
//! | [`verifier`] | a password in the form that Postgres stores |
//! | [`scram`] | the exchange that proves a password without revealing it |
//! | [`password`] | a password that the client discloses |
//! | [`tokens`] | tokens of programs |
//! | [`users`] | users, with their allowed roles, projects and numbers of instances |
//! | [`attempts`] | the failed logins of each user at each address |
//! | `error` | why a client is not authenticated, or is denied something |

pub mod attempts;
mod error;
pub mod password;
pub mod scram;
pub mod tokens;
pub mod users;
pub mod verifier;

pub use self::attempts::{Attempts, Waiting, address_of};
pub use self::error::{AuthenticationError, DenyReason};
pub use self::scram::{Account, Exchange, MockSecret, ScramError};
pub use self::tokens::{BearerToken, Scope, SecretHash, Token, TokenError};
pub use self::users::{Identity, User, Users};
pub use self::verifier::Verifier;
