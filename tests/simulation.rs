//! A tracker of several shards in one thread: the real desks and shards over
//! lanes that lose, refuse and reorder messages by a seeded plan, against an
//! oracle that knows the rules of swarms and which messages arrived.
//!
//! What holds whatever is lost: an answer is the one that the owner's swarm
//! gave when the question arrived; who waits gets exactly one answer or one
//! `Failed`; a refused question leads to nothing; and once all is quiet nobody
//! waits and every credit is back.

mod support;

use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId, ScrapeCounts};
use karuta::frontend::desk::{Answer, Asked, Desk, Lanes, PATIENCE_SECONDS};
use karuta::shard::exchange::{Exchange, PeerList, Question};
use karuta::shard::owner::{OwnerMap, ShardId};
use karuta::shard::{Shard, ShardSettings};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use support::{compact, mix};

/// How bad the lanes are, of 1000 messages each.
#[derive(Clone, Copy, Debug)]
struct Weather {
    refused: u64,
    lost: u64,
    /// Chance that a shard has its turn at all: less means longer lanes.
    turns: u64,
}

const CALM: Weather = Weather {
    refused: 0,
    lost: 0,
    turns: 1000,
};

type Key = (AddressFamily, InfoHash);

/// The swarms as the rules say, written apart from the tracker's.
#[derive(Default)]
struct Oracle(HashMap<Key, Swarm>);

#[derive(Clone, Default)]
struct Swarm {
    peers: BTreeMap<SocketAddr, State>,
    downloads: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Seeder,
    Leecher,
    Paused,
}

impl Swarm {
    fn counts(&self) -> ScrapeCounts {
        let count = |state| self.peers.values().filter(|&&is| is == state).count() as u32;
        let downloaders = count(State::Leecher);
        ScrapeCounts {
            complete: count(State::Seeder),
            incomplete: downloaders + count(State::Paused),
            downloaded: self.downloads,
            downloaders,
        }
    }
}

impl Oracle {
    /// Takes an announce; returns the swarm afterwards.
    fn announce(&mut self, announce: &Announce) -> Swarm {
        let key = (announce.family(), announce.info_hash);
        let peer = SocketAddr::new(announce.ip, announce.port);
        if announce.event == Event::Stopped {
            if let Some(swarm) = self.0.get_mut(&key) {
                swarm.peers.remove(&peer);
            }
            return self.0.get(&key).cloned().unwrap_or_default();
        }
        let swarm = self.0.entry(key).or_default();
        let before = swarm.peers.get(&peer).copied();
        if announce.event == Event::Completed && before != Some(State::Seeder) {
            swarm.downloads += 1;
        }
        let state = match announce.event {
            Event::Completed => State::Seeder,
            _ if announce.left == 0 => State::Seeder,
            Event::Paused => State::Paused,
            _ => State::Leecher,
        };
        swarm.peers.insert(peer, state);
        swarm.clone()
    }

    fn scrape(&self, family: AddressFamily, hash: InfoHash) -> ScrapeCounts {
        let swarm = self.0.get(&(family, hash));
        swarm.map(Swarm::counts).unwrap_or_default()
    }
}

/// What a client asked for, and what has come of it.
struct Request {
    asked: What,
    at_seconds: u32,
    /// Announce: the swarm when the question reached its owner.
    swarm: Option<Swarm>,
    /// Scrape: the counts of each hash when its owner was asked.
    counts: Vec<Option<ScrapeCounts>>,
    /// Messages on their way.
    flying: u32,
    /// A message of it was lost or refused.
    hurt: bool,
    outcomes: u32,
}

enum What {
    Announce(Announce),
    Scrape(AddressFamily, Vec<InfoHash>),
}

/// The lanes, the plan and the oracle.
struct World {
    random: u64,
    weather: Weather,
    owners: OwnerMap,
    length: usize,
    /// By the shard that sends and the one that receives.
    #[expect(clippy::vec_box, reason = "messages travel in their boxes")]
    lanes: BTreeMap<(ShardId, ShardId), Vec<Box<Exchange>>>,
    oracle: Oracle,
    requests: Vec<Request>,
    /// Which request an origin's token stands for.
    tokens: BTreeMap<(ShardId, u64), usize>,
    now: u32,
    answers_refused: u32,
    answered: u32,
    failed: u32,
}

impl World {
    fn chance(&mut self, of_1000: u64) -> bool {
        mix(&mut self.random) % 1000 < of_1000
    }

    fn below(&mut self, bound: usize) -> usize {
        (mix(&mut self.random) % bound as u64) as usize
    }

    /// The request that a message belongs to. A question carries a token that
    /// is new with the request that is being made.
    fn request_of(&mut self, exchange: &Exchange) -> usize {
        let newest = self.requests.len() - 1;
        *self
            .tokens
            .entry((exchange.origin, exchange.token))
            .or_insert(newest)
    }

    /// A question has reached its owner, which answers it at once.
    fn arrived(&mut self, exchange: &Exchange) {
        let number = self.request_of(exchange);
        let request = &mut self.requests[number];
        match (&request.asked, exchange.question) {
            (What::Announce(announce), Question::Announce(arrived)) => {
                assert_eq!(*announce, arrived);
                assert!(request.swarm.is_none(), "asked twice");
                request.swarm = Some(self.oracle.announce(announce));
            }
            (What::Scrape(family, hashes), Question::Scrape(arrived)) => {
                assert_eq!(*family, arrived);
                for (at, hash) in hashes.iter().enumerate() {
                    if self.owners.owner(hash) == exchange.owner {
                        assert!(request.counts[at].is_none(), "asked twice");
                        request.counts[at] = Some(self.oracle.scrape(*family, *hash));
                    }
                }
            }
            _ => panic!("a question that nobody asked"),
        }
    }

    /// Somebody who waited is answered.
    fn outcome(&mut self, number: u32, answer: &Answer<'_>) {
        let request = &mut self.requests[number as usize];
        request.outcomes += 1;
        assert_eq!(request.outcomes, 1, "request {number} is answered twice");
        match (answer, &request.asked) {
            (Answer::Failed, _) => {
                self.failed += 1;
                assert!(
                    request.hurt || request.flying > 0,
                    "request {number} was given up for nothing"
                );
            }
            (Answer::Announce(counts, peers), What::Announce(announce)) => {
                self.answered += 1;
                let swarm = request.swarm.as_ref().expect("its owner was asked");
                check_announce(announce, swarm, counts, peers);
            }
            (Answer::Scrape(hashes, counts), What::Scrape(_, asked)) => {
                self.answered += 1;
                assert_eq!(hashes, asked);
                let expected: Option<Vec<_>> = request.counts.iter().copied().collect();
                assert_eq!(Some(counts.to_vec()), expected);
            }
            _ => panic!("an answer of another kind"),
        }
    }
}

fn check_announce(
    announce: &Announce,
    swarm: &Swarm,
    counts: &karuta::bittorrent::AnnounceCounts,
    peers: &PeerList,
) {
    let expected = swarm.counts();
    assert_eq!(
        (counts.complete, counts.incomplete, counts.downloaded),
        (expected.complete, expected.incomplete, expected.downloaded)
    );
    let own = SocketAddr::new(announce.ip, announce.port);
    let given = compact(&peers.compact, announce.family());
    let different: BTreeSet<_> = given.iter().copied().collect();
    assert_eq!(different.len(), given.len(), "nobody twice");
    if announce.event == Event::Stopped {
        assert!(given.is_empty());
        return;
    }
    let others = |seeders: bool| -> BTreeSet<SocketAddr> {
        let of = |state: State| (state == State::Seeder) == seeders;
        let peers = swarm.peers.iter().filter(|(_, state)| of(**state));
        peers
            .map(|(peer, _)| *peer)
            .filter(|peer| *peer != own)
            .collect()
    };
    let (seeders, leechers) = (others(true), others(false));
    let want = announce.num_want as usize;
    let own_is_seeder = swarm.peers[&own] == State::Seeder;
    let first = if own_is_seeder { &leechers } else { &seeders };
    let second = if own_is_seeder {
        &BTreeSet::new()
    } else {
        &leechers
    };
    let all = first.len() + second.len();
    if want > 0 && all == 0 {
        assert_eq!(given, [own], "nobody else");
        return;
    }
    assert_eq!(given.len(), want.min(all));
    assert!(
        given
            .iter()
            .all(|peer| first.contains(peer) || second.contains(peer))
    );
    let of_first = given.iter().filter(|peer| first.contains(peer)).count();
    assert_eq!(of_first, want.min(first.len()), "seeders come first");
}

/// One shard's end of the lanes.
struct Port {
    id: ShardId,
    world: Rc<RefCell<World>>,
}

impl Lanes for Port {
    fn shards(&self) -> usize {
        self.world.borrow().owners.shards()
    }

    fn send(&mut self, to: ShardId, exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        let mut world = self.world.borrow_mut();
        let number = world.request_of(&exchange);
        let is_answer = exchange.origin == to;
        let weather = world.weather;
        let full = world.lanes.get(&(self.id, to)).map_or(0, Vec::len) >= world.length;
        if full || world.chance(weather.refused) {
            world.requests[number].hurt = true;
            world.answers_refused += u32::from(is_answer);
            return Err(exchange);
        }
        if world.chance(weather.lost) {
            world.requests[number].hurt = true;
            return Ok(());
        }
        world.requests[number].flying += 1;
        world.lanes.entry((self.id, to)).or_default().push(exchange);
        Ok(())
    }

    fn receive(&mut self) -> Option<Box<Exchange>> {
        let mut world = self.world.borrow_mut();
        let own = self.id;
        let ready: Vec<_> = world
            .lanes
            .iter()
            .filter(|((_, to), lane)| *to == own && !lane.is_empty())
            .map(|(key, lane)| (*key, lane.len()))
            .collect();
        if ready.is_empty() {
            return None;
        }
        let (key, length) = ready[world.below(ready.len())];
        let at = world.below(length);
        let exchange = world.lanes.get_mut(&key).expect("a lane").swap_remove(at);
        let number = world.request_of(&exchange);
        world.requests[number].flying -= 1;
        if exchange.origin != self.id {
            world.arrived(&exchange);
        }
        Some(exchange)
    }
}

struct Simulation {
    seed: u64,
    world: Rc<RefCell<World>>,
    shards: Vec<(Shard, Desk<Port, u32>)>,
}

/// Says the seed if the test fails.
impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.seed);
        }
    }
}

impl Simulation {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut random = seed;
        let count = 2 + (mix(&mut random) % 4) as usize;
        let length = 4 + (mix(&mut random) % 28) as usize;
        let owners = OwnerMap::new(mix(&mut random) as u32, count);
        let settings = ShardSettings {
            peer_lifetime_seconds: 4000,
            downloads_lifetime_seconds: 1_000_000,
            sweep_seconds: 180,
            peer_ids: seed.is_multiple_of(2),
            max_peers: 0,
            max_swarms: 0,
        };
        let world = Rc::new(RefCell::new(World {
            random,
            weather,
            owners,
            length,
            lanes: BTreeMap::new(),
            oracle: Oracle::default(),
            requests: Vec::new(),
            tokens: BTreeMap::new(),
            now: 10,
            answers_refused: 0,
            answered: 0,
            failed: 0,
        }));
        let shard = |id| {
            let stats = Default::default();
            let shard = Shard::new(id, owners, &settings, seed ^ id as u64, stats);
            let port = Port {
                id,
                world: world.clone(),
            };
            (shard, Desk::new(id, port, length))
        };
        Self {
            seed,
            shards: (0..count).map(shard).collect(),
            world: world.clone(),
        }
    }

    fn hash(&self, number: usize) -> InfoHash {
        InfoHash(support::hash(number as u32))
    }

    fn random_announce(&self) -> Announce {
        let mut world = self.world.borrow_mut();
        let host = world.below(6) as u8;
        let ip = match world.below(3) {
            0 => IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]),
            _ => IpAddr::from([192, 0, 2, host]),
        };
        Announce {
            info_hash: self.hash(world.below(30)),
            peer_id: PeerId([b'x'; 20]),
            ip,
            port: 1 + world.below(3) as u16,
            event: [
                Event::None,
                Event::None,
                Event::Started,
                Event::Stopped,
                Event::Completed,
                Event::Paused,
            ][world.below(6)],
            left: world.below(3) as u64,
            downloaded: 0,
            uploaded: 0,
            num_want: world.below(12) as u32,
        }
    }

    fn remember(&self, asked: What) -> u32 {
        let mut world = self.world.borrow_mut();
        let hashes = match &asked {
            What::Scrape(_, hashes) => hashes.len(),
            What::Announce(_) => 0,
        };
        let at_seconds = world.now;
        world.requests.push(Request {
            asked,
            at_seconds,
            swarm: None,
            counts: vec![None; hashes],
            flying: 0,
            hurt: false,
            outcomes: 0,
        });
        world.requests.len() as u32 - 1
    }

    /// Announces at a shard, as a frontend does.
    fn announce(&mut self, at: ShardId, announce: Announce) -> Asked {
        let number = self.remember(What::Announce(announce));
        let world = self.world.clone();
        let (now, owner) = {
            let world = world.borrow();
            (world.now, world.owners.owner(&announce.info_hash))
        };
        let (shard, desk) = &mut self.shards[at];
        if owner == at {
            let mut peers = PeerList::default();
            let counts = shard.announce(now, &announce, &mut peers);
            let mut world = world.borrow_mut();
            let swarm = world.oracle.announce(&announce);
            world.requests[number as usize].swarm = Some(swarm);
            world.outcome(number, &Answer::Announce(counts, &peers));
            return Asked::Waiting;
        }
        let asked = desk.announce(now, owner, &announce, number);
        if asked == Asked::Refused {
            // Nothing more may come of it.
            world.borrow_mut().requests[number as usize].outcomes = 1;
        }
        asked
    }

    fn scrape(&mut self, at: ShardId, family: AddressFamily, hashes: Vec<InfoHash>) {
        let number = self.remember(What::Scrape(family, hashes.clone()));
        let world = self.world.clone();
        let now = {
            // The shard's own hashes are counted at once.
            let mut world = world.borrow_mut();
            for (position, hash) in hashes.iter().enumerate() {
                if world.owners.owner(hash) == at {
                    let counts = world.oracle.scrape(family, *hash);
                    world.requests[number as usize].counts[position] = Some(counts);
                }
            }
            world.now
        };
        let (shard, desk) = &mut self.shards[at];
        let full = desk.waiting();
        desk.scrape(
            now,
            shard,
            family,
            hashes.into_iter(),
            number,
            |number, answer| {
                if matches!(answer, Answer::Failed) {
                    // For want of credit too, which no message shows.
                    world.borrow_mut().requests[number as usize].hurt = true;
                }
                world.borrow_mut().outcome(number, &answer);
            },
        );
        assert!(desk.waiting() <= full + 1);
    }

    fn drain(&mut self, at: ShardId, limit: usize) -> usize {
        let world = self.world.clone();
        let now = world.borrow().now;
        let (shard, desk) = &mut self.shards[at];
        desk.drain(now, shard, limit, |number, answer| {
            world.borrow_mut().outcome(number, &answer);
        })
    }

    /// A second passes: whoever has waited long enough, and nobody else, is
    /// given up.
    fn second(&mut self) {
        let world = self.world.clone();
        let now = {
            let mut world = world.borrow_mut();
            world.now += 1;
            world.now
        };
        for (_, desk) in &mut self.shards {
            desk.expire(now, |number, answer| {
                assert!(matches!(answer, Answer::Failed));
                let mut world = world.borrow_mut();
                let asked = world.requests[number as usize].at_seconds;
                assert_eq!(now - asked, PATIENCE_SECONDS, "request {number}");
                world.outcome(number, &answer);
            });
        }
    }

    fn quiet(&mut self) {
        while (0..self.shards.len())
            .map(|at| self.drain(at, 1000))
            .sum::<usize>()
            > 0
        {}
        for _ in 0..PATIENCE_SECONDS {
            self.second();
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let at = self.world.borrow_mut().below(self.shards.len());
            let what = self.world.borrow_mut().below(100);
            let turns = self.world.borrow().weather.turns;
            match what {
                0..50 => {
                    let announce = self.random_announce();
                    self.announce(at, announce);
                }
                50..70 => {
                    let (family, hashes) = {
                        let mut world = self.world.borrow_mut();
                        let family = AddressFamily::ALL[world.below(2)];
                        let many = 1 + world.below(12);
                        let hashes: Vec<_> = (0..many).map(|_| world.below(32)).collect();
                        (family, hashes)
                    };
                    let hashes = hashes.into_iter().map(|hash| self.hash(hash)).collect();
                    self.scrape(at, family, hashes);
                }
                70..99 => {
                    let limit = self.world.borrow_mut().below(20);
                    if self.world.borrow_mut().chance(turns) {
                        self.drain(at, limit);
                    }
                }
                _ => self.second(),
            }
        }
        self.quiet();
        let world = self.world.borrow();
        for (number, request) in world.requests.iter().enumerate() {
            assert_eq!(request.outcomes, 1, "request {number} has no outcome");
            assert_eq!(request.flying, 0);
        }
        for (_, desk) in &self.shards {
            assert_eq!(desk.waiting(), 0);
        }
    }

    /// Asks every other shard until it is refused: no credit has leaked, and
    /// none was given twice.
    fn every_credit_is_back(&mut self) {
        self.world.borrow_mut().weather = CALM;
        for at in 0..self.shards.len() {
            for owner in (0..self.shards.len()).filter(|&owner| owner != at) {
                let mut announce = self.random_announce();
                let owners = self.world.borrow().owners;
                let hash = (0..).map(|number| self.hash(number));
                announce.info_hash = hash
                    .into_iter()
                    .find(|hash| owners.owner(hash) == owner)
                    .expect("one of its hashes");
                let credit = self.shards[at].1.credit();
                for _ in 0..credit {
                    assert_eq!(self.announce(at, announce), Asked::Waiting);
                }
                assert_eq!(self.announce(at, announce), Asked::Refused);
            }
        }
        let failed = self.world.borrow().failed;
        self.quiet();
        assert_eq!(self.world.borrow().failed, failed, "all were answered");
        for (_, desk) in &self.shards {
            assert_eq!(desk.waiting(), 0);
        }
    }
}

fn simulate(seeds: std::ops::Range<u64>, weather: Weather) -> (u32, u32) {
    let mut sums = (0, 0);
    for seed in seeds {
        let mut simulation = Simulation::new(seed, weather);
        simulation.run(4000);
        {
            let world = simulation.world.borrow();
            sums.0 += world.answered;
            sums.1 += world.failed;
            if weather.lost == 0 && weather.refused == 0 && weather.turns == 1000 {
                // The credit of the origin keeps room for every answer.
                let patient = world.failed == 0;
                assert!(!patient || world.answers_refused == 0, "seed {seed}");
            }
        }
        simulation.every_credit_is_back();
    }
    sums
}

#[test]
fn calm_lanes() {
    let (answered, _) = simulate(0..12, CALM);
    assert!(answered > 12 * 1000, "{answered}");
}

#[test]
fn lanes_that_refuse() {
    let weather = Weather {
        refused: 100,
        ..CALM
    };
    let (answered, failed) = simulate(100..112, weather);
    assert!(answered > 12 * 500 && failed > 0, "{answered} {failed}");
}

#[test]
fn lanes_that_lose() {
    let weather = Weather { lost: 100, ..CALM };
    let (answered, failed) = simulate(200..212, weather);
    assert!(answered > 12 * 500 && failed > 0, "{answered} {failed}");
}

#[test]
fn shards_that_hardly_have_a_turn() {
    let weather = Weather {
        refused: 20,
        lost: 20,
        turns: 150,
    };
    let (answered, failed) = simulate(300..312, weather);
    assert!(answered > 12 * 200 && failed > 0, "{answered} {failed}");
}
