//! One UDP announce from the socket to the socket, over loopback, without the
//! executor: what `valgrind --tool=callgrind` counts instructions of.
//!
//! Measures [`UdpFrontend::serve`]: receiving a batch, verifying, announcing,
//! encoding, sending. Does not measure the kernel, the reactor or the mesh.
//!
//! ```text
//! valgrind --tool=callgrind --collect-atstart=no \
//!     --toggle-collect='karuta::frontend::udp::UdpFrontend::serve*' BENCH --bench ROUNDS
//! ```
//!
//! The program prints how many announces were served; the instructions that
//! callgrind reports, divided by that, are the figure in PERFORMANCE.md.

use karuta::bittorrent::AddressFamily;
use karuta::frontend::Client;
use karuta::frontend::desk::{Desk, Lanes};
use karuta::frontend::udp::{UdpFrontend, UdpSettings};
use karuta::protocol::Dialect;
use karuta::protocol::udp::ConnectionIds;
use karuta::runtime::clock::Clock;
use karuta::shard::exchange::Exchange;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use std::net::UdpSocket;
use std::sync::Arc;

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

const BATCH: u64 = 64;
const SWARMS: u64 = 20_000;
const PEERS: u64 = 200_000;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next_back();
    let rounds: u64 = rounds.unwrap_or(if measured { 1000 } else { 2 });
    let fill = if measured { PEERS / BATCH } else { 2 };

    let stats = Arc::new(ShardStats::default());
    let owners = OwnerMap::new(7, 1);
    let settings = ShardSettings {
        peer_lifetime_seconds: 1860,
        downloads_lifetime_seconds: 0,
        sweep_seconds: 180,
        peer_ids: false,
        max_peers: 0,
        max_swarms: 0,
        opentracker_statistics: false,
    };
    let mut shard = Shard::new(0, owners, &settings, 1, stats.clone());
    let mut desk: Desk<NoLanes, Client> = Desk::new(0, NoLanes, 128);
    let ids = ConnectionIds::new([7; 16], 10);
    let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
    server.set_nonblocking(true).expect("non-blocking");
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    client
        .connect(server.local_addr().expect("address"))
        .expect("connect");
    let udp_settings = UdpSettings {
        dialect: Dialect::Karuta,
        interval_seconds: 1800,
        interval_spread_seconds: 0,
        connection_ids: ids.clone(),
        allow_ip_spoofing: false,
        default_num_want: 50,
        max_num_want: 100,
        max_scrape_hashes: 50,
        max_packet_bytes: [1452, 1232],
    };
    let mut udp = UdpFrontend::new(udp_settings, vec![(server, AddressFamily::V4)], stats);
    let clock = Clock::start();
    let now = clock.now();
    let id = ids.issue(now.unix_seconds, [127, 0, 0, 1].into());
    let mut number = 0u64;
    let mut served = 0;
    for round in 0..fill + rounds {
        for _ in 0..BATCH {
            number += 1;
            client.send(&announce(id, number)).expect("send");
        }
        let count = if round < fill {
            udp.serve(0, &now, &mut shard, &mut desk)
        } else {
            measured_serve(&mut udp, &now, &mut shard, &mut desk)
        };
        let count = count.expect("serve");
        assert_eq!(count as u64, BATCH, "loopback lost a datagram");
        served += if round < fill { 0 } else { count };
        let mut reply = [0u8; 1500];
        for _ in 0..BATCH {
            let length = client.recv(&mut reply).expect("a reply");
            assert!(length >= 20 && reply[3] == 1, "an announce reply");
        }
    }
    println!("{served} announces served");
}

/// Where counting begins and ends.
#[inline(never)]
fn measured_serve(
    udp: &mut UdpFrontend,
    now: &karuta::runtime::clock::Now,
    shard: &mut Shard,
    desk: &mut Desk<NoLanes, Client>,
) -> std::io::Result<usize> {
    udp.serve(0, now, shard, desk)
}

/// The announce of peer `number`, of a swarm chosen with a cubic skew.
fn announce(connection_id: u64, number: u64) -> [u8; 98] {
    let mixed = (number % PEERS).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    let swarm = (unit * unit * unit * SWARMS as f64) as u64;
    let hash = (swarm + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut packet = [0u8; 98];
    packet[..8].copy_from_slice(&connection_id.to_be_bytes());
    packet[8..12].copy_from_slice(&1u32.to_be_bytes());
    packet[12..16].copy_from_slice(&(number as u32).to_be_bytes());
    packet[16..24].copy_from_slice(&hash.to_be_bytes());
    packet[24..32].copy_from_slice(&hash.rotate_left(23).to_be_bytes());
    packet[36..56].copy_from_slice(b"-KA0001-abcdefghijkl");
    // One in four leeches.
    packet[64..72].copy_from_slice(&u64::from(mixed & 3 == 0).to_be_bytes());
    packet[92..96].copy_from_slice(&30u32.to_be_bytes());
    packet[96..98].copy_from_slice(&((mixed >> 40) as u16 | 1).to_be_bytes());
    packet
}
