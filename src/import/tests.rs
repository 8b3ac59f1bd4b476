//! Imports by real servers, as local processes.

mod backups;
mod cases;
mod data_dir;
mod databases;
mod dump;
mod failures;
mod fixture;
mod hostile;
mod replication;
mod settings;
mod upload;
