//! The trace of a simulation: its events in order, with the product's own log among them.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::Weak;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::world::World;

/// The last lines that are kept.
const LINES_MAX: usize = 3000;

/// All lines so far as a number, and the last ones as text.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    pub count: u64,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn add(&mut self, at: Duration, line: fmt::Arguments<'_>) {
        let mut text = if self.lines.len() < LINES_MAX {
            String::new()
        } else {
            self.lines.pop_front().unwrap_or_default()
        };
        text.clear();
        let seconds = at.as_secs();
        let (days, clock) = (seconds / 86_400, seconds % 86_400);
        let (hours, minutes) = (clock / 3600, clock / 60 % 60);
        let (seconds, millis) = (clock % 60, at.subsec_millis());
        let written = write!(
            text,
            "{days}d {hours:02}:{minutes:02}:{seconds:02}.{millis:03} {line}"
        );
        written.expect("a string takes all text");
        // FNV-1a.
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.count += 1;
        self.lines.push_back(text);
    }

    /// A number that is equal for equal traces.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// Enters the product's log into the trace.
pub struct Recorder(pub Weak<World>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.0, " {value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
        written.expect("a string takes all text");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("multidb")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(world) = self.0.upgrade() else {
            return;
        };
        let mut text = Text(String::new());
        event.record(&mut text);
        world.trace(format_args!("  {}:{}", event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
