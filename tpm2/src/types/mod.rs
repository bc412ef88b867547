//! Part 2: constants, attributes, structures and unions, by its clauses.
//!
//! Types lose the specification's prefix (`TPMT_PUBLIC` is [`Public`]) and keep it as a search alias.

mod attest;
mod attribute;
mod auth;
mod buffer;
mod capability;
mod clock;
mod command_code;
mod context;
mod creation;
mod digest;
mod entity;
mod handle;
mod interface;
mod number;
mod nv;
#[cfg(feature = "client")]
mod octets;
mod owned;
mod pcr;
mod public;
mod rc;
mod scheme;
mod sensitive;
mod signature;
mod standard;
mod ticket;

pub use attest::*;
pub use attribute::*;
pub use auth::*;
pub use buffer::*;
pub use capability::*;
pub use clock::*;
pub use command_code::*;
pub use context::*;
pub use creation::*;
pub use digest::*;
pub use entity::*;
pub use handle::*;
pub use interface::*;
pub use number::*;
pub use nv::*;
#[cfg(feature = "client")]
pub use octets::Octets;
pub use owned::*;
pub use pcr::*;
pub use public::*;
pub use rc::*;
pub use scheme::*;
pub use sensitive::*;
pub use signature::*;
pub use standard::*;
pub use ticket::*;

#[cfg(test)]
mod tests;
