//! The kinds of peers other than plain IPv4, through the whole store.

use karuta::bittorrent::{Event, InfoHash, PeerId};
use karuta::swarm::{
    Capacity, Peer4WithId, Peer6, Random, StoredPeer, SwarmAnnounce, SwarmSettings, SwarmStore,
};
use std::net::Ipv4Addr;

const SETTINGS: SwarmSettings = SwarmSettings {
    peer_lifetime_seconds: 1860,
    empty_swarm_lifetime_seconds: 0,
};
const TORRENT: InfoHash = InfoHash([7; 20]);

#[test]
fn ids_follow_the_latest_announce() {
    let mut store = SwarmStore::<Peer4WithId>::new(SETTINGS, 1);
    let (mut capacity, mut random) = (Capacity::UNLIMITED, Random::new(1));
    let mut announce = |n: u32, id: u8| {
        let peer = Peer4WithId::new(Ipv4Addr::from(n), 6881).with_peer_id(&PeerId([id; 20]));
        let info_hash = TORRENT;
        let announce = SwarmAnnounce {
            info_hash,
            peer,
            event: Event::None,
            is_seeder: false,
            num_want: 9,
        };
        let mut out = Vec::new();
        let lookup = store.lookup(&info_hash);
        store.announce(1, &lookup, &announce, &mut capacity, &mut random, &mut out);
        out.first().and_then(StoredPeer::peer_id)
    };
    announce(1, 1);
    assert_eq!(announce(2, 2), Some(PeerId([1; 20])));
    announce(1, 3);
    assert_eq!(announce(2, 2), Some(PeerId([3; 20])));
}

#[test]
fn ipv6_swarms_work_alike() {
    let mut store = SwarmStore::<Peer6>::new(SETTINGS, 1);
    let (mut capacity, mut random) = (Capacity::UNLIMITED, Random::new(1));
    let info_hash = TORRENT;
    let lookup = store.lookup(&info_hash);
    for n in 1..=500u32 {
        let ip = Ipv4Addr::from(n).to_ipv6_mapped();
        let peer = Peer6::new(ip, 6881);
        let announce = SwarmAnnounce {
            info_hash,
            peer,
            event: Event::Started,
            is_seeder: n % 2 == 0,
            num_want: 50,
        };
        let mut out = Vec::new();
        let outcome = store.announce(1, &lookup, &announce, &mut capacity, &mut random, &mut out);
        assert_eq!(
            (outcome.counts.complete, outcome.counts.incomplete),
            (n / 2, n.div_ceil(2))
        );
        let possible = if n % 2 == 0 { n / 2 } else { n - 1 };
        assert_eq!(out.len() as u32, possible.clamp(1, 50));
    }
}
