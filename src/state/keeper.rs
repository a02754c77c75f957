//! Saves now and then, and at the end: one thread beside the shards.

use super::StateStats;
use super::place::Place;
use super::save::{Collection, SaveError, Saved, save};
use crate::runtime::clock::Clock;
use crate::shard::survey::SurveyDesk;
use crossbeam_channel::{Receiver, Sender, after, never, select, unbounded};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a keeper works with.
pub struct KeeperSettings {
    /// Where to save.
    pub place: Place,
    /// Between saves; `None` saves at the end only.
    pub interval: Option<Duration>,
    /// Whether the shards store peer ids.
    pub peer_ids: bool,
    /// Tells the time of saves.
    pub clock: Clock,
    /// Where the outcome is published.
    pub stats: Arc<StateStats>,
}

/// The thread. It ends by itself when the shards have ended.
pub struct Keeper {
    thread: JoinHandle<()>,
    intervals: IntervalSetter,
}

/// Changes the interval of a keeper.
#[derive(Clone)]
pub struct IntervalSetter(Sender<Option<Duration>>);

impl IntervalSetter {
    /// Another interval, from now on; `None` saves at the end only.
    pub fn set(&self, interval: Option<Duration>) {
        // A keeper that has ended saves no more.
        let _ = self.0.send(interval);
    }
}

impl Keeper {
    /// Starts it, before the shards: it leaves with them what they do last.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn start(settings: KeeperSettings, desk: &SurveyDesk) -> io::Result<Self> {
        let (last, dumps) = Collection::new(desk, settings.peer_ids);
        let mut dumps = dumps.into_iter();
        desk.send_last(|_| Box::new(dumps.next().expect("a dump for each shard")));
        drop(dumps);
        let desk = desk.clone();
        let (intervals, changes) = unbounded();
        let thread = thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || keep(&settings, &desk, changes, last))?;
        Ok(Self {
            thread,
            intervals: IntervalSetter(intervals),
        })
    }

    /// What changes its interval.
    #[must_use]
    pub fn intervals(&self) -> IntervalSetter {
        self.intervals.clone()
    }

    /// Waits for the last save, once all shards have ended.
    pub fn finish(self) {
        // A panic there was said already.
        let _ = self.thread.join();
    }
}

fn keep(
    settings: &KeeperSettings,
    desk: &SurveyDesk,
    mut changes: Receiver<Option<Duration>>,
    last: Collection,
) {
    let mut interval = settings.interval;
    let first = loop {
        let due = interval.map_or_else(never, after);
        select! {
            recv(last.messages()) -> message => match message {
                Ok(first) => break first,
                // The shards ended without a word.
                Err(_) => return settings.note(|_| Err(SaveError::CutShort)),
            },
            recv(changes) -> change => match change {
                Ok(change) => interval = change,
                Err(_) => changes = never(),
            },
            recv(due) -> _ => settings.note(|unix_seconds| {
                match save(desk, &settings.place, settings.peer_ids, unix_seconds) {
                    // The tracker stops: the last save follows.
                    Err(SaveError::CutShort) => Ok(None),
                    result => result.map(Some),
                }
            }),
        }
    };
    settings.note(|unix_seconds| {
        let saved = last.save(&settings.place, unix_seconds, Some(first));
        saved.map(Some)
    });
}

impl KeeperSettings {
    /// Saves by this function and says what came of it, if anything did.
    fn note(&self, save: impl FnOnce(u64) -> Result<Option<Saved>, SaveError>) {
        let before = self.clock.now();
        let result = save(before.unix_seconds);
        let took = self.clock.elapsed().saturating_sub(before.elapsed);
        let path = self.place.path().display();
        match result {
            Ok(None) => {}
            Ok(Some(saved)) => {
                self.stats.saved(before.unix_seconds, took);
                log::info!(
                    "{path}: saved {} peers in {} MB within {:.1} s",
                    saved.peers,
                    saved.bytes.div_ceil(1_000_000),
                    took.as_secs_f64()
                );
            }
            Err(error) => {
                self.stats.failed();
                log::error!("{path}: the state was not saved: {error}; the last one stays");
            }
        }
    }
}
