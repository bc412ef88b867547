//! The program `authority`.

use std::process::ExitCode;

fn main() -> ExitCode {
    authority::run(std::env::args_os())
}
