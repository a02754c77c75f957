//! Any bytes on an HTTP connection: see `tests/properties/http.rs` and, for
//! those of proxies, `tests/properties/proxy.rs`.

#![no_main]

#[path = "../../tests/properties/mod.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    properties::http::any_request(data);
    properties::http::any_value(data);
    properties::proxy::any_head(data);
    properties::proxy::any_forwarded(data);
    properties::proxy::any_introduction(data);
    properties::opentracker::any_request(data);
});
