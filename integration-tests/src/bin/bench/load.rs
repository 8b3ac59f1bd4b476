//! The daemon under load. With an older program beside the one under test, both are measured by turns.
//!
//! | module | shows |
//! | --- | --- |
//! | `starts` | a new and a woken instance, alone |
//! | `commands` | commands beside many creations, and a creation beside many deletions |
//! | `slots` | logins with one instance more than `max_running` |
//! | `idle` | an instance whose connections are all taken by idle sessions |
//! | `herd` | sessions at work beside many creations |

mod commands;
mod herd;
mod idle;
mod slots;
mod starts;

use multidb_integration_tests::{DaemonBuilder, Disk, Engine};

use crate::environment::Environment;
use crate::options::Options;
use crate::report::Report;
use crate::source::Source;

/// The instances that are created at once.
const HERD: usize = 50;

/// Daemons of the older program, if there is one, and of the one under test.
struct Programs<'a> {
    options: &'a Options,
    on: (Disk, Engine),
    source: &'a Source,
}

impl Programs<'_> {
    /// Starts one daemon of each, named as in the table.
    fn start(
        &self,
        configure: impl Fn(DaemonBuilder) -> DaemonBuilder,
    ) -> Vec<(&'static str, Environment)> {
        let (disk, engine) = self.on;
        let before = self
            .options
            .before
            .iter()
            .map(|program| ("before", program));
        before
            .chain([("now", &self.options.multidb)])
            .map(|(name, program)| {
                let environment =
                    Environment::prepare(program, disk, engine, self.source, &configure);
                (name, environment)
            })
            .collect()
    }
}

/// Measures each kind of load.
pub(crate) fn measure(options: &Options, on: (Disk, Engine), source: &Source, report: &mut Report) {
    let programs = Programs {
        options,
        on,
        source,
    };
    let both = programs.start(|daemon| daemon);
    if let Some((_, environment)) = both.first() {
        report.snapshot(environment.snapshot());
    }
    starts::measure(&both, options.runs, report);
    commands::measure(&both, report);
    herd::measure(&both, report);
    drop(both);
    slots::measure(&programs, report);
    idle::measure(&programs, report);
}

/// The names of the instances of a herd.
fn herd_names(round: usize) -> Vec<String> {
    (0..HERD)
        .map(|number| format!("herd{round}-{number}"))
        .collect()
}
