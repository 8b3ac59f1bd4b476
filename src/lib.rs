//! multidb: a transparent Postgres proxy whose connections create database instances.
//!
//! | module | owns |
//! | --- | --- |
//! | [`costs`] | the disk space that is an instance's or a snapshot's alone |
//! | [`daemon`] | building and joining the parts, start and stop order |
//! | [`proxy`] | the listeners |
//! | [`control`] | the service behind the admin socket: requests, answers, authorization |
//! | [`admin`] | the admin socket: HTTP in front of `control`, and its client |
//! | [`http`] | the API over the network, in front of `control` |
//! | `web` | the web page, in front of `control` |
//! | [`console`] | the console: the statements of psql in front of `control` |
//! | [`config`] | the settings |
//! | [`clone`], [`catalog`] | copy-on-write clones, and the snapshots on disk |
//! | [`runtime`] | running Postgres |
//! | [`probe`], [`sql`] | questions to running servers, and sessions of multidb itself |
//! | [`git`] | projects' repositories |
//! | [`tls`], [`users`], [`reload`] | certificates and users, reloaded when their files change |
//! | [`mock_secret`] | the SCRAM challenge for unknown users |
//! | [`fsutil`] | file-system idioms: replacing files and sockets, creating directories |
//! | [`clock`], [`memory`] | the machine's date and time, and its memory |
//! | [`metrics`] | counters, gauges and timings, for Prometheus |
//! | [`logging`] | format and destination of log lines |
//! | [`keep`] | which snapshots of a project are kept |
//! | [`pressure`] | in which order room is made on a full disk |
//! | `history` | the events of each instance |
//! | [`growth`] | which running instances are stopped before they fill it |
//! | [`jobs`] | long work that outlives the command that began it |
//! | [`import`] | making snapshots from dumps and data directories |
//! | [`notify`] | notifications: programs and webhooks that are told of events |
//! | [`diff`] | the difference of two databases |
//! | [`doctor`] | the checks of the machine and of the installation |
//! | `text` | times, counts and sizes, for people |
//! | [`dedup`] | snapshots that share the blocks that they have in common |

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod clone;
pub mod config;
pub mod console;
pub mod control;
pub mod costs;
pub mod daemon;
pub mod dedup;
pub mod diff;
pub mod doctor;
pub mod fsutil;
pub mod git;
pub mod growth;
mod handed_over;
mod history;
pub mod http;
pub mod import;
pub mod incoming;
mod instances;
pub mod jobs;
pub mod keep;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod mock_secret;
pub mod notify;
pub mod pressure;
pub mod prewarm;
pub mod probe;
mod process_group;
pub mod proxy;
pub mod refresh;
pub mod relations;
pub mod reload;
pub mod runtime;
pub mod sql;
mod text;
pub mod tls;
pub mod users;
mod wal_segment;
mod web;
