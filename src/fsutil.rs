//! File-system idioms that several parts share.

pub mod access;
pub mod directory;
