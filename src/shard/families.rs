//! Both address families of a torrent in one answer, as opentracker has them.
//!
//! IPv4 and IPv6 swarms are kept apart (BEP 7), but the shard that owns an info
//! hash has both, so one request can be told of both. A peer of one family is a
//! stranger in the other's swarm: it looks there and leaves nothing.

use super::exchange::{PeerList, PeerOutput};
use super::{Shard, Swarms, with_swarms};
use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, Event, ScrapeCounts};
use crate::hook::selection::{Selected, Selector, StoredIp};
use crate::swarm::{Lookup, PeerSink, Random, StoredPeer, SwarmAnnounce};
use std::net::IpAddr;

/// Of which swarms of an info hash is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// That of one family.
    One(AddressFamily),
    /// Those of both, as if they were one.
    Both,
}

impl From<AddressFamily> for Families {
    fn from(family: AddressFamily) -> Self {
        Self::One(family)
    }
}

/// Which peers an announce is answered with whose counts are those of both
/// families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Of its own family: a datagram has room for one kind (BEP 15).
    Own,
    /// Of both, at least a quarter of each if there are so many.
    Both,
}

impl Shard {
    /// [`Shard::announce_prefetched`] with the counts of both families. A peer
    /// without a port is answered, but neither stored nor handed out.
    #[inline]
    pub fn announce_counting_both(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        announce: &Announce,
        output: &mut impl PeerOutput,
    ) -> AnnounceCounts {
        let counts = self.announce_own(now_seconds, lookup, announce, output);
        let others = self.scrape(other(announce.family()), &announce.info_hash);
        sum(counts, others)
    }

    /// Begins to fetch what [`Shard::announce_counting_both`] will look at in
    /// the other family.
    #[inline]
    pub fn prefetch_other_family(&mut self, announce: &Announce) {
        let family = other(announce.family());
        let mut lookup = self.lookup(family, &announce.info_hash);
        self.prefetch_group(family, &mut lookup);
        self.prefetch_slot(family, &mut lookup);
    }

    /// Announces and fills `peers` with those of both families.
    ///
    /// As opentracker divides a reply: where there are more peers than wanted,
    /// each family has a quarter of it, if it has so many peers, and the rest
    /// goes by how many more each has.
    pub fn announce_both(
        &mut self,
        now_seconds: u32,
        announce: &Announce,
        peers: &mut PeerList,
    ) -> AnnounceCounts {
        let (family, other_family) = (announce.family(), other(announce.family()));
        let lookup = self.lookup(family, &announce.info_hash);
        let own = self.announce_own(now_seconds, &lookup, announce, peers);
        let others = self.scrape(other_family, &announce.info_hash);
        let counts = sum(own, others);
        let want = announce.num_want as usize;
        if announce.event == Event::Stopped || want == 0 {
            return counts;
        }
        let stride = family.compact_peer_bytes();
        let is_alone = is_only(&peers.compact, announce);
        let found = match is_alone {
            true => 0,
            false => peers.compact.len() / stride,
        };
        // Seeders are not given to seeders, nor anybody to itself.
        let is_seeder = announce.is_seeder();
        let seeders = |count: u32| if is_seeder { 0 } else { count };
        let itself = u32::from(!is_seeder && announce.port != 0);
        let own_there = (seeders(own.complete) + own.incomplete).saturating_sub(itself);
        let others_there = seeders(others.complete) + others.incomplete;
        let part = share_of(want, own_there as usize, others_there as usize).min(found);
        if others_there > 0 && part < want {
            self.hand_out_others(now_seconds, announce, want - part, &mut peers.other_family);
        }
        let given = peers.other_family.len() / other_family.compact_peer_bytes();
        if given > 0 || !is_alone {
            peers.truncate(stride, found.min(want.saturating_sub(given)));
        }
        counts
    }

    #[inline]
    fn announce_own(
        &mut self,
        now_seconds: u32,
        lookup: &Lookup,
        announce: &Announce,
        output: &mut impl PeerOutput,
    ) -> AnnounceCounts {
        match announce.port {
            0 => self.look_in(announce.family(), now_seconds, lookup, announce, output),
            _ => self.announce_prefetched(now_seconds, lookup, announce, output),
        }
    }

    /// Appends up to `want` peers of the family that is not the announcer's.
    fn hand_out_others(
        &mut self,
        now_seconds: u32,
        announce: &Announce,
        want: usize,
        peers: &mut Vec<u8>,
    ) {
        let family = other(announce.family());
        let lookup = self.lookup(family, &announce.info_hash);
        let announce = Announce {
            num_want: want as u32,
            ..*announce
        };
        self.look_in(family, now_seconds, &lookup, &announce, &mut Compact(peers));
    }

    /// Answers a peer from a swarm in which it is not stored.
    fn look_in(
        &mut self,
        family: AddressFamily,
        now_seconds: u32,
        lookup: &Lookup,
        announce: &Announce,
        output: &mut impl PeerOutput,
    ) -> AnnounceCounts {
        let (random, selector) = (&mut self.random, &mut self.selector);
        with_swarms!(&mut self.swarms, family, |swarms| {
            look(
                swarms,
                selector,
                random,
                now_seconds,
                lookup,
                announce,
                output,
            )
        })
    }
}

fn look<P: StoredPeer<Ip: StoredIp>>(
    swarms: &mut Selected<P>,
    selector: &mut Selector,
    random: &mut Random,
    now_seconds: u32,
    lookup: &Lookup,
    announce: &Announce,
    output: &mut impl PeerOutput,
) -> AnnounceCounts {
    let request = SwarmAnnounce {
        info_hash: announce.info_hash,
        // A peer that nobody is: no stored peer has port 0.
        peer: P::default(),
        event: announce.event,
        is_seeder: announce.is_seeder(),
        num_want: announce.num_want,
    };
    let mut output = Reachable(output);
    let requester = announce.ip;
    selector.show(
        now_seconds,
        lookup,
        &request,
        requester,
        swarms,
        random,
        &mut output,
    )
}

/// Passes on whom one can reach: leaves out the requester that is nobody.
struct Reachable<'a, O>(&'a mut O);

impl<P: StoredPeer, O: PeerOutput> PeerSink<P> for Reachable<'_, O> {
    fn extend(&mut self, peers: &[P]) {
        if peers.iter().all(|peer| peer.port() != 0) {
            self.0.peers(peers);
        }
    }
}

/// Appends the compact form of peers.
struct Compact<'a>(&'a mut Vec<u8>);

impl PeerOutput for Compact<'_> {
    fn peers<P: StoredPeer>(&mut self, peers: &[P]) {
        for peer in peers {
            self.0.extend_from_slice(peer.compact());
        }
    }
}

const fn other(family: AddressFamily) -> AddressFamily {
    match family {
        AddressFamily::V4 => AddressFamily::V6,
        AddressFamily::V6 => AddressFamily::V4,
    }
}

fn sum(own: AnnounceCounts, others: ScrapeCounts) -> AnnounceCounts {
    AnnounceCounts {
        complete: own.complete.saturating_add(others.complete),
        incomplete: own.incomplete.saturating_add(others.incomplete),
        downloaded: own.downloaded.saturating_add(others.downloaded),
    }
}

/// Whether these peers are the announcer alone: who is by himself is handed
/// himself.
fn is_only(compact: &[u8], announce: &Announce) -> bool {
    let port = announce.port.to_be_bytes();
    match (compact.split_last_chunk::<2>(), announce.ip) {
        (Some((ip, end)), IpAddr::V4(v4)) => *ip == v4.octets() && *end == port,
        (Some((ip, end)), IpAddr::V6(v6)) => *ip == v6.octets() && *end == port,
        (None, _) => false,
    }
}

/// How many of `want` peers come from a family that has `own`, while the other
/// has `others`.
fn share_of(want: usize, own: usize, others: usize) -> usize {
    if own + others <= want {
        return own;
    }
    let quarter = want / 4;
    let (part, others_part) = (quarter.min(own), quarter.min(others));
    let left = want - part - others_part;
    let (more, others_more) = (own - part, others - others_part);
    part + (left * more).checked_div(more + others_more).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every division up to some size: nobody is promised who is not there,
    /// nothing is left empty, and both have their quarter.
    #[test]
    fn a_reply_is_divided_fairly() {
        for want in 0..24 {
            for own in 0..30 {
                for others in 0..30 {
                    let part = share_of(want, own, others);
                    let others_part = share_of(want, others, own);
                    assert!(part <= own);
                    assert!(part >= own.min(want / 4), "{want} {own} {others}");
                    let all = want.min(own + others);
                    // Each rounds down.
                    assert!(
                        (all..=all + 1).contains(&(part + others_part + 1))
                            || part + others_part == all
                    );
                    assert!(all - part <= others, "{want} {own} {others}");
                }
            }
        }
        assert_eq!(share_of(50, 100, 100), 25);
        assert_eq!(share_of(50, 1000, 12), 38);
        assert_eq!(share_of(50, 1000, 5), 45);
    }
}
