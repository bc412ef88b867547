//! The TPM stack against software TPMs.

use tpm2::commands::{ActivateCredential, CreatePrimary, PolicySecret, Sign};
use tpm2::crypto::{make_credential, object_name};
use tpm2::endorsement::{self, EkKind, ek_public_key};
use tpm2::session::{Auth, Encryption};
use tpm2::transport::{Record, Recording, Retry, Tcti};
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};
use tpm2::{Tpm, template};
use xtask::swtpm::{Factory, Kind, Maker};

#[test]
fn a_whole_activation() -> anyhow::Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
    let tcti: Tcti = swtpm.tcti().parse()?;
    for kind in ["rsa2048", "p384"] {
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(tcti.open()?, recording.clone()));
        let kind = EkKind::by_name(kind).unwrap();
        let certificate = endorsement::certificate(&mut tpm, kind)?.unwrap();
        println!("{} {}", certificate.len(), recording.exchanges().len());
        let ek = endorsement::find(&mut tpm, kind)?.unwrap();
        let created = endorsement::create(&mut tpm, kind, ek_public_key(&ek.public()?))?;
        assert_eq!(created.public()?, ek.public()?);
        tpm.flush(created.handle())?;
        let salt = ek.salt_key()?;
        let mut session = tpm.start_salted_session(SessionType::POLICY, &salt, Encryption::On)?;
        let unique = [7; 32];
        let create = CreatePrimary {
            primary_handle: Hierarchy::Endorsement,
            in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
            in_public: Tpm2b(template::join_key(&unique)),
            outside_info: Data::EMPTY,
            creation_pcr: List::new(&[]),
        };
        let answer = tpm.secured(&mut session).run(&create, [Auth::EMPTY])?;
        let name = object_name(&answer.out_public.0)?;
        assert_eq!(answer.name.octets(), name.octets());
        let key = answer.object_handle.named(name);
        let secret = [0x5a; 32];
        let credential = make_credential(&ek.public()?, &name, &secret)?;
        let activate = ActivateCredential {
            activate_handle: key,
            key_handle: salt.object(),
            credential_blob: credential.blob(),
            secret: credential.secret(),
        };
        if kind.has_user_with_auth() {
            let answer = tpm.secured(&mut session).run(&activate, [Auth::EMPTY, Auth::EMPTY])?;
            assert_eq!(answer.cert_info.octets(), secret);
        }
        let policy = PolicySecret {
            auth_handle: Hierarchy::Endorsement,
            policy_session: session.handle(),
            nonce_tpm: Nonce::EMPTY,
            cp_hash_a: Digest::EMPTY,
            policy_ref: Nonce::EMPTY,
            expiration: 0,
        };
        tpm.run(&policy, [Auth::EMPTY])?;
        if !kind.has_user_with_auth() {
            let answer = tpm.run(&activate, [Auth::EMPTY, session.session().last_auth(b"")])?;
            assert_eq!(answer.cert_info.octets(), secret);
        }
        let sign = Sign {
            key_handle: key,
            digest: Digest::new(&[1; 32])?,
            in_scheme: AsymScheme::Null,
            validation: Ticket::NO_HASHCHECK,
        };
        let answer = tpm.run(&sign, [Auth::EMPTY])?;
        assert!(matches!(answer.signature, Signature::Ecdsa(_)));
        let bus = recording.exchanges();
        let seen = bus.iter().any(|e| e.response.windows(32).any(|w| w == secret));
        assert!(!seen);
        for e in &bus {
            println!("{:02x?} -> {:02x?}", &e.command[6..10], &e.response[6..10]);
        }
        drop(tpm);
        let _ = Retry::new(0);
    }
    Ok(())
}
