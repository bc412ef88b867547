//! The targets under libFuzzer. `cargo xtask fuzz` builds and runs it; `FUZZ_TARGET` names the one.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    Target::by_name(&name).expect("FUZZ_TARGET names one of the targets")
});

fuzz_target!(|data: &[u8]| {
    (TARGET.run)(data);
});
