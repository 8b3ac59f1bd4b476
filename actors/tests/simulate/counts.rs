//! Counts of the events in a simulation, for its report.

use std::fmt;

/// How often something happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub served: u64,
    pub refused: u64,
    pub lost: u64,
    pub commits: u64,
    pub commands: u64,
    /// Instances whose rename was acknowledged.
    pub renamed: u64,
    pub lives: u64,
    pub destroyed: u64,
    pub expired: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives, {} sessions, {} refusals, {} connections lost, {} commits, {} commands, {} renames, {} clones destroyed, {} \
             of them by expiry",
            self.lives,
            self.served,
            self.refused,
            self.lost,
            self.commits,
            self.commands,
            self.renamed,
            self.destroyed,
            self.expired
        )
    }
}
