//! What clients may be told, by a model as plain as can be: a map of maps.

use karuta::bittorrent::{AddressFamily, Announce, AnnounceCounts, Event, InfoHash, ScrapeCounts};
use karuta::shard::exchange::PeerList;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// What the tracker should know, as plainly as can be.
#[derive(Default)]
pub struct Oracle {
    swarms: HashMap<(AddressFamily, InfoHash), Swarm>,
}

#[derive(Default)]
struct Swarm {
    /// By their compact form.
    members: HashMap<Vec<u8>, Kind>,
    downloaded: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Seeder,
    Downloader,
    /// BEP 21: not downloading any more.
    PartialSeed,
}

impl Swarm {
    fn count(&self, kind: Kind) -> u32 {
        self.members.values().filter(|it| **it == kind).count() as u32
    }
}

impl Oracle {
    /// Returns the counts that the reply must have.
    pub fn announce(&mut self, announce: &Announce) -> AnnounceCounts {
        let key = (announce.family(), announce.info_hash);
        let swarm = self.swarms.entry(key).or_default();
        let peer = compact(announce);
        let kind = match announce.event {
            Event::Completed => Kind::Seeder,
            _ if announce.left == 0 => Kind::Seeder,
            Event::Paused => Kind::PartialSeed,
            _ => Kind::Downloader,
        };
        let before = swarm.members.remove(&peer);
        if announce.event != Event::Stopped {
            swarm.members.insert(peer, kind);
        }
        if announce.event == Event::Completed && before != Some(Kind::Seeder) {
            swarm.downloaded += 1;
        }
        AnnounceCounts {
            complete: swarm.count(Kind::Seeder),
            incomplete: swarm.count(Kind::Downloader) + swarm.count(Kind::PartialSeed),
            downloaded: swarm.downloaded,
        }
    }

    pub fn scrape(&self, family: AddressFamily, hash: &InfoHash) -> ScrapeCounts {
        let counts = |swarm: &Swarm| ScrapeCounts {
            complete: swarm.count(Kind::Seeder),
            incomplete: swarm.count(Kind::Downloader) + swarm.count(Kind::PartialSeed),
            downloaded: swarm.downloaded,
            downloaders: swarm.count(Kind::Downloader),
        };
        let swarm = self.swarms.get(&(family, *hash));
        swarm.map(counts).unwrap_or_default()
    }

    /// The peers of a reply must be members, nobody twice, in the right number,
    /// and of use: others, and no seeders for a seeder; alone, one is given
    /// oneself. To be called before the next announce.
    pub fn check_peers(&self, announce: &Announce, peers: &PeerList) {
        let given = peers.compact.chunks(compact(announce).len());
        assert!(peers.ids.is_empty(), "ids are not stored");
        if announce.event == Event::Stopped {
            assert_eq!(given.len(), 0, "who leaves needs nobody");
            return;
        }
        let itself = compact(announce);
        let members = &self.swarms[&(announce.family(), announce.info_hash)].members;
        let is_useful = |kind: &Kind| !(announce.is_seeder() && *kind == Kind::Seeder);
        let mut useful: HashSet<&[u8]> = members
            .iter()
            .filter(|(peer, kind)| **peer != itself && is_useful(kind))
            .map(|(peer, _)| peer.as_slice())
            .collect();
        if useful.is_empty() {
            useful.insert(&itself);
        }
        let wanted = useful.len().min(announce.num_want as usize);
        assert_eq!(given.len(), wanted, "the exact number");
        for peer in given {
            assert!(useful.remove(peer), "{peer:?} is no use or given twice");
        }
    }
}

/// BEP 23 and BEP 7.
fn compact(announce: &Announce) -> Vec<u8> {
    let mut bytes = match announce.ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(announce.port.to_be_bytes());
    bytes
}
