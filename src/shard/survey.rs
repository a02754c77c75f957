//! Surveys: walks over all swarms of a shard, beside its work.
//!
//! Whoever wants to know of every swarm (a snapshot, a full scrape, statistics)
//! sends each shard a [`Survey`] through the [`SurveyDesk`]. The shard shows it
//! its swarms on its own thread, a bounded slice per turn of its loop, IPv4
//! first, then IPv6.
//!
//! - A swarm that is there during the whole walk is shown exactly once (once
//!   per family that has it), however the tables change meanwhile. One that
//!   comes or goes is shown once or not at all. Each is shown as it is then.
//! - A slice passes [`SLICE_ITEMS`] swarms and peers, some tens of microseconds
//!   of work. A giant swarm is shown in parts ([`Survey::more_peers`]).
//! - At most [`ACTIVE`] surveys go on at once, in turn; [`WAITING`] more wait.
//! - A survey that is dropped without [`Survey::finish`] was cut short: the
//!   tracker stops. What is to be done then is left with the shards before
//!   ([`SurveyDesk::send_last`]).
//!
//! What a survey does with what it sees is its own affair; it runs on the
//! shard's thread, so it must not block and had better not allocate.

use super::{Shard, Swarms};
use crate::bittorrent::{AddressFamily, InfoHash, PeerId, ScrapeCounts};
use crate::shard::owner::ShardId;
use crate::swarm::{
    Peer4, Peer4WithId, Peer6, Peer6WithId, StoredPeer, SwarmStore, VisitCost, VisitCursor,
    Visited, VisitedPeer, VisitedPeers,
};
use crossbeam_channel::{Receiver, Sender, never, unbounded};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Swarms and peers that one slice passes: 25 µs of a snapshot (the example
/// `state_speed`), four times that with a slow survey or a slow machine.
pub const SLICE_ITEMS: usize = 1024;

/// Peers of one swarm that a survey is shown at once.
pub const PART_PEERS: usize = 1024;

/// Surveys that a shard has in work at once.
pub const ACTIVE: usize = 4;

/// Surveys that wait for their turn at a shard, at most.
pub const WAITING: usize = 64;

/// A walk over the swarms of one shard, run on that shard's thread.
pub trait Survey: Send {
    /// Looks at the next swarm. [`SwarmView::peers`] are its first
    /// [`PART_PEERS`] peers.
    fn swarm(&mut self, swarm: &SwarmView<'_>);

    /// Looks at further peers of a swarm with more than [`PART_PEERS`]: comes
    /// as often as it needs, some time after [`Survey::swarm`] of the same
    /// hash, and not at all if the swarm has shrunk meanwhile. Peers that move
    /// between two parts may be shown twice or not at all.
    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        let _ = swarm;
    }

    /// Whether it looks at [`SwarmView::peers`]. Without, its slices pass more
    /// swarms and giant ones are no matter.
    fn wants_peers(&self) -> bool {
        true
    }

    /// Whether it can take a slice now; false lets it rest until the next turn,
    /// which [`SurveyDesk::nudge`] brings about at once.
    fn ready(&mut self) -> bool {
        true
    }

    /// Whether anybody still wants it; asked before each slice. One that is no
    /// longer wanted is dropped without [`Survey::finish`].
    fn wanted(&self) -> bool {
        true
    }

    /// It has seen everything.
    fn finish(self: Box<Self>);
}

/// One swarm as a survey sees it.
pub struct SwarmView<'a> {
    /// Whose peers these are.
    pub family: AddressFamily,
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Its counts, as a scrape says them.
    pub counts: ScrapeCounts,
    /// For how many seconds it has been empty; `None` while it has peers.
    pub empty_seconds: Option<u32>,
    peers: Peers<'a>,
    twin: &'a dyn Fn(&InfoHash) -> Option<ScrapeCounts>,
}

impl SwarmView<'_> {
    /// Its peers (at most [`PART_PEERS`] at a time), seeders first.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.clone()
    }

    /// The counts of the other family's swarm of the same torrent, `None` if
    /// there is none. A lookup, so ask only if it is needed.
    #[must_use]
    pub fn twin(&self) -> Option<ScrapeCounts> {
        (self.twin)(&self.info_hash)
    }
}

/// One peer as a survey sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its address, of the swarm's family.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it has everything.
    pub is_seeder: bool,
    /// Whether its last event was `paused` (BEP 21).
    pub is_paused: bool,
    /// Seconds since its last announce, as coarse as the lifetime makes it: in
    /// whole seconds up to a lifetime of 4096 seconds.
    pub age_seconds: u32,
    /// Its id, if ids are stored.
    pub peer_id: Option<PeerId>,
}

/// The peers of a part, of any kind.
#[derive(Clone)]
enum Peers<'a> {
    V4(VisitedPeers<'a, Peer4>),
    V6(VisitedPeers<'a, Peer6>),
    V4WithId(VisitedPeers<'a, Peer4WithId>),
    V6WithId(VisitedPeers<'a, Peer6WithId>),
}

impl Iterator for Peers<'_> {
    type Item = PeerView;

    #[inline]
    fn next(&mut self) -> Option<PeerView> {
        match self {
            Self::V4(peers) => peers.next().map(view),
            Self::V6(peers) => peers.next().map(view),
            Self::V4WithId(peers) => peers.next().map(view),
            Self::V6WithId(peers) => peers.next().map(view),
        }
    }
}

#[inline]
fn view<P: StoredPeer<Ip: Into<IpAddr>>>(visited: VisitedPeer<P>) -> PeerView {
    PeerView {
        ip: visited.peer.ip().into(),
        port: visited.peer.port(),
        is_seeder: visited.is_seeder,
        is_paused: visited.is_paused,
        age_seconds: visited.age_seconds,
        peer_id: visited.peer.peer_id(),
    }
}

/// Brings surveys to all shards; for every thread that wants some.
#[derive(Clone)]
pub struct SurveyDesk {
    lanes: Arc<[Lane]>,
}

/// The way to one shard.
struct Lane {
    sender: Sender<Box<dyn Survey>>,
    last: Sender<Box<dyn Survey>>,
    nudged: Arc<AtomicBool>,
    wake: Wake,
}

/// Wakes a shard if it sleeps.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Why surveys are not begun: too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many walks over all swarms wait already; try again later")
    }
}

impl std::error::Error for Busy {}

/// The desk and each shard's end of it, for shards that are woken thus.
#[must_use]
pub fn desk(wakes: impl IntoIterator<Item = Wake>) -> (SurveyDesk, Vec<Surveys>) {
    let mut ends = Vec::new();
    let lanes = wakes.into_iter().map(|wake| {
        let (sender, incoming) = unbounded();
        let (last, last_incoming) = unbounded();
        let nudged = Arc::new(AtomicBool::new(false));
        ends.push(Surveys::new(incoming, last_incoming, nudged.clone()));
        Lane {
            sender,
            last,
            nudged,
            wake,
        }
    });
    let desk = SurveyDesk {
        lanes: lanes.collect(),
    };
    (desk, ends)
}

impl SurveyDesk {
    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// Sends every shard the survey that `make` makes for it. To a shard that
    /// has ended nothing is sent: its survey is dropped.
    ///
    /// # Errors
    /// When a shard has [`WAITING`] surveys waiting; then none is sent.
    pub fn send(&self, mut make: impl FnMut(ShardId) -> Box<dyn Survey>) -> Result<(), Busy> {
        // Threads that send at the same moment may go a little over the bound.
        if self.lanes.iter().any(|lane| lane.sender.len() >= WAITING) {
            return Err(Busy);
        }
        for (id, lane) in self.lanes.iter().enumerate() {
            drop(lane.sender.send(make(id)));
            (lane.wake)();
        }
        Ok(())
    }

    /// Leaves a survey with every shard that it does last of all: when the
    /// tracker stops, after everything that had arrived was answered. The shard
    /// ends only when it is through.
    pub fn send_last(&self, mut make: impl FnMut(ShardId) -> Box<dyn Survey>) {
        for (id, lane) in self.lanes.iter().enumerate() {
            drop(lane.last.send(make(id)));
        }
    }

    /// Has a shard ask its surveys again whether they are ready.
    pub fn nudge(&self, shard: ShardId) {
        if let Some(lane) = self.lanes.get(shard) {
            lane.nudged.store(true, Ordering::SeqCst);
            (lane.wake)();
        }
    }
}

/// One shard's surveys: those in work and those that wait.
pub struct Surveys {
    incoming: Receiver<Box<dyn Survey>>,
    last: Receiver<Box<dyn Survey>>,
    nudged: Arc<AtomicBool>,
    active: Vec<Walk>,
    /// Whose slice is next.
    next: usize,
    /// Some of those in work was ready at the last turn.
    runnable: bool,
    slice_items: usize,
}

impl Surveys {
    fn new(
        incoming: Receiver<Box<dyn Survey>>,
        last: Receiver<Box<dyn Survey>>,
        nudged: Arc<AtomicBool>,
    ) -> Self {
        Self {
            incoming,
            last,
            nudged,
            active: Vec::with_capacity(ACTIVE),
            next: 0,
            runnable: false,
            slice_items: SLICE_ITEMS,
        }
    }

    /// Another length of slices, for tests of what happens between them.
    pub fn set_slice_items(&mut self, items: usize) {
        self.slice_items = items;
    }

    /// Drops all surveys but those that were left for the end, which are in
    /// work from now on, and takes no others.
    pub fn begin_last(&mut self) {
        self.incoming = never();
        self.active.clear();
        self.active.extend(self.last.try_iter().map(Walk::new));
        self.runnable = true;
    }

    /// Whether surveys are in work.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.active.is_empty()
    }

    /// Whether a turn would do something. Costs three loads when idle.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        self.runnable
            || self.nudged.load(Ordering::SeqCst)
            || (self.active.len() < ACTIVE && !self.incoming.is_empty())
    }

    /// Gives one survey a slice; to be called when [`Surveys::has_work`].
    pub fn turn(&mut self, shard: &mut Shard, now_seconds: u32) {
        // Before they are asked: a nudge from now on counts for the next turn.
        self.nudged.store(false, Ordering::SeqCst);
        while self.active.len() < ACTIVE
            && let Ok(survey) = self.incoming.try_recv()
        {
            self.active.push(Walk::new(survey));
        }
        self.runnable = false;
        for _ in 0..self.active.len() {
            if self.next >= self.active.len() {
                self.next = 0;
            }
            let walk = &mut self.active[self.next];
            if !walk.survey.wanted() {
                drop(self.active.swap_remove(self.next));
                self.runnable = !self.active.is_empty();
                return;
            }
            if !walk.survey.ready() {
                self.next += 1;
                continue;
            }
            self.runnable = true;
            if walk.slice(shard, now_seconds, self.slice_items) {
                self.next += 1;
            } else {
                self.active.swap_remove(self.next).survey.finish();
                self.runnable = !self.active.is_empty();
            }
            return;
        }
    }
}

/// How far a survey has come.
struct Walk {
    survey: Box<dyn Survey>,
    wants_peers: bool,
    /// The family it is at; `None` at the end.
    family: Option<AddressFamily>,
    /// Where it goes on; `None` when only rests of swarms are left.
    cursor: Option<VisitCursor>,
    /// Swarms of which more peers are to be shown, from this one on.
    rests: Vec<(InfoHash, usize)>,
}

impl Walk {
    fn new(survey: Box<dyn Survey>) -> Self {
        Self {
            wants_peers: survey.wants_peers(),
            survey,
            family: Some(AddressFamily::V4),
            cursor: Some(VisitCursor::default()),
            rests: Vec::new(),
        }
    }

    /// Goes on for one slice; returns whether there is more.
    #[expect(
        clippy::redundant_closure,
        reason = "the name of a variant is a function of one lifetime only"
    )]
    fn slice(&mut self, shard: &mut Shard, now_seconds: u32, items: usize) -> bool {
        let mut budget = items.max(1);
        while budget > 0
            && let Some(family) = self.family
        {
            let (budget, swarms) = (&mut budget, &shard.swarms);
            match (swarms, family) {
                (Swarms::Plain(v4, v6), AddressFamily::V4) => {
                    self.advance(
                        &v4.store,
                        &v6.store,
                        |peers| Peers::V4(peers),
                        now_seconds,
                        budget,
                    );
                }
                (Swarms::Plain(v4, v6), AddressFamily::V6) => {
                    self.advance(
                        &v6.store,
                        &v4.store,
                        |peers| Peers::V6(peers),
                        now_seconds,
                        budget,
                    );
                }
                (Swarms::WithIds(v4, v6), AddressFamily::V4) => {
                    self.advance(
                        &v4.store,
                        &v6.store,
                        |peers| Peers::V4WithId(peers),
                        now_seconds,
                        budget,
                    );
                }
                (Swarms::WithIds(v4, v6), AddressFamily::V6) => {
                    self.advance(
                        &v6.store,
                        &v4.store,
                        |peers| Peers::V6WithId(peers),
                        now_seconds,
                        budget,
                    );
                }
            }
            if self.cursor.is_none() && self.rests.is_empty() {
                self.family = match family {
                    AddressFamily::V4 => Some(AddressFamily::V6),
                    AddressFamily::V6 => None,
                };
                self.cursor = Some(VisitCursor::default());
            }
        }
        self.family.is_some()
    }

    /// Shows the rest of a swarm, or else the next swarms.
    fn advance<P: StoredPeer, T: StoredPeer>(
        &mut self,
        store: &SwarmStore<P>,
        twins: &SwarmStore<T>,
        peers: fn(VisitedPeers<'_, P>) -> Peers<'_>,
        now_seconds: u32,
        budget: &mut usize,
    ) {
        let twin = |info_hash: &InfoHash| twins.scrape(info_hash);
        let shower = Shower {
            family: self.family.unwrap_or(AddressFamily::V4),
            now_seconds,
            peers,
            twin: &twin,
        };
        let Self { survey, rests, .. } = self;
        if let Some((info_hash, start)) = rests.pop() {
            let left = store.revisit(&info_hash, |visited| {
                let left = visited.peer_count().saturating_sub(start);
                if left > 0 {
                    survey.more_peers(&shower.show(&visited, start));
                }
                left
            });
            let left = left.unwrap_or(0);
            if left > PART_PEERS {
                rests.push((info_hash, start + PART_PEERS));
            }
            *budget = budget.saturating_sub(1 + left.min(PART_PEERS));
            return;
        }
        let Some(cursor) = self.cursor else {
            return;
        };
        let (cost, whole) = match self.wants_peers {
            true => (VisitCost::Peers(PART_PEERS), PART_PEERS),
            false => (VisitCost::Swarms, usize::MAX),
        };
        self.cursor = store.visit_slice(cursor, budget, cost, |visited| {
            survey.swarm(&shower.show(&visited, 0));
            if visited.peer_count() > whole {
                rests.push((*visited.info_hash, PART_PEERS));
            }
        });
    }
}

/// What all views of a slice have in common.
struct Shower<'a, P: StoredPeer> {
    family: AddressFamily,
    now_seconds: u32,
    peers: fn(VisitedPeers<'_, P>) -> Peers<'_>,
    twin: &'a dyn Fn(&InfoHash) -> Option<ScrapeCounts>,
}

impl<'a, P: StoredPeer> Shower<'a, P> {
    fn show<'b>(&self, visited: &Visited<'b, P>, start: usize) -> SwarmView<'b>
    where
        'a: 'b,
    {
        SwarmView {
            family: self.family,
            info_hash: *visited.info_hash,
            counts: visited.counts,
            empty_seconds: visited.empty_seconds(self.now_seconds),
            peers: (self.peers)(visited.peers_from(start, PART_PEERS, self.now_seconds)),
            twin: self.twin,
        }
    }
}
