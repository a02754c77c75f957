//! How long it takes to save and to load the state of many peers.
//!
//! `cargo run --release --example state_speed -- [PEERS] [SWARMS] [SHARDS]`
//! (5,000,000 peers, 1,000,000 swarms, 2 shards) fills shards in this process,
//! saves them into a file in the temporary folder through surveys, and loads
//! that again. A fifth of the peers are IPv6; the sizes of swarms are skewed.

use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId};
use karuta::runtime::clock::Clock;
use karuta::shard::exchange::PeerList;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::survey::{self, Surveys, Wake};
use karuta::shard::{Shard, ShardSettings};
use karuta::state::{self, Place};
use karuta::swarm::Random;
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Result<Vec<u64>, _> = std::env::args().skip(1).map(|n| n.parse()).collect();
    let arguments = arguments?;
    let argument = |at: usize, default| arguments.get(at).copied().unwrap_or(default);
    let (peers, swarms) = (argument(0, 5_000_000), argument(1, 1_000_000));
    let count = usize::try_from(argument(2, 2))?;
    let clock = Clock::start();
    let wakes = (0..count).map(|_| -> Wake { Box::new(|| {}) });
    let (desk, surveys) = survey::desk(wakes);
    let mut shards = shards(count);
    fill(&mut shards, peers, swarms);
    println!(
        "{count} shards filled after {:.1} s",
        clock.elapsed().as_secs_f64()
    );

    let folder = std::env::temp_dir().join(format!("karuta-state-speed-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let place = Place::open(&folder.join("state"))?;
    let is_done = AtomicBool::new(false);
    let before = clock.elapsed();
    let saved = thread::scope(|scope| {
        for (shard, mut surveys) in shards.iter_mut().zip(surveys) {
            let is_done = &is_done;
            scope.spawn(move || serve(shard, &mut surveys, clock, is_done));
        }
        let saved = state::save(&desk, &place, false, 1_000_000);
        is_done.store(true, Ordering::Relaxed);
        saved
    })?;
    let took = clock.elapsed() - before;
    println!(
        "saved {} peers in {} records, {} bytes ({:.1} a peer) in {:.2} s",
        saved.peers,
        saved.records,
        saved.bytes,
        saved.bytes as f64 / saved.peers as f64,
        took.as_secs_f64()
    );

    drop(shards);
    let mut shards = self::shards(count);
    let (before, busy) = (clock.elapsed(), processor_time());
    let file = place.read()?.ok_or("the file is gone")?;
    let loaded = state::load(file, &mut shards, 10, 1_000_010)?;
    let took = clock.elapsed() - before;
    println!(
        "loaded {} peers in {} swarms in {:.2} s, with {:.2} s of processors",
        loaded.peers,
        loaded.swarms,
        took.as_secs_f64(),
        (processor_time() - busy).as_secs_f64()
    );
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What all threads have used: on a machine with other work the better measure.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Gives surveys their turns, as a shard's loop would, and says how long the
/// slices took.
fn serve(shard: &mut Shard, surveys: &mut Surveys, clock: Clock, is_done: &AtomicBool) {
    let (mut slices, mut total, mut longest) = (0u32, Duration::ZERO, Duration::ZERO);
    while !is_done.load(Ordering::Relaxed) {
        if !surveys.has_work() {
            thread::yield_now();
            continue;
        }
        let before = clock.elapsed();
        surveys.turn(shard, 10);
        let took = clock.elapsed() - before;
        slices += 1;
        total += took;
        longest = longest.max(took);
    }
    println!(
        "shard {}: {slices} slices of {:.0} µs, the longest {:.0} µs",
        shard.id(),
        total.as_secs_f64() * 1e6 / f64::from(slices.max(1)),
        longest.as_secs_f64() * 1e6
    );
}

fn shards(count: usize) -> Vec<Shard> {
    let settings = ShardSettings {
        peer_lifetime_seconds: 1860,
        downloads_lifetime_seconds: 86_400,
        sweep_seconds: 180,
        peer_ids: false,
        max_peers: 0,
        max_swarms: 0,
        client_breakdown: false,
        opentracker_statistics: false,
    };
    let shard = |id| {
        let stats = Arc::new(ShardStats::default());
        Shard::new(id, OwnerMap::new(77, count), &settings, id as u64, stats)
    };
    (0..count).map(shard).collect()
}

fn fill(shards: &mut [Shard], peers: u64, swarms: u64) {
    let mut random = Random::new(1);
    let mut out = PeerList::default();
    for number in 0..peers {
        // The cube of a number between 0 and 1: few swarms are big.
        let part = f64::from(random.below(u32::MAX)) / f64::from(u32::MAX);
        let swarm = (part.powi(3) * swarms as f64) as u64;
        let announce = announce(swarm, number, number % 5 == 0);
        let owner = shards[0].owners().owner(&announce.info_hash);
        out.clear();
        shards[owner].announce(5, &announce, &mut out);
    }
    let families = AddressFamily::ALL;
    let swarms: u64 = shards
        .iter_mut()
        .flat_map(|shard| families.map(|family| shard.totals(family).swarms))
        .sum();
    println!("{peers} peers in {swarms} swarms");
}

fn announce(swarm: u64, peer: u64, v6: bool) -> Announce {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&swarm.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..16].copy_from_slice(&swarm.to_be_bytes());
    let [.., a, b, c, d] = peer.to_be_bytes();
    Announce {
        info_hash: InfoHash(hash),
        peer_id: PeerId([0; 20]),
        ip: match v6 {
            false => IpAddr::from([11, b, c, d]),
            true => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]),
        },
        port: 6881,
        event: Event::Started,
        left: peer % 3,
        downloaded: 0,
        uploaded: 0,
        num_want: 0,
    }
}
