//! A shard by itself under a clock that the test moves: expiry in time, caps,
//! and peers that are handed out evenly. Then the caps through the wire.

mod support;

use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId};
use karuta::shard::exchange::PeerList;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use support::{Server, Udp, compact, hash, shard_settings};

const LIFETIME: u32 = 60;
const SWEEP: u32 = 20;

fn settings() -> ShardSettings {
    ShardSettings {
        peer_lifetime_seconds: LIFETIME,
        sweep_seconds: SWEEP,
        opentracker_statistics: true,
        ..shard_settings()
    }
}

fn shard(id: usize, shards: usize, settings: &ShardSettings) -> Shard {
    let stats = Arc::new(ShardStats::default());
    Shard::new(id, OwnerMap::new(3, shards), settings, 42, stats)
}

fn leecher(swarm: u32, peer: u32) -> Announce {
    let [a, b, c, d] = peer.to_be_bytes();
    let ip = match swarm % 2 {
        0 => IpAddr::from([10 | a, b, c, d]),
        _ => IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]),
    };
    Announce {
        info_hash: InfoHash(hash(swarm)),
        peer_id: PeerId([b'p'; 20]),
        ip,
        port: 6881,
        event: Event::None,
        left: 1,
        downloaded: 0,
        uploaded: 0,
        num_want: 0,
    }
}

fn announce(shard: &mut Shard, now: u32, announce: &Announce) -> PeerList {
    let mut peers = PeerList::default();
    shard.announce(now, announce, &mut peers);
    peers
}

fn peers(shard: &mut Shard) -> u64 {
    let families = AddressFamily::ALL.map(|family| shard.totals(family));
    families
        .iter()
        .map(|totals| totals.leechers + totals.seeders)
        .sum()
}

/// Lets time pass in ticks of 100 ms; returns how many peers expired.
fn pass(shard: &mut Shard, from: u32, to: u32) -> u64 {
    (from * 10..to * 10)
        .map(|tick| shard.tick(tick / 10 + 1, 100).expired_peers)
        .sum()
}

#[test]
fn silent_peers_go_within_the_sweep_and_others_stay() {
    for (swarms, each) in [(1, 3000), (1000, 3), (50, 40), (2000, 1), (3, 1)] {
        let mut shard = shard(0, 1, &settings());
        let all = u64::from(swarms * each);
        for swarm in 0..swarms {
            for peer in 0..each {
                announce(&mut shard, 1, &leecher(swarm, peer));
            }
        }
        assert_eq!(pass(&mut shard, 1, LIFETIME), 0, "nobody goes too early");
        assert_eq!(peers(&mut shard), all);
        // Some announce again and stay.
        for swarm in 0..swarms {
            announce(&mut shard, LIFETIME, &leecher(swarm, 0));
        }
        // A sweep begins at most one pass before the lifetime ends, so that
        // everyone has been looked at once more two passes after.
        let end = LIFETIME + 1 + 2 * SWEEP;
        let expired = pass(&mut shard, LIFETIME, end);
        assert_eq!(expired, all - u64::from(swarms), "{swarms} of {each}");
        assert_eq!(peers(&mut shard), u64::from(swarms));
        let counts = |shard: &mut Shard, swarm| {
            let family = leecher(swarm, 0).family();
            shard.scrape(family, &InfoHash(hash(swarm))).incomplete
        };
        assert!((0..swarms).all(|swarm| counts(&mut shard, swarm) == 1));
        // The rest in their turn, and their swarms with them.
        pass(&mut shard, end, LIFETIME * 2 + 1 + 2 * SWEEP);
        assert_eq!(peers(&mut shard), 0);
        for family in AddressFamily::ALL {
            assert_eq!(shard.totals(family).swarms, 0);
            assert_eq!(shard.stats().family(family).leechers.get(), 0);
        }
    }
}

#[test]
fn a_pass_takes_no_longer_than_it_may() {
    let mut shard = shard(0, 1, &settings());
    for swarm in 0..5000 {
        announce(&mut shard, 1, &leecher(swarm, swarm));
        announce(&mut shard, 1, &leecher(swarm, swarm + 1));
    }
    let mut passes = 0;
    let mut most = 0;
    for tick in 0..SWEEP * 10 {
        let report = shard.tick(1 + tick / 10, 100);
        passes += u32::from(report.wrapped);
        most = most.max(report.visited);
    }
    assert!(passes >= 1, "not once around in {SWEEP} seconds");
    // In even slices: 15,000 slots and peers in 200 ticks are 75 each, and a
    // tenth more. A slice ends with the swarm that it is in.
    assert!(most < 200, "{most} in one tick");
}

#[test]
fn a_lifetime_ends_the_download_count_of_an_empty_swarm() {
    let settings = ShardSettings {
        downloads_lifetime_seconds: 100,
        client_breakdown: false,
        ..settings()
    };
    let mut shard = shard(0, 1, &settings);
    let completed = Announce {
        event: Event::Completed,
        ..leecher(0, 1)
    };
    announce(&mut shard, 1, &completed);
    let stopped = Announce {
        event: Event::Stopped,
        ..completed
    };
    announce(&mut shard, 2, &stopped);
    let mut downloads = || {
        shard
            .scrape(AddressFamily::V4, &completed.info_hash)
            .downloaded
    };
    assert_eq!(downloads(), 1);
    pass(&mut shard, 2, 100);
    let mut downloads = || {
        shard
            .scrape(AddressFamily::V4, &completed.info_hash)
            .downloaded
    };
    assert_eq!(downloads(), 1);
    pass(&mut shard, 100, 103 + 2 * SWEEP);
    let counts = shard.scrape(AddressFamily::V4, &completed.info_hash);
    assert_eq!(counts.downloaded, 0);
}

#[test]
fn everybody_is_handed_out_about_equally_often() {
    // Peers of small, middle and big swarms.
    for others in [20u32, 100, 1000, 5000] {
        let mut shard = shard(0, 1, &settings());
        for peer in 1..=others {
            announce(&mut shard, 1, &leecher(0, peer));
        }
        let asker = Announce {
            num_want: 10,
            ..leecher(0, 0)
        };
        let rounds = others * 20;
        let mut seen: BTreeMap<_, u32> = BTreeMap::new();
        for _ in 0..rounds {
            let list = announce(&mut shard, 2, &asker);
            let peers = compact(&list.compact, AddressFamily::V4);
            assert_eq!(peers.len(), 10);
            for peer in peers {
                *seen.entry(peer).or_default() += 1;
            }
        }
        // Each is expected 200 times. Were all draws independent, the sum of
        // squared deviations over the expectation would be chi-squared with as
        // many degrees of freedom as peers: mean n, deviation sqrt(2n). Peers
        // that lie side by side come together, which multiplies it; by more
        // than ten it would no longer be even.
        assert_eq!(seen.len(), others as usize, "nobody is forgotten");
        let deviation = |count: u32| (f64::from(count) - 200.0).powi(2) / 200.0;
        let sum: f64 = seen.values().map(|&count| deviation(count)).sum();
        let n = f64::from(others);
        assert!(sum < 10.0 * (n + 6.0 * (2.0 * n).sqrt()), "{sum} of {n}");
        let (least, most) = (seen.values().min(), seen.values().max());
        assert!(*least.expect("some") > 100 && *most.expect("some") < 300);
    }
}

#[test]
fn the_parts_of_a_cap_make_the_whole() {
    for (max, shards) in [(1, 4), (10, 4), (7, 3), (100, 1), (3, 5)] {
        let settings = ShardSettings {
            max_peers: max,
            max_swarms: max * 2,
            ..settings()
        };
        let room: Vec<_> = (0..shards)
            .map(|id| *shard(id, shards, &settings).capacity())
            .collect();
        assert_eq!(room.iter().map(|room| room.peers).sum::<u64>(), max);
        assert_eq!(room.iter().map(|room| room.swarms).sum::<u64>(), max * 2);
    }
}

#[test]
fn room_comes_back_when_peers_go() {
    let settings = ShardSettings {
        max_peers: 10,
        max_swarms: 3,
        ..settings()
    };
    let mut shard = shard(0, 1, &settings);
    for swarm in 0..5 {
        for peer in 0..5 {
            announce(&mut shard, 1, &leecher(swarm, peer));
        }
    }
    assert_eq!(peers(&mut shard), 10);
    let stats = shard.stats().clone();
    let (peers_refused, swarms_refused) = (&stats.peers_not_stored, &stats.swarms_not_stored);
    // Two swarms fill the cap of peers; every other announce is refused.
    assert_eq!(peers_refused.get() + swarms_refused.get(), 15);
    // One stops, another takes its place; a third finds none.
    let stopped = Announce {
        event: Event::Stopped,
        ..leecher(0, 0)
    };
    announce(&mut shard, 1, &stopped);
    announce(&mut shard, 1, &leecher(4, 7));
    assert_eq!(peers(&mut shard), 10);
    announce(&mut shard, 1, &leecher(4, 8));
    assert_eq!(peers(&mut shard), 10);
    // So do those that expire.
    pass(&mut shard, 1, LIFETIME + 2 + 2 * SWEEP);
    assert_eq!(peers(&mut shard), 0);
    assert_eq!((shard.capacity().peers, shard.capacity().swarms), (10, 3));
}

#[test]
fn at_a_cap_clients_are_answered_and_not_stored() {
    let mut config = support::config(1);
    config.storage.config.max_peers = 3;
    let server = Server::start(&config);
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    for port in 1..=3 {
        client.announce(&support::Announce::leecher(hash(1), port));
    }
    for port in 4..=9 {
        // A normal answer with peers; the counts are of those that are stored.
        let reply = client.announce(&support::Announce::leecher(hash(1), port));
        assert_eq!((reply.counts(), reply.ports()), ((0, 3), vec![1, 2, 3]));
    }
    assert_eq!(server.peers_not_stored(), 6);
    // One that is stored is not new: it is updated.
    let reply = client.announce(&support::Announce::seeder(hash(1), 3));
    assert_eq!((reply.counts(), reply.ports()), ((1, 2), vec![1, 2]));
    assert_eq!(server.peers_not_stored(), 6);
    let target = support::Announce::leecher(hash(2), 4).target();
    let reply = support::get(server.http(AddressFamily::V4), &target);
    assert_eq!(reply.announced(AddressFamily::V4).ports(), [4]);
    assert_eq!(server.peers_not_stored(), 7);
    assert_eq!(client.scrape(&[hash(2)]), [(0, 0, 0)]);
}

#[test]
fn at_the_cap_of_swarms_only_known_torrents_are_kept() {
    let mut config = support::config(1);
    config.storage.config.max_swarms = 2;
    let server = Server::start(&config);
    let mut client = Udp::new(server.udp(AddressFamily::V6));
    for number in 1..=4 {
        let reply = client.announce(&support::Announce::leecher(hash(number), 9));
        assert_eq!(reply.ports(), [9], "alone or not stored: itself");
    }
    let scraped = client.scrape(&[hash(1), hash(2), hash(3), hash(4)]);
    assert_eq!(scraped, [(0, 0, 1), (0, 0, 1), (0, 0, 0), (0, 0, 0)]);
    assert_eq!(server.swarms_not_stored(), 2);
    let reply = client.announce(&support::Announce::seeder(hash(2), 10));
    assert_eq!((reply.counts(), reply.ports()), ((1, 1), vec![9]));
    // When one has no peers left, its place is free.
    client.announce(&support::Announce::leecher(hash(1), 9).event(support::STOPPED));
    client.announce(&support::Announce::leecher(hash(3), 9));
    assert_eq!(client.scrape(&[hash(1), hash(3)]), [(0, 0, 0), (0, 0, 1)]);
}

#[test]
fn a_lifetime_that_changes_loses_nobody_early_and_keeps_nobody_for_long() {
    // The last is so long that ages are kept in another unit.
    for (before, after) in [(60, 30), (30, 60), (60, 9000), (9000, 60)] {
        let with = |lifetime| ShardSettings {
            peer_lifetime_seconds: lifetime,
            ..settings()
        };
        let mut shard = shard(0, 1, &with(before));
        for peer in 0..2000 {
            announce(&mut shard, 100, &leecher(peer % 50, peer));
        }
        pass(&mut shard, 100, 110);
        shard.set_settings(&with(after));
        shard.set_settings(&with(after));
        assert_eq!(pass(&mut shard, 110, 100 + before.min(after)), 0);
        assert_eq!(peers(&mut shard), 2000, "{before} to {after}");
        // At most a lifetime more, in units of 8 seconds, and a sweep.
        pass(
            &mut shard,
            100 + before.min(after),
            110 + after + 2 * SWEEP + 16,
        );
        assert_eq!(peers(&mut shard), 0, "{before} to {after}");
    }
}

#[test]
fn sweeps_become_as_fast_as_they_are_told() {
    let mut shard = shard(0, 1, &settings());
    for peer in 0..2000 {
        announce(&mut shard, 0, &leecher(peer % 50, peer));
    }
    shard.set_settings(&ShardSettings {
        sweep_seconds: 2,
        ..settings()
    });
    assert_eq!(pass(&mut shard, 0, LIFETIME), 0);
    pass(&mut shard, LIFETIME, LIFETIME + 3);
    assert_eq!(peers(&mut shard), 0);
}

#[test]
fn downloads_are_kept_as_long_as_they_are_told() {
    let mut shard = shard(0, 1, &settings());
    let keeping = ShardSettings {
        downloads_lifetime_seconds: 1000,
        client_breakdown: false,
        ..settings()
    };
    let downloaded_after = |shard: &mut Shard, settings: &ShardSettings, swarm| {
        shard.set_settings(settings);
        let mut one = leecher(swarm, 1);
        (one.event, one.left) = (Event::Completed, 0);
        announce(shard, 0, &one);
        one.event = Event::Stopped;
        announce(shard, 0, &one);
        shard.scrape(one.family(), &one.info_hash).downloaded
    };
    assert_eq!(downloaded_after(&mut shard, &settings(), 2), 0);
    assert_eq!(downloaded_after(&mut shard, &keeping, 4), 1);
    assert_eq!(downloaded_after(&mut shard, &settings(), 6), 0);
}

#[test]
fn a_cap_that_falls_lets_nobody_in_until_enough_have_gone() {
    let capped = |max_peers, max_swarms| ShardSettings {
        max_peers,
        max_swarms,
        ..settings()
    };
    let mut shard = shard(0, 1, &capped(0, 0));
    for peer in 0..10 {
        announce(&mut shard, 0, &leecher(0, peer));
    }
    shard.set_settings(&capped(7, 0));
    let mut stored = Vec::new();
    for peer in 0..6 {
        let mut leaving = leecher(0, peer);
        leaving.event = Event::Stopped;
        announce(&mut shard, 1, &leaving);
        pass(&mut shard, 1, 2);
        announce(&mut shard, 1, &leecher(0, 100 + peer));
        stored.push(peers(&mut shard));
    }
    assert_eq!(stored, [9, 8, 7, 7, 7, 7]);
    // No cap, and one that leaves some room.
    shard.set_settings(&capped(0, 0));
    assert_eq!(shard.capacity().peers, u64::MAX);
    shard.set_settings(&capped(9, 3));
    assert_eq!((shard.capacity().peers, shard.capacity().swarms), (2, 2));
    for peer in 200..210 {
        announce(&mut shard, 1, &leecher(0, peer));
    }
    assert_eq!(peers(&mut shard), 9);
    for swarm in 0..9 {
        announce(&mut shard, 1, &leecher(2 * swarm, 0));
    }
    let swarms = shard.totals(AddressFamily::V4).swarms;
    assert_eq!(swarms, 1, "the cap on peers comes first");
    shard.set_settings(&capped(0, 3));
    for swarm in 0..9 {
        announce(&mut shard, 1, &leecher(2 * swarm, 0));
    }
    assert_eq!(shard.totals(AddressFamily::V4).swarms, 3);
}
