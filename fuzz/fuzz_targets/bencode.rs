//! Any bencode: see `tests/properties/bencode.rs`.

#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    properties::bencode::any_input(data);
});
