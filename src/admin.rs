//! The admin socket: a Unix socket that speaks HTTP and JSON, guarded by file permissions.
//!
//! | module | owns |
//! | --- | --- |
//! | [`api`] | the paths and the JSON, for both sides |
//! | [`server`] | the daemon's side |
//! | [`client`] | the side of the commands |

pub mod api;
pub mod client;
pub mod server;
