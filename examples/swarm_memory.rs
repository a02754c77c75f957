//! What swarms cost in memory: fills the three shapes of PERFORMANCE.md and
//! prints the resident size of the process after each.
//!
//! `cargo run --release --example swarm_memory [SHAPE [STORES]]`, with SHAPE one
//! of `single` (1 M swarms of one peer), `uniform` (5 M peers over 1 M swarms),
//! `skewed` (the same, swarm number u³), and STORES the number of stores that
//! the swarms are divided over, as shards do. Each shape should be run in a
//! process of its own: what an allocator keeps from one would count for the
//! next. It ends with everyone expired, to show what goes back.
//!
//! The shapes `stalls` (5 M peers uniformly) and `giant` (2 M peers in one
//! swarm) measure instead how long single announces and sweep slices take while
//! everything grows: the same run three times, the shortest time of each step,
//! so that what the machine does besides does not count.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use karuta::bittorrent::{Event, InfoHash};
use karuta::swarm::{
    Capacity, Peer4, Random, StoredPeer, SwarmAnnounce, SwarmSettings, SwarmStore,
};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SETTINGS: SwarmSettings = SwarmSettings {
    peer_lifetime_seconds: 1860,
    empty_swarm_lifetime_seconds: 0,
};
const SWARMS: u32 = 1_000_000;
const PEERS: u32 = 5_000_000;

fn main() {
    let shape = std::env::args().nth(1).unwrap_or_else(|| "single".into());
    let stores = std::env::args()
        .nth(2)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    match shape.as_str() {
        "stalls" => return stalls(PEERS, |random| random.below(SWARMS)),
        "giant" => return stalls(2_000_000, |_| 0),
        _ => {}
    }
    let mut stores: Vec<SwarmStore<Peer4>> =
        (0..stores).map(|_| SwarmStore::new(SETTINGS, 1)).collect();
    let mut random = Random::new(1);
    let before = resident_bytes();
    let start = Instant::now();
    let peers = if shape == "single" { SWARMS } else { PEERS };
    for n in 0..peers {
        let swarm = match shape.as_str() {
            "single" => n,
            "uniform" => random.below(SWARMS),
            "skewed" => {
                let u = random.next_u64() as f64 / u64::MAX as f64;
                ((u * u * u * f64::from(SWARMS)) as u32).min(SWARMS - 1)
            }
            _ => panic!("the shapes are single, uniform, skewed, stalls and giant"),
        };
        let store = (swarm as usize * stores.len()) / SWARMS as usize;
        announce(&mut stores[store], swarm, n, &mut random);
    }
    let each = start.elapsed() / peers;
    let resident = resident_bytes() - before;
    println!("{shape}: {:.1} MB resident", resident as f64 / 1e6);
    for store in &stores[..1] {
        println!("  {:?}", store.totals());
    }
    println!("  {each:?} per announce, clock reads included");
    for store in &mut stores {
        while !store
            .sweep(10_000, 1000, &mut Capacity::UNLIMITED.clone())
            .wrapped
        {}
    }
    println!(
        "  {:.1} MB resident afterwards",
        (resident_bytes() - before) as f64 / 1e6
    );
}

/// Prints the slowest steps of filling a store and of expiring everyone.
fn stalls(peers: u32, swarm_of: impl Fn(&mut Random) -> u32) {
    let mut announces = vec![Duration::MAX; peers as usize];
    let mut slices: Vec<Duration> = Vec::new();
    for _ in 0..3 {
        let mut store = SwarmStore::<Peer4>::new(SETTINGS, 1);
        let mut random = Random::new(1);
        for (n, shortest) in announces.iter_mut().enumerate() {
            let swarm = swarm_of(&mut random);
            *shortest = announce(&mut store, swarm, n as u32, &mut random).min(*shortest);
        }
        for slice in 0.. {
            let start = Instant::now();
            let report = store.sweep(10_000, 1000, &mut Capacity::UNLIMITED.clone());
            let took = start.elapsed();
            match slices.get_mut(slice) {
                Some(shortest) => *shortest = took.min(*shortest),
                None => slices.push(took),
            }
            if report.wrapped {
                break;
            }
        }
    }
    for (name, times) in [("announces", &mut announces), ("slices", &mut slices)] {
        times.sort_unstable();
        let at = |part: f64| times[(times.len() as f64 * part) as usize];
        println!(
            "{} {name}: median {:?}, 99.9 % {:?}, 99.999 % {:?}, slowest {:?}",
            times.len(),
            at(0.5),
            at(0.999),
            at(0.999_99),
            times[times.len() - 1]
        );
    }
}

fn announce(store: &mut SwarmStore<Peer4>, swarm: u32, n: u32, random: &mut Random) -> Duration {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&swarm.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[12..16].copy_from_slice(&swarm.to_be_bytes());
    let announce = SwarmAnnounce {
        info_hash: InfoHash(bytes),
        peer: Peer4::new(Ipv4Addr::from(0x0100_0000 + n), 6881),
        event: Event::Started,
        is_seeder: n.is_multiple_of(3),
        num_want: 0,
    };
    let lookup = store.lookup(&announce.info_hash);
    let mut out: Vec<Peer4> = Vec::new();
    let start = Instant::now();
    store.announce(
        1,
        &lookup,
        &announce,
        &mut Capacity::UNLIMITED.clone(),
        random,
        &mut out,
    );
    start.elapsed()
}

/// The second number of `/proc/self/statm` is resident pages of 4 kB.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
