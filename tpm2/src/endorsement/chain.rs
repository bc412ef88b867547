//! Certificates of CAs that makers of TPMs put beside those of endorsement keys: back to back, in one NV index or across
//! those that follow it. EK credential profile 2.6 §2.2.

use alloc::vec::Vec;

use super::Passwords;
use super::nv::{data_size, is_erased, read_until, stored_certificate};
use crate::client::Tpm;
use crate::commands::{Command, GetCapability};
use crate::error::Error;
use crate::transport::Transport;
use crate::types::{Capability, CapabilityData, Handle};
use crate::wire::{Malformed, Why};

/// The indices in which certificates of a chain may lie.
const INDICES: core::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;

/// Indices that are looked at, at most.
const MAX_INDICES: u32 = 16;

/// Octets that are read of all of them, at most.
const MAX_OCTETS: usize = 8192;

/// The most certificates that [`chain`] finds.
pub const MAX_CHAIN: usize = 4;

/// What lies where chains lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The certificates, DER, as they follow each other; at most [`MAX_CHAIN`]. They were cut out by their length alone.
    pub certificates: Vec<Vec<u8>>,
    /// Indices that cannot be read, or hold something else beside or more than can be taken.
    pub passed_over: Vec<Handle>,
}

/// The certificates between those of endorsement keys and a root that this TPM holds: one command without any, and
/// two for an index of up to 768 octets.
///
/// # Errors
/// As [`Tpm::run`]. What is refused is passed over.
pub fn chain<T: Transport>(
    tpm: &mut Tpm<T>,
    passwords: Passwords<'_>,
) -> Result<Chain, Error<T::Error>> {
    let mut chain = Chain::default();
    let mut run = Run::default();
    let mut room = MAX_OCTETS;
    for index in indices(tpm)? {
        if room == 0 {
            chain.passed_over.push(index);
            continue;
        }
        let content = match content(tpm, index, passwords, room) {
            Ok(content) => content.unwrap_or_default(),
            Err(error) if error.refusal().is_some() => {
                chain.passed_over.push(index);
                continue;
            }
            Err(error) => return Err(error),
        };
        room = room.saturating_sub(content.len());
        if !run.goes_on_at(index) {
            core::mem::take(&mut run).cut(&mut chain);
        }
        run.push(index, &content);
    }
    run.cut(&mut chain);
    chain.passed_over.sort_unstable();
    chain.passed_over.dedup();
    Ok(chain)
}

fn indices<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<Handle>, Error<T::Error>> {
    let command = GetCapability {
        capability: Capability::HANDLES,
        property: *INDICES.start(),
        property_count: MAX_INDICES,
    };
    let answer = tpm.run(&command, [])?;
    let CapabilityData::Handles(handles) = answer.capability_data else {
        let malformed = Malformed::new(Why::Unexpected, 0).named("capability_data");
        return Err(Error::new(GetCapability::INFO.code, malformed.into()));
    };
    let ours = handles.iter().filter(|handle| INDICES.contains(&handle.0));
    Ok(ours.take(MAX_INDICES as usize).collect())
}

/// As much of an index as there is room for; `None` if it was never written.
fn content<T: Transport>(
    tpm: &mut Tpm<T>,
    index: Handle,
    passwords: Passwords<'_>,
    room: usize,
) -> Result<Option<Vec<u8>>, Error<T::Error>> {
    let size = usize::from(data_size(tpm, index)?).min(room);
    read_until(tpm, index, passwords, |_| Some(size))
}

/// What follows each other in indices that follow each other.
#[derive(Default)]
struct Run {
    octets: Vec<u8>,
    /// Each index, and where its content ends.
    ends: Vec<(Handle, usize)>,
}

impl Run {
    fn goes_on_at(&self, index: Handle) -> bool {
        self.ends.last().is_some_and(|(last, _)| last.0.checked_add(1) == Some(index.0))
    }

    fn push(&mut self, index: Handle, content: &[u8]) {
        self.octets.extend_from_slice(content);
        self.ends.push((index, self.octets.len()));
    }

    /// What is no whole certificate is passed over up to the next index.
    fn cut(self, chain: &mut Chain) {
        let mut at = 0;
        while let Some(rest) = self.octets.get(at..).filter(|rest| !rest.is_empty()) {
            let whole = stored_certificate(rest)
                .and_then(|range| Some((rest.get(range.clone())?, range.end)))
                .filter(|_| chain.certificates.len() < MAX_CHAIN);
            if let Some((certificate, end)) = whole {
                chain.certificates.push(certificate.to_vec());
                at = at.saturating_add(end);
                continue;
            }
            let Some((index, end)) = self.ends.iter().find(|(_, end)| *end > at) else { return };
            let unread = self.octets.get(at..*end).unwrap_or_default();
            if !is_erased(unread) {
                chain.passed_over.push(*index);
            }
            at = *end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 0x01c0_0100;

    fn cut(contents: &[&[u8]]) -> Chain {
        let (mut run, mut chain) = (Run::default(), Chain::default());
        for (index, content) in (FIRST..).zip(contents) {
            run.push(Handle(index), content);
        }
        run.cut(&mut chain);
        chain
    }

    #[test]
    fn certificates_are_cut_apart_wherever_an_index_ends() {
        let one: &[u8] = &[0x30, 3, 1, 2, 3];
        let other: &[u8] = &[0x30, 4, 0x30, 0xff, 0, 9];
        let both = [one, other].concat();
        for split in 0..=both.len() {
            let (before, after) = both.split_at(split);
            let chain = cut(&[before, after]);
            assert_eq!(chain.certificates, [one, other], "at {split}");
            assert!(chain.passed_over.is_empty());
        }
    }

    #[test]
    fn invalid_nv_content_is_skipped_up_to_the_next_index() {
        let one: &[u8] = &[0x30, 3, 1, 2, 3];
        for junk in [&b"junk"[..], &[0x30, 0x82, 0xff, 0xff, 1], &[0x30, 0x80, 0, 0], &[0x30]] {
            let after = [one, junk].concat();
            let chain = cut(&[junk, &after, one]);
            assert_eq!(chain.certificates, [one, one], "{junk:02x?}");
            assert_eq!(chain.passed_over, [Handle(FIRST), Handle(FIRST + 1)]);
        }
        for filler in [[0x00; 9], [0xff; 9]] {
            let chain = cut(&[&[one, &filler].concat(), &filler, one]);
            assert_eq!((chain.certificates.len(), chain.passed_over.len()), (2, 0));
        }
        let many = cut(&[&one.repeat(MAX_CHAIN + 1)]);
        assert_eq!(many.certificates.len(), MAX_CHAIN);
        assert_eq!(many.passed_over, [Handle(FIRST)]);
    }
}
