//! The Merkle tree of RFC 6962, section 2.1, over the entries of a log. Proofs are verified as RFC 9162, section 2.1, says it step by step.
//!
//! A tree is known by its [`Frontier`], which is enough to append to it; proofs are made from the hashes of all leaves.

use sha2::{Digest, Sha256};

/// A hash of the tree: of a leaf, a node or the root.
pub type Hash = [u8; 32];

/// The bytes of a [`Hash`].
const HASH: usize = size_of::<Hash>();

/// What precedes an entry in the hash of its leaf.
const LEAF: [u8; 1] = [0x00];

/// What precedes the hashes of the children in the hash of a node.
const NODE: [u8; 1] = [0x01];

/// The hash of the leaf of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF).chain_update(entry).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(NODE).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree with these leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest(b"").into(),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = split(leaves);
            node_hash(&root(left), &root(right))
        }
    }
}

/// The leaves of the two children of a root: the left one has the largest power of two that is smaller than all of them.
fn split(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

/// A tree without what is needed for proofs: its size, and the roots of the complete subtrees that it consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// One for each bit of the size that is set, the largest first.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Of a tree with 2^64 - 1 leaves, which is as good as never, nothing changes and the result is `None`.
    pub fn push(&mut self, leaf: Hash) -> Option<()> {
        let larger = self.size.checked_add(1)?;
        let mut subtree = leaf;
        // Two complete subtrees of one size become the next larger one.
        for _ in 0..self.size.trailing_ones() {
            subtree = node_hash(&self.subtrees.pop()?, &subtree);
        }
        self.subtrees.push(subtree);
        self.size = larger;
        Some(())
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let from_the_right = self.subtrees.iter().rev().copied();
        from_the_right.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(|| root(&[]))
    }

    /// The size in 8 bytes, most significant first, and the subtrees.
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.size.to_be_bytes();
        [size.as_slice(), self.subtrees.as_flattened()].concat()
    }

    /// Reads [`Self::to_bytes`]; `None` if these bytes are nothing of the kind.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (size, subtrees) = bytes.split_first_chunk()?;
        let (size, (subtrees, rest)) = (u64::from_be_bytes(*size), subtrees.as_chunks::<HASH>());
        let is_whole = rest.is_empty() && u32::try_from(subtrees.len()) == Ok(size.count_ones());
        is_whole.then(|| Self { size, subtrees: subtrees.to_vec() })
    }
}

/// Proves that the leaf of this number is in the tree with these leaves. `None` if it has no such leaf.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    leaves.get(index)?;
    let (mut rest, mut index, mut proof) = (leaves, index, Vec::new());
    while rest.len() > 1 {
        let (left, right) = split(rest);
        match index.checked_sub(left.len()) {
            None => {
                proof.push(root(right));
                rest = left;
            }
            Some(in_right) => {
                proof.push(root(left));
                (rest, index) = (right, in_right);
            }
        }
    }
    proof.reverse();
    Some(proof)
}

/// Proves that the tree with the first `former` of these leaves was extended to that with all of them. `None` if there are
/// fewer.
pub fn consistency_proof(leaves: &[Hash], former: usize) -> Option<Vec<Hash>> {
    leaves.get(..former)?;
    let (mut rest, mut former, mut proof) = (leaves, former, Vec::new());
    let mut is_known = true;
    while former != 0 && former < rest.len() {
        let (left, right) = split(rest);
        match former.checked_sub(left.len()) {
            None | Some(0) => {
                proof.push(root(right));
                rest = left;
            }
            Some(in_right) => {
                proof.push(root(left));
                (rest, former, is_known) = (right, in_right, false);
            }
        }
    }
    if !is_known {
        proof.push(root(rest));
    }
    proof.reverse();
    Some(proof)
}

/// Whether the proof shows that this is the leaf of this number in the tree of this size and root. RFC 9162, section 2.1.3.2.
pub fn is_included(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node without a sibling is the same on the next level.
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// The size and root of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// Whether the proof shows that the former tree was only extended to the later one. RFC 9162, section 2.1.4.2.
pub fn is_extended(former: &Head, later: &Head, proof: &[Hash]) -> bool {
    if former.size > later.size {
        return false;
    }
    if former.size == later.size || former.size == 0 {
        // The empty tree is the beginning of every one.
        return proof.is_empty() && (former.size == 0 || former.root == later.root);
    }
    let mut path = proof.iter();
    let first = match former.size.is_power_of_two() {
        true => Some(&former.root),
        false => path.next(),
    };
    let Some(first) = first else { return false };
    let skipped = (former.size - 1).trailing_ones();
    let (mut node, mut last) =
        (shifted(former.size - 1, skipped), shifted(later.size - 1, skipped));
    let (mut of_former, mut of_later) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            of_former = node_hash(sibling, &of_former);
            of_later = node_hash(sibling, &of_later);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            of_later = node_hash(&of_later, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && of_former == former.root && of_later == later.root
}

/// Shifted to the right, also by 64 bits.
fn shifted(number: u64, bits: u32) -> u64 {
    number.checked_shr(bits).unwrap_or(0)
}

#[cfg(test)]
mod tests;
