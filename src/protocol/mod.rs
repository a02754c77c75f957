//! Wire formats without I/O: bytes in, values out, and back.
//!
//! - [`udp`]: BEP 15 with the URL data of BEP 41.
//! - [`http`]: BEP 3, 7, 21, 23, 24, 31, 48 over HTTP/1.x.
//! - [`frame`]: Ethernet, IP and UDP around a datagram, for AF_XDP.
//! - [`proxy`]: the PROXY protocol, versions 1 and 2.
//! - [`bencode`]: a writer into a caller's buffer and a bounded reader.
//! - [`Dialect`]: where opentracker's manners differ from ours.
//!
//! Invariants: nothing here does I/O, reads a clock or a random source, or
//! panics, whatever the input (the lints below and the fuzz targets hold
//! this). Nothing allocates, except by growing a `Vec` that the caller hands
//! in. What a request means for a swarm is left to `shard`, which errors are
//! sent and which connections are closed is left to `frontend`.

#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
// Tests may panic: that is how they fail. The library build keeps the lints.
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod bencode;
mod dialect;
pub mod frame;
pub mod http;
pub mod proxy;
pub mod udp;

pub use dialect::Dialect;

use std::net::IpAddr;

/// Whether no peer can have this address: it is unspecified, multicast or
/// broadcast.
#[inline]
fn is_impossible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}
