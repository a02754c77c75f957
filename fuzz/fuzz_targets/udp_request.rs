//! Any datagram: see `tests/properties/udp.rs`.

#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    properties::udp::any_packet(data);
});
