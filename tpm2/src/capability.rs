//! What a TPM says of itself: whole lists, which `TPM2_GetCapability` gives in pieces. Part 3 §30.2.
//!
//! ```no_run
//! use tpm2::types::{Alg, HandleKind, Property};
//! use tpm2::{Tpm, capability};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let manufacturer = capability::property(&mut tpm, Property::MANUFACTURER)?;
//! let has_sha384 = capability::algorithms(&mut tpm)?.iter().any(|one| one.alg == Alg::SHA384);
//! let persistent = capability::handles(&mut tpm, HandleKind::PERSISTENT)?;
//! # let _ = (manufacturer, has_sha384, persistent);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::client::Tpm;
use crate::commands::GetCapability;
use crate::error::Error;
#[cfg(doc)]
use crate::error::Fault;
use crate::transport::Transport;
#[cfg(feature = "alloc")]
use crate::types::HandleKind;
use crate::types::{
    AlgProperty, Capability, CapabilityData, CommandAttributes, Curve, Handle, Property,
    TaggedProperty,
};
use crate::wire::{List, Malformed, Unmarshal, Why};

/// The most values that are asked for at a time; a TPM gives as many as fit its answer.
const COUNT: u32 = 256;
/// The most values of a whole list.
const MAX_VALUES: usize = 4096;

/// All properties: those that never change, and those that do.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if the TPM answers with another list, or without end.
#[doc(alias("TPM2_GetCapability", "TPM_CAP_TPM_PROPERTIES"))]
#[cfg(feature = "alloc")]
pub fn properties<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<TaggedProperty>, Error<T::Error>> {
    const GROUP: u32 = 0x100;
    let mut all = Vec::new();
    for Property(first) in [Property::FAMILY_INDICATOR, Property::PERMANENT] {
        all.extend(tagged(tpm, first, first.saturating_add(GROUP - 1))?);
    }
    Ok(all)
}

/// One property; `None` if the TPM does not have it.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if the TPM answers with another list.
#[doc(alias("TPM2_GetCapability", "TPM_CAP_TPM_PROPERTIES"))]
pub fn property<T: Transport>(
    tpm: &mut Tpm<T>,
    property: Property,
) -> Result<Option<u32>, Error<T::Error>> {
    let mut value = None;
    let number = |tagged: &TaggedProperty| tagged.property.0;
    each(tpm, property.0, property.0, number, |tagged| value = Some(tagged.value))?;
    Ok(value)
}

#[cfg(feature = "alloc")]
fn tagged<T: Transport>(
    tpm: &mut Tpm<T>,
    first: u32,
    last: u32,
) -> Result<Vec<TaggedProperty>, Error<T::Error>> {
    list(tpm, first, last, |tagged: &TaggedProperty| tagged.property.0)
}

/// The algorithms.
///
/// # Errors
/// As [`properties`].
#[doc(alias("TPM2_GetCapability", "TPM_CAP_ALGS"))]
#[cfg(feature = "alloc")]
pub fn algorithms<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<AlgProperty>, Error<T::Error>> {
    list(tpm, 0, u16::MAX.into(), |property: &AlgProperty| property.alg.0.into())
}

/// The elliptic curves.
///
/// # Errors
/// As [`properties`].
#[doc(alias("TPM2_GetCapability", "TPM_CAP_ECC_CURVES"))]
#[cfg(feature = "alloc")]
pub fn curves<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<Curve>, Error<T::Error>> {
    list(tpm, 0, u16::MAX.into(), |curve: &Curve| curve.0.into())
}

/// The commands, those of the vendor last.
///
/// # Errors
/// As [`properties`].
#[doc(alias("TPM2_GetCapability", "TPM_CAP_COMMANDS"))]
#[cfg(feature = "alloc")]
pub fn commands<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<CommandAttributes>, Error<T::Error>> {
    list(tpm, 0, u32::MAX, |attributes: &CommandAttributes| attributes.code().0)
}

/// The handles of a kind that are in use. [`HMAC_SESSION`](HandleKind::HMAC_SESSION) asks for all sessions that are loaded,
/// policy sessions too, and [`POLICY_SESSION`](HandleKind::POLICY_SESSION) for all whose contexts are saved.
///
/// # Errors
/// As [`properties`].
#[doc(alias("TPM2_GetCapability", "TPM_CAP_HANDLES"))]
#[cfg(feature = "alloc")]
pub fn handles<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: HandleKind,
) -> Result<Vec<Handle>, Error<T::Error>> {
    const INDEX: u32 = 0x00ff_ffff;
    let of_kind = |index| u32::from_be_bytes([kind.0, 0, 0, 0]) | index;
    // The TPM counts sessions by the index alone.
    list(tpm, of_kind(0), of_kind(INDEX), |handle: &Handle| of_kind(handle.0 & INDEX))
}

/// The handles from `first` to `last` that are in use.
///
/// # Errors
/// As [`properties`].
#[cfg(feature = "alloc")]
pub(crate) fn handles_between<T: Transport>(
    tpm: &mut Tpm<T>,
    first: Handle,
    last: Handle,
) -> Result<Vec<Handle>, Error<T::Error>> {
    list(tpm, first.0, last.0, |handle: &Handle| handle.0)
}

/// A value that a capability lists.
trait Listed: for<'a> Unmarshal<'a> + Copy {
    const CAPABILITY: Capability;

    fn list(data: CapabilityData<'_>) -> Option<List<'_, Self>>;
}

macro_rules! listed {
    ($($value:ident in $capability:ident $list:ident),* $(,)?) => {$(
        impl Listed for $value {
            const CAPABILITY: Capability = Capability::$capability;

            fn list(data: CapabilityData<'_>) -> Option<List<'_, Self>> {
                match data {
                    CapabilityData::$list(list) => Some(list),
                    _ => None,
                }
            }
        }
    )*};
}

listed! {
    TaggedProperty in TPM_PROPERTIES TpmProperties,
    AlgProperty in ALGS Algs,
    Curve in ECC_CURVES EccCurves,
    CommandAttributes in COMMANDS Commands,
    Handle in HANDLES Handles,
}

#[cfg(feature = "alloc")]
fn list<T: Transport, V: Listed>(
    tpm: &mut Tpm<T>,
    first: u32,
    last: u32,
    number: impl Fn(&V) -> u32,
) -> Result<Vec<V>, Error<T::Error>> {
    let mut all = Vec::new();
    each(tpm, first, last, number, |value| all.push(value))?;
    Ok(all)
}

/// Visits the values with these numbers. Each answer has as many as fit; the next question begins behind its last.
fn each<T: Transport, V: Listed>(
    tpm: &mut Tpm<T>,
    first: u32,
    last: u32,
    number: impl Fn(&V) -> u32,
    mut visit: impl FnMut(V),
) -> Result<(), Error<T::Error>> {
    let unexpected = || {
        let malformed = Malformed::new(Why::Unexpected, 0).named("capability_data");
        Error::of::<GetCapability>(malformed)
    };
    let (mut count, mut property) = (0_usize, first);
    loop {
        let property_count = last.saturating_sub(property).saturating_add(1).min(COUNT);
        let command = GetCapability { capability: V::CAPABILITY, property, property_count };
        let answer = tpm.run(&command, [])?;
        let values = V::list(answer.capability_data).ok_or_else(unexpected)?;
        let mut latest = None;
        for value in values.iter().filter(|value| (property..=last).contains(&number(value))) {
            count = count.saturating_add(1);
            if count > MAX_VALUES {
                return Err(unexpected());
            }
            latest = latest.max(Some(number(&value)));
            visit(value);
        }
        match latest {
            Some(latest) if answer.more_data && latest < last => {
                property = latest.saturating_add(1);
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, vec};

    use super::*;

    /// A TPM that always has one more handle.
    struct Endless;

    impl Transport for Endless {
        type Error = io::Error;

        fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
            let [.., a, b, c, d, _, _, _, _] = *command else { panic!("too short") };
            let handles = [0, 0, 0, 1, 0, 0, 0, 1, a, b, c, d];
            let answer = [&[0x80, 1, 0, 0, 0, 23, 0, 0, 0, 0, 1][..], &handles].concat();
            response[..answer.len()].copy_from_slice(&answer);
            Ok(answer.len())
        }
    }

    #[test]
    fn list_without_end_is_malformed() {
        let mut tpm = Tpm::new(Endless);
        let error = handles(&mut tpm, HandleKind::PERSISTENT).unwrap_err();
        assert!(matches!(error.fault(), crate::Fault::Malformed(_)), "{error}");
        // Another list than the one that was asked for.
        let error = algorithms(&mut tpm).unwrap_err();
        assert!(matches!(error.fault(), crate::Fault::Malformed(_)), "{error}");
        let one = list(&mut tpm, 5, 5, |handle: &Handle| handle.0).unwrap();
        assert_eq!(one, vec![Handle(5)]);
    }
}
