//! What a shard costs: an announce through all its stages, an exchange for
//! another shard, and the hop over the mesh that brings one.
//!
//! Measures [`Shard`], [`Desk`] and [`mesh`] without sockets, parsing and
//! executor. The hop between two threads includes moving cache lines between
//! their cores; the hop on one thread is the channel's own work. Under
//! `cargo test` everything is tiny and only has to run.

#[path = "../tests/support/shard_settings.rs"]
mod shard_settings;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId};
use karuta::frontend::desk::{Asked, Desk};
use karuta::runtime::mesh::{Bell, Port, mesh};
use karuta::shard::Shard;
use karuta::shard::exchange::{Exchange, PeerList, Question};
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::swarm::Lookup;
use shard_settings::shard_settings;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const BATCH: usize = 64;
const LANE: usize = 256;
const NOW_SECONDS: u32 = 7;

/// Whether this is a measurement and not a test run.
fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn shard(id: usize, shards: usize) -> Shard {
    let stats = Arc::new(ShardStats::default());
    Shard::new(id, OwnerMap::new(7, shards), &shard_settings(), 1, stats)
}

fn announce(swarm: u32, peer: u32, num_want: u32) -> Announce {
    let mut hash = [0x17; 20];
    hash[..4].copy_from_slice(&swarm.wrapping_mul(0x9e37_79b1).to_be_bytes());
    Announce {
        info_hash: InfoHash(hash),
        peer_id: PeerId([0x42; 20]),
        ip: Ipv4Addr::from(0x0100_0000 + peer).into(),
        port: 6881,
        event: Event::None,
        left: u64::from(!peer.is_multiple_of(3)),
        downloaded: 0,
        uploaded: 0,
        num_want,
    }
}

/// A batch as the UDP frontend takes it: every stage for all, then the next.
fn in_stages(shard: &mut Shard, batch: &[Announce], peers: &mut PeerList) {
    let mut lookups = [Lookup::from(0); BATCH];
    for (lookup, announce) in lookups.iter_mut().zip(batch) {
        *lookup = shard.lookup(AddressFamily::V4, &announce.info_hash);
    }
    for lookup in &mut lookups {
        shard.prefetch_group(AddressFamily::V4, lookup);
    }
    for lookup in &mut lookups {
        shard.prefetch_slot(AddressFamily::V4, lookup);
    }
    for (lookup, announce) in lookups.iter().zip(batch) {
        shard.prefetch_peers(lookup, announce);
    }
    for (lookup, announce) in lookups.iter().zip(batch) {
        peers.clear();
        black_box(shard.announce_prefetched(NOW_SECONDS, lookup, announce, peers));
    }
}

fn announces(c: &mut Criterion) {
    let swarms = if measures() { 1_000_000 } else { 100 };
    let mut shard = shard(0, 1);
    let mut peers = PeerList::default();
    // The peer's number decides its swarm, so that later announces are hits.
    let of = |peer: u32, num_want| announce(peer % swarms, peer, num_want);
    for peer in 0..swarms * 2 {
        shard.announce(NOW_SECONDS, &of(peer, 0), &mut peers);
    }
    let mut next = 0u32;
    let mut batch = move || -> Vec<Announce> {
        let draw = |_| {
            next = next.wrapping_add(0x9e37_79b1);
            of(next % (swarms * 2), 30)
        };
        (0..BATCH).map(draw).collect()
    };
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("64 announces in stages, swarms of 2, cold", |b| {
        b.iter_batched(
            &mut batch,
            |batch| in_stages(&mut shard, &batch, &mut peers),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();

    let mut exchange = Exchange::new(1);
    c.bench_function("shard/an announce from another shard, hot", |b| {
        b.iter(|| {
            exchange.ask(0, Question::Announce(of(3, 30)));
            shard.handle(NOW_SECONDS, &mut exchange);
            black_box(&exchange.counts);
        });
    });
}

fn ports() -> (Port<Box<Exchange>>, Port<Box<Exchange>>) {
    let bell = || Arc::new(Bell::new().expect("an event descriptor"));
    let mut ports = mesh(&[bell(), bell()], LANE);
    let second = ports.pop().expect("two ports");
    (ports.pop().expect("two ports"), second)
}

fn hops(c: &mut Criterion) {
    let (mut near, mut far) = ports();
    let mut exchange = Some(Box::new(Exchange::new(0)));
    c.bench_function("mesh/there and back, one thread", |b| {
        b.iter(|| {
            let sent = exchange.take().expect("it came back");
            near.send(1, sent).expect("room");
            let got = far.receive().expect("a message");
            far.send(0, got).expect("room");
            exchange = near.receive();
        });
    });

    let (mut near, mut far) = ports();
    let stop = Arc::new(AtomicBool::new(false));
    let mirror = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                match far.receive() {
                    Some(message) => far.send(0, message).expect("room"),
                    None => std::thread::yield_now(),
                }
            }
        }
    });
    let mut idle: Vec<_> = (0..BATCH).map(|_| Box::new(Exchange::new(0))).collect();
    let mut group = c.benchmark_group("mesh");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("64 there and back, two threads", |b| {
        b.iter(|| {
            for exchange in idle.drain(..) {
                near.send(1, exchange).expect("room");
            }
            while idle.len() < BATCH {
                match near.receive() {
                    Some(exchange) => idle.push(exchange),
                    None => std::thread::yield_now(),
                }
            }
        });
    });
    group.finish();
    stop.store(true, Ordering::Relaxed);
    mirror.join().expect("the mirror");
}

/// A request that crosses: asked at one desk, answered by the owner's, back.
fn crossings(c: &mut Criterion) {
    let (near, far) = ports();
    let (mut here, mut there) = (shard(0, 2), shard(1, 2));
    let mut asking: Desk<_, u32> = Desk::new(0, near, LANE);
    let mut owning: Desk<_, u32> = Desk::new(1, far, LANE);
    let of_other = (0..).map(|swarm| announce(swarm, 1, 30));
    let announce = of_other
        .into_iter()
        .find(|announce| here.owners().owner(&announce.info_hash) == 1)
        .expect("half of them are");
    c.bench_function("desk/an announce that crosses, one thread", |b| {
        b.iter(|| {
            let asked = asking.announce(NOW_SECONDS, 1, &announce, 9);
            assert_eq!(asked, Asked::Waiting);
            owning.drain(NOW_SECONDS, &mut there, LANE, |_, _| {});
            let mut answers = 0;
            asking.drain(NOW_SECONDS, &mut here, LANE, |_, _| answers += 1);
            assert_eq!(answers, 1);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = announces, hops, crossings
}
criterion_main!(benches);
