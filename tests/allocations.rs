//! The request path allocates nothing once it is warm (invariant 7), counted
//! by an allocator that counts for the thread that asks.

#[path = "allocations/counting.rs"]
mod counting;

mod support;

use karuta::bittorrent::{AddressFamily, InfoHash};
use karuta::frontend::Client;
use karuta::frontend::desk::Desk;
use karuta::frontend::udp::{UdpFrontend, UdpSettings};
use karuta::protocol::udp::ConnectionIds;
use karuta::runtime::clock::Now;
use karuta::runtime::mesh::{self, Bell, Port};
use karuta::shard::exchange::Exchange;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use karuta::sys::socket::{self, UdpOptions};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use support::{Announce, V4, hash, scrape_packet, word};

/// One shard with a UDP socket, as the worker has them, in this thread.
struct Core {
    shard: Shard,
    udp: UdpFrontend,
    desk: Desk<Port<Box<Exchange>>, Client>,
    address: SocketAddr,
}

const NOW: Now = Now {
    seconds: 100,
    elapsed: Duration::from_secs(100),
    unix_seconds: 1_800_000_000,
};

fn ids() -> ConnectionIds {
    ConnectionIds::from_secret(b"allocations", 0)
}

fn cores(count: usize) -> Vec<Core> {
    let bells: Vec<_> = (0..count)
        .map(|_| Arc::new(Bell::new().expect("eventfd")))
        .collect();
    let owners = OwnerMap::new(7, count);
    let settings = ShardSettings {
        peer_lifetime_seconds: 1860,
        downloads_lifetime_seconds: 0,
        sweep_seconds: 180,
        peer_ids: false,
        max_peers: 0,
        max_swarms: 0,
    };
    let length = 256;
    let ports = mesh::mesh(&bells, length).into_iter().enumerate();
    ports
        .map(|(id, port)| {
            let stats = Arc::new(ShardStats::default());
            let options = UdpOptions {
                receive_buffer_bytes: 0,
                send_buffer_bytes: 0,
                packet_info: false,
            };
            let socket = socket::udp(SocketAddr::new(V4, 0), options).expect("bind");
            let address = socket.local_addr().expect("address");
            let udp = UdpSettings {
                interval_seconds: 1800,
                connection_ids: ids(),
                allow_ip_spoofing: false,
                default_num_want: 50,
                max_num_want: 100,
                max_scrape_hashes: 50,
                max_packet_bytes: [1452, 1232],
            };
            Core {
                shard: Shard::new(id, owners, &settings, id as u64, stats.clone()),
                udp: UdpFrontend::new(udp, vec![(socket, AddressFamily::V4)], stats),
                desk: Desk::new(id, port, length),
                address,
            }
        })
        .collect()
}

impl Core {
    /// One turn of its loop.
    fn turn(&mut self) {
        let Self {
            shard, udp, desk, ..
        } = self;
        // Nothing to receive is an error, EAGAIN, or none.
        let _ = udp.serve(0, &NOW, shard, desk);
        desk.drain(NOW.seconds, shard, 256, |client, answer| {
            if let Client::Udp(client) = client {
                udp.answer(&client, &answer);
            }
        });
        udp.flush_all();
    }
}

/// Sends the packets to the first core, gives all cores their turns, and
/// counts their allocations; returns these and the replies.
fn exchange(cores: &mut [Core], client: &UdpSocket, packets: &[Vec<u8>]) -> (u64, Vec<Vec<u8>>) {
    for packet in packets {
        client.send_to(packet, cores[0].address).expect("send");
    }
    let before = counting::count();
    for _ in 0..3 {
        for core in &mut *cores {
            core.turn();
        }
    }
    let allocated = counting::count() - before;
    let replies = packets.iter().map(|_| {
        let mut buffer = vec![0; 2048];
        let count = support::uninterrupted(|| client.recv(&mut buffer)).expect("a reply");
        buffer.truncate(count);
        buffer
    });
    (allocated, replies.collect())
}

fn client() -> (UdpSocket, u64) {
    let client = UdpSocket::bind(SocketAddr::new(V4, 0)).expect("bind");
    let timeout = client.set_read_timeout(Some(support::WATCHDOG));
    timeout.expect("timeout");
    (client, ids().issue(NOW.unix_seconds, V4))
}

/// Announces to swarms of these hashes: 80 peers each, of which the reply
/// names 50.
fn announces(id: u64, hashes: &[[u8; 20]]) -> Vec<Vec<Vec<u8>>> {
    let announce = |port: u16| {
        let packet = |hash: &[u8; 20]| match port % 3 {
            0 => Announce::seeder(*hash, port).packet(id, 1),
            _ => Announce::leecher(*hash, port).packet(id, 1),
        };
        hashes.iter().map(packet).collect()
    };
    (1..=80).map(announce).collect()
}

fn allocates_nothing(cores: &mut [Core], hashes: &[[u8; 20]]) {
    let (client, id) = client();
    let batches = announces(id, hashes);
    let scrape = vec![scrape_packet(id, 2, hashes)];
    // Warm up: swarms, buffers, and each of the boxes that travel. A batch of
    // announces has 40 of them under way, and so have 20 scrapes, each of which
    // asks two owners.
    let scrapes = vec![scrape[0].clone(); 20];
    for _ in 0..2 {
        for batch in &batches {
            exchange(cores, &client, batch);
            exchange(cores, &client, &scrapes);
        }
    }
    let mut full = 0;
    for batch in &batches {
        let (allocated, replies) = exchange(cores, &client, batch);
        assert_eq!(allocated, 0);
        for reply in replies {
            assert_eq!(word(&reply, 0), 1);
            full += usize::from(reply.len() == 20 + 50 * 6);
        }
    }
    assert!(full > 0, "swarms of some size were asked");
    let (allocated, replies) = exchange(cores, &client, &scrape);
    assert_eq!(allocated, 0);
    assert_eq!(replies[0].len(), 8 + 12 * hashes.len());
    // Errors and connects neither.
    let mut connect = 0x0417_2710_1980u64.to_be_bytes().to_vec();
    connect.extend([0; 8]);
    let bad = Announce::leecher(hash(1), 1).packet(id ^ 1, 3);
    let (allocated, replies) = exchange(cores, &client, &[connect, bad]);
    assert_eq!(allocated, 0);
    assert_eq!((word(&replies[0], 0), word(&replies[1], 0)), (0, 3));
}

#[test]
fn a_warm_announce_allocates_nothing() {
    let hashes: Vec<_> = (0..40).map(hash).collect();
    allocates_nothing(&mut cores(1), &hashes);
}

#[test]
fn a_warm_announce_across_shards_allocates_nothing() {
    let mut cores = cores(3);
    let owners = *cores[0].shard.owners();
    let foreign = |hash: &[u8; 20]| owners.owner(&InfoHash(*hash)) != 0;
    let hashes: Vec<_> = (0..).map(hash).filter(foreign).take(40).collect();
    allocates_nothing(&mut cores, &hashes);
}

#[test]
fn the_counter_counts() {
    let before = counting::count();
    drop(std::hint::black_box(vec![0u8; 10]));
    assert_eq!(counting::count() - before, 1);
    let flag = Cell::new(0);
    flag.set(1);
    assert_eq!(counting::count() - before, 1);
}
