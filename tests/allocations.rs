//! No allocation on the request path once it is warm: of an announce over UDP
//! from socket to socket, and of an announce that goes to another shard and
//! comes back over the mesh.
//!
//! Counts what the measuring thread allocates, and nothing of other threads.

mod support;

use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId};
use karuta::frontend::desk::{Answer, Asked, Desk};
use karuta::protocol::Dialect;
use karuta::runtime::mesh::{Bell, Port, mesh};
use karuta::shard::exchange::{Exchange, Question};
use karuta::shard::families::Peers;
use karuta::shard::owner::OwnerMap;
use karuta::shard::{Shard, ShardSettings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Barrier};
use support::lone_shard::LoneShard;

/// Announces in one batch: what one receive call takes in.
const BATCH: u32 = 64;
/// Peers in each run; each announces again and again.
const PEERS: u32 = 20 * BATCH;
const WARM_ROUNDS: u32 = 3;
const MEASURED_ROUNDS: u32 = 15;

#[test]
fn the_counter_counts() {
    let boxed = |number: u64| drop(std::hint::black_box(Box::new(number)));
    assert_eq!(allocations(|| boxed(1)), 1);
    let mut vec = Vec::<u8>::with_capacity(1);
    assert_eq!(allocations(|| vec.reserve_exact(100)), 1);
    // What another thread allocates meanwhile does not count.
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            boxed(2);
            barrier.wait();
        });
        let count = allocations(|| {
            barrier.wait();
            barrier.wait();
        });
        assert_eq!(count, 0);
    });
}

#[test]
fn a_warm_udp_announce_allocates_nothing() {
    udp_announces(Dialect::Karuta);
}

#[test]
fn nor_does_one_in_the_dialect_of_opentracker() {
    udp_announces(Dialect::Opentracker);
}

fn udp_announces(dialect: Dialect) {
    let mut lone = LoneShard::new(&settings(), dialect, 359 * dialect as u32);
    let mut reply = [0u8; 1500];
    let mut named = 0;
    for round in 0..WARM_ROUNDS + MEASURED_ROUNDS {
        for first in (0..PEERS).step_by(BATCH as usize) {
            for number in first..first + BATCH {
                let packet = packet(lone.connection_id, number);
                lone.client.send(&packet).expect("send");
            }
            let mut served = 0;
            let count = allocations(|| {
                while served < BATCH as usize {
                    served += lone.serve().expect("every datagram is there already");
                }
            });
            assert_eq!(served, BATCH as usize);
            for _ in 0..BATCH {
                let length = lone.client.recv(&mut reply).expect("a reply");
                assert!(length >= 20 && reply[3] == 1, "an announce reply");
                named += (length - 20) / 6;
            }
            assert!(round < WARM_ROUNDS || count == 0, "round {round}: {count}");
        }
    }
    let totals = lone.shard.totals(AddressFamily::V4);
    assert_eq!(totals.seeders + totals.leechers, u64::from(PEERS));
    assert!(named > 100_000, "replies with hardly any peers: {named}");
}

#[test]
fn a_warm_announce_across_shards_allocates_nothing() {
    announces_across_shards(1, Question::Announce);
}

#[test]
fn nor_does_one_that_is_given_both_families() {
    announces_across_shards(2, |announce| Question::AnnounceBoth(announce, Peers::Both));
}

/// Announces over so many families, asking this.
fn announces_across_shards(families: u32, question: impl Fn(Announce) -> Question) {
    const LANE: usize = 2 * BATCH as usize;
    let owners = OwnerMap::new(7, 2);
    let bells = [0, 1].map(|_| Arc::new(Bell::new().expect("eventfd")));
    let mut shards = [0, 1].map(|id| Shard::new(id, owners, &settings(), 1, Arc::default()));
    let mut desks: Vec<Desk<Port<Box<Exchange>>, u32>> = mesh(&bells, LANE)
        .into_iter()
        .enumerate()
        .map(|(id, port)| Desk::new(id, port, LANE))
        .collect();
    let announces = (0..PEERS).map(|number| {
        let mut announce = announce(number);
        // By turns among those of one swarm.
        if number / 64 % families == 1 {
            announce.ip = Ipv6Addr::LOCALHOST.into();
        }
        announce
    });
    let announces: Vec<Announce> = announces.collect();
    let mut asked_in_all = 0;
    for round in 0..WARM_ROUNDS + MEASURED_ROUNDS {
        for batch in announces.chunks(BATCH as usize) {
            let (mut asked, mut answered) = (0, 0);
            let (mut bytes, mut bytes_of_others) = (0, 0);
            let count = allocations(|| {
                for announce in batch {
                    let owner = owners.owner(&announce.info_hash);
                    let question = question(*announce);
                    let result = desks[1 - owner].ask_one(5, owner, question, 1);
                    asked += u32::from(result == Asked::Waiting);
                }
                // First the questions of both, then the answers to both.
                for at in [0, 1, 0, 1] {
                    desks[at].drain(5, &mut shards[at], LANE, |client, answer| {
                        if let Answer::Announce(_, peers) = answer {
                            answered += client;
                            bytes += peers.compact.len();
                            bytes_of_others += peers.other_family.len();
                        }
                    });
                    desks[at].lanes().ring();
                }
            });
            assert_eq!((asked, answered), (BATCH, BATCH));
            assert!(round == 0 || bytes > 1000, "replies with hardly any peers");
            assert_eq!(
                round > 0 && bytes_of_others > 1000,
                round > 0 && families == 2
            );
            assert!(round < WARM_ROUNDS || count == 0, "round {round}: {count}");
            asked_in_all += asked;
        }
    }
    assert_eq!(asked_in_all, PEERS * (WARM_ROUNDS + MEASURED_ROUNDS));
    // Both shards were owners.
    for shard in &mut shards {
        assert!(shard.totals(AddressFamily::V4).swarms > 5);
    }
}

/// Allocations and reallocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

thread_local! {
    // Made at compile time and without a destructor: reading it allocates
    // nothing, which matters inside the allocator.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread. `GlobalAlloc` can only be
/// implemented with `unsafe`, and no safe interface tells of allocations; so
/// this test is allowed what the tracker's modules outside `sys` are not.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get().wrapping_add(1));
}

fn settings() -> ShardSettings {
    ShardSettings {
        opentracker_statistics: true,
        ..support::shard_settings()
    }
}

/// The announce of peer `number`: always the same. Swarms from one peer to some
/// hundred; one in four leeches.
fn announce(number: u32) -> Announce {
    let swarm = (number % 64).pow(2) / 64;
    let mut hash = [0x5a; 20];
    hash[..4].copy_from_slice(&swarm.wrapping_mul(0x9E37_79B1).to_be_bytes());
    Announce {
        info_hash: InfoHash(hash),
        peer_id: PeerId(*b"-KA0001-abcdefghijkl"),
        ip: Ipv4Addr::LOCALHOST.into(),
        port: 1024 + number as u16,
        event: Event::None,
        left: u64::from(number.is_multiple_of(4)),
        downloaded: 0,
        uploaded: 0,
        num_want: 30,
    }
}

/// The same as a datagram; the sender's address is its own.
fn packet(connection_id: u64, number: u32) -> Vec<u8> {
    let announce = announce(number);
    let mut sent = support::Announce::leecher(announce.info_hash.0, announce.port);
    sent.left = announce.left;
    sent.want(30).packet(connection_id, number)
}
