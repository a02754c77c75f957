//! Any frame: see `tests/properties/frame.rs`.

#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    properties::frame::any_frame(data);
});
