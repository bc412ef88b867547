//! Known trees, and all small ones as another implementation has them.

use base16ct::lower::decode_vec;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{HashableLeaf, RootHash};
use sha2::digest::Update;

use super::*;

/// The entries of the tree that implementations of RFC 6962 are tested with.
const ENTRIES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// The root of the first of them, none to all.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(text: &str) -> Vec<u8> {
    decode_vec(text).unwrap()
}

fn frontier(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf).unwrap());
    frontier
}

#[test]
fn roots_and_proofs_are_the_known_ones() {
    let leaves = ENTRIES.map(|entry| leaf_hash(&hex(entry)));
    for (size, known) in ROOTS.iter().enumerate() {
        assert_eq!(root(&leaves[..size]).as_slice(), hex(known), "{size}");
        assert_eq!(frontier(&leaves[..size]).root().as_slice(), hex(known), "{size}");
    }
    let known = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    let consistency = consistency_proof(&leaves, 6).unwrap();
    assert_eq!(consistency, known.map(|hash| <Hash>::try_from(hex(hash)).unwrap()));
    let inclusion = inclusion_proof(&leaves, 5).unwrap();
    let known = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(inclusion, known.map(|hash| <Hash>::try_from(hex(hash)).unwrap()));
}

/// More than two levels beyond a complete tree.
const LARGEST: usize = 70;

fn entry(number: usize) -> [u8; 8] {
    (number as u64).to_be_bytes()
}

fn leaves() -> Vec<Hash> {
    (0..LARGEST).map(|number| leaf_hash(&entry(number))).collect()
}

struct Entry([u8; 8]);

impl HashableLeaf for Entry {
    fn hash<H: Update>(&self, hasher: &mut H) {
        hasher.update(&self.0);
    }
}

type Theirs = MemoryBackedTree<Sha256, Entry>;

fn flattened(proof: &[Hash]) -> Vec<u8> {
    proof.as_flattened().to_vec()
}

#[test]
fn all_small_trees_are_those_of_another_implementation() {
    let (leaves, mut theirs, mut roots) = (leaves(), Theirs::new(), Vec::new());
    for size in 1..=LARGEST {
        theirs.push(Entry(entry(size - 1)));
        let root: RootHash<Sha256> = theirs.root();
        assert_eq!(super::root(&leaves[..size]).as_slice(), root.as_bytes().as_slice(), "{size}");
        for index in 0..size {
            let proof = theirs.prove_inclusion(index);
            let ours = inclusion_proof(&leaves[..size], index).unwrap();
            assert_eq!(flattened(&ours), proof.as_bytes(), "{index} in {size}");
        }
        roots.push(root);
        for former in 1..size {
            let proof = theirs.prove_consistency(size - former);
            let ours = consistency_proof(&leaves[..size], former).unwrap();
            assert_eq!(flattened(&ours), proof.as_bytes(), "{former} to {size}");
        }
    }
}

#[test]
fn proofs_of_all_small_trees_are_verified_and_nothing_else_is() {
    let leaves = leaves();
    let other = leaf_hash(b"another");
    for size in 0..=20 {
        let root = root(&leaves[..size]);
        assert_eq!(inclusion_proof(&leaves[..size], size), None);
        for index in 0..size {
            let proof = inclusion_proof(&leaves[..size], index).unwrap();
            let (at, of) = (index as u64, size as u64);
            let verified =
                |leaf, at, of, proof: &[Hash], root| is_included(leaf, at, of, proof, root);
            assert!(verified(&leaves[index], at, of, &proof, &root), "{index} in {size}");
            assert!(!verified(&other, at, of, &proof, &root));
            assert!(!verified(&leaves[index], at, of, &proof, &other));
            assert!(!verified(&leaves[index], of, of, &proof, &root));
            for wrong in wrong_proofs(&proof) {
                assert!(!verified(&leaves[index], at, of, &wrong, &root));
            }
            for wrong in (0..of).filter(|wrong| *wrong != at) {
                assert!(!verified(&leaves[index], wrong, of, &proof, &root));
            }
        }
    }
}

#[test]
fn extension_of_all_small_trees_is_verified_and_nothing_else_is() {
    let leaves = leaves();
    let head = |size: usize| Head { size: size as u64, root: root(&leaves[..size]) };
    let other = leaf_hash(b"another");
    for size in 0..=20 {
        for former in 0..=size {
            let proof = consistency_proof(&leaves[..size], former).unwrap();
            let (former, later) = (head(former), head(size));
            assert!(is_extended(&former, &later, &proof), "{former:?} {later:?}");
            for wrong in wrong_proofs(&proof) {
                assert!(!is_extended(&former, &later, &wrong));
            }
            if former.size > 0 {
                assert!(!is_extended(&Head { root: other, ..former }, &later, &proof));
                assert!(!is_extended(&former, &Head { root: other, ..later }, &proof));
                assert!(!is_extended(&Head { size: later.size + 1, ..former }, &later, &proof));
            }
            if former.size > 0 && former.size < later.size {
                let wrong = Head { size: former.size - 1, ..former };
                assert!(!is_extended(&wrong, &later, &proof));
            }
        }
        assert_eq!(consistency_proof(&leaves[..size], size + 1), None);
    }
}

/// One hash more or less, and one other bit in each.
fn wrong_proofs(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut wrong = vec![[proof, &[[0; HASH]]].concat(), [&[[0; HASH]], proof].concat()];
    for index in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[index][7] ^= 0x10;
        wrong.push(flipped);
        wrong.push([&proof[..index], &proof[index + 1..]].concat());
    }
    wrong
}

#[test]
fn frontier_is_read_as_it_was_written_and_appended_to() {
    let leaves = leaves();
    for size in 0..=LARGEST {
        let frontier = frontier(&leaves[..size]);
        let bytes = frontier.to_bytes();
        let read = Frontier::from_bytes(&bytes).unwrap();
        assert_eq!(
            (&read, read.size(), read.root()),
            (&frontier, size as u64, root(&leaves[..size]))
        );
        for wrong in [&bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat()] {
            assert_eq!(Frontier::from_bytes(wrong), None);
        }
        let mut larger = bytes.clone();
        larger[7] ^= 0x01;
        assert_eq!(Frontier::from_bytes(&larger), None, "another number of subtrees");
    }
    let full = [[0xff; 8].as_slice(), &[7; 64 * HASH]].concat();
    let mut full = Frontier::from_bytes(&full).unwrap();
    assert_eq!(full.push(leaves[0]), None);
    assert_eq!(full.size(), u64::MAX);
}
