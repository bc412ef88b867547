//! Files of tpm2-tools: what `-c` takes and gives, and the two halves of an object, `-u` and `-r`.
//!
//! ```no_run
//! use tpm2::session::Auth;
//! use tpm2::{Tpm, object, tools};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let read = std::fs::read;
//! // tpm2_createprimary -c parent.ctx; tpm2_create -C parent.ctx -u key.pub -r key.priv
//! let parent = tools::load(&mut tpm, &read("parent.ctx")?)?;
//! let wrapped = tools::read_wrapped(&read("key.pub")?, &read("key.priv")?)?;
//! let key = object::load(&mut tpm, parent.object(), Auth::EMPTY, &wrapped)?;
//! // tpm2_sign -c key.ctx
//! std::fs::write("key.ctx", tools::save_context(&mut tpm, &key)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec::Vec;

use crate::client::Tpm;
use crate::commands::{Command, ContextLoad, ContextSave};
use crate::context::{self, Saved};
use crate::error::{Error, Fault};
use crate::object::{Loaded, Wrapped};
use crate::transport::Transport;
use crate::types::{Context, ContextData, Entity, Handle, HandleKind, Name, Private, Public};
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Tpm2b, Unmarshal, Why};

/// The beginning of a context file.
const MAGIC: u32 = 0xbadc_c0de;
/// Its version, if it is the context of an object.
const VERSION: u32 = 1;
/// What tpm2-tss calls an object, among the entities whose handles it keeps.
const KEY_RESOURCE: u32 = 1;

/// Reads an object from a `.pub` and a `.priv` file: `TPM2B_PUBLIC` and `TPM2B_PRIVATE`.
///
/// # Errors
/// One of them is something else.
pub fn read_wrapped(public: &[u8], private: &[u8]) -> Result<Wrapped, Malformed> {
    let public = Tpm2b::<Public<'_>>::from_bytes(public).map_err(|error| error.named("public"))?;
    let private = Private::from_bytes(private).map_err(|error| error.named("private"))?;
    let too_large = |_| Malformed::new(Why::TooLong, 0).named("public");
    Wrapped::new(&public.0, private).map_err(too_large)
}

/// The `.pub` file of an object.
///
/// # Errors
/// A public area of 64 KiB or more.
pub fn write_public(wrapped: &Wrapped) -> Result<Vec<u8>, TooLarge> {
    sized(&wrapped.public)
}

/// The `.priv` file of an object.
///
/// # Errors
/// As [`write_public`].
pub fn write_private(wrapped: &Wrapped) -> Result<Vec<u8>, TooLarge> {
    sized(&wrapped.private)
}

/// Brings back the object in a file that `-c` takes: one whose context was saved, or one that is persistent, of which the file
/// has the handle (`tpm2_evictcontrol -o`, `tpm2_readpublic -t`).
///
/// Its public area is as the file has it. An object of another public area refuses sessions, since its Name is another.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Input`] if it is the file of a session, or something else.
pub fn load<T: Transport>(tpm: &mut Tpm<T>, file: &[u8]) -> Result<Loaded, Error<T::Error>> {
    let malformed = |error| Error::new(ContextLoad::INFO.code, Fault::Input(error));
    if !file.starts_with(&MAGIC.to_be_bytes()) {
        return Reader::all(file, read_persistent).map_err(malformed);
    }
    let (saved, object) = Reader::all(file, read_context).map_err(malformed)?;
    Ok(object.at(context::load(tpm, &saved)?.handle()))
}

/// Saves the context of an object as the file that `-c` takes. The object stays in the TPM until it is flushed.
///
/// # Errors
/// As [`Tpm::run`].
pub fn save_context<T: Transport>(
    tpm: &mut Tpm<T>,
    object: &Loaded,
) -> Result<Vec<u8>, Error<T::Error>> {
    let saved = context::save(tpm, object.object())?;
    let context = Context::from_bytes(saved.context()).map_err(Error::of::<ContextSave>)?;
    write_context(&context, object).map_err(Error::of::<ContextSave>)
}

/// The file of a persistent object, for `-c`: its handle, its Name and its public area.
///
/// # Errors
/// As [`write_public`].
pub fn write_persistent(object: &Loaded) -> Result<Vec<u8>, TooLarge> {
    let (handle, kind) = (object.handle().0.to_be_bytes(), KEY_RESOURCE.to_be_bytes());
    let (name, public) = (sized(object.name().octets())?, sized(object.public_area())?);
    Ok([&handle[..], &name, &kind, &public].concat())
}

/// `TPMS_CONTEXT` in another order, and in the place of the blob what tpm2-tss adds to it: the object that it is of.
fn write_context(context: &Context<'_>, object: &Loaded) -> Result<Vec<u8>, TooLarge> {
    let reserved = [0; 4];
    // tpm2-tss writes zero whatever the size is.
    let size = [0; 2];
    let blob = context.context_blob.to_vec()?;
    let blob = [&reserved[..], &blob, &size, &write_persistent(object)?].concat();
    Ok([
        &MAGIC.to_be_bytes()[..],
        &VERSION.to_be_bytes(),
        &context.hierarchy.0.to_be_bytes(),
        &context.saved_handle.0.to_be_bytes(),
        &context.sequence.to_be_bytes(),
        &sized(&blob)?,
    ]
    .concat())
}

fn read_context(reader: &mut Reader<'_>) -> Result<(Saved, Loaded), Malformed> {
    expect(reader, "magic", MAGIC)?;
    expect(reader, "version", VERSION)?;
    let hierarchy = reader.read("hierarchy")?;
    let saved_handle = reader.read("saved_handle")?;
    let sequence = reader.read("sequence")?;
    let size: u16 = reader.read("size")?;
    let mut blob = reader.sub(usize::from(size))?;
    let (context_blob, object) = blob.last(|blob| {
        expect(blob, "reserved", 0)?;
        let context_blob: ContextData<'_> = blob.read("context_blob")?;
        let _size: u16 = blob.read("size")?;
        Ok((context_blob, read_object(blob)?))
    })?;
    let context = Context { sequence, saved_handle, hierarchy, context_blob };
    let too_large = |_| Malformed::new(Why::TooLong, 0).named("context_blob");
    let context = context.to_vec().map_err(too_large)?;
    Ok((Saved::new(context, Some(*object.name())), object))
}

fn read_persistent(reader: &mut Reader<'_>) -> Result<Loaded, Malformed> {
    let object = read_object(reader)?;
    if object.handle().kind() != HandleKind::PERSISTENT {
        return Err(Malformed::new(Why::Unexpected, 0).named("handle"));
    }
    Ok(object)
}

/// What tpm2-tss keeps of an object.
fn read_object(reader: &mut Reader<'_>) -> Result<Loaded, Malformed> {
    let handle: Handle = reader.read("handle")?;
    let at = reader.position();
    let name: Name<'_> = reader.read("name")?;
    expect(reader, "resource", KEY_RESOURCE)?;
    let public: Tpm2b<Public<'_>> = reader.read("public")?;
    let wrong = || Malformed::new(Why::Unexpected, at).named("name");
    let object = Loaded::new(handle, &public.0).map_err(|_| wrong())?;
    if object.name().octets() == name.octets() { Ok(object) } else { Err(wrong()) }
}

fn expect(reader: &mut Reader<'_>, what: &'static str, value: u32) -> Result<(), Malformed> {
    let at = reader.position();
    let unexpected = || Malformed::new(Why::Unexpected, at).named(what);
    if reader.read::<u32>(what)? == value { Ok(()) } else { Err(unexpected()) }
}

fn sized(octets: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let size = u16::try_from(octets.len()).map_err(|_| TooLarge)?;
    Ok([&size.to_be_bytes()[..], octets].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::SRK_P256;
    use std::vec;

    fn object(handle: u32) -> Loaded {
        Loaded::new(Handle(handle), &SRK_P256).unwrap()
    }

    fn context() -> Vec<u8> {
        let context_blob = ContextData::from(&[0xa5; 64]);
        let (saved_handle, hierarchy) = (Handle(0x8000_0000), Handle::OWNER);
        let context = Context { sequence: 7, saved_handle, hierarchy, context_blob };
        write_context(&context, &object(0x8000_0001)).unwrap()
    }

    #[test]
    fn context_file_is_read_as_it_was_written() {
        let (saved, back) = Reader::all(&context(), read_context).unwrap();
        assert_eq!(saved.name(), Some(object(0).name()));
        assert_eq!(back.public_area(), object(0).public_area());
        assert_eq!(Context::from_bytes(saved.context()).unwrap().sequence, 7);
    }

    /// The blob and the size in it cannot be checked here.
    #[test]
    fn truncated_or_changed_file_is_refused_or_harmless() {
        let persistent = write_persistent(&object(0x8100_0005)).unwrap();
        for (file, read) in [
            (
                context(),
                (|reader| read_context(reader).map(|(_, object)| object))
                    as fn(&mut Reader<'_>) -> _,
            ),
            (persistent, read_persistent),
        ] {
            let name = *Reader::all(&file, read).unwrap().name();
            for len in 0..file.len() {
                assert!(Reader::all(&file[..len], read).is_err(), "{len}");
            }
            assert!(Reader::all(&[&file[..], &[0]].concat(), read).is_err());
            for at in 0..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1;
                if let Ok(object) = Reader::all(&changed, read) {
                    assert_eq!(*object.name(), name, "{at}");
                }
            }
        }
    }

    #[test]
    fn halves_of_an_object_are_read_as_they_were_written() {
        let wrapped =
            Wrapped { public: SRK_P256.to_vec().unwrap().into(), private: vec![1; 90].into() };
        let [public, private] =
            [write_public(&wrapped), write_private(&wrapped)].map(Result::unwrap);
        assert_eq!(read_wrapped(&public, &private).unwrap(), wrapped);
        let error = read_wrapped(&private, &public).unwrap_err();
        assert!(error.what().starts_with("Public."), "{error}");
        for len in 0..private.len() {
            assert_eq!(read_wrapped(&public, &private[..len]).unwrap_err().what(), "private");
        }
    }
}
