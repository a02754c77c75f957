//! What holds for any input. Each function panics when its property does not
//! hold; the plain test command runs them through proptest, the fuzz targets
//! through libFuzzer.
#![allow(
    dead_code,
    reason = "each of those who include this file uses a part of it"
)]

pub mod bencode;
pub mod frame;
pub mod http;
pub mod opentracker;
pub mod proxy;
pub mod state_file;
pub mod udp;
