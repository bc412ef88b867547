//! The authority, built where the tests of the whole system find it.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use authority::cli::Cli;
use authority::command;
use authority::exit::Exit;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    match Cli::try_parse_from([OsString::from("authority")].into_iter().chain(arguments)) {
        Ok(cli) => match command::run(cli) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let _ = writeln!(std::io::stderr(), "{failure}");
                failure.exit.into()
            }
        },
        Err(message) => {
            let _ = message.print();
            if message.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS }
        }
    }
}
