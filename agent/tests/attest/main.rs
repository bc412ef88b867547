//! Attestation of real processes that end, hand on, execute and change users at the worst moment; and what an attestation
//! without one of its checks would say of them.

#[cfg(test)]
mod tests;
