//! One target under libFuzzer: the one that `KONTIKI_FUZZ_TARGET` names. `deploy/fuzz.sh` builds and runs it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("KONTIKI_FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).expect("KONTIKI_FUZZ_TARGET is one of those that fuzz-seeds lists")
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
