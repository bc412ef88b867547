//! Changes of inputs, the same in every run.

/// Changes inputs. The same seed makes the same changes.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Numbers where readers have their edges.
    const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0x82, 0xfe, 0xff];
    /// The most changes of one input.
    const MAX_CHANGES: u64 = 4;

    /// A source of changes.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// `input` with some changes; `other` gives the pieces to splice in.
    pub fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = input.to_vec();
        for _ in 0..=self.below(Self::MAX_CHANGES) {
            self.once(&mut changed, other);
        }
        changed
    }

    fn once(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (start, end) = self.range(bytes.len());
        match self.below(10) {
            0 => bytes.truncate(start),
            1 => drop(bytes.drain(start..end.min(start + 64))),
            2 => {
                let piece = bytes[start..end.min(start + 64)].to_vec();
                bytes.splice(start..start, piece);
            }
            3 => {
                let (from, to) = self.range(other.len());
                bytes.splice(start..end, other[from..to].iter().copied());
            }
            4 | 5 => {
                if let Some(byte) = bytes.get_mut(start) {
                    *byte = Self::EDGES[self.below(8) as usize];
                }
            }
            6 => {
                if let Some(byte) = bytes.get_mut(start) {
                    *byte = byte.wrapping_add(self.below(5) as u8).wrapping_sub(2);
                }
            }
            7 => {
                let byte = self.below(256) as u8;
                bytes.insert(start, byte);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(start) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }

    /// A range within so many bytes.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let one = self.below(length as u64 + 1) as usize;
        let other = self.below(length as u64 + 1) as usize;
        (one.min(other), one.max(other))
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_many_and_always_the_same() {
        let changes = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..1000).map(|_| mutator.change(b"a message", b"another")).collect::<Vec<_>>()
        };
        assert_eq!(changes(1), changes(1));
        assert_ne!(changes(1), changes(2));
        let mut distinct = changes(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 700, "{}", distinct.len());
        assert!(distinct.iter().any(|bytes| bytes.len() < 9));
        assert!(distinct.iter().any(|bytes| bytes.len() > 9));
        Mutator::new(3).change(&[], &[]);
    }
}
