//! What a shard publishes of each of its sockets.

use super::stats::Counter;

/// What is counted for one socket of this shard. The sockets of all shards on
/// one address make a listener.
#[derive(Debug)]
pub struct ListenerStats {
    /// Where it listens: an address, or the name of a network interface.
    pub address: String,
    /// Datagrams received, or connections accepted.
    pub arrivals: Counter,
    /// Datagrams handed to the kernel (UDP).
    pub departures: Counter,
    /// Datagrams that the kernel dropped because there was no room for more.
    pub overflows: Counter,
    /// Requests that came through the connections (HTTP).
    pub requests: Counter,
    /// Bytes of datagrams received, or of requests, without the headers of the
    /// network and without TLS.
    pub bytes_in: Counter,
    /// Bytes of datagrams handed to the kernel, or of replies.
    pub bytes_out: Counter,
}

impl ListenerStats {
    /// Nothing so far.
    #[must_use]
    pub fn new(address: String) -> Self {
        Self {
            address,
            arrivals: Counter::default(),
            departures: Counter::default(),
            overflows: Counter::default(),
            requests: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        }
    }
}
