//! Every constant of this crate beside a second source, `testdata/constants.txt`.

use std::borrow::ToOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;

use super::*;
use crate::commands::{COMMANDS, by_code};
use crate::testdata;

/// This crate's name of a constant; `None` if it has none.
fn our_name(ty: &str, value: u64) -> Option<String> {
    macro_rules! ours {
        (numbers { $($number:ident)* } bits { $($bits:ident)* }) => {
            match ty {
                $(stringify!($number) => $number(value.try_into().ok()?).name().map(str::to_owned),)*
                $(stringify!($bits) if value.is_power_of_two() => {
                    let shown = format!("{:?}", $bits(value.try_into().ok()?));
                    let (_, name) = shown.strip_suffix(')')?.split_once(' ')?;
                    // The kind of index, a field between the bits, comes first.
                    let is_nv = ty == "NvAttributes";
                    if is_nv { name.strip_prefix("ORDINARY ") } else { Some(name) }
                        .map(str::to_owned)
                })*
                "CommandCode" => by_code(CommandCode(value.try_into().ok()?))
                    .and_then(|info| info.name.strip_prefix("TPM2_"))
                    .map(str::to_owned),
                "ResponseCode" => {
                    ResponseCode(value.try_into().ok()?).name().map(str::to_owned)
                }
                $(stringify!($bits) => None,)*
                _ => panic!("{ty}"),
            }
        };
    }
    ours! {
        numbers { AcError AcTag Alg Capability ClockAdjust Comparison Curve Handle HandleKind
            MldsaParameters MlkemParameters NvType PcrProperty PlatformSpecific Property SessionType
            Startup Structure }
        bits { ActAttributes AlgorithmAttributes Locality MemoryAttributes MlParameterSets Modes
            NvAttributes NvExpAttributes ObjectAttributes PermanentAttributes SessionAttributes
            StartupClearAttributes X509KeyUsage }
    }
}

/// Type, value, and the names that the value has there: some have two. `None` in a published package.
fn source() -> Option<BTreeMap<(&'static str, u64), BTreeSet<&'static str>>> {
    let mut source = BTreeMap::<_, BTreeSet<_>>::new();
    for line in testdata::read("constants.txt")?.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (ty, name) = (words.next().unwrap(), words.next().unwrap());
        let digits = words.next().and_then(|word| word.strip_prefix("0x")).unwrap();
        let value = u64::from_str_radix(digits, 16).unwrap();
        source.entry((ty, value)).or_default().insert(name);
    }
    Some(source)
}

#[test]
fn every_constant_of_the_specification_is_here_with_its_value() {
    // Of the first TPM, and the ends of ranges.
    let left_out =
        [0x4000_0000, 0x4000_0002, 0x4000_0003, 0x4000_0004, 0x4000_0005, 0x4000_0006, 0x4004_ffff];
    let Some(source) = source() else { return };
    let mut commands = 0;
    for ((ty, value), names) in source {
        let Some(ours) = our_name(ty, value) else {
            assert!(ty == "Handle" && left_out.contains(&value), "{ty} {names:?} is not known");
            continue;
        };
        let ours = if ty == "Handle" && ours == "PASSWORD" { "PW" } else { &ours };
        assert!(names.contains(ours), "{ty} {value:#x} is {names:?}, not {ours}");
        commands += usize::from(ty == "CommandCode");
    }
    assert_eq!(commands, COMMANDS.len());
}

#[test]
fn no_constant_of_ours_is_unknown_to_the_specification() {
    let Some(source) = source() else { return };
    let types: BTreeSet<_> = source.keys().map(|(ty, _)| *ty).collect();
    for ty in types.into_iter().filter(|ty| *ty != "ResponseCode") {
        let bits = (0..64).map(|bit| 1 << bit);
        for value in (0..=0xffff).chain(bits) {
            if let Some(ours) = our_name(ty, value) {
                assert!(source.contains_key(&(ty, value)), "{ty} {ours} {value:#x}");
            }
        }
    }
    for value in 0..=0xfff {
        let base = ResponseCode(value).base().0;
        if let Some(ours) = ResponseCode(value).name() {
            let known = source.contains_key(&("ResponseCode", base.into()));
            assert!(known, "{ours} {value:#x}");
        }
    }
}
