//! What a run does, after the command line has been checked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::workload::{FillShape, Workload};

/// A whole run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Whom to ask.
    pub target: Target,
    /// Addresses to send from; `None` lets the kernel choose.
    pub sources: Vec<Option<IpAddr>>,
    /// Sending threads, at least 1.
    pub threads: usize,
    /// Processors to pin the threads to, in turn; empty: not pinned.
    pub cpus: Vec<usize>,
    /// When to send.
    pub pace: Pace,
    /// What to send.
    pub workload: Workload,
    /// Announce every peer exactly once instead of drawing without end.
    pub fill: Option<FillShape>,
    /// Peers wanted; -1 leaves it to the tracker.
    pub numwant: i32,
    /// Info hashes per scrape, 1 to 74.
    pub scrape_hashes: usize,
    /// Load before the measured interval.
    pub warm_up: Duration,
    /// The measured interval; a fill ends when it is complete.
    pub duration: Duration,
    /// A request without an answer for this long is lost.
    pub timeout: Duration,
    /// HTTP connections per thread.
    pub connections: usize,
    /// HTTP: many requests per connection, or one.
    pub keep_alive: bool,
    /// UDP: hand runs of packets to the kernel as one message.
    pub segmentation: bool,
    /// Process whose processor time is reported.
    pub cpu_of: Option<u32>,
    /// Process whose resident memory is reported.
    pub rss_of: Option<u32>,
    /// Greatest fraction of requests without a good answer in a valid run.
    pub max_loss: f64,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A UDP tracker.
    Udp(SocketAddr),
    /// An HTTP tracker.
    Http {
        /// Where to connect.
        address: SocketAddr,
        /// The Host header.
        host: String,
        /// Path of announces, by default `/announce`.
        path: String,
    },
}

impl Target {
    /// The socket address behind it.
    pub fn address(&self) -> SocketAddr {
        match self {
            Target::Udp(address) | Target::Http { address, .. } => *address,
        }
    }
}

/// When to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: a new request for every answered or lost one, with this
    /// many in flight per thread. HTTP: one per connection.
    Window(usize),
    /// Open loop: this many requests per second of all threads together.
    Rate(f64),
}
