//! Waiting: never a fixed sleep, always a condition with a generous limit.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// The interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `probe` until it returns `Ok`, and returns its value. Panics with the last `Err` at the limit.
pub fn poll<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(status) => assert!(
                begin.elapsed() < limit,
                "{what}: not within {limit:?}; last seen: {status:?}"
            ),
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    poll(what, limit, || {
        condition().then_some(()).ok_or("it does not hold")
    });
}
