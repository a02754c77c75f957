//! What the tests that run a tracker share: the tracker, and a small client of
//! both protocols.
//!
//! The client is written apart from the tracker's own codec: what is compared
//! here was put together from the BEPs. Sockets have a read timeout of some
//! seconds, which only turns a hang into a failure; no test passes or fails by
//! speed.

#![allow(dead_code, unused_imports, reason = "each test uses its own part")]

mod announce;
mod bencode;
mod http;
pub mod lone_shard;
pub mod program;
mod server;
mod shard_settings;
mod udp;

pub use announce::{
    Announce, Announced, COMPLETED, STARTED, STOPPED, compact, percent, scrape_packet,
    scrape_target, word,
};
pub use bencode::Value;
pub use http::{Http, Response, field, get, request};
pub use server::{Server, config};
pub use shard_settings::shard_settings;
pub use udp::Udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Ends a wait for something that will not come.
pub const WATCHDOG: Duration = Duration::from_secs(20);

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The info hash of this number: looks random, always the same.
pub fn hash(number: u32) -> [u8; 20] {
    let mut state = u64::from(number) + 1;
    let mut bytes = [0; 20];
    for byte in &mut bytes {
        *byte = (mix(&mut state) >> 56) as u8;
    }
    bytes
}

/// The next of a sequence of numbers that look random (SplitMix64).
pub fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Calls again when a signal of the executors hit this thread.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Asks again and again; each time the asking itself takes a while.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200_000 {
        if holds() {
            return;
        }
    }
    panic!("{what} did not come");
}
