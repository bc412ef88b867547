//! What is typed on a command line: addresses of TPMs, pins of authorities, names, hashes, serial numbers.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use authority::issue::ClusterName;
use authority::resource::{EkHash, Name, Serial};
use tls::CaPin;
use tpm2::transport::Tcti;

use crate::Verdict;

/// The first octet chooses the kind, the rest is the text.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((kind, text)) = data.split_first() else { return Verdict::Refused };
    let Ok(text) = std::str::from_utf8(text) else { return Verdict::Refused };
    match kind % 6 {
        0 => there_and_back::<Tcti>(text),
        1 => there_and_back::<CaPin>(text),
        2 => there_and_back::<Name>(text),
        3 => there_and_back::<EkHash>(text),
        4 => there_and_back::<Serial>(text),
        _ => there_and_back::<ClusterName>(text),
    }
}

/// What is understood is said in one form, which means the same.
fn there_and_back<T: FromStr + Display + Debug + PartialEq>(text: &str) -> Verdict
where
    T::Err: Debug + Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let said = value.to_string();
            let again = said.parse::<T>().unwrap_or_else(|error| panic!("{said:?}: {error}"));
            assert_eq!(again, value, "{said:?}");
            assert_eq!(again.to_string(), said);
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Verdict::Refused
        }
    }
}
