//! A wall clock that a test sets for one daemon, by libfaketime. The daemon's other clocks are left alone.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian has the library, below the directory of the machine's architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of one daemon.
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// A date beyond all that the program can express: an actor that reads the clock panics.
    pub const DAYS_OUT_OF_RANGE: i64 = 3_000_000;

    /// A clock that tells the truth, with its file in this directory.
    #[track_caller]
    pub fn new(directory: &Path) -> Self {
        let libraries = fs::read_dir("/usr/lib").expect("there is /usr/lib");
        let mut found = libraries.flatten().map(|entry| entry.path().join(LIBRARY));
        let clock = Self {
            file: directory.join("wall-clock"),
            library: found.find(|path| path.exists()).expect(
                "libfaketime is installed: scripts/test.sh installs it (on Debian: faketime)",
            ),
        };
        clock.set_ahead_days(0);
        clock
    }

    /// Sets it ahead of the truth by so many days, or behind it. A running daemon sees that at once.
    pub fn set_ahead_days(&self, days: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{days:+}d\n")).expect("the clock's file can be written");
        fs::rename(&new, &self.file).expect("the clock's file can be replaced");
    }

    /// The environment of a daemon that reads this clock.
    pub fn environment(&self) -> [(&str, &str); 6] {
        [
            ("LD_PRELOAD", self.library.to_str().expect("it is text")),
            (
                "FAKETIME_TIMESTAMP_FILE",
                self.file.to_str().expect("it is text"),
            ),
            ("FAKETIME_NO_CACHE", "1"),
            // CLOCK_MONOTONIC, and CLOCK_BOOTTIME with it.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DISABLE_SHM", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
    }
}
