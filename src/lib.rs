//! multidb: a transparent Postgres proxy whose connections create database instances.

pub mod probe;
pub mod runtime;
