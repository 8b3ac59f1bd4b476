//! The lower bound: a bare clone of the same snapshot, and the same Postgres started on it by hand, to its
//! first answer. No daemon, records, decisions or manifests; everything is prepared before the clock
//! starts. Only the ratio to it holds from one machine to another.

mod clone;
mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Client, Endpoint, Login};
use crate::environment::Environment;

use clone::Tree;
use server::{Recipe, Server};

/// The times of one run of the lower bound.
pub(crate) struct Run {
    /// The clone alone.
    pub(crate) clone: Duration,
    /// From nothing to the first row.
    pub(crate) new: Duration,
    /// From a stopped Postgres to the first row.
    pub(crate) wake: Duration,
    /// From the word to the end of Postgres.
    pub(crate) stop: Duration,
}

/// The steps of a new instance, without multidb.
pub(crate) struct LowerBound<'a> {
    environment: &'a Environment,
    tree: Tree,
    recipe: Recipe,
    dir: PathBuf,
}

impl<'a> LowerBound<'a> {
    /// Learns it from an instance that runs.
    pub(crate) fn learn(environment: &'a Environment, instance: &str) -> Self {
        let dir = environment.dir().join("bound");
        fs::create_dir(&dir).expect("the lower bound's directory can be made");
        Self {
            environment,
            tree: Tree::read(&environment.snapshot_data()),
            recipe: Recipe::read(environment, instance, &dir),
            dir,
        }
    }

    /// Clone, start, first row; stop; start, first row; stop; delete.
    pub(crate) fn run(&self) -> Run {
        let data = self.dir.join("data");
        self.recipe.prepare();
        self.environment.settle();
        let begin = Instant::now();
        self.tree.clone_to(&data);
        let clone = begin.elapsed();
        let server = self.recipe.start(&data);
        let client = self.first_row(&server);
        let new = begin.elapsed();
        client.close();
        let begin = Instant::now();
        server.stop();
        let stop = begin.elapsed();
        self.recipe.prepare();
        self.environment.settle();
        let begin = Instant::now();
        let server = self.recipe.start(&data);
        let client = self.first_row(&server);
        let wake = begin.elapsed();
        client.close();
        server.stop();
        fs::remove_dir_all(&data).expect("the lower bound's clone can be deleted");
        Run {
            clone,
            new,
            wake,
            stop,
        }
    }

    fn first_row(&self, server: &Server) -> Client {
        server.wait_ready();
        let socket = Endpoint::Unix(self.recipe.socket());
        let (client, _) = Client::first_row(&socket, &Login::trusted("postgres"))
            .unwrap_or_else(|failure| panic!("the lower bound's postgres: {failure}"));
        client
    }
}

impl Drop for LowerBound<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
