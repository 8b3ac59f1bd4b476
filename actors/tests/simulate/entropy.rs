//! The one source of chance of a simulation.
//!
//! std seeds its hash maps and rand its uids from `getrandom(2)`. This binary defines that
//! symbol itself: on a thread with a seed the bytes follow from the seed, so that a simulation, which runs on a
//! thread of its own, is repeatable with the product's code as it is. Other threads get the kernel's bytes.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Lets all chance on this thread follow from the seed.
pub fn seed_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// Replaces libc's function of this name.
///
/// # Safety
///
/// As of `getrandom(2)`: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut u8,
    length: usize,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if length == 0 {
        // A test whether the call is there.
        return 0;
    }
    let Ok(Some(seed)) = SEED.try_with(Cell::get) else {
        // SAFETY: the caller's buffer, as it is.
        let read = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return read as libc::ssize_t;
    };
    let mut chance = Chance::new(seed);
    for at in 0..length {
        // SAFETY: `at` is below the length of the caller's buffer.
        unsafe { buffer.add(at).write(chance.next() as u8) };
    }
    SEED.set(Some(chance.next()));
    length as libc::ssize_t
}

/// A generator of numbers (SplitMix64): a seed means the same in every version of every dependency.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// Whether something happens that does in this many cases of a million.
    pub fn happens(&mut self, of_million: u32) -> bool {
        self.below(1_000_000) < u64::from(of_million)
    }

    /// A time from the first number of milliseconds to the second; short ones are as likely as long ones.
    pub fn time(&mut self, from: u64, to: u64) -> Duration {
        let (low, high) = ((from.max(1) as f64).ln(), (to.max(1) as f64).ln());
        let part = self.below(1 << 20) as f64 / f64::from(1 << 20);
        Duration::from_millis((low + (high - low) * part).exp() as u64)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
