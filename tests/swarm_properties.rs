//! Random runs of the swarm store against a naive model.
//!
//! Few swarms and few peers, so that collisions, growth and shrinking happen
//! all the time and every form of a swarm occurs. proptest prints the smallest
//! run that fails, and its seed is in the run.

#[path = "swarm_model/mod.rs"]
mod model;

use karuta::bittorrent::{Event, PeerId};
use karuta::swarm::{Peer4, Peer4WithId, Peer6, Peer6WithId, StoredPeer};
use model::{Start, Step, run};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::None),
        2 => Just(Event::Started),
        2 => Just(Event::Stopped),
        2 => Just(Event::Completed),
        1 => Just(Event::Paused),
    ]
}

/// Mostly a few swarms; now and then one of many.
fn swarm() -> impl Strategy<Value = u8> {
    prop_oneof![3 => 0..4u8, 1 => any::<u8>()]
}

fn step() -> impl Strategy<Value = Step> {
    let left = any::<bool>;
    prop_oneof![
        20 => (swarm(), 0..12u16, event(), left(), 0..30u8)
            .prop_map(|(swarm, peer, event, left, want)| Step::Announce { swarm, peer, event, left, want }),
        6 => (swarm(), 0..1000u16, event(), left(), any::<u8>())
            .prop_map(|(swarm, peer, event, left, want)| Step::Announce { swarm, peer, event, left, want }),
        6 => (swarm(), 0..400u16, any::<u8>(), event(), left())
            .prop_map(|(swarm, first, count, event, left)| Step::Crowd { swarm, first, count, event, left }),
        4 => (0..60u16).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0..600u16).prop_map(|seconds| Step::Wait { seconds }),
        4 => (0..400u16).prop_map(|budget| Step::Sweep { budget }),
        1 => Just(Step::SweepAll),
        3 => swarm().prop_map(|swarm| Step::Scrape { swarm }),
        1 => swarm().prop_map(|swarm| Step::Remove { swarm }),
        1 => (any::<u8>(), 0..10u8).prop_map(|(peers, swarms)| Step::Cap { peers, swarms }),
        2 => Just(Step::Uncap),
        1 => any::<u8>().prop_map(|budget| Step::Visit { budget }),
        3 => (swarm(), 0..900u16, any::<u8>(), 0..300u16, 0..3u8).prop_map(
            |(swarm, first, count, age, downloads)| Step::Restore { swarm, first, count, age, downloads },
        ),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    let now = prop_oneof![any::<u32>(), Just(0), u32::MAX - 500..=u32::MAX];
    (
        any::<u64>(),
        now,
        any::<u8>(),
        prop_oneof![Just(0), any::<u8>()],
    )
        .prop_map(|(seed, now_seconds, lifetime, empty_lifetime)| Start {
            seed,
            now_seconds,
            lifetime,
            empty_lifetime,
        })
}

fn ipv4(number: u16) -> Ipv4Addr {
    // Neighbours share addresses and differ in the port only, or the reverse.
    Ipv4Addr::new(198, 51, 100, (number / 2) as u8)
}

fn port(number: u16) -> u16 {
    1 + number / 512 * 2 + number % 2
}

fn ipv6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number / 2 % 256)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ipv4_swarms_match_the_model(start in start(), steps in prop::collection::vec(step(), 0..120)) {
        run(start, &steps, |number| Peer4::new(ipv4(number), port(number)));
    }

    #[test]
    fn ipv6_swarms_match_the_model(start in start(), steps in prop::collection::vec(step(), 0..120)) {
        run(start, &steps, |number| Peer6::new(ipv6(number), port(number)));
    }

    #[test]
    fn swarms_with_ids_match_the_model(start in start(), steps in prop::collection::vec(step(), 0..60)) {
        let id = PeerId([7; 20]);
        run(start, &steps, |number| Peer4WithId::new(ipv4(number), port(number)).with_peer_id(&id));
        run(start, &steps, |number| Peer6WithId::new(ipv6(number), port(number)).with_peer_id(&id));
    }
}
