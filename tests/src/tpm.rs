//! The commands of a join, and software TPMs to send them to.

use std::fs;

use anyhow::{Context, Result, bail};
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tpm2::Tpm;
use tpm2::commands::{
    ActivateCredential, CreatePrimary, GetRandom, PolicyOr, PolicySecret, ReadPublic, Sign,
};
use tpm2::crypto::{Credential, make_credential, object_name};
use tpm2::endorsement::{self, EkKind, Passwords};
use tpm2::object::Loaded;
use tpm2::session::{Auth, Salted, Session};
use tpm2::template::policy;
use tpm2::transport::{AnyTransport, Tcti, Transport};
use tpm2::types::{
    AuthValue, Digest, Handle, Hierarchy, NameBuf, Object, ObjectAttributes, Public, ResponseCode,
    SensitiveCreate, SensitiveData, SessionHandle, SessionType,
};
use tpm2::wire::{List, Tpm2b};
use verifier::JoinKey;

use crate::world::run;

/// Defines an NV index as the platform would and writes to it, with tpm2-tools.
pub fn define(swtpm: &Swtpm, index: Handle, size: usize, content: Option<&[u8]>) -> Result<()> {
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate";
    let (index, size) = (format!("{:#010x}", index.0), size.to_string());
    swtpm.tool("tpm2_nvdefine", &[&index, "-C", "p", "-s", &size, "-a", attributes])?;
    if let Some(content) = content {
        let directory = Scratch::new("endorse-nv")?;
        fs::write(directory.path().join("content"), content)?;
        let file = directory.path().join("content").display().to_string();
        swtpm.tool("tpm2_nvwrite", &[&index, "-C", "p", "-i", &file])?;
    }
    Ok(())
}

/// Removes it.
pub fn undefine(swtpm: &Swtpm, index: Handle) -> Result<()> {
    let index = format!("{:#010x}", index.0);
    swtpm.tool("tpm2_nvundefine", &[&index, "-C", "p"]).map(drop)
}

/// A TPM in the middle of a command, until this is dropped.
pub struct Busy(u32);

impl Busy {
    /// The TPM answers no command any more.
    pub fn new(swtpm: &Swtpm) -> Result<Self> {
        signal(swtpm.id(), "STOP")?;
        Ok(Self(swtpm.id()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = signal(self.0, "CONT");
    }
}

fn signal(process: u32, name: &str) -> Result<()> {
    run("sh", &["-c", "kill -\"$1\" \"$2\"", "kill", name, &process.to_string()]).map(drop)
}

/// A DER SEQUENCE of this many bytes in all.
pub fn sequence(len: usize) -> Vec<u8> {
    let mut der = match len {
        2..130 => vec![0x30, u8::try_from(len - 2).expect("short")],
        _ => {
            let content = u16::try_from(len - 4).expect("below 64 KiB").to_be_bytes();
            vec![0x30, 0x82, content[0], content[1]]
        }
    };
    let header = der.len();
    der.extend((header..len).map(|at| (at % 251) as u8));
    der
}

/// The way to a software TPM, as the agent goes it.
pub type Way = AnyTransport;

/// Switches on a TPM of the manufacturer whose CA tests trust.
pub fn start(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start()
}

/// As [`start`], where tpm2-tools can talk to it too.
pub fn start_tcp(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start_tcp()
}

/// A connection.
pub fn way(swtpm: &Swtpm) -> Result<Way> {
    Ok(swtpm.tcti().parse::<Tcti>()?.open()?)
}

/// A client.
pub fn client(swtpm: &Swtpm) -> Result<Tpm<Way>> {
    way(swtpm).map(Tpm::new)
}

/// A kind of endorsement key.
pub fn ek_kind(name: &str) -> &'static EkKind {
    EkKind::by_name(name).expect("a kind of this name")
}

/// The endorsement key of this kind where it is persistent.
pub fn persistent_ek<T: Transport>(tpm: &mut Tpm<T>, name: &str) -> Result<Loaded> {
    endorsement::find(tpm, ek_kind(name))?.with_context(|| format!("no persistent {name}"))
}

/// A join key, which is another for each `unique`.
pub fn create_join_key(unique: &[u8; 32]) -> CreatePrimary<'_> {
    create(Hierarchy::Endorsement, JoinKey::template(unique), SensitiveCreate::EMPTY)
}

/// A primary object.
pub fn create<'a>(
    primary_handle: Hierarchy,
    public: Public<'a>,
    sensitive: SensitiveCreate<'a>,
) -> CreatePrimary<'a> {
    CreatePrimary { in_sensitive: Tpm2b(sensitive), ..CreatePrimary::of(primary_handle, public) }
}

/// A key that was created and its Name, which was computed here.
pub fn load<T: Transport>(tpm: &mut Tpm<T>, command: &CreatePrimary<'_>) -> Result<Object> {
    let answer = tpm.run(command, [Auth::EMPTY])?;
    Ok(answer.object_handle.named(object_name(&answer.out_public.0)?))
}

/// What authorizes an endorsement key's use, or the first half of it.
pub fn policy_secret(policy_session: SessionHandle) -> PolicySecret<'static> {
    PolicySecret::of(Hierarchy::Endorsement, policy_session)
}

/// The two branches of the high range's policy with SHA-384.
pub fn high_branches() -> [Digest<'static>; 2] {
    [&policy::A_SHA384, &policy::C_SHA384].map(|branch| Digest::new(branch).expect("48 octets fit"))
}

/// Brings a policy session to where it authorizes the use of an endorsement key of this kind.
pub fn satisfy<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
    session: SessionHandle,
) -> Result<(), tpm2::Error<T::Error>> {
    tpm.run(&policy_secret(session), [Auth::EMPTY])?;
    if kind.name == "p384" {
        let branches = high_branches();
        tpm.run(&PolicyOr { policy_session: session, p_hash_list: List::new(&branches) }, [])?;
    }
    Ok(())
}

/// Opens a credential.
pub fn activate(key: Object, ek: Object, credential: &Credential) -> ActivateCredential<'_> {
    ActivateCredential {
        activate_handle: key,
        key_handle: ek,
        credential_blob: credential.blob(),
        secret: credential.secret(),
    }
}

/// Signs a digest by the key's own scheme.
pub fn sign(key: Object, digest: &[u8]) -> Sign<'_> {
    Sign::digest(key, Digest::new(digest).expect("a digest"))
}

/// Reads a public area.
pub fn read_public(handle: Handle) -> ReadPublic {
    ReadPublic { object_handle: Object::unnamed(handle) }
}

/// Asks for as many random bytes as a SHA-256 digest has.
pub const RANDOM: GetRandom = GetRandom { bytes_requested: 32 };

/// What a join asks of a TPM whose endorsement key of this kind is persistent, in the order of the protocol, with the
/// authority's part in the middle. Nothing is flushed: that is left to the client.
pub fn join<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &'static EkKind,
    secret: &[u8; 32],
) -> Result<()> {
    use tpm2::session::Encryption;

    let certificate =
        endorsement::certificate(tpm, kind, Passwords::NONE)?.context("no certificate")?;
    anyhow::ensure!(certificate.starts_with(&[0x30]), "no DER");
    let ek = endorsement::find(tpm, kind)?.context("no persistent key")?;
    let salt = ek.salt_key()?;
    let mut session = tpm.start_salted_session(SessionType::POLICY, &salt, Encryption::On)?;
    let unique = [7; 32];
    let answer = tpm.secured(&mut session).run(&create_join_key(&unique), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    satisfy(tpm, kind, session.handle())?;
    let opened = open(tpm, session, &ek, key, &name, secret)?;
    anyhow::ensure!(opened == *secret, "another secret");
    tpm.run(&sign(key, &[1; 32]), [Auth::EMPTY])?;
    Ok(())
}

fn open<T: Transport>(
    tpm: &mut Tpm<T>,
    session: Salted,
    ek: &Loaded,
    key: Object,
    name: &NameBuf,
    secret: &[u8; 32],
) -> Result<Vec<u8>> {
    let credential = make_credential(&ek.public()?, name, secret)?;
    let command = activate(key, ek.salt_key()?.object(), &credential);
    let answer = tpm.run(&command, [Auth::EMPTY, session.last_auth(b"")])?;
    Ok(answer.cert_info.octets().to_vec())
}

/// An HMAC session that proves authorization values and nothing else.
pub fn hmac_session<T: Transport>(tpm: &mut Tpm<T>) -> Result<Session, tpm2::Error<T::Error>> {
    tpm.start_session(SessionType::HMAC, tpm2::crypto::HashAlg::Sha256)
}

/// Guesses the password of a protected key until the TPM locks itself; what it says then.
pub fn lock_out(swtpm: &Swtpm) -> Result<tpm2::Error> {
    let mut tpm = client(swtpm)?;
    let mut public = JoinKey::template(&[9; 32]);
    public.attributes = public.attributes.without(ObjectAttributes::NO_DA);
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::from(b"secret"), data: SensitiveData::EMPTY };
    let protected = load(&mut tpm, &create(Hierarchy::Owner, public, sensitive))?;
    for _ in 0..40 {
        match tpm.run(&sign(protected, &[1; 32]), [Auth::password(b"wrong")]) {
            Err(error) if error.refusal() == Some(ResponseCode::LOCKOUT) => return Ok(error),
            Err(error) if error.refusal() == Some(ResponseCode::AUTH_FAIL) => {}
            other => bail!("a wrong password: {:?}", other.map(drop)),
        }
    }
    bail!("it never locks itself")
}
