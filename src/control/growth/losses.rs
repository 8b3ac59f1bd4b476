//! How fast the disk loses its free bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::growth::Disk;

/// The number of looks whose fastest loss counts as the rate, since servers write in bursts.
const LOOKS: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

/// The bytes lost at each of the last looks.
#[derive(Default)]
pub(super) struct Losses {
    last: Option<(Instant, u64)>,
    /// Bytes a second.
    rates: [u64; LOOKS],
    looks: usize,
}

impl Losses {
    /// The disk as a look now would have it that finds so many free bytes.
    pub(super) fn disk_with(&self, free_bytes: u64) -> Disk {
        let before = self.rates.into_iter().max().unwrap_or(0);
        Disk {
            free_bytes,
            rate: before.max(self.rate_since(free_bytes)),
        }
    }

    /// Notes the free bytes of a look.
    pub(super) fn see(&mut self, free_bytes: u64) -> Disk {
        self.rates[self.looks % LOOKS] = self.rate_since(free_bytes);
        self.looks += 1;
        self.last = Some((Instant::now(), free_bytes));
        self.disk_with(free_bytes)
    }

    /// Forgets the losses before; from now on the rate is this one.
    pub(super) fn replace(&mut self, rate: u64) {
        self.rates = [0; LOOKS];
        self.rates[self.looks % LOOKS] = rate;
        self.looks += 1;
    }

    /// The bytes a second since the last look. Looks that follow each other quickly do not make a burst a rate.
    fn rate_since(&self, free_bytes: u64) -> u64 {
        let Some((at, before)) = self.last else {
            return 0;
        };
        let time = at.elapsed().max(SECOND);
        let lost = u128::from(before.saturating_sub(free_bytes));
        u64::try_from(lost * SECOND.as_millis() / time.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_is_what_the_fastest_of_the_last_looks_lost_in_a_second() {
        let mut losses = Losses::default();
        for (after_ms, free_bytes, rate) in [
            (0, 10_000, 0),
            (1000, 9900, 100),
            // A look that was late.
            (4000, 9100, 200),
            (1000, 9050, 200),
            (1000, 9000, 200),
            (1000, 8950, 50),
            // A look that was early.
            (100, 8890, 60),
            // Something was deleted.
            (1000, 9500, 60),
        ] {
            tokio::time::advance(Duration::from_millis(after_ms)).await;
            let (seen, noted) = (losses.disk_with(free_bytes), losses.see(free_bytes));
            assert_eq!(noted.rate, rate, "{free_bytes}");
            assert!(seen.rate >= rate, "{free_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_of_those_that_go_on_counts_after_a_stop() {
        let mut losses = Losses::default();
        losses.see(10_000);
        tokio::time::advance(SECOND).await;
        losses.see(9000);
        losses.replace(300);
        tokio::time::advance(SECOND).await;
        assert_eq!(losses.see(8900).rate, 300);
        for _ in 0..2 {
            tokio::time::advance(SECOND).await;
            losses.see(8900);
        }
        assert_eq!(losses.see(8900).rate, 0);
    }
}
