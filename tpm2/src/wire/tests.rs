use std::string::ToString;

use super::*;
use crate::types::{Digest, EccPoint, Handle, Name, PcrSelection, Public};

#[test]
fn every_error_says_what_and_where() {
    let truncated = Public::from_bytes(&[0x00, 0x23, 0x00, 0x0b, 0x00]).unwrap_err();
    assert_eq!(truncated.to_string(), "Public.attributes at octet 4: ends too early");
    let too_long = Digest::from_bytes(&[0x00, 0x41]).unwrap_err();
    assert_eq!((too_long.why(), too_long.at()), (Why::TooLong, 0));
    let left = u16::from_bytes(&[0, 1, 2]).unwrap_err();
    assert_eq!((left.why(), left.at()), (Why::LeftOver, 2));
    let selector = crate::types::SymDefObject::from_bytes(&[0xff, 0xff]).unwrap_err();
    assert_eq!(selector.to_string(), "SymDefObject at octet 2: has an unknown selector");
}

#[test]
fn a_sized_structure_must_fill_its_size() {
    assert!(Tpm2b::<u16>::from_bytes(&[0, 2, 1, 2]).is_ok());
    assert_eq!(Tpm2b::<u16>::from_bytes(&[0, 1, 1, 2]).unwrap_err().why(), Why::Truncated);
    assert_eq!(Tpm2b::<u16>::from_bytes(&[0, 3, 1, 2, 3]).unwrap_err().why(), Why::LeftOver);
    assert_eq!(Tpm2b::<u16>::from_bytes(&[0, 0]).unwrap_err().why(), Why::Truncated);
}

#[test]
fn a_length_that_does_not_fit_is_refused_not_cut() {
    let mut buffer = std::vec![0; 70_000];
    let mut writer = Writer::new(&mut buffer);
    assert_eq!(writer.sized(|writer| writer.put(&[0; 65_536])), Err(TooLarge));
    let mut small = [0; 3];
    assert_eq!(Writer::new(&mut small).write(&0_u32), Err(TooLarge));
    assert!(Name::new(&[0; 67]).is_err());
}

#[test]
fn a_boolean_is_zero_or_one() {
    assert_eq!(bool::from_bytes(&[1]), Ok(true));
    assert_eq!(bool::from_bytes(&[2]).unwrap_err().why(), Why::Value);
}

#[test]
fn a_list_reads_what_it_wrote_and_bounds_its_count() {
    let handles = [Handle::OWNER, Handle::NULL];
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer);
    writer.write(&List::<Handle>::new(&handles)).unwrap();
    let written = writer.into_written();
    let list = List::<Handle>::from_bytes(written).unwrap();
    assert!(list.iter().eq(handles));
    assert_eq!(list, List::new(&handles));
    let huge = List::<Handle>::from_bytes(&[0xff; 8]).unwrap_err();
    assert_eq!(huge.why(), Why::TooLong);
    let short = List::<Handle>::from_bytes(&[0, 0, 0, 2, 0, 0, 0, 1]).unwrap_err();
    assert_eq!((short.why(), short.at()), (Why::Truncated, 4));
}

#[test]
fn a_selection_names_its_pcrs() {
    let octets = [0x00, 0x0b, 3, 0b1000_0001, 0, 0b0000_0010];
    let selection = PcrSelection::from_bytes(&octets).unwrap();
    assert!(selection.pcrs().eq([0, 7, 17]));
}

#[test]
fn errors_in_a_structure_count_from_its_start() {
    let error = EccPoint::from_bytes(&[0, 1, 9, 0, 2, 1]).unwrap_err();
    assert_eq!(error.to_string(), "EccPoint.y at octet 5: ends too early");
}
