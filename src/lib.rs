//! multidb: a transparent Postgres proxy whose connections create database instances.

pub mod runtime;
