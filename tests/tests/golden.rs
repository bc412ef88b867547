//! The golden messages of `tpm2/testdata/golden.txt`: what a join and its surroundings ask of software TPMs, and many
//! refusals. Those of all other commands are recorded by the walk through Part 3.

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Kind, Swtpm};
use tests::golden::{Entry, Golden};
use tests::tpm::{
    RANDOM, Way, activate, create, create_join_key, ek_kind, high_branches, load, persistent_ek,
    policy_secret, read_public, satisfy, sign, start, way,
};
use tpm2::commands::*;
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{self, Passwords};
use tpm2::session::{Auth, Encryption};
use tpm2::template;
use tpm2::transport::{Record, Recording};
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};
use tpm2::{Error, Tpm};
use verifier::JoinKey;

#[test]
fn the_golden_messages_are_what_a_tpm_says() -> Result<()> {
    let mut book = Book::default();
    book.reads()?;
    book.policies()?;
    book.keys()?;
    book.refusals()?;
    assert!(book.entries.len() >= 60, "{}", book.entries.len());
    let golden = Golden {
        file: "golden.txt",
        about: "Exchanges with software TPMs (libtpms, the TCG's reference code, behind swtpm), recorded on the socket.",
        again: "UPDATE=1 cargo test -p tests --test golden",
    };
    golden.agree(&book.entries)
}

#[derive(Default)]
struct Book {
    entries: Vec<Entry>,
}

/// A TPM under observation.
struct Observed {
    tpm: Tpm<Record<Way>>,
    recording: Recording,
    _swtpm: Swtpm,
}

impl Observed {
    fn new(kind: Kind) -> Result<Self> {
        let swtpm = start(kind)?;
        let recording = Recording::default();
        let tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        Ok(Self { tpm, recording, _swtpm: swtpm })
    }

    fn run<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        auths: [Auth<'_>; N],
    ) -> Result<(), Error> {
        self.tpm.run(command, auths).map(|_| ())
    }
}

impl Book {
    /// The last exchange.
    fn note(&mut self, observed: &Observed, title: &str) -> Result<()> {
        let exchange = observed.recording.exchanges().pop().context("nothing was sent")?;
        let (title, provenance) = (title.to_owned(), "recorded from swtpm".to_owned());
        self.entries.push(Entry { title, provenance, exchange });
        Ok(())
    }

    fn good<C: Authorized<N>, const N: usize>(
        &mut self,
        observed: &mut Observed,
        title: &str,
        command: &C,
        auths: [Auth<'_>; N],
    ) -> Result<()> {
        observed.run(command, auths)?;
        self.note(observed, title)
    }

    fn bad<C: Authorized<N>, const N: usize>(
        &mut self,
        observed: &mut Observed,
        title: &str,
        command: &C,
        auths: [Auth<'_>; N],
    ) -> Result<()> {
        ensure!(observed.run(command, auths).is_err(), "{title} succeeded");
        self.note(observed, title)
    }

    fn reads(&mut self) -> Result<()> {
        let mut tpm = Observed::new(Kind::RsaAndP384)?;
        let tpm = &mut tpm;
        self.good(tpm, "tests what is untested", &SelfTest { full_test: false }, [])?;
        self.good(tpm, "tests everything", &SelfTest { full_test: true }, [])?;
        for (title, capability, property, count) in [
            ("all algorithms", Capability::ALGS, 0, 127),
            ("all commands", Capability::COMMANDS, 0x11f, 256),
            ("the fixed properties", Capability::TPM_PROPERTIES, 0x100, 64),
            ("the variable properties", Capability::TPM_PROPERTIES, 0x200, 64),
            ("one property, and more data", Capability::TPM_PROPERTIES, 0x105, 1),
            ("PCR banks", Capability::PCRS, 0, 16),
            ("curves", Capability::ECC_CURVES, 0, 16),
            ("persistent handles", Capability::HANDLES, 0x8100_0000, 16),
            ("NV indices", Capability::HANDLES, 0x0100_0000, 16),
            ("transient handles, of which there are none", Capability::HANDLES, 0x8000_0000, 16),
            ("commands under physical presence", Capability::PP_COMMANDS, 0x100, 16),
            ("commands under audit", Capability::AUDIT_COMMANDS, 0x100, 16),
        ] {
            let ask = GetCapability { capability, property, property_count: count };
            self.good(tpm, title, &ask, [])?;
        }
        self.good(tpm, "32 random octets", &RANDOM, [])?;
        self.good(tpm, "no random octets", &GetRandom { bytes_requested: 0 }, [])?;
        let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
        self.good(tpm, "the index of an RSA certificate", &NvReadPublic { nv_index }, [])?;
        let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 768, offset: 0 };
        self.good(tpm, "its first 768 octets", &read, [Auth::EMPTY])?;
        let by_owner = NvRead { auth_handle: NvAuth::Owner, size: 16, offset: 700, ..read };
        self.good(tpm, "octets in its middle, by the owner", &by_owner, [Auth::EMPTY])?;
        let nothing = NvRead { size: 0, ..read };
        self.good(tpm, "none of its octets", &nothing, [Auth::EMPTY])?;
        let high = NvIndex::unnamed(Handle(0x01c0_0016));
        self.good(tpm, "the index of a P-384 certificate", &NvReadPublic { nv_index: high }, [])?;
        self.good(tpm, "a persistent RSA EK", &read_public(Handle(0x8101_0001)), [])?;
        self.good(tpm, "a persistent P-384 EK", &read_public(Handle(0x8101_0016)), [])?;
        let select = [
            PcrSelection::new(Alg::SHA1, &[0x01, 0, 0])?,
            PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?,
        ];
        for (title, many) in [("PCR 0 and 7", &select[1..]), ("PCRs of two banks", &select)] {
            self.good(tpm, title, &PcrRead { pcr_selection_in: List::new(many) }, [])?;
        }
        let mut other = Observed::new(Kind::P256)?;
        self.good(&mut other, "a persistent P-256 EK", &read_public(Handle(0x8101_000a)), [])?;
        Ok(())
    }

    fn policies(&mut self) -> Result<()> {
        let mut observed = Observed::new(Kind::RsaAndP384)?;
        let tpm = &mut observed;
        for (title, hash) in [("SHA-256", HashAlg::Sha256), ("SHA-384", HashAlg::Sha384)] {
            let session = tpm.tpm.start_session(SessionType::POLICY, hash)?;
            self.note(tpm, &format!("a policy session, {title}"))?;
            let digest = PolicyGetDigest { policy_session: session.handle() };
            self.good(tpm, &format!("its digest at first, {title}"), &digest, [])?;
            let secret = policy_secret(session.handle());
            self.good(tpm, &format!("the endorsement secret, {title}"), &secret, [Auth::EMPTY])?;
            self.good(tpm, &format!("its digest after that, {title}"), &digest, [])?;
            let ref_ = PolicySecret { policy_ref: Nonce::from(b"reference"), ..secret };
            self.good(tpm, &format!("with a reference, {title}"), &ref_, [Auth::EMPTY])?;
            tpm.tpm.flush(session.handle().handle())?;
            self.note(tpm, &format!("the session flushed, {title}"))?;
        }
        let session = tpm.tpm.start_session(SessionType::POLICY, HashAlg::Sha384)?;
        tpm.run(&policy_secret(session.handle()), [Auth::EMPTY])?;
        let branches = high_branches();
        let or = PolicyOr { policy_session: session.handle(), p_hash_list: List::new(&branches) };
        self.good(tpm, "the policy of high-range EKs", &or, [])?;
        let ticket = PolicySecret {
            nonce_tpm: Nonce::EMPTY,
            expiration: -100,
            ..policy_secret(session.handle())
        };
        self.good(tpm, "a secret that expires, with a ticket", &ticket, [Auth::EMPTY])?;
        let digest = PolicyGetDigest { policy_session: session.handle() };
        self.good(tpm, "the digest at its end", &digest, [])?;
        tpm.tpm.flush_all()?;

        let hmac = tpm.tpm.start_session(SessionType::HMAC, HashAlg::Sha256)?;
        self.note(tpm, "an HMAC session")?;
        tpm.tpm.flush(hmac.handle().handle())?;
        for name in ["rsa2048", "p384"] {
            let ek = persistent_ek(&mut tpm.tpm, name)?;
            let salt = ek.salt_key()?;
            for (encryption, title) in [(Encryption::On, "with"), (Encryption::Off, "without")] {
                let session = tpm.tpm.start_salted_session(SessionType::HMAC, &salt, encryption)?;
                self.note(tpm, &format!("a session salted to a {name} EK, {title} a cipher"))?;
                tpm.tpm.flush(session.handle().handle())?;
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> Result<()> {
        let mut observed = Observed::new(Kind::RsaAndP384)?;
        let tpm = &mut observed;
        let ek = persistent_ek(&mut tpm.tpm, "p384")?;
        let salt = ek.salt_key()?;
        let key = load(&mut tpm.tpm, &create_join_key(&[7; 32]))?;
        self.note(tpm, "a signing key")?;
        self.good(tpm, "its public area", &read_public(key.handle()), [])?;
        self.good(tpm, "its signature", &sign(key, &[0x11; 32]), [Auth::EMPTY])?;
        let mut hmac = tpm.tpm.start_session(SessionType::HMAC, HashAlg::Sha256)?;
        let command = sign(key, &[0x11; 32]);
        self.good(tpm, "its signature under an HMAC session", &command, [hmac.auth(b"")])?;
        let mut clear = tpm.tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::Off)?;
        tpm.tpm.secured(&mut clear).run(&command, [hmac.last_auth(b"")])?;
        self.note(tpm, "its signature under two sessions, the first for the last time")?;
        tpm.tpm.flush(clear.handle().handle())?;

        for name in ["rsa2048", "p384"] {
            let ek = persistent_ek(&mut tpm.tpm, name)?;
            let public = ek.public()?;
            let credential =
                make_credential(&public, &key.name().context("no Name")?, &[0x5a; 32])?;
            let hash = HashAlg::try_from(public.name_alg)?;
            let policy = tpm.tpm.start_session(SessionType::POLICY, hash)?;
            satisfy(&mut tpm.tpm, ek_kind(name), policy.handle())?;
            let command = activate(key, ek.salt_key()?.object(), &credential);
            let auths = [Auth::EMPTY, policy.last_auth(b"")];
            self.good(
                tpm,
                &format!("an activation by the policy of a {name} EK"),
                &command,
                auths,
            )?;
            if name == "p384" {
                let auths = [Auth::EMPTY, Auth::EMPTY];
                self.good(tpm, "an activation by password", &command, auths)?;
            }
        }
        self.good(tpm, "the key flushed", &FlushContext { flush_handle: key.handle() }, [])?;

        for name in ["rsa2048", "p256", "p384"] {
            let ek = endorsement::create(&mut tpm.tpm, ek_kind(name), None, Passwords::NONE)?
                .context("no EK")?;
            self.note(tpm, &format!("an EK created, {name}"))?;
            tpm.tpm.flush(ek.handle())?;
        }
        let sealed = Public {
            name_alg: Alg::SHA256,
            attributes: ObjectAttributes::USER_WITH_AUTH
                .with(ObjectAttributes::FIXED_TPM)
                .with(ObjectAttributes::FIXED_PARENT),
            auth_policy: Digest::new(&template::policy::A_SHA256)?,
            id: Id::KeyedHash(KeyedHashPublic {
                scheme: KeyedHashScheme::Null,
                unique: Digest::EMPTY,
            }),
        };
        let sensitive = SensitiveCreate {
            user_auth: AuthValue::from(b"value"),
            data: SensitiveData::from(b"sealed data"),
        };
        let pcrs = [PcrSelection::new(Alg::SHA256, &[0x01, 0, 0])?];
        let seal = CreatePrimary {
            outside_info: Data::from(b"outside"),
            creation_pcr: List::new(&pcrs),
            ..create(Hierarchy::Owner, sealed, sensitive)
        };
        let object = load(&mut tpm.tpm, &seal)?;
        self.note(tpm, "sealed data, created with PCR 0 and outside information")?;
        tpm.tpm.flush(object.handle())?;

        let mut outside = JoinKey::template(&BASE_X);
        outside.attributes = ObjectAttributes::USER_WITH_AUTH.with(ObjectAttributes::SIGN);
        let Id::Ecc(ref mut ecc) = outside.id else { panic!("the key is on a curve") };
        ecc.unique = EccPoint { x: EccParameter::new(&BASE_X)?, y: EccParameter::new(&BASE_Y)? };
        let mut scalar = [0; 32];
        scalar[31] = 1;
        let private =
            Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::new(&scalar)?))));
        for (title, in_private) in
            [("a public key loaded", None), ("a key pair loaded, the base point and one", private)]
        {
            let load =
                LoadExternal { in_private, in_public: Tpm2b(outside), hierarchy: Hierarchy::Null };
            let handle = tpm.tpm.run(&load, [])?.object_handle.handle();
            self.note(tpm, title)?;
            tpm.tpm.flush(handle)?;
        }
        self.good(tpm, "the power is about to go", &Shutdown { shutdown_type: Startup::CLEAR }, [])
    }

    fn refusals(&mut self) -> Result<()> {
        let mut observed = Observed::new(Kind::RsaAndP384)?;
        let tpm = &mut observed;
        self.bad(tpm, "started twice", &Start { startup_type: Startup::CLEAR }, [])?;
        let absent = NvIndex::unnamed(Handle(0x01c0_0004));
        self.bad(tpm, "an index that is not there", &NvReadPublic { nv_index: absent }, [])?;
        let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
        let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 1, offset: 0 };
        let beyond = NvRead { size: 1000, offset: 1000, ..read };
        self.bad(tpm, "read beyond the end of an index", &beyond, [Auth::EMPTY])?;
        let large = NvRead { size: 4000, ..read };
        self.bad(tpm, "read more than the TPM gives", &large, [Auth::EMPTY])?;
        self.bad(tpm, "an index by a wrong password", &read, [Auth::password(b"wrong")])?;
        self.bad(tpm, "an object that is not there", &read_public(Handle(0x8000_0001)), [])?;
        let flush = FlushContext { flush_handle: Handle(0x8000_0000) };
        self.bad(tpm, "the flush of what is not there", &flush, [])?;
        let mut both = JoinKey::template(&[0; 32]);
        both.attributes =
            both.attributes.with(ObjectAttributes::RESTRICTED).with(ObjectAttributes::DECRYPT);
        let command = create(Hierarchy::Endorsement, both, SensitiveCreate::EMPTY);
        self.bad(tpm, "a key that may not be", &command, [Auth::EMPTY])?;
        let key = load(&mut tpm.tpm, &create_join_key(&[7; 32]))?;
        self.bad(tpm, "a digest of the wrong size", &sign(key, &[1; 20]), [Auth::EMPTY])?;
        let ek = persistent_ek(&mut tpm.tpm, "rsa2048")?;
        let name = key.name().context("no Name")?;
        let credential = make_credential(&ek.public()?, &name, &[0x5a; 32])?;
        let command = activate(key, ek.salt_key()?.object(), &credential);
        let auths = [Auth::EMPTY, Auth::EMPTY];
        self.bad(tpm, "a low-range EK by password", &command, auths)?;
        let mut policy = tpm.tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
        let auths = [Auth::EMPTY, policy.auth(b"")];
        self.bad(tpm, "an EK by a policy that is not fulfilled", &command, auths)?;
        tpm.run(&policy_secret(policy.handle()), [Auth::EMPTY])?;
        let unknown = object_name(&JoinKey::template(&[1; 32]))?;
        let foreign = make_credential(&ek.public()?, &unknown, &[0x5a; 32])?;
        let command = activate(key, ek.salt_key()?.object(), &foreign);
        let auths = [Auth::EMPTY, policy.auth(b"")];
        self.bad(tpm, "a credential for another Name", &command, auths)?;
        for _ in 0..2 {
            load(&mut tpm.tpm, &create_join_key(&[8; 32]))?;
        }
        self.bad(tpm, "one object too many", &create_join_key(&[9; 32]), [Auth::EMPTY])?;
        Ok(())
    }
}

/// The base point of P-256.
const BASE_X: [u8; 32] = [
    0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
];
const BASE_Y: [u8; 32] = [
    0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
    0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];
