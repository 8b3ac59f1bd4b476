//! The `multidb` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    multidb::cli::main(std::env::args_os())
}
