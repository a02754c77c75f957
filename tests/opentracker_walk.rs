//! Walks over every torrent, with a shard that runs turn by turn in this
//! thread: a slow reader makes it rest, one that leaves ends the walk, and
//! every torrent comes once.

mod support;

use karuta::bittorrent::{Announce, Event, InfoHash, PeerId};
use karuta::control::opentracker_stats::walk::{Aged, Entry, Torrent, Walk};
use karuta::shard::exchange::PeerList;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::survey::{self, SurveyDesk, Surveys};
use karuta::shard::{Shard, ShardSettings};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use support::{hash, shard_settings};

struct Bench {
    shard: Shard,
    surveys: Surveys,
    desk: SurveyDesk,
    now: u32,
}

impl Bench {
    fn new() -> Self {
        let settings = ShardSettings {
            peer_lifetime_seconds: 1800,
            downloads_lifetime_seconds: 3600,
            sweep_seconds: 20,
            opentracker_statistics: true,
            ..shard_settings()
        };
        let (desk, mut surveys) = survey::desk([Box::new(|| {}) as survey::Wake]);
        let stats = Arc::new(ShardStats::default());
        Self {
            shard: Shard::new(0, OwnerMap::new(3, 1), &settings, 42, stats),
            surveys: surveys.pop().expect("one"),
            desk,
            now: 1000,
        }
    }

    fn announce(&mut self, torrent: u32, port: u16, ip: IpAddr, event: Event) -> u32 {
        let announce = Announce {
            info_hash: InfoHash(hash(torrent)),
            peer_id: PeerId([b'p'; 20]),
            ip,
            port,
            event,
            left: u64::from(event != Event::Completed),
            downloaded: 0,
            uploaded: 0,
            num_want: 0,
        };
        let counts = self
            .shard
            .announce(self.now, &announce, &mut PeerList::default());
        counts.complete + counts.incomplete
    }

    /// Turns until there is nothing to do; returns how many.
    fn turns(&mut self) -> usize {
        let mut turns = 0;
        while self.surveys.has_work() {
            self.surveys.turn(&mut self.shard, self.now);
            turns += 1;
        }
        turns
    }

    /// Reads a walk to its end and runs the shard meanwhile.
    fn read<T: Entry>(&mut self, mut walk: Walk<T>) -> Vec<T> {
        let mut all = Vec::new();
        loop {
            self.turns();
            match walk.next() {
                Some(mut batch) => {
                    all.append(&mut batch);
                    walk.give_back(batch);
                }
                None => break,
            }
        }
        assert!(walk.is_complete());
        all
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Enough for many more batches than may wait.
const TORRENTS: u32 = 40_000;

fn filled() -> Bench {
    let mut bench = Bench::new();
    for torrent in 0..TORRENTS {
        bench.announce(torrent, 1, V4, Event::None);
        if torrent % 4 == 0 {
            bench.announce(torrent, 2, V6, Event::Completed);
        }
    }
    bench
}

#[test]
fn a_slow_reader_makes_the_shard_rest_and_loses_nothing() {
    let mut bench = filled();
    let walk = Walk::<Torrent>::begin(&bench.desk).expect("room");
    let first = bench.turns();
    // It rests, far from the end, and so does what follows.
    assert!(!walk.is_complete());
    assert!(!bench.surveys.has_work());
    let peers = bench.announce(0, 3, V4, Event::None);
    assert_eq!(peers, 2, "announces go on");
    let torrents = bench.read(walk);
    assert!(first < TORRENTS as usize / survey::SLICE_ITEMS);
    let by_hash: BTreeMap<InfoHash, Torrent> = torrents
        .iter()
        .map(|torrent| (torrent.info_hash, *torrent))
        .collect();
    assert_eq!(torrents.len(), TORRENTS as usize, "each once");
    assert_eq!(by_hash.len(), TORRENTS as usize);
    for torrent in 1..TORRENTS {
        let found = by_hash[&InfoHash(hash(torrent))];
        let seeders = u32::from(torrent % 4 == 0);
        let counts = (found.complete, found.incomplete, found.downloaded);
        assert_eq!(counts, (seeders, 1, seeders), "torrent {torrent}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_walk() {
    let mut bench = filled();
    let mut walk = Walk::<Torrent>::begin(&bench.desk).expect("room");
    bench.turns();
    walk.next().expect("a batch");
    drop(walk);
    assert_eq!(bench.turns(), 1, "the turn in which it is dropped");
    // Before the shard has even looked at it, too.
    drop(Walk::<Torrent>::begin(&bench.desk).expect("room"));
    assert_eq!(bench.turns(), 1);
}

#[test]
fn a_shard_that_ends_cuts_the_walk_short() {
    let mut bench = filled();
    let mut walk = Walk::<Torrent>::begin(&bench.desk).expect("room");
    bench.turns();
    drop(bench);
    walk.by_ref().for_each(drop);
    assert!(!walk.is_complete());
}

#[test]
fn an_aged_torrent_is_as_old_as_its_last_announce() {
    let mut bench = Bench::new();
    bench.announce(1, 1, V4, Event::None);
    bench.now += 100;
    bench.announce(1, 2, V4, Event::None);
    bench.announce(2, 1, V4, Event::Completed);
    bench.announce(2, 1, V4, Event::Stopped);
    bench.now += 60;
    let walk = Walk::<Aged>::begin(&bench.desk).expect("room");
    let mut ages: Vec<_> = bench
        .read(walk)
        .iter()
        .map(|aged| (aged.0.downloaded, aged.0.idle_seconds))
        .collect();
    ages.sort_unstable();
    assert_eq!(ages, [(0, 60), (1, 60)]);
}

#[test]
fn peers_of_giant_swarms_all_come() {
    let mut bench = Bench::new();
    let peers = 3 * survey::PART_PEERS as u16 + 5;
    for port in 1..=peers {
        bench.announce(1, port, V4, Event::None);
        bench.announce(1, port, V6, Event::None);
    }
    let walk = Walk::<Ipv4Addr>::begin(&bench.desk).expect("room");
    let ips = bench.read(walk);
    assert_eq!(ips, vec![Ipv4Addr::new(192, 0, 2, 1); usize::from(peers)]);
}

#[test]
fn torrents_of_both_families_are_counted_once() {
    let mut bench = filled();
    let stats = bench.shard.stats().clone();
    let mut ticks = 0;
    while stats.opentracker.swarms_in_both_families.get() == 0 {
        bench.shard.tick(bench.now, 100);
        ticks += 1;
        assert!(ticks < 3000, "a pass ends");
    }
    assert!(ticks > 1, "it is sliced");
    let both = stats.opentracker.swarms_in_both_families.get();
    assert_eq!(both, u64::from(TORRENTS / 4));
}
