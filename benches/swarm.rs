//! What an announce costs: hit, insert, big swarm, cold cache, selection, sweep.
//!
//! The cold cases use a store far larger than the last cache level (2 M swarms,
//! 10 M peers), once announce by announce and once in batches of 64 with the
//! prefetch stages. Under `cargo test` everything is tiny and only has to run.
//!
//! Not measured: sockets, parsing and hooks (`shard` and `udp_announce` have
//! them), memory (the load tester's fills), and several stores on one cache.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use karuta::bittorrent::{Event, InfoHash};
use karuta::runtime::clock::Clock;
use karuta::swarm::{
    Capacity, Lookup, Peer4, PeerSink, Random, StoredPeer, SwarmAnnounce, SwarmSettings, SwarmStore,
};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

const SETTINGS: SwarmSettings = SwarmSettings {
    peer_lifetime_seconds: 1860,
    empty_swarm_lifetime_seconds: 0,
};
const BATCH: usize = 64;

/// Whether this is a measurement and not a test run.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Writes compact peers into a buffer, as a frontend's encoder does.
struct Buffer {
    bytes: [u8; 2048],
    len: usize,
}

impl PeerSink<Peer4> for Buffer {
    fn extend(&mut self, peers: &[Peer4]) {
        for peer in peers {
            if let Some(place) = self.bytes.get_mut(self.len..self.len + 6) {
                place.copy_from_slice(peer.compact());
                self.len += 6;
            }
        }
    }
}

struct Fixture {
    store: SwarmStore<Peer4>,
    random: Random,
    buffer: Buffer,
}

impl Fixture {
    fn new() -> Self {
        let buffer = Buffer {
            bytes: [0; 2048],
            len: 0,
        };
        Self {
            store: SwarmStore::new(SETTINGS, 1),
            random: Random::new(1),
            buffer,
        }
    }

    fn announce(&mut self, lookup: &Lookup, announce: &SwarmAnnounce<Peer4>) {
        self.buffer.len = 0;
        let mut capacity = Capacity::UNLIMITED;
        let (random, buffer) = (&mut self.random, &mut self.buffer);
        black_box(
            self.store
                .announce(7, lookup, announce, &mut capacity, random, buffer),
        );
    }

    fn join(&mut self, swarm: u32, n: u32) {
        let announce = announce_of(swarm, n, 0);
        self.announce(&self.store.lookup(&announce.info_hash), &announce);
    }

    fn one_by_one(&mut self, batch: &[SwarmAnnounce<Peer4>]) {
        for announce in batch {
            self.announce(&self.store.lookup(&announce.info_hash), announce);
        }
    }

    fn prefetched(&mut self, batch: &[SwarmAnnounce<Peer4>]) {
        let mut lookups = [Lookup::from(0); BATCH];
        for (lookup, announce) in lookups.iter_mut().zip(batch) {
            *lookup = self.store.lookup(&announce.info_hash);
        }
        for lookup in &mut lookups {
            self.store.prefetch_group(lookup);
        }
        for lookup in &mut lookups {
            self.store.prefetch_slot(lookup);
        }
        for (lookup, announce) in lookups.iter().zip(batch) {
            self.store
                .prefetch_peers(lookup, &announce.info_hash, &announce.peer);
        }
        for (lookup, announce) in lookups.iter().zip(batch) {
            self.announce(lookup, announce);
        }
    }
}

fn announce_of(swarm: u32, n: u32, num_want: u32) -> SwarmAnnounce<Peer4> {
    let mut bytes = [0x17; 20];
    bytes[..4].copy_from_slice(&swarm.wrapping_mul(0x9e37_79b1).to_be_bytes());
    SwarmAnnounce {
        info_hash: InfoHash(bytes),
        peer: Peer4::new(Ipv4Addr::from(0x0100_0000 + n), 6881),
        event: Event::None,
        is_seeder: n.is_multiple_of(3),
        num_want,
    }
}

/// Peer `n` of a fixture is always in the same swarm.
fn swarm_of(n: u32, swarms: u32, skewed: bool) -> u32 {
    let mixed = Random::new(u64::from(n)).next_u64();
    if skewed {
        let u = mixed as f64 / u64::MAX as f64;
        return ((u * u * u * f64::from(swarms)) as u32).min(swarms - 1);
    }
    ((u128::from(mixed) * u128::from(swarms)) >> 64) as u32
}

/// Re-announces of members, each wanting 30 peers, in a store of a size.
fn re_announces(c: &mut Criterion, name: &str, swarms: u32, peers: u32, skewed: bool) {
    let mut fixture = Fixture::new();
    for n in 0..peers {
        fixture.join(swarm_of(n, swarms, skewed), n);
    }
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut random = Random::new(9);
    let mut batch = move || -> Vec<_> {
        let draw = |_| {
            let n = random.below(peers);
            announce_of(swarm_of(n, swarms, skewed), n, 30)
        };
        (0..BATCH).map(draw).collect()
    };
    group.bench_function("one by one, 64", |b| {
        b.iter_batched(
            &mut batch,
            |batch| fixture.one_by_one(&batch),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("prefetched, 64", |b| {
        b.iter_batched(
            &mut batch,
            |batch| fixture.prefetched(&batch),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn announces(c: &mut Criterion) {
    let scale = if measures() { 1 } else { 1000 };
    re_announces(c, "announce hit, 100 swarms of 5", 100, 500, false);
    re_announces(
        c,
        "announce cold, 2 M swarms of 5",
        2_000_000 / scale,
        10_000_000 / scale,
        false,
    );
    re_announces(
        c,
        "announce cold, 2 M swarms, skewed",
        2_000_000 / scale,
        10_000_000 / scale,
        true,
    );
    for peers in [1_000, 1_000_000 / scale] {
        re_announces(
            c,
            &format!("announce big, one swarm of {peers}"),
            1,
            peers,
            false,
        );
    }
}

/// Choosing peers: an announce that wants 30 less one that wants none.
fn selections(c: &mut Criterion) {
    let scale = if measures() { 1 } else { 100 };
    for peers in [2, 30, 128, 1_000, 100_000 / scale] {
        let mut fixture = Fixture::new();
        (0..peers).for_each(|n| fixture.join(1, n));
        for num_want in [0, 30] {
            let announce = announce_of(1, 1, num_want);
            let lookup = fixture.store.lookup(&announce.info_hash);
            c.bench_function(&format!("select {num_want} of a swarm of {peers}"), |b| {
                b.iter(|| fixture.announce(black_box(&lookup), black_box(&announce)))
            });
        }
    }
}

fn inserts(c: &mut Criterion) {
    let count = if measures() { 100_000 } else { 500 };
    let mut group = c.benchmark_group("insert");
    group.throughput(Throughput::Elements(u64::from(count)));
    group.bench_function("new swarms", |b| {
        b.iter_batched_ref(
            Fixture::new,
            |fixture| (0..count).for_each(|n| fixture.join(n, n)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("peers of one swarm", |b| {
        b.iter_batched_ref(
            Fixture::new,
            |fixture| (0..count).for_each(|n| fixture.join(1, n)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("peers of 5 a swarm", |b| {
        b.iter_batched_ref(
            Fixture::new,
            |fixture| (0..count).for_each(|n| fixture.join(swarm_of(n, count / 5, false), n)),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn sweeps(c: &mut Criterion) {
    let peers = if measures() { 1_000_000 } else { 500 };
    let mut fixture = Fixture::new();
    let fill = |fixture: &mut Fixture| {
        for n in 0..peers {
            fixture.join(swarm_of(n, peers / 5, false), n);
        }
    };
    fill(&mut fixture);
    let mut group = c.benchmark_group("sweep");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("a slice of 1000, nobody due", |b| {
        let mut capacity = Capacity::UNLIMITED;
        b.iter(|| black_box(fixture.store.sweep(8, 1000, &mut capacity)));
    });
    let all_due = 8 + 2 * SETTINGS.peer_lifetime_seconds;
    group.bench_function("a slice of 1000, everybody due", |b| {
        let mut capacity = Capacity::UNLIMITED;
        let clock = Clock::start();
        b.iter_custom(|slices| {
            let mut took = Duration::ZERO;
            for _ in 0..slices {
                if fixture.store.totals().swarms == 0 {
                    fill(&mut fixture);
                }
                loop {
                    let before = clock.elapsed();
                    let report = fixture.store.sweep(all_due, 1000, &mut capacity);
                    if report.expired_peers > 0 {
                        took += clock.elapsed() - before;
                        break;
                    }
                    // The last one of a walk, which filling began in the midst of.
                    assert!(report.wrapped, "a slice without peers");
                }
            }
            took
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = announces, selections, inserts, sweeps
}
criterion_main!(benches);
