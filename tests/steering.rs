//! Steering: with it, the kernel hands every announce to the shard that owns
//! its info hash; without it, shards hand them on, and nobody notices.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::Steering;
use karuta::shard::stats::Protocol;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use support::{Announce, Announced, COMPLETED, Server, Udp, hash, scrape_packet, word};

const SHARDS: usize = 4;
const HASHES: u32 = 10_000;

/// Sockets to ask from: enough for the kernel's own choice, which looks at the
/// ports, to reach every shard.
const SOCKETS: usize = 64;

/// Requests on their way at once, so few that no buffer overflows.
const WINDOW: usize = 128;

/// Sends the packet of each hash's number, from sockets in turn, and hands
/// every reply with that number to `take`. `packet` gets the number, which is
/// the transaction id too, and the connection id.
fn all(clients: &[Udp], packet: impl Fn(u32, u64) -> Vec<u8>, mut take: impl FnMut(u32, Vec<u8>)) {
    let numbers: Vec<u32> = (0..HASHES).collect();
    for window in numbers.chunks(WINDOW) {
        let turns = || window.iter().zip(clients.iter().cycle());
        for (&number, client) in turns() {
            client.send(&packet(number, client.id));
        }
        for (_, client) in turns() {
            let reply = client.receive();
            let number = word(&reply, 4);
            assert!(window.contains(&number));
            take(number, reply);
        }
    }
}

/// What a client sees: seeders, leechers and the peers of its announce; then
/// the scrape.
type Seen = (u32, u32, BTreeSet<SocketAddr>, (u32, u32, u32));

/// Three peers announce each of the hashes; returns what the last of them was
/// answered, and the scrapes.
fn run(server: &Server, family: AddressFamily) -> Vec<Seen> {
    let clients: Vec<Udp> = (0..SOCKETS).map(|_| Udp::new(server.udp(family))).collect();
    let mut seen = vec![(0, 0, BTreeSet::new(), (0, 0, 0)); HASHES as usize];
    for peer in 0..3u16 {
        let announce = |number, id| {
            let hash = hash(number);
            let announce = match peer {
                0 => Announce::seeder(hash, 1).event(COMPLETED),
                _ => Announce::leecher(hash, 1 + peer),
            };
            announce.packet(id, number)
        };
        all(&clients, announce, |number, reply| {
            let reply = Announced::read(&reply, 1, number, family);
            assert_eq!(reply.peers.len(), usize::from(peer.max(1)));
            let seen = &mut seen[number as usize];
            (seen.0, seen.1) = reply.counts();
            seen.2 = reply.peers.into_iter().collect();
        });
    }
    let scrape = |number, id| scrape_packet(id, number, &[hash(number)]);
    all(&clients, scrape, |number, reply| {
        assert_eq!((word(&reply, 0), reply.len()), (2, 20));
        seen[number as usize].3 = (word(&reply, 8), word(&reply, 12), word(&reply, 16));
    });
    seen
}

fn server(steering: Steering) -> Server {
    Server::with(SHARDS, |udp, _| udp.steering = steering)
}

#[test]
fn ten_thousand_hashes_cross_no_shard_and_answers_are_the_same_without() {
    let (on, off) = (server(Steering::Kernel), server(Steering::Off));
    assert!(on.steered, "this kernel does not take the program");
    assert!(!off.steered);
    for family in AddressFamily::ALL {
        let ports = |ports: [u16; 2]| {
            let ip = on.udp(family).ip();
            ports.map(|port| SocketAddr::new(ip, port)).into()
        };
        let steered = run(&on, family);
        assert_eq!(on.crossed(Protocol::Udp), 0);
        // One seeder that completed, one other leecher.
        assert_eq!(steered[0], (1, 2, ports([1, 2]), (1, 1, 2)));
        assert!(steered.iter().all(|seen| *seen == steered[0]));
        let unsteered = run(&off, family);
        assert!(unsteered == steered);
        // All shards had their part in both.
        for server in [&on, &off] {
            for stats in &server.stats {
                assert!(stats.requests_of(family) > u64::from(HASHES) / 4);
            }
        }
    }
    // Three of four requests met another shard than their owner, about.
    let crossed = off.crossed(Protocol::Udp);
    let requests = u64::from(HASHES) * 4 * 2;
    assert!(
        (requests / 2..requests * 9 / 10).contains(&crossed),
        "{crossed}"
    );
}

/// Announces and scrapes of one shard.
trait Requests {
    fn requests_of(&self, family: AddressFamily) -> u64;
}

impl Requests for karuta::shard::stats::ShardStats {
    fn requests_of(&self, family: AddressFamily) -> u64 {
        use karuta::shard::stats::Action;
        let of = |action| self.requests(Protocol::Udp, action, family).get();
        of(Action::Announce) + of(Action::Scrape)
    }
}

#[test]
fn one_shard_needs_no_steering() {
    for steering in [Steering::Kernel, Steering::Off] {
        let server = Server::with(1, |udp, _| udp.steering = steering);
        let mut client = Udp::new(server.udp(AddressFamily::V4));
        client.scrape(&[hash(0), hash(1), hash(2)]);
        assert_eq!(server.crossed(Protocol::Udp), 0);
    }
}

#[test]
fn a_scrape_of_one_owners_hashes_does_not_cross() {
    let server = server(Steering::Kernel);
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    // The same prefix has the same owner.
    let hashes: Vec<_> = (0..50u8)
        .map(|last| {
            let mut hash = hash(7);
            hash[19] = last;
            hash
        })
        .collect();
    for hash in &hashes {
        client.announce(&Announce::seeder(*hash, 1));
    }
    assert_eq!(client.scrape(&hashes), [(1, 0, 0); 50]);
    assert_eq!(server.crossed(Protocol::Udp), 0);
    // Hashes of several owners are one request that crosses, not several.
    client.scrape(&(0..50).map(hash).collect::<Vec<_>>());
    assert_eq!(server.crossed(Protocol::Udp), 1);
}
