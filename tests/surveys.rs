//! Walks over all swarms of a shard while it works: every swarm that stays is
//! shown once, in slices, and several walks share the shard.

mod support;

use karuta::bittorrent::{AddressFamily, Announce, Event, InfoHash, PeerId};
use karuta::shard::exchange::PeerList;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::survey::{
    self, ACTIVE, Busy, PART_PEERS, Survey, SurveyDesk, Surveys, SwarmView, WAITING,
};
use karuta::shard::{Shard, ShardSettings};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use support::{Server, Udp, WATCHDOG, hash, mix, shard_settings};

type Key = (usize, [u8; 20]);

/// What a survey was shown of a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    complete: u32,
    incomplete: u32,
    downloaded: u32,
    twin_complete: Option<u32>,
    empty_seconds: Option<u32>,
    /// Address, seeder, age.
    peers: Vec<(SocketAddr, bool, u32)>,
}

#[derive(Default)]
struct Log {
    seen: Vec<(Key, Seen)>,
    more: Vec<(Key, Vec<SocketAddr>)>,
    finished: bool,
    dropped: bool,
}

struct Watch {
    log: Arc<Mutex<Log>>,
    ready: Arc<Mutex<bool>>,
    peers: bool,
}

impl Watch {
    fn new() -> (Box<Self>, Arc<Mutex<Log>>) {
        let log = Arc::new(Mutex::new(Log::default()));
        let ready = Arc::new(Mutex::new(true));
        let watch = Self {
            log: log.clone(),
            ready,
            peers: true,
        };
        (Box::new(watch), log)
    }
}

fn key(swarm: &SwarmView<'_>) -> Key {
    (swarm.family.index(), swarm.info_hash.0)
}

impl Survey for Watch {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        let peers = swarm.peers().map(|peer| {
            let address = SocketAddr::new(peer.ip, peer.port);
            (address, peer.is_seeder, peer.age_seconds)
        });
        let seen = Seen {
            complete: swarm.counts.complete,
            incomplete: swarm.counts.incomplete,
            downloaded: swarm.counts.downloaded,
            twin_complete: swarm.twin().map(|twin| twin.complete),
            empty_seconds: swarm.empty_seconds,
            peers: peers.collect(),
        };
        self.log.lock().expect("log").seen.push((key(swarm), seen));
    }

    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        let peers = swarm.peers();
        let peers = peers.map(|peer| SocketAddr::new(peer.ip, peer.port));
        let more = (key(swarm), peers.collect());
        self.log.lock().expect("log").more.push(more);
    }

    fn wants_peers(&self) -> bool {
        self.peers
    }

    fn ready(&mut self) -> bool {
        *self.ready.lock().expect("flag")
    }

    fn finish(self: Box<Self>) {
        self.log.lock().expect("log").finished = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.log.lock().expect("log").dropped = true;
    }
}

/// One shard with its end of a desk that wakes nobody.
struct Bench {
    shard: Shard,
    surveys: Surveys,
    desk: SurveyDesk,
    now: u32,
}

impl Bench {
    fn new(downloads_lifetime_seconds: u32) -> Self {
        let settings = ShardSettings {
            peer_lifetime_seconds: 60,
            downloads_lifetime_seconds,
            sweep_seconds: 20,
            ..shard_settings()
        };
        let stats = Arc::new(ShardStats::default());
        let (desk, mut surveys) = survey::desk([Box::new(|| {}) as survey::Wake]);
        Self {
            shard: Shard::new(0, OwnerMap::new(3, 1), &settings, 42, stats),
            surveys: surveys.pop().expect("one"),
            desk,
            now: 1000,
        }
    }

    fn announce(&mut self, swarm: u32, peer: u32, v6: bool, event: Event, left: u64) {
        let [a, b, c, d] = peer.to_be_bytes();
        let announce = Announce {
            info_hash: InfoHash(hash(swarm)),
            peer_id: PeerId([b'p'; 20]),
            ip: match v6 {
                false => IpAddr::from([11 | a, b, c, d]),
                true => IpAddr::from([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]),
            },
            port: 6881,
            event,
            left,
            downloaded: 0,
            uploaded: 0,
            num_want: 0,
        };
        let mut peers = PeerList::default();
        self.shard.announce(self.now, &announce, &mut peers);
    }

    fn start(&self) -> Arc<Mutex<Log>> {
        let (watch, log) = Watch::new();
        let mut watch = Some(watch);
        self.desk
            .send(|_| watch.take().expect("one shard"))
            .expect("room");
        log
    }

    fn turn(&mut self) {
        self.surveys.turn(&mut self.shard, self.now);
    }

    fn finish(&mut self, log: &Arc<Mutex<Log>>) {
        while !log.lock().expect("log").finished {
            assert!(self.surveys.has_work(), "it rests for nothing");
            self.turn();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// New swarms with one peer each.
    Grow(u16),
    /// Swarms that lose their only peer.
    Shrink(u16),
    /// Peers for one of the swarms that stay.
    Crowd(u8, u8),
    Sweep,
    Slice,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..600u16).prop_map(Step::Grow),
        2 => (0..900u16).prop_map(Step::Shrink),
        1 => (0..40u8, 0..200u8).prop_map(|(swarm, peers)| Step::Crowd(swarm, peers)),
        1 => Just(Step::Sweep),
        6 => Just(Step::Slice),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn swarms_that_stay_are_shown_once(
        seed in any::<u64>(),
        items in 1..200usize,
        steps in prop::collection::vec(step(), 0..150),
    ) {
        const STAYING: u32 = 40;
        let mut bench = Bench::new(0);
        bench.surveys.set_slice_items(items);
        for swarm in 0..STAYING {
            bench.announce(swarm, 1, swarm % 2 == 1, Event::Started, 1);
        }
        let mut state = seed;
        // Swarms that come and go: number to family.
        let mut passing: BTreeMap<u32, bool> = BTreeMap::new();
        let log = bench.start();
        let mut checked = 0;
        for step in steps {
            match step {
                Step::Grow(count) => for _ in 0..count {
                    let random = mix(&mut state);
                    let (swarm, v6) = (STAYING + random as u32 % 100_000, random >> 63 == 1);
                    // A swarm keeps its family, so that it has one key.
                    let v6 = *passing.entry(swarm).or_insert(v6);
                    bench.announce(swarm, 2, v6, Event::Started, 0);
                },
                Step::Shrink(count) => for _ in 0..count {
                    let Some((swarm, v6)) = passing.pop_first() else { break };
                    bench.announce(swarm, 2, v6, Event::Stopped, 0);
                },
                Step::Crowd(swarm, peers) => for peer in 0..u32::from(peers) {
                    let swarm = u32::from(swarm);
                    bench.announce(swarm, 10 + peer, swarm % 2 == 1, Event::None, u64::from(peer % 2));
                },
                Step::Sweep => {
                    bench.shard.tick(bench.now, 100);
                }
                Step::Slice => {
                    if bench.surveys.has_work() {
                        bench.turn();
                    }
                    let log = log.lock().expect("log");
                    for ((family, hash), seen) in &log.seen[checked..] {
                        let family = AddressFamily::ALL[*family];
                        let now = bench.shard.scrape(family, &InfoHash(*hash));
                        prop_assert_eq!((now.complete, now.incomplete), (seen.complete, seen.incomplete));
                        let shown = (now.complete + now.incomplete).min(PART_PEERS as u32);
                        prop_assert_eq!(seen.peers.len() as u32, shown);
                        let seeders = seen.peers.iter().filter(|(_, is_seeder, _)| *is_seeder);
                        prop_assert_eq!(seeders.count() as u32, seen.complete.min(shown));
                    }
                    checked = log.seen.len();
                }
            }
        }
        bench.finish(&log);
        let log = log.lock().expect("log");
        let mut times: BTreeMap<Key, u32> = BTreeMap::new();
        for (key, _) in &log.seen {
            *times.entry(*key).or_default() += 1;
        }
        prop_assert!(times.values().all(|times| *times == 1), "none twice");
        for swarm in 0..STAYING {
            let key = (swarm as usize % 2, hash(swarm));
            prop_assert!(times.contains_key(&key), "{} was not shown", swarm);
        }
    }
}

#[test]
fn a_giant_swarm_is_shown_in_parts_with_ages() {
    let mut bench = Bench::new(0);
    let count = PART_PEERS as u32 * 3 + 7;
    for peer in 0..count {
        bench.announce(1, peer, false, Event::Started, u64::from(peer % 3));
    }
    bench.announce(2, 1, false, Event::Started, 1);
    bench.now += 13;
    let log = bench.start();
    bench.finish(&log);
    let log = log.lock().expect("log");
    let giant = log.seen.iter().find(|(key, _)| key.1 == hash(1));
    let (_, giant) = giant.expect("the giant");
    assert_eq!(giant.peers.len(), PART_PEERS);
    assert!(giant.peers.iter().all(|(.., age)| *age == 13));
    assert_eq!(log.more.len(), 3);
    let first = giant.peers.iter().map(|(address, ..)| *address);
    let more = log.more.iter().flat_map(|(_, peers)| peers).copied();
    let all: Vec<SocketAddr> = first.chain(more).collect();
    assert_eq!(all.len(), count as usize);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count as usize);
}

#[test]
fn who_wants_no_peers_is_shown_no_parts() {
    let mut bench = Bench::new(0);
    for peer in 0..PART_PEERS as u32 * 3 {
        bench.announce(1, peer, false, Event::Started, 1);
    }
    let (mut watch, log) = Watch::new();
    watch.peers = false;
    let mut watch = Some(watch);
    bench
        .desk
        .send(|_| watch.take().expect("one shard"))
        .expect("room");
    bench.finish(&log);
    let log = log.lock().expect("log");
    assert_eq!((log.seen.len(), log.more.len()), (1, 0));
}

#[test]
fn twins_and_empty_swarms_are_told() {
    let mut bench = Bench::new(3600);
    bench.announce(1, 1, false, Event::Started, 0);
    bench.announce(1, 1, true, Event::Started, 1);
    bench.announce(2, 1, false, Event::Completed, 0);
    bench.announce(2, 1, false, Event::Stopped, 0);
    bench.now += 9;
    let log = bench.start();
    bench.finish(&log);
    let log = log.lock().expect("log");
    let seen: BTreeMap<Key, &Seen> = log.seen.iter().map(|(key, seen)| (*key, seen)).collect();
    assert_eq!(seen[&(0, hash(1))].twin_complete, Some(0));
    assert_eq!(seen[&(1, hash(1))].twin_complete, Some(1));
    let empty = seen[&(0, hash(2))];
    assert_eq!(
        (empty.twin_complete, empty.empty_seconds, empty.downloaded),
        (None, Some(9), 1)
    );
    assert_eq!(seen[&(0, hash(1))].empty_seconds, None);
}

#[test]
fn who_is_not_ready_rests_until_nudged() {
    let mut bench = Bench::new(0);
    bench.announce(1, 1, false, Event::Started, 1);
    let (watch, log) = Watch::new();
    let ready = watch.ready.clone();
    *ready.lock().expect("flag") = false;
    let mut watch = Some(watch);
    bench
        .desk
        .send(|_| watch.take().expect("one shard"))
        .expect("room");
    bench.turn();
    assert!(!bench.surveys.has_work());
    *ready.lock().expect("flag") = true;
    bench.desk.nudge(0);
    assert!(bench.surveys.has_work());
    bench.finish(&log);
    assert!(!bench.surveys.has_work());
}

#[test]
fn surveys_take_turns_and_the_rest_wait() {
    let mut bench = Bench::new(0);
    bench.surveys.set_slice_items(1);
    for swarm in 0..100 {
        bench.announce(swarm, 1, false, Event::Started, 1);
    }
    let logs: Vec<_> = (0..ACTIVE + 1).map(|_| bench.start()).collect();
    for _ in 0..ACTIVE * 4 {
        bench.turn();
    }
    let seen: Vec<usize> = logs
        .iter()
        .map(|log| log.lock().expect("log").seen.len())
        .collect();
    assert!(seen[..ACTIVE].iter().all(|seen| *seen > 0), "{seen:?}");
    assert_eq!(seen[ACTIVE], 0, "it waits");
    for log in &logs {
        bench.finish(log);
    }
    for log in &logs {
        let log = log.lock().expect("log");
        assert_eq!((log.seen.len(), log.dropped), (100, true));
    }
}

#[test]
fn too_many_are_refused_and_those_that_wait_at_the_end_are_dropped() {
    let bench = Bench::new(0);
    let logs: Vec<_> = (0..WAITING).map(|_| bench.start()).collect();
    let refused = bench.desk.send(|_| panic!("none is made"));
    assert_eq!(refused, Err(Busy));
    let Bench { surveys, desk, .. } = bench;
    drop(surveys);
    for log in logs {
        let log = log.lock().expect("log");
        assert!(log.dropped && !log.finished);
    }
    let (watch, log) = Watch::new();
    let mut watch = Some(watch);
    assert_eq!(desk.send(|_| watch.take().expect("one")), Ok(()));
    assert!(log.lock().expect("log").dropped, "to an ended shard");
}

/// Sends the number of swarms that it has seen, at the end.
struct Count(Sender<usize>, usize);

impl Survey for Count {
    fn swarm(&mut self, _: &SwarmView<'_>) {
        self.1 += 1;
    }

    fn wants_peers(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>) {
        self.0.send(self.1).expect("the test listens");
    }
}

fn count(desk: &SurveyDesk) -> Receiver<usize> {
    let (sender, receiver) = channel();
    desk.send(|_| Box::new(Count(sender.clone(), 0)))
        .expect("room");
    receiver
}

#[test]
fn a_running_tracker_is_surveyed_while_it_serves() {
    let server = Server::with(3, |_, _| {});
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    let mut surveys = Vec::new();
    for swarm in 0..300 {
        client.announce(&support::Announce::leecher(hash(swarm), 6881));
        if swarm % 50 == 0 {
            surveys.push(count(&server.surveys()));
        }
    }
    surveys.push(count(&server.surveys()));
    let mut last = 0;
    for survey in surveys {
        let swarms = (0..3).map(|_| survey.recv_timeout(WATCHDOG).expect("an end"));
        let swarms = swarms.sum();
        assert!(swarms >= last, "{swarms} after {last}");
        last = swarms;
    }
    assert_eq!(last, 300);
}
