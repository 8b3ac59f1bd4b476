//! The actors of multidb.

pub mod client_error;
pub mod ports;
pub mod request;
pub mod wire;
