//! From a CA of the past to the present ones: documents, each of which the CA of the one before vouches for. What is signed
//! decides, so they may come over a connection that is not trusted. docs/protocol.md has the format.

use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tls::{CaPin, trust_document_message};

use super::trust_bundle::TrustBundle;

/// A document, and who vouches for it.
#[derive(Debug)]
pub struct Link {
    /// JSON.
    pub document: Vec<u8>,
    /// By the CA that is active in it: Ecdsa-Sig-Value, DER.
    pub signature: Vec<u8>,
    /// By the CA that was active in the document before; empty if that is the same one.
    pub former_signature: Vec<u8>,
}

/// Follows the chain, one document after the other.
#[derive(Debug)]
pub struct Walk {
    trusted: Vec<CaPin>,
    newest: Option<Verified>,
}

/// A document that is vouched for.
#[derive(Debug)]
struct Verified {
    version: u64,
    /// SHA-256 of the document before, hexadecimal.
    previous: Option<String>,
    hash: [u8; 32],
    active: VerifyingKey,
    bundle: TrustBundle,
}

/// Fields of a later version are ignored.
#[derive(Deserialize)]
struct Document {
    version: u64,
    #[serde(default)]
    previous: Option<String>,
    x509_authorities: Vec<String>,
}

impl Walk {
    /// A walk that begins at a CA with one of these keys.
    #[must_use]
    pub fn from(trusted: &[CaPin]) -> Self {
        Self { trusted: trusted.to_vec(), newest: None }
    }

    /// The number of the newest document, from which to ask for further ones; 0 without any.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.version)
    }

    /// What the newest document says; `None` if nothing was verified.
    #[must_use]
    pub fn arrived(self) -> Option<TrustBundle> {
        self.newest.map(|newest| newest.bundle)
    }

    /// Takes the next documents, in their order. Returns whether one was new.
    ///
    /// # Errors
    /// A document is malformed, not the next one, or not signed by a CA that the host trusts. What was verified before it stays.
    pub fn follow(&mut self, links: &[Link]) -> Result<bool, String> {
        let mut is_further = false;
        for link in links {
            let verified = Verified::of(link)?;
            match &self.newest {
                // A response may begin with the document that is known.
                Some(newest) if newest.hash == verified.hash => continue,
                Some(newest) => verified.check_follows(newest, link)?,
                None if self.trusted.contains(verified.active_pin()?) => {}
                None => {
                    return Err("the first document is not of a CA that this host trusts".into());
                }
            }
            self.newest = Some(verified);
            is_further = true;
        }
        Ok(is_further)
    }
}

impl Verified {
    /// Reads a document that its own active CA has signed.
    fn of(link: &Link) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(&link.document)
            .map_err(|error| format!("a malformed document of the trust chain: {error}"))?;
        let der = |text: &String| Base64::decode_vec(text).map_err(|error| error.to_string());
        let cas = document.x509_authorities.iter().map(der).collect::<Result<Vec<_>, _>>();
        let cas = cas.map_err(|error| format!("a malformed CA in the trust chain: {error}"))?;
        let bundle = TrustBundle::new(cas.iter().map(Vec::as_slice))?;
        let first = bundle.certificates().first().ok_or("a document without CA")?;
        let verified = Self {
            version: document.version,
            previous: document.previous,
            hash: Sha256::digest(&link.document).into(),
            active: key_of(first)?,
            bundle,
        };
        check(&verified.active, &link.signature, link, "its own")?;
        Ok(verified)
    }

    fn active_pin(&self) -> Result<&CaPin, String> {
        self.bundle.pins().first().ok_or_else(|| "a document without CA".into())
    }

    fn check_follows(&self, before: &Self, link: &Link) -> Result<(), String> {
        let hash = base16ct::lower::encode_string(&before.hash);
        if before.version.checked_add(1) != Some(self.version) || self.previous != Some(hash) {
            return Err(format!(
                "document {} of the trust chain does not follow document {}",
                self.version, before.version
            ));
        }
        let signature = match before.active == self.active {
            true => &link.signature,
            false => &link.former_signature,
        };
        check(&before.active, signature, link, "the former")
    }
}

fn check(key: &VerifyingKey, signature: &[u8], link: &Link, whose: &str) -> Result<(), String> {
    let wrong = |_| format!("a document of the trust chain that {whose} CA did not sign");
    let signature = DerSignature::from_bytes(signature).map_err(wrong)?;
    key.verify(&trust_document_message(&link.document), &signature).map_err(wrong)
}

/// The key of a CA.
fn key_of(certificate: &[u8]) -> Result<VerifyingKey, String> {
    let certificate = CertificateDer::from(certificate);
    let anchor =
        webpki::anchor_from_trusted_cert(&certificate).map_err(|error| error.to_string())?;
    VerifyingKey::from_public_key_der(&webpki::spki_for_anchor(&anchor))
        .map_err(|_| "a CA of the trust chain whose key is not on P-256".into())
}

#[cfg(test)]
mod tests {
    use testkit::forge::Ca;

    use super::*;

    /// A document of these CAs, the first of which is active, after another one.
    fn link(version: u64, after: Option<&Link>, cas: &[&Ca], former: Option<&Ca>) -> Link {
        let cas: Vec<_> =
            cas.iter().map(|ca| (ca, Base64::encode_string(&ca.root().der()))).collect();
        let document = serde_json::json!({
            "version": version,
            "previous": after.map(|link| base16ct::lower::encode_string(&Sha256::digest(&link.document))),
            "x509_authorities": cas.iter().map(|(_, der)| der).collect::<Vec<_>>(),
            "of_a_later_version": true,
        });
        let document = document.to_string().into_bytes();
        let sign = |ca: &Ca| ca.sign(&trust_document_message(&document));
        Link {
            signature: sign(cas[0].0),
            former_signature: former.map(sign).unwrap_or_default(),
            document,
        }
    }

    fn pin(ca: &Ca) -> CaPin {
        CaPin::of_certificate(&CertificateDer::from(ca.root().der())).unwrap()
    }

    fn pins(walk: Walk) -> Vec<CaPin> {
        walk.arrived().unwrap().pins().to_vec()
    }

    /// A is replaced by B in three steps.
    fn rotation(a: &Ca, b: &Ca) -> [Link; 4] {
        let first = link(7, None, &[a], None);
        let prepared = link(8, Some(&first), &[a, b], None);
        let activated = link(9, Some(&prepared), &[b, a], Some(a));
        let retired = link(10, Some(&activated), &[b], None);
        [first, prepared, activated, retired]
    }

    #[test]
    fn walk_leads_from_a_former_ca_to_the_present_one() {
        let (a, b) = (Ca::new("a"), Ca::new("b"));
        let links = rotation(&a, &b);
        let mut walk = Walk::from(&[pin(&a)]);
        assert_eq!(walk.version(), 0);
        assert!(walk.follow(&links[..2]).unwrap());
        assert_eq!(walk.version(), 8);
        assert!(walk.follow(&links[2..3]).unwrap());
        // The next response may begin with the last document.
        assert!(walk.follow(&links[2..]).unwrap());
        assert!(!walk.follow(&links[3..]).unwrap());
        assert_eq!(pins(walk), [pin(&b)]);
        // A host that slept through the preparation only.
        let mut walk = Walk::from(&[pin(&a)]);
        walk.follow(&links[1..]).unwrap();
        assert_eq!(pins(walk), [pin(&b)]);
        assert!(Walk::from(&[pin(&a)]).arrived().is_none());
    }

    #[test]
    fn document_without_a_trusted_signature_is_refused_and_changes_nothing() {
        let (a, b, other) = (Ca::new("a"), Ca::new("b"), Ca::new("other"));
        let [first, prepared, activated, retired] = rotation(&a, &b);
        let of = |start: &Ca, links: &[&Link]| {
            let mut walk = Walk::from(&[pin(start)]);
            let links = links.iter().map(|link| Link {
                document: link.document.clone(),
                signature: link.signature.clone(),
                former_signature: link.former_signature.clone(),
            });
            let refused = walk.follow(&links.collect::<Vec<_>>()).unwrap_err();
            (refused, walk.arrived().map(|bundle| bundle.pins().to_vec()))
        };
        // A host that trusts none of them.
        let (refused, arrived) = of(&other, &[&first]);
        assert!(refused.contains("not of a CA that this host trusts") && arrived.is_none());
        // One whose pin is listed, but not of the active CA.
        assert!(of(&b, &[&prepared]).1.is_none());
        // A document left out, repeated, or of another history.
        let (refused, arrived) = of(&a, &[&first, &activated]);
        assert_eq!(refused, "document 9 of the trust chain does not follow document 7");
        assert_eq!(arrived.unwrap(), [pin(&a)]);
        of(&a, &[&first, &prepared, &first]);
        let elsewhere = link(8, Some(&retired), &[&a, &b], None);
        assert!(of(&a, &[&first, &elsewhere]).0.contains("does not follow"));
        // The next CA without, or with another one's, word of the former.
        for former in [None, Some(&other), Some(&b)] {
            let taken = link(9, Some(&prepared), &[&b, &a], former);
            let (refused, arrived) = of(&a, &[&first, &prepared, &taken]);
            assert!(refused.contains("that the former CA did not sign"), "{refused}");
            assert_eq!(arrived.unwrap(), [pin(&a), pin(&b)]);
        }
        // The word of the former alone.
        let mut taken = link(9, Some(&prepared), &[&other, &a], Some(&a));
        taken.signature = a.sign(&trust_document_message(&taken.document));
        assert!(of(&a, &[&prepared, &taken]).0.contains("that its own CA did not sign"));
        // Any change of what is signed.
        for at in [0, 20, first.document.len() - 1] {
            let mut document = first.document.clone();
            document[at] ^= 1;
            let changed =
                Link { document, signature: first.signature.clone(), former_signature: Vec::new() };
            assert!(of(&a, &[&changed]).1.is_none());
        }
    }

    #[test]
    fn malformed_documents_are_refused() {
        let a = Ca::new("a");
        for document in [
            "",
            "{}",
            "[]",
            r#"{"version": 1, "x509_authorities": []}"#,
            r#"{"version": -1, "x509_authorities": ["AA=="]}"#,
            r#"{"version": 1, "x509_authorities": ["AA=="]}"#,
            r#"{"version": 1, "x509_authorities": ["*"]}"#,
        ] {
            let document = document.as_bytes().to_vec();
            let signature = a.sign(&trust_document_message(&document));
            let link = Link { document, signature, former_signature: Vec::new() };
            Walk::from(&[pin(&a)]).follow(&[link]).unwrap_err();
        }
    }
}
