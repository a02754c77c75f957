//! One test per rule of `swarm`, and what the prefetches and settings promise.

use super::super::{Peer4, StoredPeer, VisitCursor};
use super::*;
use std::net::Ipv4Addr;

const SETTINGS: SwarmSettings = SwarmSettings {
    peer_lifetime_seconds: 1860,
    empty_swarm_lifetime_seconds: 0,
};

/// A store with everything an announce needs.
struct Bench {
    store: SwarmStore<Peer4>,
    capacity: Capacity,
    random: Random,
    now: u32,
}

fn bench(settings: SwarmSettings) -> Bench {
    Bench {
        store: SwarmStore::new(settings, 1),
        capacity: Capacity::UNLIMITED,
        random: Random::new(2),
        now: 1_000_000,
    }
}

fn torrent(n: u32) -> InfoHash {
    let mut bytes = [7; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(bytes)
}

fn peer(n: u32) -> Peer4 {
    Peer4::new(Ipv4Addr::from(0x0a00_0000 + n), 6881)
}

impl Bench {
    fn announce(
        &mut self,
        swarm: u32,
        n: u32,
        left: u64,
        event: Event,
        want: u32,
    ) -> (AnnounceOutcome, Vec<Peer4>) {
        let announce = SwarmAnnounce {
            info_hash: torrent(swarm),
            peer: peer(n),
            event,
            is_seeder: left == 0 || event == Event::Completed,
            num_want: want,
        };
        let mut lookup = self.store.lookup(&announce.info_hash);
        self.store.prefetch_group(&mut lookup);
        self.store.prefetch_slot(&mut lookup);
        self.store
            .prefetch_peers(&lookup, &announce.info_hash, &announce.peer);
        let mut out = Vec::new();
        let outcome = self.store.announce(
            self.now,
            &lookup,
            &announce,
            &mut self.capacity,
            &mut self.random,
            &mut out,
        );
        (outcome, out)
    }

    fn seed(&mut self, n: u32) -> AnnounceOutcome {
        self.announce(0, n, 0, Event::None, 0).0
    }

    fn leech(&mut self, n: u32) -> AnnounceOutcome {
        self.announce(0, n, 1, Event::None, 0).0
    }

    fn scrape(&self, swarm: u32) -> Option<ScrapeCounts> {
        let info_hash = torrent(swarm);
        self.store.scrape(&info_hash)
    }

    fn sweep_all(&mut self) -> (u64, u64) {
        let (mut expired, mut removed) = (0, 0);
        loop {
            let report = self.store.sweep(self.now, 100, &mut self.capacity);
            expired += report.expired_peers;
            removed += report.removed_swarms;
            if report.wrapped {
                return (expired, removed);
            }
        }
    }
}

fn counts_of(complete: u32, incomplete: u32, downloaded: u32) -> AnnounceCounts {
    AnnounceCounts {
        complete,
        incomplete,
        downloaded,
    }
}

/// Swarm sizes that take every form: in the slot, in chunks, with an index.
const SIZES: [u32; 9] = [1, 2, 3, 5, 10, 64, 128, 129, 3000];

#[test]
fn rule_1_each_announce_decides_who_is_a_seeder() {
    for size in SIZES {
        let mut bench = bench(SETTINGS);
        for n in 1..=size {
            assert_eq!(bench.leech(n).counts, counts_of(0, n, 0));
        }
        for n in 1..=size {
            let outcome = bench.seed(n);
            assert_eq!(outcome.counts, counts_of(n, size - n, 0), "left=0 promotes");
            assert_eq!(outcome.change, Change::Updated);
        }
        for n in 1..=size {
            assert_eq!(
                bench.leech(n).counts,
                counts_of(size - n, n, 0),
                "left>0 demotes"
            );
        }
        let totals = bench.store.totals();
        assert_eq!(
            (totals.swarms, totals.seeders, totals.leechers),
            (1, 0, u64::from(size))
        );
    }
}

#[test]
fn rule_1_another_port_is_another_peer() {
    let mut bench = bench(SETTINGS);
    bench.leech(1);
    let info_hash = torrent(0);
    let announce = SwarmAnnounce {
        info_hash,
        peer: Peer4::new(peer(1).ip(), 6882),
        event: Event::Started,
        is_seeder: false,
        num_want: 0,
    };
    let lookup = bench.store.lookup(&info_hash);
    let Bench {
        store,
        capacity,
        random,
        ..
    } = &mut bench;
    let outcome = store.announce(1, &lookup, &announce, capacity, random, &mut Vec::new());
    assert_eq!(
        (outcome.counts.incomplete, outcome.change),
        (2, Change::Joined)
    );
}

#[test]
fn rule_2_counts_include_the_announcer() {
    let mut bench = bench(SETTINGS);
    let outcome = bench.leech(1);
    assert_eq!(outcome.counts, counts_of(0, 1, 0));
    assert_eq!(
        (outcome.stored, outcome.change),
        (Stored::Yes, Change::Joined)
    );
    assert_eq!(bench.seed(2).counts, counts_of(1, 1, 0));
}

#[test]
fn rule_3_stopped_removes_and_creates_nothing() {
    for size in SIZES {
        let mut bench = bench(SETTINGS);
        let (outcome, out) = bench.announce(0, 1, 1, Event::Stopped, 50);
        assert_eq!(outcome.counts, AnnounceCounts::default());
        assert_eq!(outcome.change, Change::None);
        assert!(out.is_empty() && bench.scrape(0).is_none());
        for n in 1..=size {
            bench.announce(0, n, u64::from(n % 3), Event::Started, 0);
        }
        let (outcome, _) = bench.announce(0, size + 1, 1, Event::Stopped, 50);
        assert_eq!(outcome.change, Change::None, "a stranger");
        assert_eq!(outcome.counts.complete + outcome.counts.incomplete, size);
        for n in 1..=size {
            let (outcome, out) = bench.announce(0, n, 1, Event::Stopped, 50);
            assert_eq!(outcome.change, Change::Left);
            assert_eq!(outcome.stored, Stored::No(NotStored::Stopped));
            assert_eq!(
                outcome.counts.complete + outcome.counts.incomplete,
                size - n
            );
            assert!(out.is_empty());
        }
        assert_eq!(bench.scrape(0), None, "rule 10: at once");
        assert_eq!(bench.store.totals().swarms, 0);
    }
}

#[test]
fn rule_4_a_download_counts_once_per_peer() {
    let mut bench = bench(SETTINGS);
    bench.leech(1);
    let completed = |bench: &mut Bench, n| bench.announce(0, n, 0, Event::Completed, 0).0;
    let outcome = completed(&mut bench, 1);
    assert_eq!(
        (outcome.counts, outcome.change),
        (counts_of(1, 0, 1), Change::Completed)
    );
    let outcome = completed(&mut bench, 1);
    assert_eq!(
        (outcome.counts, outcome.change),
        (counts_of(1, 0, 1), Change::Updated),
        "again"
    );
    let outcome = completed(&mut bench, 2);
    assert_eq!(
        (outcome.counts, outcome.change),
        (counts_of(2, 0, 2), Change::Completed),
        "unknown"
    );
    bench.seed(3);
    assert_eq!(
        completed(&mut bench, 3).counts.downloaded,
        2,
        "a seeder has nothing to complete"
    );
    let (outcome, _) = bench.announce(0, 4, 9, Event::Completed, 0);
    assert_eq!(
        outcome.counts,
        counts_of(4, 0, 3),
        "completed makes a seeder whatever is left"
    );
    assert_eq!(bench.store.totals().downloads, 3);
}

#[test]
fn rule_5_paused_leechers_are_no_downloaders() {
    for size in SIZES {
        let mut bench = bench(SETTINGS);
        for n in 1..=size {
            bench.announce(0, n, 1, Event::Paused, 0);
        }
        let downloaders = |bench: &Bench| {
            bench
                .scrape(0)
                .map(|counts| (counts.incomplete, counts.downloaders))
        };
        assert_eq!(downloaders(&bench), Some((size, 0)));
        bench.leech(1);
        assert_eq!(
            downloaders(&bench),
            Some((size, 1)),
            "its last event counts"
        );
        bench.announce(0, 1, 1, Event::Paused, 0);
        bench.announce(0, size, 0, Event::Paused, 0);
        assert_eq!(
            downloaders(&bench),
            Some((size - 1, 0)),
            "a seeder is not paused"
        );
    }
}

#[test]
fn rule_6_seeders_get_leechers_and_leechers_get_seeders_first() {
    for size in SIZES.into_iter().filter(|size| *size >= 3) {
        let mut bench = bench(SETTINGS);
        let seeders = size / 3;
        for n in 1..=size {
            bench.announce(0, n, u64::from(n > seeders), Event::None, 0);
        }
        let is_seeder = |given: &Peer4| u32::from(given.ip()) - 0x0a00_0000 <= seeders;
        for n in 1..=size.min(200) {
            let (_, out) = bench.announce(0, n, u64::from(n > seeders), Event::None, 40);
            assert!(
                !out.iter().any(|given| given.same_address(&peer(n))),
                "never itself"
            );
            if n <= seeders {
                assert!(!out.iter().any(is_seeder));
                assert_eq!(out.len() as u32, 40.min(size - seeders));
            } else {
                let given = out.iter().filter(|given| is_seeder(given)).count() as u32;
                assert_eq!(given, seeders.min(40), "seeders first");
                assert_eq!(out.len() as u32, 40.min(size - 1));
            }
        }
    }
}

#[test]
fn rule_6_alone_it_is_given_itself() {
    let mut bench = bench(SETTINGS);
    let own = |out: &[Peer4]| out.len() == 1 && out[0].same_address(&peer(1));
    assert!(own(&bench.announce(0, 1, 1, Event::None, 30).1));
    assert!(own(&bench.announce(0, 1, 0, Event::None, 1).1));
    assert!(bench.announce(0, 1, 0, Event::None, 0).1.is_empty());
    bench.seed(2);
    assert!(
        own(&bench.announce(0, 1, 0, Event::None, 30).1),
        "only other seeders"
    );
    let (_, out) = bench.announce(0, 1, 1, Event::None, 30);
    assert!(out.len() == 1 && out[0].same_address(&peer(2)));
    assert!(bench.announce(0, 1, 1, Event::Stopped, 30).1.is_empty());
}

#[test]
fn rule_7_as_many_as_wanted() {
    for size in SIZES {
        let mut bench = bench(SETTINGS);
        for n in 1..=size {
            bench.leech(n);
        }
        for want in [0, 1, 2, 10, 50, 200] {
            let (_, out) = bench.announce(0, 1, 1, Event::None, want);
            let possible = (size - 1).max(1);
            assert_eq!(
                out.len() as u32,
                want.min(possible),
                "size {size} want {want}"
            );
        }
    }
}

#[test]
fn rule_8_at_the_peer_cap_newcomers_are_answered_only() {
    let mut bench = bench(SETTINGS);
    bench.capacity = Capacity {
        peers: 2,
        swarms: 5,
    };
    bench.seed(1);
    bench.leech(2);
    assert_eq!(
        bench.capacity,
        Capacity {
            peers: 0,
            swarms: 4
        }
    );
    let (outcome, out) = bench.announce(0, 3, 1, Event::Completed, 30);
    assert_eq!(outcome.stored, Stored::No(NotStored::PeerCap));
    assert_eq!(
        (outcome.counts, outcome.change),
        (counts_of(1, 1, 0), Change::None)
    );
    assert_eq!(out.len(), 1, "a seeder is given the leecher");
    let (outcome, out) = bench.announce(9, 3, 1, Event::None, 30);
    assert_eq!(outcome.stored, Stored::No(NotStored::PeerCap));
    assert!(out.len() == 1 && out[0].same_address(&peer(3)) && bench.scrape(9).is_none());
    assert_eq!(bench.leech(1).stored, Stored::Yes, "members are updated");
    bench.announce(0, 1, 0, Event::Stopped, 0);
    assert_eq!(bench.capacity.peers, 1);
    assert_eq!(bench.leech(3).stored, Stored::Yes);
}

#[test]
fn rule_8_at_the_swarm_cap_no_new_swarms() {
    let mut bench = bench(SETTINGS);
    bench.capacity = Capacity {
        peers: 9,
        swarms: 1,
    };
    bench.seed(1);
    let (outcome, _) = bench.announce(1, 1, 1, Event::None, 30);
    assert_eq!(outcome.stored, Stored::No(NotStored::SwarmCap));
    assert_eq!(bench.leech(2).stored, Stored::Yes);
    let before = bench.store.remove(&torrent(0), &mut bench.capacity);
    assert_eq!(
        before.map(|counts| (counts.complete, counts.incomplete)),
        Some((1, 1))
    );
    assert_eq!(
        bench.capacity,
        Capacity {
            peers: 9,
            swarms: 1
        }
    );
    assert_eq!(
        bench.announce(1, 1, 1, Event::None, 30).0.stored,
        Stored::Yes
    );
}

#[test]
fn rule_9_the_silent_expire() {
    for size in SIZES {
        let mut bench = bench(SETTINGS);
        bench.capacity = Capacity {
            peers: 10_000,
            swarms: 10,
        };
        for n in 1..=size {
            bench.announce(0, n, u64::from(n % 2), Event::None, 0);
        }
        bench.now += 1000;
        for n in 1..=size / 2 {
            bench.announce(0, n, u64::from(n % 2), Event::None, 0);
        }
        bench.now += 860;
        assert_eq!(bench.sweep_all(), (0, 0), "still within the lifetime");
        bench.now += 1;
        let gone = size - size / 2;
        assert_eq!(bench.sweep_all(), (u64::from(gone), u64::from(size == 1)));
        assert_eq!(bench.capacity.peers, u64::from(10_000 - size / 2));
        if let Some(counts) = bench.scrape(0) {
            let left = size / 2;
            assert_eq!(
                (counts.complete, counts.incomplete),
                (left / 2, left - left / 2)
            );
        }
        bench.now += 1000;
        bench.sweep_all();
        assert_eq!(bench.store.totals().swarms, 0);
        assert_eq!(
            bench.capacity,
            Capacity {
                peers: 10_000,
                swarms: 10
            }
        );
    }
}

#[test]
fn rule_9_a_sweep_keeps_to_its_budget() {
    let mut bench = bench(SETTINGS);
    for n in 1..=20_000 {
        bench.seed(n);
    }
    bench.now += 1861;
    let mut expired = 0;
    for _ in 0..50 {
        let report = bench.store.sweep(bench.now, 1000, &mut bench.capacity);
        assert!(report.visited <= 1000 + 2, "{}", report.visited);
        expired += report.expired_peers;
    }
    assert_eq!(expired, 20_000, "the cursor goes on inside a big swarm");
}

#[test]
fn rule_10_downloads_outlive_the_peers_for_a_while() {
    let settings = SwarmSettings {
        empty_swarm_lifetime_seconds: 3600,
        ..SETTINGS
    };
    let mut bench = bench(settings);
    bench.announce(0, 1, 0, Event::Completed, 0);
    bench.announce(1, 1, 0, Event::None, 0);
    bench.announce(2, 1, 0, Event::Completed, 0);
    for swarm in [0, 1] {
        bench.announce(swarm, 1, 0, Event::Stopped, 0);
    }
    let kept = ScrapeCounts {
        downloaded: 1,
        ..ScrapeCounts::default()
    };
    assert_eq!((bench.scrape(0), bench.scrape(1)), (Some(kept), None));
    bench.now += 1861;
    assert_eq!(bench.sweep_all(), (1, 0), "swarm 2 is empty now, and kept");
    assert_eq!(bench.scrape(2), Some(kept));
    bench.now += 3600 - 1861;
    assert_eq!(bench.sweep_all(), (0, 0), "not yet");
    bench.now += 1;
    assert_eq!(bench.sweep_all(), (0, 1));
    assert_eq!((bench.scrape(0), bench.scrape(2)), (None, Some(kept)));
    assert_eq!(
        bench.announce(2, 5, 1, Event::None, 0).0.counts,
        counts_of(0, 1, 1),
        "revived"
    );
}

/// The statistic itself is tested in `select`; this is the whole path.
#[test]
fn members_of_a_big_swarm_are_given_equally_often() {
    let mut bench = bench(SETTINGS);
    for n in 0..1000 {
        bench.leech(n);
    }
    let mut given = [0u32; 1000];
    for round in 0..30_000 {
        for found in bench.announce(0, round % 1000, 1, Event::None, 30).1 {
            given[(u32::from(found.ip()) - 0x0a00_0000) as usize] += 1;
        }
    }
    // 900 each; the deviation is 30.
    let (min, max) = (given.iter().min(), given.iter().max());
    assert!(min >= Some(&750) && max <= Some(&1050), "{min:?} {max:?}");
}

#[test]
fn a_lifetime_of_another_unit_gives_everyone_another_turn() {
    let mut bench = bench(SETTINGS);
    for n in 0..300 {
        bench.leech(n);
        bench.announce(1 + n, n, 1, Event::None, 0);
    }
    bench.now += 1861;
    let long = SwarmSettings {
        peer_lifetime_seconds: 86_400,
        ..SETTINGS
    };
    bench.store.set_settings(long);
    assert_eq!(bench.sweep_all(), (0, 0), "stamped anew");
    bench.now += 86_400;
    assert_eq!(bench.sweep_all(), (0, 0));
    bench.now += 128;
    assert_eq!(bench.sweep_all().0, 600);
    bench.store.set_settings(SwarmSettings {
        peer_lifetime_seconds: 60,
        ..SETTINGS
    });
    bench.leech(1);
    bench.sweep_all();
    bench.store.set_settings(SwarmSettings {
        peer_lifetime_seconds: 10,
        ..SETTINGS
    });
    bench.now += 11;
    assert_eq!(bench.sweep_all().0, 1, "of the same unit: at once");
}

#[test]
fn a_walk_visits_every_swarm_and_peer_once() {
    let mut bench = bench(SETTINGS);
    for swarm in 0..3000 {
        for n in 0..1 + swarm % 7 {
            bench.announce(swarm, n, u64::from(n), Event::None, 0);
        }
    }
    for n in 0..5000 {
        bench.announce(9999, n, u64::from(n % 2), Event::None, 0);
    }
    let (mut swarms, mut peers, mut seeders, mut cursor) = (0, 0, 0, Some(VisitCursor::default()));
    while let Some(at) = cursor {
        cursor = bench.store.visit(at, 500, |visited| {
            swarms += 1;
            let found: Vec<_> = visited.peers().collect();
            assert_eq!(
                found.len() as u32,
                visited.counts.complete + visited.counts.incomplete
            );
            peers += found.len() as u64;
            seeders += found.iter().filter(|(_, is_seeder)| *is_seeder).count() as u64;
        });
    }
    let totals = bench.store.totals();
    assert_eq!((swarms, peers), (3001, totals.seeders + totals.leechers));
    assert_eq!(seeders, totals.seeders);
}

#[test]
fn memory_goes_back_when_all_have_gone() {
    let mut bench = bench(SETTINGS);
    for swarm in 0..5000 {
        for n in 0..1 + swarm % 12 {
            bench.announce(swarm, n, 1, Event::None, 0);
        }
    }
    for n in 0..20_000 {
        bench.announce(77, n, 1, Event::None, 0);
    }
    let full = bench.store.totals().bytes;
    bench.now += 1861;
    bench.sweep_all();
    let totals = bench.store.totals();
    assert_eq!((totals.swarms, totals.leechers), (0, 0));
    assert!(
        full > 500_000 && totals.bytes < 30_000,
        "{full} then {}",
        totals.bytes
    );
}
