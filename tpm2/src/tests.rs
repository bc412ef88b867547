//! Tests of the crate as a whole.

pub(crate) mod golden;
mod shown;
mod table;
