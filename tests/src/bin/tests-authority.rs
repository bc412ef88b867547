//! The authority, built where the tests of the whole system find it.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    authority::run([OsString::from("authority")].into_iter().chain(arguments))
}
