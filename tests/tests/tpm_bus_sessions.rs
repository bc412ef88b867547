//! An attacker on the bus, against every kind of session: of many commands, what it sees of parameters and values, and what
//! comes of any byte that he changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use anyhow::{Context, Result};
use testkit::bus::{Interposer, command_code, forward};
use testkit::swtpm::Kind;
use tests::tpm::{RANDOM, create, load, sign, start, way};
use tpm2::commands::*;
use tpm2::crypto::{HashAlg, nv_name};
use tpm2::session::{Auth, Cipher, NewSession};
use tpm2::template::SRK_P256;
use tpm2::transport::Transport;
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b, Writer};
use tpm2::{Error, Fault, Tpm};
use verifier::JoinKey;

const VALUE: &[u8] = b"an authorization value";
const SEALED: &[u8] = b"a secret that was sealed in the TPM";

/// The parameters of an answer, or why there is none.
type Answered<T> = Result<Vec<u8>, Error<<T as Transport>::Error>>;

/// How a session takes part. It is bound to the storage key, of whose value the bus knows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    RidesAes128,
    RidesAes256,
    RidesXor,
    PolicyRides,
    AuthorizesAndHides,
    Authorizes,
}

const ALL: [How; 6] = [
    How::RidesAes128,
    How::RidesAes256,
    How::RidesXor,
    How::PolicyRides,
    How::AuthorizesAndHides,
    How::Authorizes,
];

impl How {
    fn plan(self, entity: Object) -> NewSession<'static> {
        let bound = NewSession::hmac(HashAlg::Sha256).bound(entity, VALUE);
        match self {
            Self::RidesAes128 | Self::AuthorizesAndHides => bound.encrypting(Cipher::Aes128),
            Self::RidesAes256 => bound.encrypting(Cipher::Aes256),
            Self::RidesXor => bound.encrypting(Cipher::Xor),
            Self::PolicyRides => {
                NewSession::policy(HashAlg::Sha256).bound(entity, VALUE).encrypting(Cipher::Aes128)
            }
            Self::Authorizes => bound,
        }
    }

    fn authorizes(self) -> bool {
        matches!(self, Self::AuthorizesAndHides | Self::Authorizes)
    }
}

/// What the bus saw last, and what it does with an answer.
#[derive(Clone, Default)]
struct Bus(Rc<BusState>);

#[derive(Default)]
struct BusState {
    target: Cell<u32>,
    change: Cell<Option<(usize, u8)>>,
    command: RefCell<Vec<u8>>,
    answer: RefCell<Vec<u8>>,
}

impl Bus {
    fn at<T: Transport<Error = io::Error>>(
        &self,
        way: T,
    ) -> impl Transport<Error = io::Error> + use<T> {
        let bus = self.clone();
        Interposer::new(way, move |command, tpm| {
            let mut answer = forward(tpm, command)?;
            if command_code(command).0 == bus.0.target.get() {
                *bus.0.command.borrow_mut() = command.to_vec();
                *bus.0.answer.borrow_mut() = answer.clone();
                if let Some((at, mask)) = bus.0.change.take() {
                    answer[at] ^= mask;
                }
            }
            Ok(answer)
        })
    }
}

/// A TPM with something in it to ask for.
struct Bench<T: Transport> {
    tpm: Tpm<T>,
    bus: Bus,
    parent: Object,
    key: Object,
    sealed: Object,
    index: NvIndex,
}

/// What is done to each command in turn.
trait Attack<T: Transport> {
    fn on<C: Authorized<N>, const N: usize>(
        &mut self,
        bench: &mut Bench<T>,
        command: &C,
        values: [&[u8]; N],
    ) -> Result<()>;
}

fn sealed_public() -> Public<'static> {
    Public {
        name_alg: Alg::SHA256,
        attributes: ObjectAttributes::FIXED_TPM
            .with(ObjectAttributes::FIXED_PARENT)
            .with(ObjectAttributes::USER_WITH_AUTH)
            .with(ObjectAttributes::NO_DA),
        auth_policy: Digest::EMPTY,
        id: Id::KeyedHash(KeyedHashPublic { scheme: KeyedHashScheme::Null, unique: Digest::EMPTY }),
    }
}

fn sensitive(data: &[u8]) -> Result<SensitiveCreate<'_>> {
    Ok(SensitiveCreate { user_auth: AuthValue::new(VALUE)?, data: SensitiveData::new(data)? })
}

fn bench<T: Transport>(mut tpm: Tpm<T>, bus: &Bus) -> Result<Bench<T>> {
    let owner = Hierarchy::Owner;
    let parent = load(&mut tpm, &create(owner, SRK_P256, sensitive(b"")?))?;
    let key = load(&mut tpm, &create(owner, JoinKey::template(&[1; 32]), sensitive(b"")?))?;
    let sealed = load(&mut tpm, &create(owner, sealed_public(), sensitive(SEALED)?))?;
    let unnamed = NvIndex::unnamed(Handle(0x01c0_0002));
    let public = tpm.run(&NvReadPublic { nv_index: unnamed }, [])?.nv_public.0;
    let index = NvIndex::named(public.index, nv_name(&public)?);
    Ok(Bench { tpm, bus: bus.clone(), parent, key, sealed, index })
}

impl<T: Transport> Bench<T> {
    /// Every command here under every attack: such as take or give something that a session can hide, and others.
    fn each(&mut self, attack: &mut impl Attack<T>) -> Result<()> {
        let index = NvAuth::Index(self.index);
        attack.on(self, &RANDOM, [])?;
        attack.on(self, &ReadPublic { object_handle: self.key }, [])?;
        attack.on(self, &Unseal { item_handle: self.sealed }, [VALUE])?;
        attack.on(self, &sign(self.key, &[0x5a; 32]), [VALUE])?;
        let read = NvRead { auth_handle: index, nv_index: self.index, size: 32, offset: 16 };
        attack.on(self, &read, [b""])?;
        attack.on(self, &NvReadPublic { nv_index: self.index }, [])?;
        // TPM2_Create needs the room of an object.
        self.tpm.flush(self.key.handle())?;
        let seal = Create {
            parent_handle: self.parent,
            in_sensitive: Tpm2b(sensitive(SEALED)?),
            in_public: Tpm2b(sealed_public()),
            outside_info: Data::EMPTY,
            creation_pcr: List::new(&[]),
        };
        attack.on(self, &seal, [VALUE])?;
        let hash = Hash {
            data: MaxBuffer::new(SEALED)?,
            hash_alg: Alg::SHA256,
            hierarchy: Hierarchy::Owner,
        };
        attack.on(self, &hash, [])?;
        let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?];
        attack.on(self, &PcrRead { pcr_selection_in: List::new(&pcrs) }, [])?;
        let ask = GetCapability {
            capability: Capability::TPM_PROPERTIES,
            property: Property::MANUFACTURER.0,
            property_count: 4,
        };
        attack.on(self, &ask, [])
    }

    /// One command in a session of its own, since after a forgery both sides' nonces part. `None` if a session of this
    /// kind can do nothing for the command.
    fn once<C: Authorized<N>, const N: usize>(
        &mut self,
        how: How,
        command: &C,
        values: [&[u8]; N],
    ) -> Result<Option<Answered<T>>> {
        if how.authorizes() && N == 0 {
            return Ok(None);
        }
        let mut session = self.tpm.start(&how.plan(self.parent))?;
        let handle = session.handle().handle();
        self.bus.0.target.set(C::INFO.code.0);
        let done = if how.authorizes() {
            let mut first = Some(session.auth(values.first().copied().unwrap_or_default()));
            let mut rest = values.into_iter();
            let auths = std::array::from_fn(|_| {
                let value = rest.next().unwrap_or_default();
                first.take().unwrap_or(Auth::password(value))
            });
            self.tpm
                .run(command, auths)
                .map(|answer| plain(|writer| answer.marshal_parameters(writer)))
        } else {
            let auths = values.map(Auth::password);
            let done = self.tpm.run_with(command, auths, [session.ride()]);
            done.map(|answer| plain(|writer| answer.marshal_parameters(writer)))
        };
        self.bus.0.target.set(0);
        self.tpm.flush(handle)?;
        match done {
            Err(error) if matches!(error.fault(), Fault::Unprotectable(_)) => Ok(None),
            done => Ok(Some(done)),
        }
    }
}

fn plain(write: impl FnOnce(&mut Writer<'_>) -> Result<(), tpm2::wire::TooLarge>) -> Vec<u8> {
    let mut octets = [0; 4096];
    let mut writer = Writer::new(&mut octets);
    write(&mut writer).expect("it came in a buffer of this size");
    writer.into_written().to_vec()
}

/// The content of the first parameter.
fn first(parameters: &[u8]) -> &[u8] {
    let size = usize::from(u16::from_be_bytes([parameters[0], parameters[1]]));
    &parameters[2..2 + size]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Sees all and changes nothing.
#[derive(Default)]
struct Listener {
    hidden: BTreeMap<How, (usize, usize)>,
}

impl<T: Transport> Attack<T> for Listener {
    fn on<C: Authorized<N>, const N: usize>(
        &mut self,
        bench: &mut Bench<T>,
        command: &C,
        values: [&[u8]; N],
    ) -> Result<()> {
        let (there, back) = (C::INFO.first_parameter_sized, C::INFO.response.first_parameter_sized);
        let said = plain(|writer| command.marshal_parameters(writer));
        for how in ALL {
            let Some(done) = bench.once(how, command, values)? else { continue };
            let answered = done.with_context(|| format!("{how:?}"))?;
            let hides = how != How::Authorizes;
            let (sent, received) = (bench.bus.0.command.borrow(), bench.bus.0.answer.borrow());
            let counts = self.hidden.entry(how).or_default();
            let name = C::INFO.name;
            if there {
                assert_eq!(contains(&sent, first(&said)), !hides, "{name} {how:?}");
                counts.0 += 1;
            }
            if back {
                assert_eq!(contains(&received, first(&answered)), !hides, "{name} {how:?}");
                counts.1 += 1;
            }
            // A value that a session proves is never said; the password beside a rider is.
            let proven = how.authorizes() && !(there && !hides && contains(&said, VALUE));
            assert!(!(proven && contains(&sent, VALUE)), "{name} {how:?}");
        }
        Ok(())
    }
}

#[test]
fn a_listener_sees_no_parameter_that_a_session_can_hide() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let bus = Bus::default();
    let mut bench = bench(Tpm::new(bus.at(way(&swtpm)?)), &bus)?;
    let mut listener = Listener::default();
    bench.each(&mut listener)?;
    for how in ALL {
        let expected = if how.authorizes() { (2, 3) } else { (3, 7) };
        assert_eq!(listener.hidden[&how], expected, "{how:?}: parameters there and back");
    }
    Ok(())
}

/// Changes one byte of every answer, each in its turn.
#[derive(Default)]
struct Forger {
    outcomes: BTreeMap<(How, &'static str), usize>,
}

impl<T: Transport> Attack<T> for Forger {
    fn on<C: Authorized<N>, const N: usize>(
        &mut self,
        bench: &mut Bench<T>,
        command: &C,
        values: [&[u8]; N],
    ) -> Result<()> {
        for how in ALL {
            let Some(truth) = bench.once(how, command, values)? else { continue };
            truth.with_context(|| format!("{how:?}"))?;
            let len = bench.bus.0.answer.borrow().len();
            for at in 0..len {
                let mask = [0x01, 0x80, 0xff, 0x40][at % 4];
                bench.bus.0.change.set(Some((at, mask)));
                let done = bench.once(how, command, values)?.context("it was possible before")?;
                assert_eq!(bench.bus.0.change.get(), None, "nothing was changed");
                let fault = match done.map_err(|error| verdict(&error)) {
                    Err(fault) => fault,
                    // Some answers are of another length each time.
                    Ok(_) if at >= bench.bus.0.answer.borrow().len() => continue,
                    Ok(_) => panic!("{} {how:?}: octet {at} of {len} ^ {mask:#04x}", C::INFO.name),
                };
                *self.outcomes.entry((how, fault)).or_default() += 1;
            }
        }
        Ok(())
    }
}

fn verdict<E>(error: &Error<E>) -> &'static str {
    match error.fault() {
        Fault::Forged => "forged",
        Fault::Malformed(_) => "malformed",
        Fault::Refused(_) => "refused",
        other => panic!("neither forged nor malformed nor refused: {other:?}"),
    }
}

#[test]
fn any_changed_octet_of_any_answer_is_noticed_under_every_kind_of_session() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let bus = Bus::default();
    let mut bench = bench(Tpm::new(bus.at(way(&swtpm)?)), &bus)?;
    let mut forger = Forger::default();
    bench.each(&mut forger)?;
    for how in ALL {
        let of = |fault| forger.outcomes.get(&(how, fault)).copied().unwrap_or(0);
        assert!(of("forged") > of("malformed"), "{:?}", forger.outcomes);
        assert!(of("forged") > 100, "{:?}", forger.outcomes);
    }
    Ok(())
}

/// No HMAC covers the handle of an answer, Part 1 §18.8, but all cover the Names of what a command is about.
#[test]
fn an_object_whose_handle_was_exchanged_is_not_used_in_the_place_of_another() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let bus = Bus::default();
    let mut bench = bench(Tpm::new(bus.at(way(&swtpm)?)), &bus)?;
    // The next object takes the place of this one, and the bus says that it is at the key's.
    bench.tpm.flush(bench.sealed.handle())?;
    let [.., mask] = (bench.sealed.handle().0 ^ bench.key.handle().0).to_be_bytes();
    bus.0.target.set(CreatePrimary::INFO.code.0);
    bus.0.change.set(Some((13, mask)));
    let created = create(Hierarchy::Owner, JoinKey::template(&[2; 32]), sensitive(b"")?);
    let deceived = load(&mut bench.tpm, &created)?;
    assert_eq!(deceived.handle(), bench.key.handle());
    assert_ne!(deceived.name(), bench.key.name());

    let key = bench.key;
    let mut signed = |key: Object| -> Result<_> {
        let done = bench.once(How::Authorizes, &sign(key, &[0x5a; 32]), [VALUE])?;
        Ok(done.context("a session can authorize it")?.map(drop))
    };
    signed(key)??;
    assert_eq!(signed(deceived)?.unwrap_err().refusal(), Some(ResponseCode::BAD_AUTH));
    Ok(())
}
