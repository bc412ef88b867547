//! Which attestation keys are challenged: evidence that is right but for one thing.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest as _, Sha256};
use tpm2::crypto::{HashAlg, object_name, qualified_name};
use tpm2::types::*;
use tpm2::wire::{List, Marshal, Unmarshal, Writer};

use super::forge::*;
use super::join_key::Area;
use crate::{AkClaim, AppraisedKey, Attestation, Claim, Demand, Effort, EkClaim, KeyClaim};

/// sign, restricted, noDA, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM: what go-attestation creates.
const AK_ATTRIBUTES: u32 = 0x0005_0472;

/// TPM_GENERATED_VALUE and TPM_ST_ATTEST_CREATION, which is 0x801a.
const ATTEST_CREATION: [u8; 6] = *b"\xffTCG\x80\x1a";

#[derive(Clone)]
struct Evidence {
    public: Vec<u8>,
    creation_data: Vec<u8>,
    attest: Vec<u8>,
    signature: Vec<u8>,
}

/// How evidence is made. Each part is right unless it is changed.
struct Recipe {
    area: Area,
    parent: NameBuf,
    signer_parent: NameBuf,
    creation_hash: fn(&[u8]) -> Vec<u8>,
    extra_data: &'static [u8],
    /// Seed of the key that the attestation is about.
    about: Option<Area>,
    /// Changes the attestation before it is signed.
    attest: fn(&mut Vec<u8>),
    signed_by: &'static str,
}

impl Default for Recipe {
    fn default() -> Self {
        let storage = object_name(&Public::from_bytes(&Area::new("srk").bytes()).unwrap()).unwrap();
        let parent = qualified_name(&Hierarchy::Owner.name().unwrap(), &storage).unwrap();
        Self {
            area: Area::new("ak").attributes(AK_ATTRIBUTES),
            parent,
            signer_parent: parent,
            creation_hash: |data| HashAlg::Sha256.digest(&[data]).octets().to_vec(),
            extra_data: b"",
            about: None,
            attest: |_| {},
            signed_by: "ak",
        }
    }
}

impl Recipe {
    fn make(&self) -> Evidence {
        let public = self.area.bytes();
        let creation_data = octets(&CreationData {
            pcr_select: List::new(&[]),
            pcr_digest: Digest::new(&Sha256::digest(b"")).unwrap(),
            locality: Locality::ZERO,
            parent_name_alg: Alg::SHA256,
            parent_name: Name::new(self.parent.octets()).unwrap(),
            parent_qualified_name: Name::new(self.parent.octets()).unwrap(),
            outside_info: Data::from(b""),
        });
        let name = |area: &Area| object_name(&Public::from_bytes(&area.bytes()).unwrap()).unwrap();
        let own = Public::from_bytes(&public).ok().and_then(|public| object_name(&public).ok());
        let own = own.unwrap_or_else(|| name(&Area::new("ak")));
        let about = self.about.as_ref().map_or(own, name);
        let creation_hash = (self.creation_hash)(&creation_data);
        let signer = qualified_name(&self.signer_parent, &own).unwrap();
        let mut attest = octets(&Attest {
            qualified_signer: Name::new(signer.octets()).unwrap(),
            extra_data: Data::new(self.extra_data).unwrap(),
            clock_info: ClockInfo { clock: 7, reset_count: 2, restart_count: 1, safe: true },
            firmware_version: 0x2019_0502,
            attested: Attested::Creation(CreationInfo {
                object_name: Name::new(about.octets()).unwrap(),
                creation_hash: Digest::new(&creation_hash).unwrap(),
            }),
        });
        assert_eq!(attest[..6], ATTEST_CREATION);
        (self.attest)(&mut attest);
        let signature = sign(self.signed_by, &attest);
        Evidence { public, creation_data, attest, signature }
    }
}

fn sign(seed: &str, attest: &[u8]) -> Vec<u8> {
    let signing = SigningKey::from_slice(&noise(seed, 32)).unwrap();
    let made: p256::ecdsa::Signature = signing.sign_prehash(&Sha256::digest(attest)).unwrap();
    let (r, s) = made.split_bytes();
    octets(&Signature::Ecdsa(EccSignature {
        hash: Alg::SHA256,
        r: EccParameter::new(&r).unwrap(),
        s: EccParameter::new(&s).unwrap(),
    }))
}

fn octets(value: &impl Marshal) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    writer.write(value).unwrap();
    writer.into_written().to_vec()
}

impl Evidence {
    fn claim(&self) -> AkClaim<'_> {
        let attestation = Attestation { attest: &self.attest, signature: &self.signature };
        AkClaim { public: &self.public, creation_data: &self.creation_data, attestation }
    }

    fn appraise(&self, effort: &mut Effort) -> Result<AppraisedKey, &'static str> {
        let spki = ecc_key("ek").spki_der();
        let claim = Claim {
            ek: EkClaim::PublicKey(&spki),
            ek_chain: &[],
            ek_name_alg: 0,
            key: KeyClaim::AttestationKey(self.claim()),
        };
        let appraised = crate::appraise(&claim, Demand::Key, effort);
        appraised.map(|made| made.key().clone()).map_err(|error| error.code())
    }

    fn verdict(&self) -> Result<AppraisedKey, &'static str> {
        self.appraise(&mut Effort::default())
    }
}

#[track_caller]
fn refused(recipe: Recipe, code: &str) {
    assert_eq!(recipe.make().verdict().unwrap_err(), code);
}

#[test]
fn key_that_a_tpm_created_under_a_parent_is_challenged_by_its_name() {
    let evidence = Recipe::default().make();
    let AppraisedKey::AttestationKey(key) = evidence.verdict().unwrap() else { panic!() };
    let name = [&[0x00, 0x0b], &Sha256::digest(&evidence.public)[..]].concat();
    assert_eq!(key.name().octets(), name);
    // A primary key, whose parent is its hierarchy.
    let parent = Hierarchy::Endorsement.name().unwrap();
    Recipe { parent, signer_parent: parent, ..Recipe::default() }.make().verdict().unwrap();
}

#[test]
fn each_required_attribute_is_checked() {
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign must be set, decrypt clear.
    for bit in [1, 4, 5, 16, 18, 17] {
        let area = Area::new("ak").attributes(AK_ATTRIBUTES ^ 1 << bit);
        refused(Recipe { area, ..Recipe::default() }, "ak_attributes");
    }
}

#[test]
fn other_templates_are_refused() {
    let area = |change: fn(&mut Area)| Area::new("ak").attributes(AK_ATTRIBUTES).with(change);
    for (change, code) in [
        ((|area| area.set_name_alg(4)) as fn(&mut Area), "ak_name_algorithm"),
        (|area| area.set_scheme(&[0x00, 0x18, 0x00, 0x04]), "ak_template"),
        (|area| area.set_scheme(&[0x00, 0x1c, 0x00, 0x0b]), "ak_template"),
        (|area| area.set_scheme(&[0x00, 0x10]), "ak_template"),
        (|area| area.set_symmetric(&[0, 6, 0, 128, 0, 0x43]), "ak_template"),
        (|area| area.set_curve(5), "ak_template"),
    ] {
        refused(Recipe { area: area(change), ..Recipe::default() }, code);
    }
    let weak = rsa_area(&modulus("weak", 128), &[0x00, 0x14, 0x00, 0x0b]);
    assert_eq!(with_public(weak), "ak_malformed");
    let pss = rsa_area(&modulus("pss", 256), &[0x00, 0x16, 0x00, 0x0b]);
    assert_eq!(with_public(pss), "ak_template");
    // Its scheme is go-attestation's: the signature is what is wrong.
    let rsassa = rsa_area(&modulus("rsassa", 256), &[0x00, 0x14, 0x00, 0x0b]);
    assert_eq!(with_public(rsassa), "ak_signature");
}

fn rsa_area(modulus: &[u8], scheme: &[u8]) -> Vec<u8> {
    let length = u16::try_from(modulus.len()).unwrap();
    let mut public = b"\x00\x01\x00\x0b\x00\x05\x04\x72\x00\x00\x00\x10".to_vec();
    public.extend(scheme);
    public.extend((length * 8).to_be_bytes());
    public.extend([0; 4]);
    public.extend(length.to_be_bytes());
    public.extend(modulus);
    public
}

fn with_public(public: Vec<u8>) -> &'static str {
    Evidence { public, ..Recipe::default().make() }.verdict().unwrap_err()
}

#[test]
fn attestation_of_something_else_is_refused() {
    let recipe = Recipe::default;
    refused(Recipe { creation_hash: |_| vec![7; 32], ..recipe() }, "ak_creation_differs");
    // The right data, hashed with another algorithm than the key's.
    let sha384 = |data: &[u8]| HashAlg::Sha384.digest(&[data]).octets().to_vec();
    refused(Recipe { creation_hash: sha384, ..recipe() }, "ak_creation_differs");
    refused(Recipe { about: Some(Area::new("other")), ..recipe() }, "ak_attestation_other_key");
    refused(Recipe { extra_data: b"nonce", ..recipe() }, "ak_attestation_nonce");
    let signer_parent = Hierarchy::Null.name().unwrap();
    refused(Recipe { signer_parent, ..recipe() }, "ak_attestation_signer");
    refused(Recipe { signed_by: "another key", ..recipe() }, "ak_signature");
    // A restricted key signs no attestation that the TPM did not make.
    refused(Recipe { attest: |attest| attest[0] ^= 1, ..recipe() }, "ak_attestation_malformed");
    // TPM_ST_ATTEST_CERTIFY has the same form: a Name, and a Name in place of the digest.
    refused(Recipe { attest: |attest| attest[5] = 0x17, ..recipe() }, "ak_attestation_kind");
    refused(Recipe { attest: |attest| attest.push(0), ..recipe() }, "ak_attestation_malformed");
}

#[test]
fn no_changed_byte_and_no_other_length_is_accepted() {
    let good = Recipe::default().make();
    let parts: [fn(&mut Evidence) -> &mut Vec<u8>; 4] = [
        |evidence| &mut evidence.public,
        |evidence| &mut evidence.creation_data,
        |evidence| &mut evidence.attest,
        |evidence| &mut evidence.signature,
    ];
    let changed = |part: fn(&mut Evidence) -> &mut Vec<u8>, change: &dyn Fn(&mut Vec<u8>)| {
        let mut evidence = good.clone();
        change(part(&mut evidence));
        evidence.verdict()
    };
    for (index, part) in parts.into_iter().enumerate() {
        let length = part(&mut good.clone()).len();
        for position in 0..length {
            let verdict = changed(part, &|bytes| bytes[position] ^= 0x01);
            assert!(verdict.is_err(), "part {index}, byte {position}");
        }
        for end in 0..length {
            assert!(changed(part, &|bytes| bytes.truncate(end)).is_err(), "part {index}, {end}");
        }
        // Teleport ignores bytes after the public area.
        assert!(changed(part, &|bytes| bytes.push(0)).is_err(), "part {index}, longer");
    }
}

#[test]
fn signature_is_charged_even_if_it_is_genuine() {
    let cost = |evidence: &Evidence| {
        let mut effort = Effort::default();
        let _ = evidence.appraise(&mut effort);
        effort.cost()
    };
    let mut good = Recipe::default().make();
    assert_eq!(cost(&good), 4, "a check and a challenge on P-256");
    good.signature = sign("ak", b"something else");
    assert_eq!(cost(&good), 2);
    let mut effort = Effort::default();
    for _ in 0..7 {
        assert_eq!(good.appraise(&mut effort).unwrap_err(), "ak_signature");
    }
    assert_eq!(good.appraise(&mut effort).unwrap_err(), "effort_spent");
}
