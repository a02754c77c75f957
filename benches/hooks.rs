//! What hooks cost for each announce, and how long big lists take to load.
//!
//! Judging is measured without the rest of a request; the choice of peers with
//! the swarm, a thousand peers of which 50 are wanted.

#[path = "../tests/support/shard_settings.rs"]
mod shard_settings;

use criterion::{Criterion, criterion_group, criterion_main};
use karuta::bittorrent::{Announce, Event, InfoHash, PeerId};
use karuta::config::Config;
use karuta::hook::{Context, Moment, Plan, ShardHooks, Transport};
use karuta::shard::exchange::PeerList;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use karuta::swarm::Random;
use shard_settings::shard_settings;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

const TORRENTS: usize = 5_000_000;
const SUBNETS: usize = 1_000_000;

fn plan(hooks: &str) -> Plan {
    let config = Config::parse(&format!("udp: {{}}\n{hooks}"), "bench").expect("valid");
    let plan = Plan::new(&config.prehooks, &config.posthooks, 1, 7);
    plan.expect("starts").0
}

fn hooks(hooks: &str) -> ShardHooks {
    plan(hooks).shard(0)
}

fn announce(random: &mut Random) -> Announce {
    let mut info_hash = [0; 20];
    for word in info_hash.as_chunks_mut::<4>().0 {
        *word = (random.next_u64() as u32).to_be_bytes();
    }
    Announce {
        info_hash: InfoHash(info_hash),
        peer_id: PeerId(*b"-TR2820-abcdefghijkl"),
        ip: IpAddr::V4(Ipv4Addr::from(random.next_u64() as u32)),
        port: 6881,
        event: Event::None,
        left: 1,
        downloaded: 0,
        uploaded: 0,
        num_want: 50,
    }
}

fn judge(criterion: &mut Criterion, name: &str, mut hooks: ShardHooks) {
    let mut random = Random::new(1);
    // More than any cache holds, as in a tracker.
    let announces: Vec<Announce> = (0..1 << 20).map(|_| announce(&mut random)).collect();
    let mut at = 0;
    criterion.bench_function(&format!("judge/{name}"), |bencher| {
        bencher.iter(|| {
            at = (at + 1) % announces.len();
            let mut announce = announces[at];
            let context = Context::bare(Transport::Udp, announce.ip);
            let now = Moment {
                milliseconds: at as u64 / 1000,
                unix_seconds: 1_700_000_000,
            };
            black_box(hooks.chain.before_announce(now, &mut announce, &context))
        });
    });
}

fn judging(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let torrents = directory.path().join("torrents");
    let subnets = directory.path().join("subnets");
    write_torrents(&torrents);
    write_subnets(&subnets);
    let torrents = format!(
        "prehooks: [{{name: torrent approval, options: {{blacklist_file: '{}'}}}}]",
        torrents.display()
    );
    let subnets = format!(
        "prehooks: [{{name: ip approval, options: {{deny_file: '{}'}}}}]",
        subnets.display()
    );
    let clients: Vec<String> = (0..100).map(|n| format!("AB{n:04}")).collect();
    let clients = format!(
        "prehooks: [{{name: client approval, options: {{blacklist: [{}, XL*]}}}}]",
        clients.join(", ")
    );
    judge(criterion, "nothing", ShardHooks::default());
    judge(criterion, "client approval (100 ids)", hooks(&clients));
    judge(criterion, "torrent approval (5 million)", hooks(&torrents));
    judge(criterion, "ip approval (1 million)", hooks(&subnets));
    let variation = "prehooks: [{name: interval variation}]";
    judge(criterion, "interval variation", hooks(variation));
    let limit = "prehooks: [{name: rate limit, options: {addresses: 1000000}}]";
    judge(criterion, "rate limit (1 million)", hooks(limit));

    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function("5 million torrents", |bencher| {
        bencher.iter(|| plan(&torrents))
    });
    group.bench_function("1 million subnets", |bencher| {
        bencher.iter(|| plan(&subnets))
    });
}

fn write_torrents(path: &Path) {
    let mut random = Random::new(2);
    let mut file = BufWriter::new(File::create(path).expect("created"));
    for _ in 0..TORRENTS {
        writeln!(file, "{}", announce(&mut random).info_hash).expect("written");
    }
    file.flush().expect("written");
}

fn write_subnets(path: &Path) {
    let mut random = Random::new(3);
    let mut file = BufWriter::new(File::create(path).expect("created"));
    for _ in 0..SUBNETS {
        let bits = 16 + random.below(17);
        let ip = Ipv4Addr::from(random.next_u64() as u32 & (u32::MAX << (32 - bits)));
        writeln!(file, "{ip}/{bits}").expect("written");
    }
    file.flush().expect("written");
}

fn choosing(criterion: &mut Criterion) {
    let off = "prehooks: [{name: peer scope, options: {enabled: false}}]";
    let fixed = "prehooks: [{name: fixed peers, options: {peers: ['192.0.2.1:1']}}]";
    let subnet = |examined| {
        format!(
            "prehooks: [{{name: preferred subnet, options: \
             {{preferred_ipv4_subnet_mask_bits_set: 16, examined_peers: {examined}}}}}]"
        )
    };
    for (name, config, is_mixed) in [
        ("peer scope off", off, false),
        ("peer scope on, public peers only", "", false),
        ("peer scope on, some private peers", "", true),
        ("fixed peers", fixed, false),
        ("preferred subnet, 256 examined", &subnet(256), false),
        ("preferred subnet, 1024 examined", &subnet(1024), false),
    ] {
        let settings = ShardSettings {
            peer_lifetime_seconds: 1800,
            ..shard_settings()
        };
        let stats = Arc::new(ShardStats::default());
        let mut shard = Shard::new(0, OwnerMap::new(1, 1), &settings, 5, stats);
        shard.swap_hooks(&mut hooks(config));
        let mut random = Random::new(4);
        let mut announces: Vec<Announce> = (0..1000).map(|_| announce(&mut random)).collect();
        for (at, announce) in announces.iter_mut().enumerate() {
            announce.info_hash = InfoHash([1; 20]);
            // In 50 subnets of 16 bits.
            let is_private = is_mixed && at % 100 == 0;
            let first = if is_private { 10 } else { 8 };
            announce.ip = Ipv4Addr::new(first, (at % 50) as u8, (at / 250) as u8, at as u8).into();
        }
        let mut peers = PeerList::default();
        let mut at = 0;
        criterion.bench_function(&format!("choose/{name}"), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % announces.len();
                peers.clear();
                black_box(shard.announce(1, &announces[at], &mut peers))
            });
        });
    }
}

criterion_group!(benches, judging, choosing);
criterion_main!(benches);
