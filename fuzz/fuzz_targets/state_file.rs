//! Any state file: see `tests/properties/state_file.rs`.

#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    properties::state_file::any_bytes(data);
});
