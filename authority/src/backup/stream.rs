//! The content of a backup: frames of a kind, a length and a payload.
//!
//! ```text
//! header    JSON: when, of what, by which version
//! records   records of a table
//! end       JSON: how many records there are, and their digest
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::Timestamp;
use crate::store::{Keyed, Summary, Table, Tally};

/// More than a page of records, or a file.
const MAX_FRAME: usize = 64 * 1024 * 1024;

const HEADER: u8 = 1;
const RECORDS: u8 = 2;
const END: u8 = 3;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// When the records were like this.
    pub made: Timestamp,
    /// The version of the authority that made it.
    pub version: String,
    /// What the store says of itself, by name.
    pub format: Vec<(String, String)>,
}

/// A part of a backup.
pub enum Part {
    /// The first part.
    Header(Header),
    /// Then the records, in the order of the store.
    Records(Table, Vec<Keyed>),
    /// The last part.
    End(Summary),
}

/// A backup is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl Part {
    /// The frame.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut payload = Vec::new();
        let kind = match self {
            Self::Header(header) => {
                payload = json(header)?;
                HEADER
            }
            Self::Records(table, page) => {
                field(&mut payload, table.name().as_bytes())?;
                for (key, record) in page {
                    field(&mut payload, key.as_bytes())?;
                    field(&mut payload, record)?;
                }
                RECORDS
            }
            Self::End(summary) => {
                payload = json(summary)?;
                END
            }
        };
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.push(kind);
        field(&mut frame, &payload)?;
        Ok(frame)
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, Malformed> {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a name is not UTF-8"))
        };
        let mut rest = payload;
        Ok(match kind {
            HEADER => Self::Header(from_json(payload)?),
            RECORDS => {
                let name = text(take(&mut rest)?)?;
                let table = Table::of_name(&name);
                let table = table.ok_or_else(|| malformed(&format!("unknown table {name:?}")))?;
                let mut page = Vec::new();
                while !rest.is_empty() {
                    page.push((text(take(&mut rest)?)?, take(&mut rest)?.to_vec()));
                }
                Self::Records(table, page)
            }
            END => Self::End(from_json(payload)?),
            _ => return Err(malformed(&format!("unknown part {kind}"))),
        })
    }
}

/// Takes the bytes of a backup in pieces of any length, and returns the parts that are complete.
///
/// It checks their order, and the records against the last part.
#[derive(Default)]
pub struct Parts {
    waiting: Vec<u8>,
    read: usize,
    stage: Stage,
    tally: Tally,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Begin,
    Records,
    End,
}

impl Parts {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // What was read is dropped before more memory is taken.
        self.waiting.drain(..self.read);
        self.read = 0;
        self.waiting.extend_from_slice(bytes);
    }

    /// The next part; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no backup.
    pub fn next_part(&mut self) -> Result<Option<Part>, Malformed> {
        let waiting = self.waiting.get(self.read..).unwrap_or_default();
        let Some((kind, rest)) = waiting.split_first() else { return Ok(None) };
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(malformed("a part is too long"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let part = Part::decode(*kind, payload)?;
        self.read += length + 5;
        self.check(&part)?;
        Ok(Some(part))
    }

    /// Checks that the last part was read, and nothing follows it.
    ///
    /// # Errors
    /// The backup is incomplete, or too long.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.stage != Stage::End || self.read != self.waiting.len() {
            return Err(malformed("it is incomplete"));
        }
        Ok(())
    }

    fn check(&mut self, part: &Part) -> Result<(), Malformed> {
        let stage = match part {
            Part::Header(_) if self.stage == Stage::Begin => Stage::Records,
            Part::Records(table, page) if self.stage == Stage::Records => {
                self.tally.add(*table, page);
                Stage::Records
            }
            Part::End(summary) if self.stage == Stage::Records => {
                if self.tally.clone().summary() != *summary {
                    return Err(malformed("its records are not those that were backed up"));
                }
                Stage::End
            }
            _ => return Err(malformed("its parts are not in order")),
        };
        self.stage = stage;
        Ok(())
    }
}

fn field(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() > MAX_FRAME {
        return Err(malformed("a part is too long"));
    }
    let length = u32::try_from(bytes.len()).map_err(|_| malformed("a part is too long"))?;
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let cut = || malformed("a part ends inside");
    let (length, after) = rest.split_first_chunk().ok_or_else(cut)?;
    let (field, after) =
        after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
    *rest = after;
    Ok(field)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Malformed> {
    serde_json::to_vec(value).map_err(|cause| malformed(&cause.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|cause| malformed(&cause.to_string()))
}

fn malformed(what: &str) -> Malformed {
    Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Vec<Part> {
        let header = Header {
            made: Timestamp(time::macros::datetime!(2026-06-01 12:30 UTC)),
            version: "1".into(),
            format: vec![],
        };
        let page = vec![("a".into(), b"1".to_vec()), (String::new(), vec![])];
        let mut tally = Tally::default();
        tally.add(Table::Bots, &page);
        vec![Part::Header(header), Part::Records(Table::Bots, page), Part::End(tally.summary())]
    }

    fn encoded(parts: &[Part]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.encode().unwrap()).collect()
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Part>, Malformed> {
        let (mut parts, mut found) = (Parts::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            parts.push(piece);
            while let Some(part) = parts.next_part()? {
                found.push(part);
            }
        }
        parts.finish().map(|()| found)
    }

    #[test]
    fn parts_are_read_in_pieces_of_any_length() {
        let bytes = encoded(&backup());
        for piece in 1..=bytes.len() {
            assert_eq!(encoded(&read(&bytes, piece).unwrap()), bytes, "{piece}");
        }
    }

    #[test]
    fn every_truncation_and_every_changed_record_is_refused() {
        let bytes = encoded(&backup());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], 7).is_err(), "{length}");
        }
        assert!(read(&[&bytes[..], b"x"].concat(), 7).is_err());
        for changed in [
            [("a".to_owned(), b"2".to_vec()), (String::new(), vec![])],
            [("b".to_owned(), b"1".to_vec()), (String::new(), vec![])],
        ] {
            let mut parts = backup();
            parts[1] = Part::Records(Table::Bots, changed.to_vec());
            assert!(read(&encoded(&parts), 7).is_err());
        }
    }

    #[test]
    fn parts_in_another_order_are_refused() {
        for (one, other) in [(0, 1), (1, 2), (0, 2)] {
            let mut parts = backup();
            parts.swap(one, other);
            assert!(read(&encoded(&parts), 7).is_err(), "{one} {other}");
        }
    }

    #[test]
    fn length_that_lies_takes_no_memory() {
        let mut parts = Parts::default();
        parts.push(&[RECORDS, 0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert!(parts.next_part().is_err());
        assert!(Part::decode(RECORDS, &[0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }
}
