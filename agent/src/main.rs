//! The program `agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::run(std::env::args_os())
}
