//! Ports for daemons, below 32768: the kernel takes ephemeral ports from above.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::TcpListener;

use rand::RngExt;

/// A port that no other test uses while this lives.
pub struct Port {
    pub(crate) number: u16,
    /// Other test processes see the port as taken while this is locked, even when its daemon is
    /// down at the moment.
    _lock: File,
}

impl Port {
    /// Takes a free port.
    pub fn take() -> Self {
        let dir = std::env::temp_dir().join("multidb-test-ports");
        std::fs::create_dir_all(&dir).expect("the directory of port locks can be made");
        for _ in 0..1000 {
            let number = rand::rng().random_range(12_000..32_000);
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(number.to_string()))
                .expect("a port's lock file can be opened");
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => panic!("locking port {number}: {error}"),
            }
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between 12000 and 32000");
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
