//! The admin socket: a Unix socket that speaks HTTP and JSON, guarded by file permissions.
//!
//! | module | owns |
//! | --- | --- |
//! | [`api`] | the paths and the JSON, for both sides |
//! | [`client`] | the side of the commands |

pub mod api;
pub mod client;
