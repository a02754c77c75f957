//! A shard without others and its UDP frontend over loopback, without an
//! executor: from socket to socket in one thread, for what counts allocations
//! (`tests/allocations.rs`) and instructions (`benches/udp_announce.rs`).

use super::V4;
use karuta::bittorrent::AddressFamily;
use karuta::frontend::Client;
use karuta::frontend::desk::{Desk, Lanes};
use karuta::frontend::udp::{UdpFrontend, UdpSettings};
use karuta::protocol::Dialect;
use karuta::protocol::udp::ConnectionIds;
use karuta::runtime::clock::{Clock, Now};
use karuta::shard::exchange::Exchange;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// The shard, and a client whose connection id is valid.
pub struct LoneShard {
    pub shard: Shard,
    pub client: UdpSocket,
    pub connection_id: u64,
    udp: UdpFrontend,
    desk: Desk<NoLanes, Client>,
    now: Now,
}

impl LoneShard {
    /// Time stands still: nothing expires.
    pub fn new(settings: &ShardSettings, dialect: Dialect, interval_spread_seconds: u32) -> Self {
        let stats = Arc::new(ShardStats::default());
        let server = UdpSocket::bind(SocketAddr::new(V4, 0)).expect("bind");
        server.set_nonblocking(true).expect("non-blocking");
        let client = UdpSocket::bind(SocketAddr::new(V4, 0)).expect("bind");
        let address = server.local_addr().expect("address");
        client.connect(address).expect("connect");
        // A lost reply should fail the test, not hang it.
        let patience = Some(Duration::from_secs(10));
        client.set_read_timeout(patience).expect("timeout");
        let ids = ConnectionIds::new([7; 16], 10);
        let now = Clock::start().now();
        let udp = UdpSettings {
            dialect,
            interval_seconds: 1800,
            interval_spread_seconds,
            connection_ids: ids.clone(),
            allow_ip_spoofing: false,
            default_num_want: 50,
            max_num_want: 100,
            max_scrape_hashes: 50,
            max_packet_bytes: [1452, 1232],
        };
        let sockets = vec![(server, AddressFamily::V4)];
        Self {
            shard: Shard::new(0, OwnerMap::new(7, 1), settings, 1, stats.clone()),
            client,
            connection_id: ids.issue(now.unix_seconds, V4),
            udp: UdpFrontend::new(udp, sockets, stats),
            desk: Desk::new(0, NoLanes, 128),
            now,
        }
    }

    /// Answers one batch of the requests that wait; returns how many.
    pub fn serve(&mut self) -> io::Result<usize> {
        let Self {
            udp, shard, desk, ..
        } = self;
        udp.serve(0, &self.now, shard, desk)
    }
}

/// No other shards.
struct NoLanes;

impl Lanes for NoLanes {
    fn shards(&self) -> usize {
        1
    }
    fn send(&mut self, _: usize, exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        Err(exchange)
    }
    fn receive(&mut self) -> Option<Box<Exchange>> {
        None
    }
}
