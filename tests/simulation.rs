//! A whole tracker of several shards on one thread, over lanes that refuse,
//! lose and reorder, against a plain model of what its clients may be told.
//!
//! The model ([`Oracle`]) is a map of maps. It is told of an announce when the
//! owner takes it out of its lane, since that is when the owner stores it; it
//! says at once what the answer must be, and the client must get exactly that
//! answer, once. Everything follows from the seed, which each failure names.

mod oracle;

#[path = "support/shard_settings.rs"]
mod shard_settings;

use karuta::bittorrent::{
    AddressFamily, Announce, AnnounceCounts, Event, InfoHash, PeerId, ScrapeCounts,
};
use karuta::frontend::desk::{Answer, Asked, Desk, Lanes, PATIENCE_SECONDS, WRITE_OFF_SECONDS};
use karuta::shard::exchange::{Exchange, PeerList, Question};
use karuta::shard::owner::{OwnerMap, ShardId};
use karuta::shard::{Shard, ShardSettings};
use karuta::swarm::Random;
use oracle::Oracle;
use shard_settings::shard_settings;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

const STEPS: u32 = 5000;
const LANE_LENGTH: usize = 8;
/// Any start; far from zero and not round.
const START_SECONDS: u32 = 1_000_003;

#[test]
fn every_client_is_told_the_truth_once_over_sound_lanes() {
    (1..=8).for_each(|seed| run(seed, Way::Sound));
}

#[test]
fn every_client_is_told_the_truth_once_by_late_shards() {
    (1..=8).for_each(|seed| run(seed, Way::Late));
}

#[test]
fn every_client_is_told_the_truth_once_over_lossy_lanes() {
    (1..=8).for_each(|seed| run(seed, Way::Lossy));
}

/// What happens to messages. All lanes reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They arrive while their clients wait.
    Sound,
    /// They arrive, many of them after patience has ended.
    Late,
    /// Some are refused although there is room, or lost.
    Lossy,
}

fn run(seed: u64, way: Way) {
    let _named = NamesSeed(seed, way);
    let mut tracker = Tracker::new(seed, way);
    for step in 0..STEPS {
        match tracker.random.below(100) {
            0..60 => tracker.announce(),
            60..75 => tracker.scrape(),
            75..99 => {
                let (shard, limit) = (tracker.any_shard(), 1 + tracker.random.below(6));
                tracker.drain(shard, limit as usize);
            }
            _ => tracker.second(step),
        }
    }
    tracker.finish();
}

/// Prints the seed when a check fails.
struct NamesSeed(u64, Way);

impl Drop for NamesSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, {:?}", self.0, self.1);
        }
    }
}

/// The shards, their desks, and what joins them.
struct Tracker {
    shards: Vec<Shard>,
    desks: Vec<Desk<SimulatedLanes, u64>>,
    world: Rc<RefCell<World>>,
    random: Random,
    now: u32,
    way: Way,
    /// Seconds that have passed, for [`Way::Late`].
    seconds: u32,
}

impl Tracker {
    fn new(seed: u64, way: Way) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(4) as usize;
        let owners = OwnerMap::new(random.next_u64() as u32, count);
        let settings = ShardSettings {
            downloads_lifetime_seconds: 86_400,
            sweep_seconds: 10,
            opentracker_statistics: true,
            ..shard_settings()
        };
        let world = Rc::new(RefCell::new(World {
            lanes: BTreeMap::new(),
            is_sound: way != Way::Lossy,
            mishaps: way == Way::Lossy,
            random: Random::new(random.next_u64()),
            asking: 0,
            asked: HashMap::new(),
            clients: Vec::new(),
            oracle: Oracle::default(),
        }));
        Self {
            shards: (0..count)
                .map(|id| Shard::new(id, owners, &settings, random.next_u64(), Arc::default()))
                .collect(),
            desks: (0..count)
                .map(|id| {
                    let world = world.clone();
                    Desk::new(id, SimulatedLanes { id, count, world }, LANE_LENGTH)
                })
                .collect(),
            world,
            random,
            now: START_SECONDS,
            way,
            seconds: 0,
        }
    }

    fn any_shard(&mut self) -> ShardId {
        self.random.below(self.shards.len() as u32) as usize
    }

    fn any_family(&mut self) -> AddressFamily {
        AddressFamily::ALL[self.random.below(2) as usize]
    }

    /// Few swarms, so that they overlap; they fall to all shards.
    fn any_hash(&mut self) -> InfoHash {
        let mut bytes = [0x5a; 20];
        let number = self.random.below(24).wrapping_mul(0x9E37_79B9);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        InfoHash(bytes)
    }

    fn any_announce(&mut self) -> Announce {
        let host = self.random.below(25) as u8 + 1;
        let ip = match self.any_family() {
            AddressFamily::V4 => IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)),
            AddressFamily::V6 => IpAddr::V6(Ipv6Addr::from([host; 16])),
        };
        let event = match self.random.below(5) {
            0 => Event::None,
            1 => Event::Started,
            2 => Event::Stopped,
            3 => Event::Completed,
            _ => Event::Paused,
        };
        Announce {
            info_hash: self.any_hash(),
            peer_id: PeerId([host; 20]),
            ip,
            port: 6881 + self.random.below(2) as u16,
            event,
            left: u64::from(self.random.below(3)),
            downloaded: 0,
            uploaded: 0,
            num_want: self.random.below(40),
        }
    }

    fn announce(&mut self) {
        let (from, announce) = (self.any_shard(), self.any_announce());
        let owner = self.shards[from].owners().owner(&announce.info_hash);
        if owner == from {
            let mut peers = PeerList::default();
            let counts = self.shards[from].announce(self.now, &announce, &mut peers);
            let oracle = &mut self.world.borrow_mut().oracle;
            assert_eq!(counts, oracle.announce(&announce));
            oracle.check_peers(&announce, &peers);
        } else {
            self.ask(from, owner, &announce);
        }
    }

    /// Returns the client's number and whether it was refused.
    fn ask(&mut self, from: ShardId, owner: ShardId, announce: &Announce) -> (usize, Asked) {
        let request = Request::Announce(*announce, None);
        let client = self.world.borrow_mut().admit(request);
        let asked = self.desks[from].announce(self.now, owner, announce, client);
        if asked == Asked::Refused {
            self.world.borrow_mut().told(client, &Answer::Failed);
        }
        (client as usize, asked)
    }

    fn scrape(&mut self) {
        let (from, family) = (self.any_shard(), self.any_family());
        let count = 1 + self.random.below(9);
        let hashes: Vec<InfoHash> = (0..count).map(|_| self.any_hash()).collect();
        let client = {
            let world = &mut *self.world.borrow_mut();
            let owners = self.shards[from].owners();
            // The shard's own are counted at once.
            let due = hashes
                .iter()
                .map(|hash| (owners.owner(hash) == from).then(|| world.oracle.scrape(family, hash)))
                .collect();
            world.admit(Request::Scrape {
                family,
                hashes: hashes.clone(),
                due,
            })
        };
        let world = self.world.clone();
        self.desks[from].scrape(
            self.now,
            &mut self.shards[from],
            family,
            hashes.into_iter(),
            client,
            |client, answer| world.borrow_mut().told(client, &answer),
        );
    }

    fn drain(&mut self, at: ShardId, limit: usize) -> usize {
        let world = self.world.clone();
        self.desks[at].drain(self.now, &mut self.shards[at], limit, |client, answer| {
            world.borrow_mut().told(client, &answer)
        })
    }

    /// Drains until the lanes are empty.
    fn settle(&mut self) {
        let count = self.shards.len();
        while (0..count).any(|at| self.drain(at, 1000) > 0) {}
    }

    fn expire(&mut self) -> usize {
        let world = self.world.clone();
        let mut given_up = 0;
        for desk in &mut self.desks {
            given_up += desk.expire(self.now, |client, answer| {
                assert!(matches!(answer, Answer::Failed), "an answer out of nothing");
                world.borrow_mut().told(client, &answer);
            });
        }
        given_up
    }

    /// Time passes. Over sound lanes everyone is answered before; late messages
    /// arrive before they are written off.
    fn second(&mut self, step: u32) {
        self.seconds += 1;
        let all_arrive = match self.way {
            Way::Sound => true,
            Way::Late => self.seconds.is_multiple_of(8),
            Way::Lossy => false,
        };
        if all_arrive {
            self.settle();
        }
        self.now += match self.way {
            Way::Sound => 1,
            Way::Late => PATIENCE_SECONDS,
            // Now and then what was lost is written off.
            Way::Lossy if self.seconds.is_multiple_of(2) => WRITE_OFF_SECONDS,
            Way::Lossy => 1,
        };
        let given_up = self.expire();
        let is_sound = self.way == Way::Sound;
        assert!(!is_sound || given_up == 0, "step {step}: gave up too soon");
        for shard in &mut self.shards {
            let report = shard.tick(self.now, 1000);
            assert_eq!(report.expired_peers, 0, "nobody is silent for so long");
        }
    }

    /// After the last patience has ended nobody waits, everyone was told once,
    /// and all credit is there again.
    fn finish(&mut self) {
        self.world.borrow_mut().mishaps = false;
        self.now += PATIENCE_SECONDS + 1;
        // Answers that come just in time, or too late.
        if self.random.below(2) == 0 {
            self.settle();
        }
        self.expire();
        self.settle();
        // What was lost is written off.
        self.now += WRITE_OFF_SECONDS;
        self.expire();
        assert!(self.desks.iter().all(|desk| desk.waiting() == 0));
        self.world.borrow().check_all_told();
        let count = self.shards.len();
        for (from, owner) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            if from != owner {
                self.use_all_credit(from, owner);
            }
        }
        let world = self.world.borrow();
        world.check_all_told();
        let told = |outcome| {
            let of = |client: &&Client| client.outcome == Some(outcome);
            world.clients.iter().filter(of).count()
        };
        // Or the run has shown nothing.
        assert!(told(Outcome::Answered) > 500, "hardly anyone was answered");
        assert!(told(Outcome::Failed) > 100, "hardly anyone was refused");
    }

    fn use_all_credit(&mut self, from: ShardId, owner: ShardId) {
        let credit = self.desks[from].credit();
        let mut announce = self.any_announce();
        while self.shards[from].owners().owner(&announce.info_hash) != owner {
            announce = self.any_announce();
        }
        let mut asked = Vec::new();
        for number in 0..credit {
            let (client, result) = self.ask(from, owner, &announce);
            assert_eq!(
                result,
                Asked::Waiting,
                "credit {number} of {credit} is gone"
            );
            asked.push(client);
        }
        let (_, beyond) = self.ask(from, owner, &announce);
        assert_eq!(beyond, Asked::Refused, "more credit than there was");
        self.settle();
        assert_eq!(self.desks[from].waiting(), 0);
        let world = self.world.borrow();
        let answered = |&client: &usize| world.clients[client].outcome == Some(Outcome::Answered);
        assert!(asked.iter().all(answered));
    }
}

/// One shard's end of the lanes.
struct SimulatedLanes {
    id: ShardId,
    count: usize,
    world: Rc<RefCell<World>>,
}

impl Lanes for SimulatedLanes {
    fn shards(&self) -> usize {
        self.count
    }

    fn send(&mut self, to: ShardId, exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        assert_ne!(to, self.id, "a question to oneself");
        let world = &mut *self.world.borrow_mut();
        if exchange.origin == self.id {
            let key = (self.id, exchange.token);
            let known = world.asked.entry(key).or_insert(world.asking);
            assert_eq!(*known, world.asking, "a token used twice");
        } else {
            world.check_answer(&exchange);
        }
        let lane = world.lanes.entry((self.id, to)).or_default();
        let is_full = lane.len() >= LANE_LENGTH;
        // Credit sees to this, unless messages are lost: what is written off
        // may be on its way all the same.
        assert!(!(is_full && world.is_sound), "no room in the lane");
        if is_full || world.mishap() {
            return Err(exchange);
        }
        if !world.mishap() {
            world
                .lanes
                .entry((self.id, to))
                .or_default()
                .push_back(exchange);
        }
        Ok(())
    }

    fn receive(&mut self) -> Option<Box<Exchange>> {
        let world = &mut *self.world.borrow_mut();
        let mut inbound: Vec<_> = (world.lanes.iter_mut())
            .filter(|((_, to), lane)| *to == self.id && !lane.is_empty())
            .map(|(_, lane)| lane)
            .collect();
        if inbound.is_empty() {
            return None;
        }
        let at = world.random.below(inbound.len() as u32) as usize;
        let lane = &mut inbound[at];
        let at = world.random.below(lane.len() as u32) as usize;
        let exchange = lane.swap_remove_back(at)?;
        if exchange.origin != self.id {
            world.taken(&exchange);
        }
        Some(exchange)
    }
}

/// What all lanes and clients share.
struct World {
    /// From one shard to another.
    lanes: BTreeMap<(ShardId, ShardId), VecDeque<Box<Exchange>>>,
    /// Nothing is ever lost in this run.
    is_sound: bool,
    /// Something may be lost now.
    mishaps: bool,
    random: Random,
    /// The client that was admitted last: questions that are sent are its.
    asking: u64,
    /// Which client a desk's token stands for.
    asked: HashMap<(ShardId, u64), u64>,
    clients: Vec<Client>,
    oracle: Oracle,
}

struct Client {
    request: Request,
    outcome: Option<Outcome>,
}

/// What a client asked, and what it is due: known once the owner has it.
enum Request {
    Announce(Announce, Option<(AnnounceCounts, PeerList)>),
    Scrape {
        family: AddressFamily,
        hashes: Vec<InfoHash>,
        due: Vec<Option<ScrapeCounts>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Failed,
}

impl World {
    fn mishap(&mut self) -> bool {
        self.mishaps && self.random.below(40) == 0
    }

    fn admit(&mut self, request: Request) -> u64 {
        self.asking = self.clients.len() as u64;
        self.clients.push(Client {
            request,
            outcome: None,
        });
        self.asking
    }

    /// The owner takes a question out of its lane and will handle it now.
    fn taken(&mut self, exchange: &Exchange) {
        let client = self.asked[&(exchange.origin, exchange.token)];
        let request = &mut self.clients[client as usize].request;
        match (request, exchange.question) {
            (Request::Announce(announce, due), Question::Announce(question)) => {
                assert_eq!(*announce, question, "another question than the client's");
                let peers = PeerList::default();
                let earlier = due.replace((self.oracle.announce(announce), peers));
                assert_eq!(earlier, None, "handled twice");
            }
            (
                Request::Scrape {
                    family: asked,
                    hashes,
                    due,
                },
                Question::Scrape(family),
            ) => {
                assert_eq!(*asked, family);
                assert_eq!(exchange.hashes.len(), exchange.positions.len());
                for (hash, &position) in exchange.hashes.iter().zip(&exchange.positions) {
                    let position = usize::from(position);
                    assert_eq!(hashes[position], *hash);
                    let counts = self.oracle.scrape(family, hash);
                    assert_eq!(due[position].replace(counts), None, "handled twice");
                }
            }
            _ => panic!("a question of another kind"),
        }
    }

    /// The owner has handled a question and sends its answer.
    fn check_answer(&mut self, exchange: &Exchange) {
        let client = self.asked[&(exchange.origin, exchange.token)];
        match &mut self.clients[client as usize].request {
            Request::Announce(announce, due) => {
                let (counts, peers) = due.as_mut().expect("taken before");
                assert_eq!(exchange.counts, *counts);
                self.oracle.check_peers(announce, &exchange.peers);
                peers.clone_from(&exchange.peers);
            }
            Request::Scrape { due, .. } => {
                assert_eq!(exchange.scrape_counts.len(), exchange.positions.len());
                for (counts, &position) in exchange.scrape_counts.iter().zip(&exchange.positions) {
                    assert_eq!(due[usize::from(position)], Some(*counts));
                }
            }
        }
    }

    /// A client gets its answer.
    fn told(&mut self, client: u64, answer: &Answer<'_>) {
        let Client { request, outcome } = &mut self.clients[client as usize];
        let now = match (request, answer) {
            (_, Answer::Failed) => Outcome::Failed,
            (Request::Announce(_, due), Answer::Announce(counts, peers)) => {
                let (due_counts, due_peers) = due.as_ref().expect("an answer out of nothing");
                assert_eq!((counts, *peers), (due_counts, due_peers));
                Outcome::Answered
            }
            (Request::Scrape { hashes, due, .. }, Answer::Scrape(told, counts)) => {
                assert_eq!(hashes, told);
                let counts: Vec<_> = counts.iter().copied().map(Some).collect();
                assert_eq!(*due, counts);
                Outcome::Answered
            }
            _ => panic!("an answer of another kind"),
        };
        assert_eq!(outcome.replace(now), None, "client {client} told twice");
    }

    fn check_all_told(&self) {
        let untold = self.clients.iter().position(|it| it.outcome.is_none());
        assert_eq!(untold, None, "this client was never told anything");
    }
}
