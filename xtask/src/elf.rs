//! What a program needs to run, read from its ELF headers (System V ABI, 64-bit little-endian).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What the dynamic linker would be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The dynamic linker itself (PT_INTERP).
    pub interpreter: Option<String>,
    /// Libraries (DT_NEEDED).
    pub libraries: Vec<String>,
    /// The newest `GLIBC_2.MINOR` among the versions of its symbols.
    pub glibc_minor: Option<u32>,
}

impl Needs {
    /// Reads the program's headers.
    pub fn of(program: &Path) -> Result<Self> {
        let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
        Self::read(&bytes).with_context(|| format!("{} as ELF", program.display()))
    }

    /// Whether it runs on a kernel alone.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let file = File(bytes);
        ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "not 64-bit little-endian ELF");
        let segments = file.segments()?;
        let mut needs = Self::default();
        if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
            needs.interpreter = Some(file.string(segment.offset)?);
        }
        let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
            return Ok(needs);
        };
        let entries = file.dynamic(dynamic)?;
        let value = |tag| entries.iter().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let (Some(strings), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
            return Ok(needs);
        };
        let strings = offset(&segments, strings)?;
        for (_, name) in entries.iter().filter(|entry| entry.0 == DT_NEEDED) {
            needs.libraries.push(file.string(strings + usize::try_from(*name)?)?);
        }
        let table = file.bytes(strings, usize::try_from(size)?)?;
        needs.glibc_minor = table.split(|byte| *byte == 0).filter_map(glibc_minor).max();
        Ok(needs)
    }
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    size: usize,
}

struct File<'a>(&'a [u8]);

impl File<'_> {
    fn segments(&self) -> Result<Vec<Segment>> {
        let table = usize::try_from(self.u64(0x20)?)?;
        let (size, count) = (usize::from(self.u16(0x36)?), usize::from(self.u16(0x38)?));
        (0..count)
            .map(|number| {
                let at = table + number * size;
                Ok(Segment {
                    kind: self.u32(at)?,
                    offset: usize::try_from(self.u64(at + 0x08)?)?,
                    address: self.u64(at + 0x10)?,
                    size: usize::try_from(self.u64(at + 0x20)?)?,
                })
            })
            .collect()
    }

    /// Tags and values, up to DT_NULL.
    fn dynamic(&self, segment: &Segment) -> Result<Vec<(u64, u64)>> {
        let mut entries = Vec::new();
        for at in (segment.offset..segment.offset + segment.size).step_by(16) {
            match self.u64(at)? {
                DT_NULL => break,
                tag => entries.push((tag, self.u64(at + 8)?)),
            }
        }
        Ok(entries)
    }

    fn bytes(&self, at: usize, length: usize) -> Result<&[u8]> {
        let bytes = at.checked_add(length).and_then(|end| self.0.get(at..end));
        bytes.with_context(|| format!("it ends before {at:#x}"))
    }

    fn string(&self, at: usize) -> Result<String> {
        let rest = self.0.get(at..).with_context(|| format!("it ends before {at:#x}"))?;
        let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8(text.to_vec())?)
    }

    fn u16(&self, at: usize) -> Result<u16> {
        Ok(u16::from_le_bytes(self.bytes(at, 2)?.try_into()?))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(at, 4)?.try_into()?))
    }

    fn u64(&self, at: usize) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(at, 8)?.try_into()?))
    }
}

/// Where in the file an address of the running program is.
fn offset(segments: &[Segment], address: u64) -> Result<usize> {
    let within = |segment: &&Segment| {
        segment.kind == PT_LOAD
            && address >= segment.address
            && address - segment.address < segment.size as u64
    };
    let segment = segments.iter().find(within).context("an address outside of the file")?;
    Ok(segment.offset + usize::try_from(address - segment.address)?)
}

fn glibc_minor(name: &[u8]) -> Option<u32> {
    let version = std::str::from_utf8(name.strip_prefix(b"GLIBC_2.")?).ok()?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_says_what_it_needs() {
        let needs = Needs::of(&std::env::current_exe().unwrap()).unwrap();
        assert!(!needs.is_nothing());
        assert!(needs.interpreter.unwrap().contains("ld"));
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{:?}", needs.libraries);
        assert!(needs.glibc_minor.unwrap() >= 17);
    }

    #[test]
    fn other_files_are_refused_wherever_they_end() {
        let whole = fs::read(std::env::current_exe().unwrap()).unwrap();
        Needs::read(b"#!/bin/sh\n").unwrap_err();
        for length in 0..0x200 {
            Needs::read(&whole[..length]).unwrap_err();
        }
    }
}
