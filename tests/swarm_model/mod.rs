//! A naive model of a shard's swarms, and the property that the store agrees.
//!
//! Uses the public interface only, so that both `tests/swarm_properties.rs`
//! and a fuzz target can include it by path. The model is as plain as can be:
//! a map of maps and no limit on work. What it checks after each step: counts,
//! membership, capacity, totals, and that the peers given are members of the
//! right kind, in the exact number, nobody twice, never the announcer unless
//! it is alone.

mod swarm;

use karuta::bittorrent::{AnnounceCounts, Event, InfoHash};
use karuta::swarm::{
    Capacity, Change, NotStored, Random, Restored, SavedSwarm, Stored, StoredPeer, SwarmAnnounce,
    SwarmSettings, SwarmStore, VisitCursor, VisitedPeer,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use swarm::{Member, ModelSwarm};

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// `swarm` and `peer` are small numbers that stand for hash and address.
    Announce {
        swarm: u8,
        peer: u16,
        event: Event,
        left: bool,
        want: u8,
    },
    /// The same for a run of peers, so that swarms get big.
    Crowd {
        swarm: u8,
        first: u16,
        count: u8,
        event: Event,
        left: bool,
    },
    /// Time passes.
    Wait { seconds: u16 },
    /// Some of a sweep.
    Sweep { budget: u16 },
    /// A sweep until the pass that begins there is complete.
    SweepAll,
    /// Asks for one swarm.
    Scrape { swarm: u8 },
    /// Takes a swarm off.
    Remove { swarm: u8 },
    /// Other caps: this much room.
    Cap { peers: u8, swarms: u8 },
    /// No caps.
    Uncap,
    /// Walks over all in slices.
    Visit { budget: u8 },
    /// Puts back what was saved: a run of peers, every second a seeder.
    Restore {
        swarm: u8,
        first: u16,
        count: u8,
        age: u16,
        downloads: u8,
    },
}

/// The settings and the start of a run.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Seeds the store's keys and the choice of peers.
    pub seed: u64,
    /// The first `now_seconds`.
    pub now_seconds: u32,
    /// Of a peer.
    pub lifetime: u8,
    /// Of an empty swarm.
    pub empty_lifetime: u8,
}

/// Runs the steps on a store and on the model. Panics where they differ.
///
/// `peer_of` makes the peer of a number, the same address for the same number.
pub fn run<P: StoredPeer>(start: Start, steps: &[Step], peer_of: impl Fn(u16) -> P) {
    let settings = SwarmSettings {
        peer_lifetime_seconds: u32::from(start.lifetime) + 1,
        empty_swarm_lifetime_seconds: u32::from(start.empty_lifetime),
    };
    let mut run = Run {
        store: SwarmStore::new(settings, start.seed),
        random: Random::new(start.seed),
        capacity: Capacity::UNLIMITED,
        now: start.now_seconds,
        settings,
        swarms: BTreeMap::new(),
        numbers: HashMap::new(),
        peer_of,
        room: None,
        downloads: 0,
    };
    for step in steps {
        run.step(*step);
        run.check_totals();
    }
    run.check_everything();
}

struct Run<P: StoredPeer, F> {
    store: SwarmStore<P>,
    random: Random,
    capacity: Capacity,
    now: u32,
    settings: SwarmSettings,
    swarms: BTreeMap<u8, ModelSwarm>,
    /// The number of each compact address used.
    numbers: HashMap<Vec<u8>, u16>,
    peer_of: F,
    /// Room for peers and swarms, if capped.
    room: Option<(u64, u64)>,
    downloads: u64,
}

fn info_hash(swarm: u8) -> InfoHash {
    let mut bytes = [0x5a; 20];
    bytes[0] = swarm;
    InfoHash(bytes)
}

impl<P: StoredPeer, F: Fn(u16) -> P> Run<P, F> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Announce {
                swarm,
                peer,
                event,
                left,
                want,
            } => {
                self.announce(swarm, peer, event, left, want);
            }
            Step::Crowd {
                swarm,
                first,
                count,
                event,
                left,
            } => {
                for peer in 0..u16::from(count) {
                    let want = if peer % 16 == 0 { 20 } else { 0 };
                    self.announce(swarm, (first + peer) % 1000, event, left, want);
                }
            }
            Step::Wait { seconds } => self.now = self.now.wrapping_add(u32::from(seconds)),
            Step::Sweep { budget } => self.sweep(usize::from(budget)),
            Step::SweepAll => self.sweep_all(),
            Step::Scrape { swarm } => self.check_swarm(swarm),
            Step::Remove { swarm } => self.remove(swarm),
            Step::Cap { peers, swarms } => {
                self.room = Some((u64::from(peers), u64::from(swarms)));
                self.capacity = Capacity {
                    peers: u64::from(peers),
                    swarms: u64::from(swarms),
                };
            }
            Step::Uncap => {
                self.room = None;
                self.capacity = Capacity::UNLIMITED;
            }
            Step::Visit { budget } => self.visit(usize::from(budget)),
            Step::Restore {
                swarm,
                first,
                count,
                age,
                downloads,
            } => {
                let numbers = first..first + u16::from(count);
                self.restore(swarm, numbers, u32::from(age), u32::from(downloads));
            }
        }
    }

    fn announce(&mut self, swarm: u8, peer: u16, event: Event, left: bool, want: u8) {
        let is_seeder = !left || event == Event::Completed;
        let announced = (self.peer_of)(peer);
        self.numbers.insert(announced.compact().to_vec(), peer);
        let announce = SwarmAnnounce {
            info_hash: info_hash(swarm),
            peer: announced,
            event,
            is_seeder,
            num_want: u32::from(want),
        };
        let mut lookup = self.store.lookup(&announce.info_hash);
        self.store.prefetch_group(&mut lookup);
        self.store.prefetch_slot(&mut lookup);
        self.store
            .prefetch_peers(&lookup, &announce.info_hash, &announced);
        let mut out: Vec<P> = Vec::new();
        let (capacity, random) = (&mut self.capacity, &mut self.random);
        let outcome = self
            .store
            .announce(self.now, &lookup, &announce, capacity, random, &mut out);

        let (stored, change) = self.model_announce(swarm, peer, event, is_seeder);
        assert_eq!(
            (outcome.stored, outcome.change),
            (stored, change),
            "swarm {swarm} peer {peer}"
        );
        let known = self.swarms.get(&swarm).cloned().unwrap_or_default();
        if event == Event::Stopped {
            assert!(out.is_empty(), "stopped is given nobody");
            let expected = AnnounceCounts {
                downloaded: outcome.counts.downloaded,
                ..known.counts()
            };
            assert_eq!(outcome.counts, expected);
        } else {
            assert_eq!(outcome.counts, known.counts());
            self.check_given(&known, peer, is_seeder, usize::from(want), &out);
        }
    }

    /// The rules of announcing, in the plainest words.
    fn model_announce(
        &mut self,
        swarm: u8,
        peer: u16,
        event: Event,
        is_seeder: bool,
    ) -> (Stored, Change) {
        if event == Event::Stopped {
            let stored = Stored::No(NotStored::Stopped);
            let Some(known) = self.swarms.get_mut(&swarm) else {
                return (stored, Change::None);
            };
            if known.members.remove(&peer).is_none() {
                return (stored, Change::None);
            }
            self.give_back(1);
            self.after_leaving(swarm);
            return (stored, Change::Left);
        }
        let before = self
            .swarms
            .get(&swarm)
            .and_then(|known| known.members.get(&peer))
            .copied();
        if before.is_none()
            && let Some((peers, swarms)) = &mut self.room
        {
            if *peers == 0 {
                return (Stored::No(NotStored::PeerCap), Change::None);
            }
            if !self.swarms.contains_key(&swarm) {
                if *swarms == 0 {
                    return (Stored::No(NotStored::SwarmCap), Change::None);
                }
                *swarms -= 1;
            }
            *peers -= 1;
        }
        let known = self.swarms.entry(swarm).or_default();
        let is_paused = event == Event::Paused && !is_seeder;
        known.members.insert(
            peer,
            Member {
                is_seeder,
                is_paused,
                seen: self.now,
            },
        );
        let completes = event == Event::Completed && !before.is_some_and(|peer| peer.is_seeder);
        if completes {
            known.downloads += 1;
            self.downloads += 1;
        }
        let change = match before {
            _ if completes => Change::Completed,
            Some(_) => Change::Updated,
            None => Change::Joined,
        };
        (Stored::Yes, change)
    }

    fn check_given(&self, known: &ModelSwarm, peer: u16, is_seeder: bool, want: usize, out: &[P]) {
        let given: Vec<u16> = out
            .iter()
            .map(|peer| self.numbers[peer.compact()])
            .collect();
        let others = || known.members.iter().filter(|(number, _)| **number != peer);
        let seeders = if is_seeder {
            0
        } else {
            others().filter(|(_, peer)| peer.is_seeder).count()
        };
        let leechers = others().filter(|(_, peer)| !peer.is_seeder).count();
        if seeders + leechers == 0 {
            let expected: &[u16] = if want > 0 { &[peer] } else { &[] };
            assert_eq!(given, expected, "alone it is given itself");
            return;
        }
        assert_eq!(
            given.len(),
            want.min(seeders + leechers),
            "the exact number"
        );
        assert_eq!(
            given.iter().collect::<BTreeSet<_>>().len(),
            given.len(),
            "nobody twice"
        );
        assert!(!given.contains(&peer), "never itself");
        let kinds: Vec<bool> = given
            .iter()
            .map(|number| known.members.get(number).expect("members only").is_seeder)
            .collect();
        let first = kinds.iter().filter(|is_seeder| **is_seeder).count();
        assert_eq!(first, want.min(seeders), "as many seeders as there are");
        assert!(
            kinds[..first].iter().all(|is_seeder| *is_seeder),
            "seeders first"
        );
    }

    fn give_back(&mut self, count: u64) {
        if let Some((peers, _)) = &mut self.room {
            *peers += count;
        }
    }

    fn forget(&mut self, swarm: u8) {
        self.swarms.remove(&swarm);
        if let Some((_, swarms)) = &mut self.room {
            *swarms += 1;
        }
    }

    fn after_leaving(&mut self, swarm: u8) {
        let Some(known) = self.swarms.get_mut(&swarm) else {
            return;
        };
        if known.members.is_empty() {
            known.empty_since = self.now;
            if known.downloads == 0 || self.settings.empty_swarm_lifetime_seconds == 0 {
                self.forget(swarm);
            }
        }
    }

    /// A part of a pass may remove any of those that are due: the model asks
    /// which have gone and checks that each of them was due.
    fn sweep(&mut self, budget: usize) {
        let report = self.store.sweep(self.now, budget, &mut self.capacity);
        assert!(
            report.visited <= budget.max(1) + 1200,
            "{report:?} for {budget}"
        );
        let stays = self.members_by_swarm();
        let mut expired = 0;
        let mut removed = 0;
        for swarm in self.swarms.keys().copied().collect::<Vec<_>>() {
            let members = stays.get(&swarm);
            let known = self.swarms.get_mut(&swarm).expect("a key");
            let lifetime = self.settings.peer_lifetime_seconds;
            let now = self.now;
            let had_members = !known.members.is_empty();
            known.members.retain(|number, peer| {
                let stays = members.is_some_and(|members| members.contains(number));
                let due = now.wrapping_sub(peer.seen) > lifetime;
                assert!(stays || due, "swarm {swarm}: {number} was not due");
                expired += u64::from(!stays);
                stays
            });
            if members.is_none() {
                let kept = known.downloads > 0 && self.settings.empty_swarm_lifetime_seconds > 0;
                let idle = now.wrapping_sub(known.empty_since);
                let over = !had_members && idle > self.settings.empty_swarm_lifetime_seconds;
                assert!(
                    known.members.is_empty() && (over || !kept),
                    "swarm {swarm} goes too soon"
                );
                removed += 1;
                self.forget(swarm);
            } else if had_members && known.members.is_empty() {
                known.empty_since = now;
            }
        }
        self.give_back(expired);
        assert_eq!(
            (report.expired_peers, report.removed_swarms),
            (expired, removed)
        );
    }

    /// After two whole passes nobody is there who is due: one ends the pass
    /// under way, and the next one meets everybody.
    fn sweep_all(&mut self) {
        // Larger than anything a run makes, so each ends with its pass.
        self.sweep(1_000_000);
        self.sweep(1_000_000);
        for (swarm, known) in &self.swarms {
            let idle = self.now.wrapping_sub(known.empty_since);
            let kept = idle <= self.settings.empty_swarm_lifetime_seconds;
            assert!(!known.members.is_empty() || kept, "swarm {swarm} is over");
            for (number, peer) in &known.members {
                let age = self.now.wrapping_sub(peer.seen);
                assert!(
                    age <= self.settings.peer_lifetime_seconds,
                    "swarm {swarm}: {number} is due"
                );
            }
        }
    }

    fn members_by_swarm(&self) -> BTreeMap<u8, BTreeSet<u16>> {
        let mut all = BTreeMap::new();
        let end = self
            .store
            .visit(VisitCursor::default(), usize::MAX, |visited| {
                let numbers = visited
                    .peers()
                    .map(|(peer, _)| self.numbers[peer.compact()]);
                let earlier = all.insert(visited.info_hash.0[0], numbers.collect());
                assert!(earlier.is_none(), "a swarm is visited once");
            });
        assert!(end.is_none());
        all
    }

    fn check_swarm(&self, swarm: u8) {
        let info_hash = info_hash(swarm);
        let found = self.store.scrape(&info_hash);
        assert_eq!(
            found,
            self.swarms.get(&swarm).map(ModelSwarm::scrape),
            "swarm {swarm}"
        );
    }

    fn remove(&mut self, swarm: u8) {
        let found = self.store.remove(&info_hash(swarm), &mut self.capacity);
        assert_eq!(found, self.swarms.get(&swarm).map(ModelSwarm::scrape));
        if let Some(known) = self.swarms.get(&swarm) {
            self.give_back(known.members.len() as u64);
            self.forget(swarm);
        }
    }

    fn restore(&mut self, swarm: u8, numbers: Range<u16>, age_seconds: u32, downloads: u32) {
        let saved = SavedSwarm {
            info_hash: info_hash(swarm),
            downloads,
            empty_seconds: age_seconds,
        };
        let mut peers = Vec::new();
        for number in numbers.clone().map(|number| number % 1000) {
            let peer = (self.peer_of)(number);
            self.numbers.insert(peer.compact().to_vec(), number);
            peers.push(VisitedPeer {
                peer,
                is_seeder: number % 2 == 0,
                is_paused: number % 3 == 0,
                age_seconds,
            });
        }
        let capacity = &mut self.capacity;
        let restored = self
            .store
            .restore(self.now, &saved, peers.into_iter(), capacity);
        let expected = self.model_restore(swarm, numbers, age_seconds, downloads);
        assert_eq!(restored, expected);
    }

    fn model_restore(
        &mut self,
        swarm: u8,
        numbers: Range<u16>,
        age_seconds: u32,
        downloads: u32,
    ) -> Restored {
        let mut restored = Restored::default();
        let lifetime = self.settings.peer_lifetime_seconds;
        let known = self.swarms.contains_key(&swarm);
        for number in numbers.map(|number| number % 1000) {
            let is_new_swarm = !self.swarms.contains_key(&swarm);
            if age_seconds > lifetime {
                restored.expired_peers += 1;
                continue;
            }
            let (peers, swarms) = self.room.unwrap_or((u64::MAX, u64::MAX));
            if peers == 0 || (is_new_swarm && swarms == 0) {
                restored.refused_peers += 1;
                continue;
            }
            let entry = self.swarms.entry(swarm).or_default();
            let member = Member {
                is_seeder: number % 2 == 0,
                is_paused: number % 2 != 0 && number % 3 == 0,
                seen: self.now.wrapping_sub(age_seconds),
            };
            let is_new = entry.members.insert(number, member).is_none();
            restored.peers += u64::from(is_new);
            if let Some((peers, swarms)) = &mut self.room {
                *peers -= u64::from(is_new);
                *swarms -= u64::from(is_new_swarm);
            }
        }
        // Without peers: since when there are none.
        let idle = match (restored.refused_peers, restored.expired_peers) {
            (0, 0) => age_seconds,
            (0, _) => age_seconds - lifetime,
            _ => 0,
        };
        let kept = self.settings.empty_swarm_lifetime_seconds;
        let room = self.room.is_none_or(|(_, swarms)| swarms > 0);
        let lives = kept > 0 && idle <= kept && downloads > 0 && room;
        if !self.swarms.contains_key(&swarm) && lives {
            let empty = self.swarms.entry(swarm).or_default();
            empty.empty_since = self.now.wrapping_sub(idle);
            if let Some((_, swarms)) = &mut self.room {
                *swarms -= 1;
            }
        }
        if let Some(entry) = self.swarms.get_mut(&swarm) {
            entry.downloads = entry.downloads.max(downloads);
            restored.new_swarm = !known;
        }
        restored
    }

    fn visit(&mut self, budget: usize) {
        let mut seen = BTreeSet::new();
        let mut cursor = Some(VisitCursor::default());
        while let Some(at) = cursor {
            cursor = self.store.visit(at, budget, |visited| {
                let swarm = visited.info_hash.0[0];
                assert!(seen.insert(swarm), "once");
                let known = &self.swarms[&swarm];
                assert_eq!(visited.counts, known.scrape());
                let peers: BTreeMap<u16, bool> = visited
                    .peers()
                    .map(|(peer, is_seeder)| (self.numbers[peer.compact()], is_seeder))
                    .collect();
                let expected: BTreeMap<u16, bool> = known
                    .members
                    .iter()
                    .map(|(number, peer)| (*number, peer.is_seeder))
                    .collect();
                assert_eq!(peers, expected);
                for visited in visited.peers_from(0, usize::MAX, self.now) {
                    let peer = &known.members[&self.numbers[visited.peer.compact()]];
                    let age = self.now.wrapping_sub(peer.seen);
                    assert_eq!(visited.is_paused, peer.is_paused && !peer.is_seeder);
                    // Beyond, stamps wrap; who is not swept in time is met later.
                    assert!(age >= 1 << 14 || visited.age_seconds == age);
                }
                assert_eq!(visited.peers_from(3, 2, self.now).count(), {
                    known.members.len().saturating_sub(3).min(2)
                });
            });
        }
        assert_eq!(seen.len(), self.swarms.len());
    }

    fn check_totals(&self) {
        let totals = self.store.totals();
        let seeders: u64 = self
            .swarms
            .values()
            .map(|known| u64::from(known.seeders()))
            .sum();
        let members: u64 = self
            .swarms
            .values()
            .map(|known| known.members.len() as u64)
            .sum();
        assert_eq!(totals.swarms, self.swarms.len() as u64);
        assert_eq!(
            (totals.seeders, totals.leechers),
            (seeders, members - seeders)
        );
        assert_eq!(totals.downloads, self.downloads);
        if let Some((peers, swarms)) = self.room {
            assert_eq!(self.capacity, Capacity { peers, swarms });
        } else {
            assert_eq!(self.capacity, Capacity::UNLIMITED);
        }
    }

    fn check_everything(&mut self) {
        for swarm in 0..=u8::MAX {
            self.check_swarm(swarm);
        }
        self.visit(1);
        self.visit(255);
    }
}
