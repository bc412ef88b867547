//! The public keys that hosts want certificates for, in each of their forms.

use authority::issue::SubjectKey;

use crate::{Verdict, assert_harmless, parts};

/// The first octet chooses the form: a SubjectPublicKeyInfo; that and the same key in SSH's wire format; both as text.
/// The parts follow.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((form, data)) = data.split_first() else { return Verdict::Refused };
    let mut parts = parts(data);
    let [tls, ssh] = [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
    let key = match form % 3 {
        0 => SubjectKey::from_spki(tls),
        1 => SubjectKey::from_wire(tls, ssh),
        _ => SubjectKey::from_text(tls, ssh),
    };
    match key {
        Ok(key) => {
            let spki = key.to_spki().expect("it was read");
            assert_eq!(SubjectKey::from_spki(&spki).as_ref(), Ok(&key));
            let named = ssh_key::PublicKey::from(key.ssh().expect("SSH has a form for it"));
            let wire = named.to_bytes().expect("SSH has a form for it");
            assert_eq!(SubjectKey::from_wire(&spki, &wire).as_ref(), Ok(&key));
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
