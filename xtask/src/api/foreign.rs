//! A type of another crate in the interface makes that crate's major version part of it. So it is there only by a feature that has
//! the crate's name.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

/// What every crate may show: the standard library (`fmt` is how the listing has `core::fmt`), and the first of the two libraries in the second.
const ALLOWED: [&str; 5] = ["core", "alloc", "std", "fmt", "tpm2"];

/// Signatures on all curves are of one type, of a crate that comes with those of the curves.
const SIGNATURES: (&str, &str) = ("p256", "ecdsa");

/// Refuses a listing of `library` that shows other crates than those that its features are named after.
pub(super) fn check(library: &str, list: &str, features: &[String]) -> Result<()> {
    let modules = list.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let mut known: BTreeSet<&str> = modules.filter_map(|path| path.split("::").next()).collect();
    known.extend(ALLOWED);
    known.extend(features.iter().map(String::as_str));
    if known.contains(SIGNATURES.0) {
        known.insert(SIGNATURES.1);
    }
    let foreign: BTreeSet<&str> = roots(list).filter(|root| !known.contains(root)).collect();
    ensure!(
        foreign.is_empty(),
        "the public interface of {library} shows types of {}: hide them behind types of its own, \
         or behind a feature of that name",
        Vec::from_iter(foreign).join(", ")
    );
    Ok(())
}

/// The crates or modules that the paths in a listing begin with.
fn roots(list: &str) -> impl Iterator<Item = &str> {
    let paths = list.split(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
    let roots = paths.filter_map(|path| Some(path.split_once("::")?.0));
    roots.filter(|root| root.starts_with(|first: char| first.is_lowercase()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn crate_without_a_feature_of_its_name_is_refused() {
        let check = |line: &str, features: &[&str]| {
            let features: Vec<String> = features.iter().map(ToString::to_string).collect();
            let list = format!("pub mod keys\npub mod keys::file\n{line}\n");
            super::check("own", &list, &features).map_err(|error| error.to_string())
        };
        let conversion = "impl TryFrom<&keys::Key<'_>> for p256::ecdsa::Signature";
        assert!(check(conversion, &[]).unwrap_err().contains("types of p256:"));
        assert_eq!(check(conversion, &["p256"]), Ok(()));
        let signer = "impl Signer<ecdsa::Signature> for keys::Key";
        assert!(check(signer, &["p384"]).unwrap_err().contains("types of ecdsa:"));
        assert_eq!(check(signer, &["p256"]), Ok(()));
        let error = "pub keys::Error::Der(der::error::Error)";
        assert!(check(error, &["p256"]).unwrap_err().contains("types of der:"));
        let own = "pub fn keys::get<T: keys::Way>() -> Result<u8, <T as keys::Way>::Error>";
        assert_eq!(check(own, &[]), Ok(()));
    }
}
