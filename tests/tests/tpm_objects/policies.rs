//! Policies as values: their digests beside those of the commands, and what they unlock.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use tpm2::commands::{PolicyGetDigest, VerifySignature};
use tpm2::crypto::{policy_approval, signed_authorization};
use tpm2::nv::{Access, By, Index};
use tpm2::policy::{Consent, Responder, SignedRequest};
use tpm2::session::NewSession;
use tpm2::types::Name;

use super::*;

/// Passwords, branches, and a key that signs.
struct Answers<'a> {
    branches: &'a [usize],
    key: SigningKey,
    octets: [[u8; 32]; 2],
    ticket: Option<(TicketBuf, TimeoutBuf)>,
    use_ticket: bool,
    nonce: Option<DigestBuf>,
}

impl<'a> Answers<'a> {
    fn new(branches: &'a [usize]) -> Result<Self> {
        let key = SigningKey::from_slice(&[0x42; 32])?;
        Ok(Self {
            branches,
            key,
            octets: [[0; 32]; 2],
            ticket: None,
            use_ticket: false,
            nonce: None,
        })
    }

    fn sign_digest(&mut self, digest: &[u8]) -> Signature<'_> {
        let signature: p256::ecdsa::Signature = self.key.sign_prehash(digest).expect("a digest");
        self.octets = [signature.r().to_bytes().into(), signature.s().to_bytes().into()];
        let [r, s] = &self.octets;
        Signature::Ecdsa(EccSignature { hash: Alg::SHA256, r: r.into(), s: s.into() })
    }
}

impl Responder for Answers<'_> {
    fn authorize(&mut self, entity: &AnyEntity) -> Auth<'_> {
        match entity.handle().kind() {
            HandleKind::NV_INDEX => Auth::password(b"index"),
            _ => Auth::EMPTY,
        }
    }

    fn choose(&mut self, _: &[Policy<'_>]) -> usize {
        let (first, rest) = self.branches.split_first().expect("a branch for each");
        self.branches = rest;
        *first
    }

    fn sign(&mut self, request: &SignedRequest<'_>) -> Result<Consent<'_>, Fault> {
        if self.use_ticket {
            let (ticket, timeout) = self.ticket.as_ref().expect("kept before");
            let (ticket, timeout) = (ticket.into(), timeout.into());
            return Ok(Consent::Ticket { timeout, cp_hash_a: Digest::EMPTY, ticket });
        }
        let nonce = self.nonce.unwrap_or(request.nonce_tpm.into());
        let reference = request.policy_ref.octets();
        let digest = signed_authorization(HashAlg::Sha256, nonce.octets(), -600, b"", reference);
        self.nonce = Some(nonce);
        let signature = self.sign_digest(digest.octets());
        let cp_hash_a = Digest::EMPTY;
        Ok(Consent::Signature { is_for_this_session: true, expiration: -600, cp_hash_a, signature })
    }

    fn keep(&mut self, ticket: TicketBuf, timeout: TimeoutBuf) {
        self.ticket = Some((ticket, timeout));
    }

    fn approve<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        approved: &DigestBuf,
        _: Name<'_>,
        policy_ref: Nonce<'_>,
    ) -> Result<VerifiedTicketBuf, tpm2::Error<T::Error>> {
        let approval = policy_approval(HashAlg::Sha256, approved.into(), policy_ref.octets());
        let key = external(tpm).expect("a key");
        let signature = self.sign_digest(approval.octets());
        let digest = Digest::from(&approval);
        let verify = VerifySignature { key_handle: key, digest, signature };
        let ticket = tpm.run(&verify, [])?.validation.into();
        tpm.flush(key.handle())?;
        Ok(ticket)
    }
}

/// The public part of the key that signs.
fn external<T: Transport>(tpm: &mut Tpm<T>) -> Result<Object> {
    let outside = Outside::new()?;
    let public = outside.public()?;
    Ok(object::load_external(tpm, &public, None, Hierarchy::Owner)?.object())
}

/// The digest that a session of this type reaches when the policy runs in it.
fn reached<T: Transport>(
    tpm: &mut Tpm<T>,
    plan: &NewSession<'_>,
    policy: &Policy<'_>,
    answers: &mut Answers<'_>,
) -> Result<Vec<u8>> {
    tpm.with_session(plan, |tpm, session| {
        policy.run_with(tpm, session, answers)?;
        let digest = tpm.run(&PolicyGetDigest { policy_session: session.handle() }, [])?;
        Ok(digest.policy_digest.octets().to_vec())
    })
}

/// Steps that a session can take without more than itself, in a trial session or in one that counts.
fn plain(digest: &[u8]) -> Result<Vec<Step<'_>>> {
    let digest = Digest::new(digest)?;
    let (operand, offset, operation) =
        (Digest::from(b"\0\0\0\0\0\0\0\0"), 0, Comparison::UNSIGNED_GE);
    Ok(vec![
        Step::AuthValue,
        Step::Password,
        Step::CommandCode(CommandCode(0x15e)),
        Step::Locality(Locality::ZERO),
        Step::PhysicalPresence,
        Step::CpHash(digest),
        Step::NameHash(digest),
        Step::Template(digest),
        Step::NvWritten(true),
        Step::NvWritten(false),
        Step::CounterTimer { operand, offset, operation },
        Step::DuplicationSelect { object: None, new_parent: Name::from(&[7; 34]) },
        Step::DuplicationSelect {
            object: Some(Name::from(&[8; 34])),
            new_parent: Name::from(&[7; 34]),
        },
        Step::Pcr { pcrs: List::new(&[]), digest },
    ])
}

/// For every step there is, a trial session has the digest that is computed without a TPM.
#[test]
fn digest_of_every_step_is_that_of_a_session() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let mut answers = Answers::new(&[])?;
    let key = external(&mut tpm)?;
    let name = key.name().context("a Name")?;
    let mut index = index(&mut tpm, 32)?;
    let mut access = Access::by_password(By::Index, b"index");
    for hash in [HashAlg::Sha256, HashAlg::Sha384] {
        let (policy_ref, octets) = (Nonce::from(b"reference"), vec![9; hash.digest_len()]);
        let mut steps = plain(&octets)?;
        let (by, nv_index) = (NvAuth::Index(index.entity()), index.entity());
        let operand = Digest::from(b"\xff");
        let (offset, operation) = (0, Comparison::NEQ);
        steps.push(Step::Secret { entity: Hierarchy::Owner.into(), policy_ref });
        steps.push(Step::Nv { by, index: nv_index, operand, offset, operation });
        let trial = NewSession::trial(hash);
        for step in steps {
            for steps in [&[step][..], &[Step::Locality(Locality::ZERO), step]] {
                let policy = Policy::new(steps);
                let digest = policy.digest(hash)?;
                let by_tpm = reached(&mut tpm, &trial, &policy, &mut answers)?;
                assert_eq!(digest.octets(), by_tpm, "{step:?}");
            }
        }
        // Those that need a session that counts.
        let steps = [Step::Signed { key, policy_ref }, Step::AuthValue];
        let approved =
            [Step::PhysicalPresence, Step::Authorize { key: Name::from(&name), policy_ref }];
        for steps in [&steps[..], &approved[1..], &[Step::Locality(Locality::ZERO), approved[1]]] {
            let policy = Policy::new(steps);
            answers.nonce = None;
            let by_tpm = reached(&mut tpm, &NewSession::policy(hash), &policy, &mut answers)?;
            assert_eq!(policy.digest(hash)?.octets(), by_tpm, "{steps:?}");
        }
    }
    // What an index holds is the approved policy.
    let before = [Step::AuthValue];
    let digest = Policy::new(&before).digest(HashAlg::Sha256)?;
    let mut content = Alg::SHA256.0.to_be_bytes().to_vec();
    content.extend(digest.octets());
    index.undefine(&mut tpm, Provision::Owner, Auth::EMPTY)?;
    index = self::index(&mut tpm, content.len())?;
    index.write(&mut tpm, &mut access, &content)?;
    let by = NvAuth::Index(index.entity());
    let steps = [Step::AuthValue, Step::AuthorizeNv { by, index: index.entity() }];
    let policy = Policy::new(&steps);
    let by_tpm = reached(&mut tpm, &NewSession::policy(HashAlg::Sha256), &policy, &mut answers)?;
    assert_eq!(policy.digest(HashAlg::Sha256)?.octets(), by_tpm);
    Ok(())
}

fn index<T: Transport>(tpm: &mut Tpm<T>, size: usize) -> Result<Index> {
    let public = NvPublic {
        index: Handle(0x0150_0007),
        name_alg: Alg::SHA256,
        attributes: NvAttributes::AUTHREAD | NvAttributes::AUTHWRITE | NvAttributes::NO_DA,
        auth_policy: Digest::EMPTY,
        data_size: u16::try_from(size)?,
    };
    let value = AuthValue::from(b"index");
    let mut index = Index::define(tpm, Provision::Owner, Auth::EMPTY, &public, value)?;
    index.write(tpm, &mut Access::by_password(By::Index, b"index"), &vec![0; size])?;
    Ok(index)
}

/// (PCR and PIN) or (signed and (password or locality)): each way opens the data, and no other does.
#[test]
fn nested_branches_open_what_was_sealed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let parent = primary(&mut tpm, &template::SRK_P256)?;
    let key = external(&mut tpm)?;
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    let now = pcr::digest(&mut tpm, HashAlg::Sha256, &pcrs)?;
    let pin = [Step::Pcr { pcrs: List::new(&pcrs), digest: Digest::from(&now) }, Step::AuthValue];
    let (password, local) = ([Step::Password], [Step::Locality(Locality::ZERO)]);
    let inner = [Policy::new(&password), Policy::new(&local)];
    let signed = [Step::Signed { key, policy_ref: Nonce::EMPTY }, Step::Or(&inner)];
    let outer = [Policy::new(&pin), Policy::new(&signed)];
    let steps = [Step::CommandCode(CommandCode(0x15e)), Step::Or(&outer)];
    let policy = Policy::new(&steps);
    let digest = policy.digest(HashAlg::Sha256)?;
    let sealed = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &digest, b"PIN")?;
    let mut open = |branches: &[usize], value: &[u8]| -> Result<Vec<u8>> {
        let session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
        let run = policy.run_with(&mut tpm, &session, &mut Answers::new(branches)?);
        if let Err(error) = run {
            tpm.end(session)?;
            return Err(error.into());
        }
        let auth = session.last_auth(value);
        Ok(seal::unseal_by(&mut tpm, &parent, Auth::EMPTY, &sealed, auth)?.expose().to_vec())
    };
    for (branches, value) in
        [(&[0][..], &b"PIN"[..]), (&[1, 0], b"PIN"), (&[1, 1], b""), (&[0], b"PIN")]
    {
        assert_eq!(open(branches, value)?, SECRET, "{branches:?}");
    }
    for (branches, value) in [(&[0][..], &b"NIP"[..]), (&[1, 0], b""), (&[2], b""), (&[1, 2], b"")]
    {
        open(branches, value).expect_err("another PIN, or no branch");
    }
    Ok(())
}

/// With the nonce a signature is good for one session; its ticket for the next ones, until it expires.
#[test]
fn signature_with_a_nonce_is_refused_in_another_session_and_its_ticket_is_not() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = external(&mut tpm)?;
    let steps = [Step::Signed { key, policy_ref: Nonce::from(b"reference") }];
    let policy = Policy::new(&steps);
    let plan = NewSession::policy(HashAlg::Sha256);
    let mut answers = Answers::new(&[])?;
    let digest = policy.digest(HashAlg::Sha256)?;
    assert_eq!(reached(&mut tpm, &plan, &policy, &mut answers)?, digest.octets());
    // The signature of the first session again.
    let replayed =
        tpm.with_session(&plan, |tpm, session| policy.run_with(tpm, session, &mut answers));
    assert_eq!(replayed.unwrap_err().refusal(), Some(ResponseCode::SIGNATURE));
    answers.use_ticket = true;
    assert_eq!(reached(&mut tpm, &plan, &policy, &mut answers)?, digest.octets());
    let missing = tpm.with_session(&plan, |tpm, session| policy.run(tpm, session)).unwrap_err();
    assert!(matches!(missing.fault(), Fault::Unanswered("a signature")), "{missing}");
    Ok(())
}

/// A key file says what must be run before its key can be used, and who may approve something else.
#[test]
fn key_file_runs_its_policy_and_those_that_were_signed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let parent = primary(&mut tpm, &template::SRK_P256)?;
    let hash = HashAlg::Sha256;
    let steps = [Step::Locality(Locality::ZERO), Step::AuthValue];
    let file = with_policy(&mut tpm, &parent, &Policy::new(&steps))?;
    let file = KeyFile::from_pem(&file.to_pem()?)?;
    let key = file.load(&mut tpm, b"")?;
    let command = sign_ecdsa(&key);
    let mut session = tpm.start(&NewSession::policy(hash))?;
    let unmet = tpm.run(&command, [session.auth(b"")]).unwrap_err();
    assert_eq!(unmet.refusal(), Some(ResponseCode::POLICY_FAIL));
    file.run_policy(&mut tpm, &session)?;
    tpm.run(&command, [session.last_auth(b"")])?;
    tpm.flush_all()?;

    let outside = Outside::new()?;
    let (public, reference) = (outside.public()?, Nonce::from(b"release"));
    let name = tpm2::crypto::object_name(&public)?;
    let steps = [Step::Authorize { key: Name::from(&name), policy_ref: reference }];
    let parent = primary(&mut tpm, &template::SRK_P256)?;
    let mut file = with_policy(&mut tpm, &parent, &Policy::new(&steps))?;
    let authorize = CommandCode(0x16a);
    let mut unsigned = Tpm2b(public).to_vec()?;
    unsigned.extend(reference.to_vec()?);
    let mut answers = Answers::new(&[])?;
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    let now = pcr::digest(&mut tpm, hash, &pcrs)?;
    for digest in [DigestBuf::from(Digest::from(&[7; 32])), now] {
        let approved = [Step::Pcr { pcrs: List::new(&pcrs), digest: Digest::from(&digest) }];
        let digest = Policy::new(&approved).digest(hash)?;
        let approval = policy_approval(hash, digest.digest(), reference.octets());
        let mut parameters = unsigned.clone();
        parameters.extend(answers.sign_digest(approval.octets()).to_vec()?);
        let steps =
            vec![PolicyStep::new(&approved[0])?, PolicyStep { command: authorize, parameters }];
        file.auth_policy.push(SignedPolicy { name: None, steps });
    }
    unsigned.extend(Signature::Null.to_vec()?);
    file.policy = vec![PolicyStep { command: authorize, parameters: unsigned }];
    let file = KeyFile::from_pem(&file.to_pem()?)?;
    let key = file.load(&mut tpm, b"")?;
    // The first policy is of other values, the second one is met.
    let session = tpm.start(&NewSession::policy(hash))?;
    file.run_policy(&mut tpm, &session)?;
    tpm.run(&sign_ecdsa(&key), [session.last_auth(b"")])?;
    let mut other = file.clone();
    other.auth_policy.pop();
    let session = tpm.start(&NewSession::policy(hash))?;
    let refused = other.run_policy(&mut tpm, &session).unwrap_err();
    assert_eq!(refused.refusal(), Some(ResponseCode::VALUE), "{refused}");
    Ok(())
}

fn sign_ecdsa(key: &Loaded) -> tpm2::commands::Sign<'static> {
    let mut command = sign(key.object(), &[7; 32]);
    command.in_scheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });
    command
}

/// A key file whose key needs this policy.
fn with_policy(
    tpm: &mut Tpm<tests::tpm::Way>,
    parent: &Loaded,
    policy: &Policy<'_>,
) -> Result<KeyFile> {
    let digest = policy.digest(HashAlg::Sha256)?;
    let template = template::ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let attributes = template.attributes.without(ObjectAttributes::USER_WITH_AUTH);
    let template = template.with_attributes(attributes).with_policy(digest.digest());
    let empty = SensitiveCreate::EMPTY;
    let made = object::create(tpm, parent.object(), Auth::EMPTY, &template, empty)?.0;
    let public = Public::from_bytes(&made.public)?;
    let owner = KeyParent::P256(Handle::OWNER);
    let mut file = KeyFile::new(FileKind::Loadable, owner, &public, &made.private)?;
    let steps = policy.steps().iter().filter_map(|step| PolicyStep::new(step).ok());
    file.policy = steps.collect();
    Ok(file)
}

#[test]
fn key_is_made_persistent_evicted_and_loaded_from_outside() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let (handle, owner) = (Handle(0x8100_0042), Provision::Owner);
    let made = primary(&mut tpm, &template::ecc_signing(Curve::NIST_P256, Alg::SHA256))?;
    let kept = object::persist(&mut tpm, &made, handle, owner, Auth::EMPTY)?;
    tpm.flush(made.handle())?;
    signs(&mut tpm, &kept)?;
    let found = object::persistent(&mut tpm, handle)?.context("a key")?;
    assert_eq!(found.name(), made.name());
    object::evict(&mut tpm, &kept, owner, Auth::EMPTY)?;
    assert!(object::persistent(&mut tpm, handle)?.is_none());
    let transient = Handle(0x8000_0000);
    let refused = object::persist(&mut tpm, &made, transient, owner, Auth::EMPTY).unwrap_err();
    assert!(matches!(refused.fault(), Fault::NotPersistent(_)), "{refused}");

    let outside = Outside::new()?;
    let whole = Some(outside.sensitive()?);
    let whole = object::load_external(&mut tpm, &outside.public()?, whole, Hierarchy::Null)?;
    signs(&mut tpm, &whole)
}

#[test]
fn everyday_keys_are_made_from_their_templates() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let parent = primary(&mut tpm, &template::SRK_P256)?;
    let sha256 = HashScheme { hash: Alg::SHA256 };
    for template in [
        template::ecc_signing(Curve::NIST_P256, Alg::SHA256),
        template::ecc_signing(Curve::NIST_P384, Alg::SHA384),
        template::ecc_key_exchange(Curve::NIST_P256),
        template::rsa_signing(2048, AsymScheme::Rsapss(sha256)),
        template::rsa_signing(2048, AsymScheme::Null),
        template::rsa_decryption(2048, AsymScheme::Oaep(sha256)),
        template::hmac(Alg::SHA256),
        template::aes(128),
        template::aes(256),
    ] {
        let empty = SensitiveCreate::EMPTY;
        let made = object::create(&mut tpm, parent.object(), Auth::EMPTY, &template, empty);
        let made = made.with_context(|| format!("{template:?}"))?.0;
        let key = object::load(&mut tpm, parent.object(), Auth::EMPTY, &made)?;
        assert_eq!(key.public()?.attributes, template.attributes);
        tpm.flush(key.handle())?;
    }
    Ok(())
}
