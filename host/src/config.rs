//! Configuration files, for both programs: all faults of a file at once, each with its line, column and advice.
//!
//! [`tree::parse`] makes of the text a tree that knows where each value stands; a [`section::Section`] knows its keys, and
//! each of them as what it should be. Whatever is wrong is added to the [`finding::Source`].

pub mod finding;
pub mod section;
pub mod tree;
