//! The admin socket: a Unix socket that speaks HTTP and JSON, guarded by file permissions.
//!
//! | module | owns |
//! | --- | --- |
//! | [`api`] | the paths, queries and bodies, for both sides |
//! | [`server`] | the daemon's side: HTTP in front of [`control`](crate::control) |
//! | [`client`] | the commands' side |

pub mod api;
pub mod client;
pub mod server;
