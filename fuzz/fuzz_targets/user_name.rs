//! See `multidb_actors::testing::fuzz::user_name`, which states the properties that must hold.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| multidb_actors::testing::fuzz::user_name(bytes));
