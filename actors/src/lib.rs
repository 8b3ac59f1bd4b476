//! The actors of multidb.

pub mod ports;
