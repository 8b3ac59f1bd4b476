//! multidb: a transparent Postgres proxy whose connections create database instances.
//!
//! | module | owns |
//! | --- | --- |
//! | [`daemon`] | the parts joined, their start and their end |
//! | [`proxy`] | the listeners |
//! | [`control`] | the service behind the admin socket: requests, answers, authorization |
//! | [`admin`] | the admin socket: HTTP in front of `control`, and its client |
//! | [`config`] | the settings |
//! | [`clone`], [`catalog`] | copy-on-write clones, and the snapshots on disk |
//! | [`runtime`], [`probe`] | what runs Postgres, and questions to it |
//! | [`git`] | projects' repositories |
//! | [`tls`], [`users`], [`reload`] | certificates and users, read again when they change |
//! | [`mock_secret`] | what users that do not exist are challenged with |
//! | [`logging`] | where log lines go |
//! | [`import`] | snapshots made of dumps and data directories |

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod clone;
pub mod config;
pub mod control;
pub mod daemon;
pub mod git;
pub mod import;
pub mod logging;
pub mod mock_secret;
pub mod probe;
pub mod proxy;
pub mod reload;
pub mod runtime;
pub mod tls;
pub mod users;
