//! What a join costs, part by part: `benches/join.rs`. docs/performance.md has a table of it.
