//! Begun.

pub mod protos;
