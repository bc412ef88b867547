//! The program `authority`.

use std::io::Write;
use std::process::ExitCode;

use authority::cli::environment;
use authority::command;
use authority::exit::Exit;

fn main() -> ExitCode {
    let cli = match environment::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(message) => {
            // Nobody is left to hear that even this cannot be said.
            let _ = environment::print(&message);
            return if message.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit.into()
        }
    }
}
