//! Walks over every torrent of the tracker, for a thread that may wait.
//!
//! A survey on each shard ([`crate::shard::survey`]) packs what it sees into
//! batches and sends them over one channel. When the reader is slow and
//! [`Walk`] lags behind, the surveys rest; when it is gone they end. So
//! a walk takes no more memory than a few batches for each shard, however
//! many torrents there are, and never holds a shard up. Batches that were read
//! go back to be filled again ([`Walk::give_back`]): shards allocate little, and
//! seldom meet a reader of low priority inside the allocator.

use crate::bittorrent::{AddressFamily, InfoHash};
use crate::shard::survey::{Busy, SLICE_ITEMS, Survey, SurveyDesk, SwarmView};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Entries after which a batch is sent. One slice of a survey comes on top.
const BATCH: usize = 2048;

/// Batches that wait in the channel before the surveys rest: for each shard,
/// and in all.
const WAITING_PER_SHARD: usize = 2;
const MOST_WAITING: usize = 64;

/// How long the reader waits before it asks the shards again.
const PATIENCE: Duration = Duration::from_millis(500);

/// One torrent: the swarms of both address families together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// Its info hash.
    pub info_hash: InfoHash,
    /// Seeders.
    pub complete: u32,
    /// Leechers.
    pub incomplete: u32,
    /// Downloads.
    pub downloaded: u32,
    /// Seconds since the last announce; 0 where nobody asked.
    pub idle_seconds: u32,
}

/// What is packed into batches.
pub trait Entry: Send + Sized + 'static {
    /// Whether it looks at peers.
    const WANTS_PEERS: bool;

    /// Packs a swarm; `is_first` unless these are further peers of one that
    /// was packed before.
    fn pack(swarm: &SwarmView<'_>, is_first: bool, batch: &mut Vec<Self>);
}

/// A torrent without its age.
impl Entry for Torrent {
    const WANTS_PEERS: bool = false;

    fn pack(swarm: &SwarmView<'_>, is_first: bool, batch: &mut Vec<Self>) {
        if is_first {
            batch.extend(torrent(swarm));
        }
    }
}

/// A torrent with the time since its last announce.
pub struct Aged(pub Torrent);

impl Entry for Aged {
    const WANTS_PEERS: bool = true;

    fn pack(swarm: &SwarmView<'_>, is_first: bool, batch: &mut Vec<Self>) {
        if !is_first {
            return;
        }
        if let Some(mut torrent) = torrent(swarm) {
            // Of the first thousand peers, which is near enough.
            let youngest = swarm.peers().map(|peer| peer.age_seconds).min();
            torrent.idle_seconds = youngest.or(swarm.empty_seconds).unwrap_or(0);
            batch.push(Self(torrent));
        }
    }
}

/// An IPv4 peer.
impl Entry for Ipv4Addr {
    const WANTS_PEERS: bool = true;

    fn pack(swarm: &SwarmView<'_>, _: bool, batch: &mut Vec<Self>) {
        if swarm.family == AddressFamily::V4 {
            batch.extend(swarm.peers().filter_map(|peer| match peer.ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            }));
        }
    }
}

/// Both families' swarms in one, when it is met in the first of them.
fn torrent(swarm: &SwarmView<'_>) -> Option<Torrent> {
    let own = swarm.counts;
    let twin = swarm.twin();
    if twin.is_some() && swarm.family == AddressFamily::V6 {
        return None;
    }
    let twin = twin.unwrap_or_default();
    Some(Torrent {
        info_hash: swarm.info_hash,
        complete: own.complete.saturating_add(twin.complete),
        incomplete: own.incomplete.saturating_add(twin.incomplete),
        downloaded: own.downloaded.saturating_add(twin.downloaded),
        idle_seconds: 0,
    })
}

/// A walk in work.
pub struct Walk<T> {
    batches: Receiver<Vec<T>>,
    spare: Sender<Vec<T>>,
    state: Arc<State>,
    desk: SurveyDesk,
}

/// What a walk and its surveys share.
#[derive(Debug, Default)]
struct State {
    wanted: AtomicBool,
    /// Some survey rests until there is room.
    resting: AtomicBool,
    /// Shards that have shown everything.
    finished: AtomicUsize,
    most_waiting: usize,
}

impl<T: Entry> Walk<T> {
    /// Begins a walk.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn begin(desk: &SurveyDesk) -> Result<Self, Busy> {
        let shards = desk.shards();
        let most_waiting = (shards * WAITING_PER_SHARD).min(MOST_WAITING);
        // Each shard may send one more, since others do so at the same moment,
        // and its last.
        let places = most_waiting + 2 * shards;
        let (sender, batches) = bounded(places);
        let (spare, spares) = bounded(places);
        let state = Arc::new(State {
            wanted: AtomicBool::new(true),
            most_waiting,
            ..State::default()
        });
        let walk = Self {
            batches,
            spare,
            state: state.clone(),
            desk: desk.clone(),
        };
        desk.send(|_| {
            Box::new(Packer {
                batch: Vec::with_capacity(BATCH + SLICE_ITEMS),
                batches: sender.clone(),
                spares: spares.clone(),
                state: state.clone(),
            })
        })?;
        Ok(walk)
    }

    /// Takes back the room of a batch that was read.
    pub fn give_back(&self, mut batch: Vec<T>) {
        batch.clear();
        // There are no more than it has places for.
        let _ = self.spare.try_send(batch);
    }

    /// Whether every shard has shown everything; else the walk was cut short.
    /// Means something only after the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state.finished.load(Ordering::SeqCst) == self.desk.shards()
    }
}

/// Waits for batches; their order is that of nothing.
impl<T> Iterator for Walk<T> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        loop {
            let received = self.batches.recv_timeout(PATIENCE);
            let has_room = self.batches.len() <= self.state.most_waiting / 2;
            if has_room && self.state.resting.swap(false, Ordering::SeqCst) {
                self.nudge();
            }
            match received {
                Ok(batch) => return Some(batch),
                Err(RecvTimeoutError::Disconnected) => return None,
                // A shard that has much to do.
                Err(RecvTimeoutError::Timeout) => self.nudge(),
            }
        }
    }
}

impl<T> Walk<T> {
    fn nudge(&self) {
        for shard in 0..self.desk.shards() {
            self.desk.nudge(shard);
        }
    }
}

impl<T> Drop for Walk<T> {
    fn drop(&mut self) {
        self.state.wanted.store(false, Ordering::SeqCst);
        self.nudge();
    }
}

/// One shard's part.
struct Packer<T> {
    batch: Vec<T>,
    batches: Sender<Vec<T>>,
    spares: Receiver<Vec<T>>,
    state: Arc<State>,
}

impl<T> Packer<T> {
    /// Sends what was packed; returns whether it is on its way.
    fn send(&mut self, next: Vec<T>) -> bool {
        let batch = std::mem::replace(&mut self.batch, next);
        let is_sent = self.batches.try_send(batch).is_ok();
        if !is_sent {
            // The reader has gone. A walk with a hole is worth nothing either.
            self.state.wanted.store(false, Ordering::SeqCst);
        }
        is_sent
    }

    fn has_room(&self) -> bool {
        self.batches.len() < self.state.most_waiting
    }
}

impl<T: Entry> Survey for Packer<T> {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        T::pack(swarm, true, &mut self.batch);
    }

    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        T::pack(swarm, false, &mut self.batch);
    }

    fn wants_peers(&self) -> bool {
        T::WANTS_PEERS
    }

    fn ready(&mut self) -> bool {
        if self.batch.len() < BATCH {
            return true;
        }
        if !self.has_room() {
            self.state.resting.store(true, Ordering::SeqCst);
            // The reader may have made room before it could see this.
            if !self.has_room() {
                return false;
            }
        }
        let spare = self.spares.try_recv();
        let room = || Vec::with_capacity(BATCH + SLICE_ITEMS);
        self.send(spare.unwrap_or_else(|_| room()))
    }

    fn wanted(&self) -> bool {
        self.state.wanted.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) {
        if self.batch.is_empty() || self.send(Vec::new()) {
            self.state.finished.fetch_add(1, Ordering::SeqCst);
        }
    }
}
