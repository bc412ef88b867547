//! `agent configure` and `agent check` as a person meets them.

// Said once more for the lints, which are milder in tests.
#[cfg(test)]
mod tests;
