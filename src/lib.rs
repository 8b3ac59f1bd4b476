//! multidb: a transparent Postgres proxy whose connections create database instances.

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod clone;
pub mod config;
pub mod daemon;
pub mod git;
pub mod logging;
pub mod probe;
pub mod runtime;
