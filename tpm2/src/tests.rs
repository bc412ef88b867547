//! Tests of the crate as a whole.

pub(crate) mod golden;
mod secrets;
mod shown;
mod table;
