//! The records of all instances, in sled.
/// placeholder
pub struct Store;
/// placeholder
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct StoreError;
