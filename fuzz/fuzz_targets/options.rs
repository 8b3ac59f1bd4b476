//! See `multidb_actors::testing::fuzz::options`, which states the properties that must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| multidb_actors::testing::fuzz::options(bytes));
