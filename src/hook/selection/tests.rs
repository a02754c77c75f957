//! Which peers are chosen, hook by hook.

use super::*;
use crate::bittorrent::{Event, InfoHash};
use crate::swarm::{Peer4, Peer6};

const SETTINGS: SwarmSettings = SwarmSettings {
    peer_lifetime_seconds: 1800,
    empty_swarm_lifetime_seconds: 0,
};

struct Bench {
    swarms: Selected<Peer4>,
    selector: Selector,
    random: Random,
}

impl Bench {
    fn new(mut selection: Selection) -> Self {
        let mut selector = Selector::default();
        selector.swap(&mut selection);
        Self {
            swarms: Selected::new(SETTINGS, 1),
            selector,
            random: Random::new(2),
        }
    }

    /// Announces and gives what was handed out.
    fn announce(&mut self, ip: [u8; 4], seeder: bool, want: u32) -> Vec<[u8; 4]> {
        self.announce_at(0, ip, seeder, want)
    }

    fn announce_at(&mut self, now: u32, ip: [u8; 4], seeder: bool, want: u32) -> Vec<[u8; 4]> {
        let info_hash = InfoHash([1; 20]);
        let request = SwarmAnnounce {
            info_hash,
            peer: Peer4::new(ip.into(), 6881),
            event: Event::None,
            is_seeder: seeder,
            num_want: want,
        };
        let mut peers: Vec<Peer4> = Vec::new();
        let lookup = self.swarms.store.lookup(&info_hash);
        let (swarms, random) = (&mut self.swarms, &mut self.random);
        let mut capacity = Capacity::UNLIMITED;
        let parts = (&mut capacity, random);
        self.selector
            .announce(now, &lookup, &request, swarms, parts, &mut peers);
        peers.iter().map(|peer| peer.ip().octets()).collect()
    }
}

#[test]
fn scopes_are_those_of_the_standards() {
    for (ip, scope) in [
        ("8.8.8.8", Scope::Public),
        ("9.255.255.255", Scope::Public),
        ("10.0.0.1", Scope::Private),
        ("11.0.0.1", Scope::Public),
        ("172.15.0.1", Scope::Public),
        ("172.16.0.1", Scope::Private),
        ("172.31.0.1", Scope::Private),
        ("172.32.0.1", Scope::Public),
        ("192.168.1.1", Scope::Private),
        ("192.169.1.1", Scope::Public),
        ("100.63.0.1", Scope::Public),
        ("100.64.0.1", Scope::Private),
        ("100.128.0.1", Scope::Public),
        ("127.9.9.9", Scope::Loopback),
        ("169.254.1.1", Scope::LinkLocal),
        ("::1", Scope::Loopback),
        ("::2", Scope::Public),
        ("2001:db8::1", Scope::Public),
        ("a00::1", Scope::Public),
        ("7f00::1", Scope::Public),
        ("fc00::1", Scope::Private),
        ("fdff::1", Scope::Private),
        ("fe80::1", Scope::LinkLocal),
        ("fec0::1", Scope::Public),
    ] {
        assert_eq!(
            Scope::of_ip(&ip.parse().expect("an address")),
            scope,
            "{ip}"
        );
    }
}

#[test]
fn narrow_peers_are_for_their_own_kind() {
    let mut bench = Bench::new(Selection::default());
    for last in 1..=5 {
        bench.announce([8, 8, 8, last], false, 0);
        bench.announce([10, 0, 0, last], false, 0);
        bench.announce([127, 0, 0, last], false, 0);
    }
    let firsts = |peers: Vec<[u8; 4]>| {
        let mut firsts: Vec<u8> = peers.iter().map(|ip| ip[0]).collect();
        firsts.sort_unstable();
        firsts
    };
    assert_eq!(firsts(bench.announce([8, 8, 8, 1], false, 50)), [8; 4]);
    let private = firsts(bench.announce([10, 0, 0, 1], false, 50));
    assert_eq!(private, [8, 8, 8, 8, 8, 10, 10, 10, 10]);
    assert_eq!(bench.announce([8, 8, 8, 1], false, 2).len(), 2);
    // With nobody fit to be given, the requester itself (as without).
    let mut bench = Bench::new(Selection::default());
    bench.announce([10, 0, 0, 1], false, 0);
    assert_eq!(bench.announce([8, 8, 8, 1], false, 9), [[8, 8, 8, 1]]);
}

#[test]
fn peers_of_one_kind_need_no_choice_and_are_forgotten_in_time() {
    let mut bench = Bench::new(Selection::default());
    for last in 1..=5 {
        bench.announce([127, 0, 0, last], false, 0);
    }
    assert_eq!(bench.announce([127, 0, 0, 1], false, 9).len(), 4);
    assert!(bench.swarms.candidates.is_empty(), "nobody had to look");
    bench.announce_at(50, [8, 8, 8, 1], false, 9);
    assert!(!bench.swarms.candidates.is_empty());
    bench.selector.tick(1960, 1960);
    assert_ne!(bench.selector.scopes[0], 0);
    bench.selector.tick(1961, 1960);
    assert_eq!(bench.selector.scopes[0], 0);
}

#[test]
fn it_can_be_turned_off() {
    let mut bench = Bench::new(Selection {
        peer_scope: false,
        ..Selection::default()
    });
    bench.announce([10, 0, 0, 1], false, 0);
    assert_eq!(bench.announce([8, 8, 8, 1], false, 9), [[10, 0, 0, 1]]);
}

/// Choosing keeps what the swarm promises: seeders first, everybody
/// equally often.
#[test]
fn a_careful_choice_is_as_fair_as_a_quick_one() {
    let mut bench = Bench::new(Selection::default());
    bench.announce([10, 0, 0, 1], false, 0);
    for last in 0..40 {
        bench.announce([8, 8, 8, last], last < 10, 0);
    }
    let mut times = [0u32; 40];
    for _ in 0..4000 {
        let given = bench.announce([9, 9, 9, 9], false, 20);
        assert_eq!(given.len(), 20);
        assert!(given[..10].iter().all(|ip| ip[3] < 10), "seeders first");
        for ip in given {
            times[usize::from(ip[3])] += 1;
        }
    }
    assert_eq!(times[..10], [4000; 10]);
    for (last, times) in times.iter().enumerate().skip(10) {
        assert!((1133..1533).contains(times), "{last}: {times}");
    }
    let given = bench.announce([8, 8, 8, 0], true, 50);
    assert_eq!(given.len(), 31, "seeders get leechers");
}

#[test]
fn peers_of_the_requesters_subnet_come_first() {
    let mut bench = Bench::new(Selection {
        preferred_subnet: Some(PreferredSubnet {
            bits: [20, 0],
            examined: 1024,
        }),
        ..Selection::default()
    });
    for last in 0..100 {
        bench.announce([8, 8, 64, last], last < 50, 0);
    }
    bench.announce([8, 8, 16, 1], true, 0);
    bench.announce([8, 8, 31, 2], false, 0);
    bench.announce([8, 8, 32, 3], false, 0);
    let given = bench.announce([8, 8, 17, 1], false, 10);
    assert_eq!(given[..2], [[8, 8, 16, 1], [8, 8, 31, 2]]);
    assert_eq!(given.len(), 10);
    assert!(
        given[2..].iter().all(|ip| ip[2] == 64 && ip[3] < 50),
        "{given:?}"
    );
}

#[test]
fn fixed_peers_are_always_there_once() {
    let fixed = FixedPeers {
        info_hashes: vec![InfoHash([1; 20])],
        peers: vec![
            "192.0.2.1:6881".parse().expect("an address"),
            "[2001:db8::1]:6881".parse().expect("an address"),
        ],
        to_seeders: false,
    };
    let other = FixedPeers {
        info_hashes: vec![InfoHash([2; 20])],
        peers: vec!["192.0.2.2:6881".parse().expect("an address")],
        to_seeders: true,
    };
    let mut bench = Bench::new(Selection {
        fixed: Arc::new(vec![fixed, other]),
        ..Selection::default()
    });
    assert_eq!(bench.announce([8, 8, 8, 1], false, 9), [[192, 0, 2, 1]]);
    assert_eq!(bench.announce([8, 8, 8, 1], false, 0), [[0; 4]; 0]);
    bench.announce([192, 0, 2, 1], false, 0);
    let given = bench.announce([8, 8, 8, 2], false, 9);
    assert_eq!(given, [[192, 0, 2, 1], [8, 8, 8, 1]]);
    assert_eq!(bench.announce([8, 8, 8, 2], false, 1), [[192, 0, 2, 1]]);
    let given = bench.announce([8, 8, 8, 3], true, 9);
    // 192.0.2.1 is there as a leecher that has announced.
    assert_eq!(given.len(), 3);
}

#[test]
fn ipv6_peers_are_chosen_too() {
    let mut swarms: Selected<Peer6> = Selected::new(SETTINGS, 1);
    let mut selector = Selector::default();
    let (mut random, mut capacity) = (Random::new(3), Capacity::UNLIMITED);
    let lookup = swarms.store.lookup(&InfoHash([1; 20]));
    let mut given = Vec::new();
    for ip in ["fe80::1", "2001:db8::1", "fe80::2", "2001:db8::2"] {
        let request = SwarmAnnounce {
            info_hash: InfoHash([1; 20]),
            peer: Peer6::new(ip.parse().expect("an address"), 1),
            event: Event::None,
            is_seeder: false,
            num_want: 9,
        };
        let mut peers: Vec<Peer6> = Vec::new();
        let parts = (&mut capacity, &mut random);
        selector.announce(0, &lookup, &request, &mut swarms, parts, &mut peers);
        given.push(peers.len());
    }
    assert_eq!(given, [1, 1, 2, 1]);
}
