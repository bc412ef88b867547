//! The authority: decides who joins, issues certificates, keeps the record.

pub mod audit;
pub mod clock;
pub mod cluster;
pub mod exit;
pub mod folder;
pub mod issue;
pub mod resource;
pub mod store;
