//! The `multidb` program.

fn main() {}
