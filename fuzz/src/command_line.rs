//! A command line of the agent, as it is written for the agent or for tbot.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use agent::cli::parse;
use host::terminal::escape_lines;

use crate::{Verdict, assert_harmless};

/// Arguments of a command line.
const MAX_ARGUMENTS: usize = 64;

/// The input is the arguments as the kernel has them: each ends with a zero.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let data = data.strip_suffix(&[0]).unwrap_or(data);
    let arguments = || {
        let all = data.split(|octet| *octet == 0).take(MAX_ARGUMENTS);
        all.map(|argument| OsString::from_vec(argument.to_vec()))
    };
    match parse(arguments()) {
        Ok(cli) => {
            let again = parse(arguments()).expect("it was parsed before");
            assert_eq!(format!("{cli:?}"), format!("{again:?}"));
            Verdict::Accepted
        }
        Err(error) => {
            // As it is printed: what it repeats of the arguments is escaped.
            let text = escape_lines(&error.render().ansi().to_string());
            assert!(!text.trim().is_empty(), "an error without a text");
            text.lines().for_each(assert_harmless);
            Verdict::Refused
        }
    }
}
