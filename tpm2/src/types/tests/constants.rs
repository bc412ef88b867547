//! Every constant of this crate beside a second source, `testdata/constants.txt`.

use std::borrow::ToOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;

use super::{
    Alg, Capability, CommandCode, Curve, Handle, Property, ResponseCode, SessionType, Startup,
    Structure,
};
use crate::commands::{COMMANDS, by_code};

static SOURCE: &str = include_str!("../../../testdata/constants.txt");

/// This crate's name of a constant; `None` if it has none.
fn our_name(ty: &str, value: u32) -> Option<String> {
    let short = u16::try_from(value).ok();
    let octet = u8::try_from(value).ok();
    match ty {
        "Alg" => Alg(short?).name(),
        "Curve" => Curve(short?).name(),
        "Structure" => Structure(short?).name(),
        "Startup" => Startup(short?).name(),
        "SessionType" => SessionType(octet?).name(),
        "Capability" => Capability(value).name(),
        "Property" => Property(value).name(),
        "Handle" => Handle(value).name(),
        "ResponseCode" => ResponseCode(value).name(),
        "CommandCode" => {
            by_code(CommandCode(value)).and_then(|info| info.name.strip_prefix("TPM2_"))
        }
        _ => panic!("{ty}"),
    }
    .map(str::to_owned)
}

/// Type, value, and the names that the value has there: some have two.
fn source() -> BTreeMap<(&'static str, u32), BTreeSet<&'static str>> {
    let mut source = BTreeMap::<_, BTreeSet<_>>::new();
    for line in SOURCE.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (ty, name) = (words.next().unwrap(), words.next().unwrap());
        let digits = words.next().and_then(|word| word.strip_prefix("0x")).unwrap();
        let value = u32::from_str_radix(digits, 16).unwrap();
        source.entry((ty, value)).or_default().insert(name);
    }
    source
}

#[test]
fn every_constant_has_the_value_of_the_specification() {
    let mut known = BTreeMap::new();
    for ((ty, value), names) in source() {
        match our_name(ty, value) {
            Some(ours) => {
                let ours = if ty == "Handle" && ours == "PASSWORD" { "PW" } else { &ours };
                assert!(names.contains(ours), "{ty} {value:#x} is {names:?}, not {ours}");
                *known.entry(ty).or_insert(0) += 1;
            }
            None => assert_ne!(ty, "ResponseCode", "{names:?} is not known"),
        }
    }
    assert_eq!(known["CommandCode"], COMMANDS.len());
    for (ty, least) in [("Alg", 40), ("Curve", 14), ("Structure", 17), ("Property", 35)] {
        assert!(known[ty] >= least, "{ty}: {}", known[ty]);
    }
}

#[test]
fn no_constant_of_ours_is_unknown_to_the_specification() {
    let source = source();
    for value in 0..=u16::MAX {
        for ty in ["Alg", "Curve", "Structure", "Startup", "SessionType", "Capability", "Property"]
        {
            if let Some(ours) = our_name(ty, u32::from(value)) {
                assert!(source.contains_key(&(ty, u32::from(value))), "{ty} {ours} {value:#x}");
            }
        }
    }
    for value in 0..=0xfff {
        let base = ResponseCode(value).base().0;
        if let Some(ours) = ResponseCode(value).name() {
            assert!(source.contains_key(&("ResponseCode", base)), "{ours} {value:#x}");
        }
    }
}
