//! What to ask: which peer of which swarm announces, connects or scrapes next.
//!
//! Everything follows from the seed. A peer is an index; its swarm, port and
//! whether it seeds are functions of the seed and the index, so that millions
//! of peers need no memory here and no cache misses. [`FillPlan`] is the other
//! source: every peer exactly once.

use std::fmt;

use crate::random::{Random, mix, unit};
use crate::skew::{Sampler, Skew};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection id (UDP only).
    Connect,
    /// An announce.
    Announce,
    /// A scrape.
    Scrape,
}

/// The event of an announce, by its number in BEP 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A regular announce.
    None = 0,
    /// The download is complete.
    Completed = 1,
    /// The first announce.
    Started = 2,
    /// The peer leaves.
    Stopped = 3,
}

/// One request, small enough to be kept while it is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub kind: Kind,
    /// The event, for announces.
    pub event: Event,
    /// Nothing left to download, for announces.
    pub seeder: bool,
    /// Index of the source address that sends it.
    pub source: u16,
    /// The port the peer announces, never 0.
    pub port: u16,
    /// Index of the swarm; for scrapes, of the first.
    pub swarm: u32,
}

impl Request {
    /// Makes the peer id distinct: the same for the same peer of a swarm.
    pub fn peer(&self, seed: u64) -> u64 {
        let place = u64::from(self.source) << 48 | u64::from(self.port) << 32;
        mix(seed, place | u64::from(self.swarm))
    }

    /// Whether nothing is left to download, as it is with a peer that has
    /// just completed.
    pub fn has_all(&self) -> bool {
        self.seeder || self.event == Event::Completed
    }

    /// The info hash of the n-th swarm of a scrape, of `swarms` in all.
    pub fn scraped(&self, n: usize, seed: u64, swarms: u32) -> [u8; 20] {
        let swarm = (u64::from(self.swarm) + n as u64) % u64::from(swarms);
        info_hash(seed, swarm as u32)
    }
}

/// The shape of the traffic. Shares are relative weights or fractions of one.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Everything random follows from it.
    pub seed: u64,
    /// Number of swarms, at least 1.
    pub swarms: u32,
    /// Number of distinct peers, at least 1.
    pub peers: u64,
    /// How peers spread over swarms.
    pub skew: Skew,
    /// Number of source addresses, at least 1.
    pub sources: u16,
    /// Relative weight of connects.
    pub connects: f64,
    /// Relative weight of announces.
    pub announces: f64,
    /// Relative weight of scrapes.
    pub scrapes: f64,
    /// Fraction of the peers that seed.
    pub seeders: f64,
    /// Fraction of the announces that carry the event `started`.
    pub started: f64,
    /// Fraction of the announces that carry the event `completed`.
    pub completed: f64,
    /// Fraction of the announces that carry the event `stopped`.
    pub stopped: f64,
    /// Announce the peers that a fill of the same size, skew and seed put in,
    /// instead of others. Swarms get as many members as a fill gives them on
    /// average, so a few peers are new.
    pub reannounce: bool,
}

/// Draws requests without end, for one thread.
pub struct Traffic {
    workload: Workload,
    random: Random,
    sampler: Sampler,
    peer_seed: u64,
    seeder_below: u32,
    /// Upper bounds on a 32-bit draw: connect, then scrape, then announce.
    connect_below: u64,
    scrape_below: u64,
    /// Upper bounds on a 32-bit draw: started, completed, stopped.
    event_below: [u64; 3],
}

impl Traffic {
    /// Threads draw different requests of the same peers.
    pub fn new(workload: &Workload, thread: usize) -> Traffic {
        let of_32_bits = |fraction: f64| (fraction * 2f64.powi(32)) as u64;
        let total = workload.connects + workload.announces + workload.scrapes;
        let started = of_32_bits(workload.started);
        let completed = started + of_32_bits(workload.completed);
        let connect_below = of_32_bits(workload.connects / total);
        Traffic {
            random: Random::new(mix(workload.seed, 0x7468_7265_6164 + thread as u64)),
            sampler: Sampler::new(workload.skew, workload.swarms),
            peer_seed: mix(workload.seed, 0x7065_6572),
            seeder_below: of_32_bits(workload.seeders).min(u64::from(u32::MAX)) as u32,
            connect_below,
            scrape_below: connect_below + of_32_bits(workload.scrapes / total),
            event_below: [started, completed, completed + of_32_bits(workload.stopped)],
            workload: workload.clone(),
        }
    }

    /// The next request.
    pub fn draw(&mut self) -> Request {
        let source = self.random.below(u64::from(self.workload.sources)) as u16;
        self.next_from(source)
    }

    /// The next request that the given source address sends.
    pub fn next_from(&mut self, source: u16) -> Request {
        let draw = self.random.next();
        let (for_kind, for_event) = (draw >> 32, draw & 0xffff_ffff);
        let kind = match for_kind {
            d if d < self.connect_below => Kind::Connect,
            d if d < self.scrape_below => Kind::Scrape,
            _ => Kind::Announce,
        };
        if self.workload.reannounce {
            return Request {
                kind,
                event: self.event(for_event),
                ..self.filled(source)
            };
        }
        let sources = u64::from(self.workload.sources);
        // Peer indices that belong to this source: source, source + sources, ...
        let beyond = self.workload.peers.saturating_sub(u64::from(source));
        let own = beyond.div_ceil(sources);
        let index = u64::from(source) + sources * self.random.below(own.max(1));
        let mut of_peer = Random::new(mix(self.peer_seed, index));
        let swarm = self.sampler.draw(&mut of_peer);
        let identity = of_peer.next();
        Request {
            kind,
            event: self.event(for_event),
            seeder: (identity as u32) < self.seeder_below,
            source,
            port: 1 + ((identity >> 32) % 65535) as u16,
            swarm,
        }
    }

    /// A peer of a fill, of this source address.
    fn filled(&mut self, source: u16) -> Request {
        let swarm = self.sampler.draw(&mut self.random);
        let members = self
            .sampler
            .expected(swarm, self.workload.peers as f64)
            .ceil() as u64;
        let k = self.random.below(members.max(1));
        // The nearest member that this source sends.
        let sources = u64::from(self.workload.sources);
        let rotation = mix(self.workload.seed, u64::from(swarm)) & 0xffff_ffff;
        let behind = (k + rotation + sources - u64::from(source)) % sources;
        let k = if behind <= k {
            k - behind
        } else {
            k + sources - behind
        };
        let k = k.min(sources * 65535 - 1);
        member_of(&self.workload, swarm, k)
    }

    fn event(&self, draw: u64) -> Event {
        let [started, completed, stopped] = self.event_below;
        match draw {
            d if d < started => Event::Started,
            d if d < completed => Event::Completed,
            d if d < stopped => Event::Stopped,
            _ => Event::None,
        }
    }
}

/// How a fill spreads its peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FillShape {
    /// Peer i goes to swarm i modulo the number of swarms.
    OneEach,
    /// Drawn with this skew.
    Drawn(Skew),
}

/// Every peer exactly once: no two share swarm, source address and port.
///
/// The k-th peer of a swarm gets the (k modulo sources)-th address and the
/// (k / sources)-th port, both rotated by a number that depends on the swarm,
/// so that small swarms do not all use the same address and port.
pub struct FillPlan {
    workload: Workload,
    sampler: Sampler,
    shape: FillShape,
    random: Random,
    drawn: u64,
    thread: u32,
    threads: u32,
    /// Peers handed out so far, per swarm of this thread.
    members: Vec<u32>,
}

/// A swarm would need more peers than there are distinct source and port pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmTooBig {
    /// Index of the swarm.
    pub swarm: u32,
    /// The pairs there are.
    pub identities: u64,
}

impl fmt::Display for SwarmTooBig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "swarm {} needs more than {} distinct peers (65535 ports per source address); raise --sources or --info-hashes",
            self.swarm, self.identities
        )
    }
}

impl FillPlan {
    /// The part of the plan that thread `thread` of `threads` sends: swarms
    /// are dealt to threads by index, so the whole does not depend on timing.
    pub fn new(workload: &Workload, shape: FillShape, thread: usize, threads: usize) -> FillPlan {
        let skew = match shape {
            FillShape::OneEach => Skew::Uniform,
            FillShape::Drawn(skew) => skew,
        };
        FillPlan {
            sampler: Sampler::new(skew, workload.swarms),
            shape,
            random: Random::new(mix(workload.seed, 0x66_69_6c_6c)),
            drawn: 0,
            thread: thread as u32,
            threads: threads as u32,
            members: vec![0; workload.swarms as usize / threads + 1],
            workload: workload.clone(),
        }
    }

    /// The next peer of this thread, or `None` when all have been handed out.
    pub fn draw(&mut self) -> Option<Result<Request, SwarmTooBig>> {
        if self.thread >= self.workload.swarms {
            return None;
        }
        while self.drawn < self.workload.peers {
            let index = self.drawn;
            self.drawn += 1;
            let swarm = match self.shape {
                FillShape::OneEach => (index % u64::from(self.workload.swarms)) as u32,
                FillShape::Drawn(_) => self.sampler.draw(&mut self.random),
            };
            if swarm % self.threads == self.thread {
                return Some(self.member(swarm));
            }
        }
        None
    }

    /// Fails where the fill is sure to outgrow the identities there are.
    pub fn check_room(workload: &Workload, shape: FillShape) -> Result<(), SwarmTooBig> {
        let identities = u64::from(workload.sources) * 65535;
        let skew = match shape {
            FillShape::OneEach => Skew::Uniform,
            FillShape::Drawn(skew) => skew,
        };
        // Every skew gives the first swarm the most.
        let most = Sampler::new(skew, workload.swarms).expected(0, workload.peers as f64);
        if workload.peers > identities.saturating_mul(u64::from(workload.swarms))
            || most > identities as f64
        {
            return Err(SwarmTooBig {
                swarm: 0,
                identities,
            });
        }
        Ok(())
    }

    fn member(&mut self, swarm: u32) -> Result<Request, SwarmTooBig> {
        let sources = u64::from(self.workload.sources);
        let member = &mut self.members[(swarm / self.threads) as usize];
        let k = u64::from(*member);
        let identities = sources * 65535;
        if k >= identities {
            return Err(SwarmTooBig { swarm, identities });
        }
        *member += 1;
        Ok(member_of(&self.workload, swarm, k))
    }
}

/// The k-th peer of a swarm, k below 65535 per source address.
fn member_of(workload: &Workload, swarm: u32, k: u64) -> Request {
    let sources = u64::from(workload.sources);
    let rotation = mix(workload.seed, u64::from(swarm));
    let port = 1 + ((k / sources + (rotation >> 32)) % 65535) as u16;
    Request {
        kind: Kind::Announce,
        event: Event::Started,
        seeder: unit(mix(rotation, k)) < workload.seeders,
        source: ((k + (rotation & 0xffff_ffff)) % sources) as u16,
        port,
        swarm,
    }
}

/// The info hash of a swarm: 20 bytes that look random and follow from the seed.
pub fn info_hash(seed: u64, swarm: u32) -> [u8; 20] {
    let a = mix(seed ^ 0x696e_666f, u64::from(swarm));
    let b = mix(a, 1);
    let c = mix(a, 2);
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&a.to_be_bytes());
    hash[8..16].copy_from_slice(&b.to_be_bytes());
    hash[16..].copy_from_slice(&c.to_be_bytes()[..4]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn workload(peers: u64, swarms: u32, sources: u16) -> Workload {
        Workload {
            seed: 7,
            swarms,
            peers,
            skew: Skew::Cubic,
            sources,
            connects: 1.0,
            announces: 2.0,
            scrapes: 1.0,
            seeders: 0.75,
            started: 0.1,
            completed: 0.2,
            stopped: 0.3,
            reannounce: false,
        }
    }

    #[test]
    fn shares_of_kinds_events_and_seeders_are_as_asked() {
        let mut traffic = Traffic::new(&workload(100_000, 1000, 3), 0);
        let requests: Vec<Request> = (0..100_000).map(|_| traffic.draw()).collect();
        let share = |test: fn(&Request) -> bool| {
            requests.iter().filter(|r| test(r)).count() as f64 / requests.len() as f64
        };
        let near = |seen: f64, expected: f64| {
            assert!((seen - expected).abs() < 0.01, "{seen}, not {expected}")
        };
        near(share(|r| r.kind == Kind::Connect), 0.25);
        near(share(|r| r.kind == Kind::Announce), 0.5);
        near(share(|r| r.kind == Kind::Scrape), 0.25);
        near(share(|r| r.event == Event::Started), 0.1);
        near(share(|r| r.event == Event::Completed), 0.2);
        near(share(|r| r.event == Event::Stopped), 0.3);
        near(share(|r| r.seeder), 0.75);
        near(share(|r| r.source == 2), 1.0 / 3.0);
    }

    #[test]
    fn traffic_reuses_the_given_number_of_peers() {
        let mut traffic = Traffic::new(&workload(50, 1_000_000, 4), 0);
        let peers: HashSet<_> = (0..5000)
            .map(|_| traffic.draw())
            .map(|r| (r.swarm, r.source, r.port, r.seeder))
            .collect();
        assert_eq!(peers.len(), 50);
    }

    #[test]
    fn reannounced_peers_are_mostly_those_of_the_fill() {
        for skew in [Skew::Uniform, Skew::Cubic, Skew::Zipf(1.0)] {
            let workload = Workload {
                skew,
                reannounce: true,
                ..workload(50_000, 500, 3)
            };
            let mut plan = FillPlan::new(&workload, FillShape::Drawn(skew), 0, 1);
            let mut filled = HashSet::new();
            while let Some(Ok(r)) = plan.draw() {
                filled.insert((r.swarm, r.source, r.port, r.seeder));
            }
            let mut traffic = Traffic::new(&workload, 0);
            let again = (0..20_000)
                .map(|_| traffic.draw())
                .filter(|r| filled.contains(&(r.swarm, r.source, r.port, r.seeder)))
                .count();
            assert!(again > 18_000, "{skew:?}: {again} of 20000");
            let r = traffic.next_from(2);
            assert_eq!(r.source, 2);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_and_threads_differ() {
        let take = |thread| {
            let mut traffic = Traffic::new(&workload(1000, 1000, 2), thread);
            (0..100).map(|_| traffic.draw()).collect::<Vec<_>>()
        };
        assert_eq!(take(0), take(0));
        assert_ne!(take(0), take(1));
    }

    #[test]
    fn a_fill_has_every_peer_once_however_many_threads_send_it() {
        let shapes = [
            FillShape::OneEach,
            FillShape::Drawn(Skew::Uniform),
            FillShape::Drawn(Skew::Cubic),
            FillShape::Drawn(Skew::Zipf(1.0)),
        ];
        for shape in shapes {
            let of_threads = |threads: usize| -> HashSet<(u32, u16, u16)> {
                let mut peers = HashSet::new();
                for thread in 0..threads {
                    let mut plan = FillPlan::new(&workload(50_000, 500, 3), shape, thread, threads);
                    while let Some(request) = plan.draw() {
                        let request = request.unwrap();
                        assert!(request.port != 0 && request.swarm < 500 && request.source < 3);
                        assert!(peers.insert((request.swarm, request.source, request.port)));
                    }
                }
                peers
            };
            let one = of_threads(1);
            assert_eq!(one.len(), 50_000, "{shape:?}");
            assert_eq!(one, of_threads(3), "{shape:?}");
        }
    }

    #[test]
    fn a_swarm_that_outgrows_the_identities_is_an_error() {
        let mut plan = FillPlan::new(&workload(65536, 1, 1), FillShape::OneEach, 0, 1);
        let ports: HashSet<u16> = (0..65535)
            .map(|_| plan.draw().unwrap().unwrap().port)
            .collect();
        assert_eq!(ports.len(), 65535);
        assert_eq!(
            plan.draw(),
            Some(Err(SwarmTooBig {
                swarm: 0,
                identities: 65535
            }))
        );
    }

    #[test]
    fn a_fill_that_cannot_fit_is_known_beforehand() {
        let cubic = FillShape::Drawn(Skew::Cubic);
        for (peers, swarms, shape, fits) in [
            (2 * 65535, 2, FillShape::OneEach, true),
            (2 * 65535 + 1, 2, FillShape::OneEach, false),
            (u64::MAX, u32::MAX, FillShape::OneEach, false),
            (600_000, 1000, cubic, true),
            (700_000, 1000, cubic, false),
        ] {
            let checked = FillPlan::check_room(&workload(peers, swarms, 1), shape);
            assert_eq!(checked.is_ok(), fits, "{peers} {swarms} {shape:?}");
        }
    }

    #[test]
    fn traffic_of_any_number_of_peers_belongs_to_its_source() {
        for peers in [3, 5, u64::MAX] {
            let mut traffic = Traffic::new(&workload(peers, 10, 3), 0);
            let peers: HashSet<_> = (0..100)
                .map(|_| traffic.next_from(2))
                .map(|r| (r.swarm, r.port))
                .collect();
            assert_eq!(peers.len() > 1, traffic.workload.peers > 5, "{peers:?}");
        }
    }

    #[test]
    fn info_hashes_differ_by_swarm_and_seed() {
        let hashes: HashSet<_> = (0..1000)
            .flat_map(|swarm| [info_hash(1, swarm), info_hash(2, swarm)])
            .collect();
        assert_eq!(hashes.len(), 2000);
    }
}
