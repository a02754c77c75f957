//! Transports: bytes on a socket become requests, answers become bytes.
//!
//! Each shard has its own [`udp::UdpFrontend`] and [`http::HttpFrontend`] and
//! one [`worker::Worker`], the main loop that feeds them. What belongs to
//! another shard goes over the [`desk::Desk`].

pub mod desk;
mod dialect;
pub mod http;
mod late;
pub mod udp;
pub mod update;
pub mod worker;

use crate::hook::Moment;
use crate::runtime::clock::Now;

/// Who waits for an answer from another shard.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// The sender of a datagram.
    Udp(udp::UdpClient),
    /// A connection, unless it is gone by then.
    Http(http::ConnectionToken),
}

impl From<&Now> for Moment {
    fn from(now: &Now) -> Self {
        Self {
            milliseconds: now.elapsed.as_millis() as u64,
            unix_seconds: now.unix_seconds,
        }
    }
}
