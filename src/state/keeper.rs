//! Saves now and then, and at the end: one thread beside the shards.

use super::StateStats;
use super::place::Place;
use super::save::{Collection, SaveError, Saved, save};
use crate::runtime::clock::Clock;
use crate::shard::survey::SurveyDesk;
use crossbeam_channel::RecvTimeoutError;
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
pub struct Keeper(JoinHandle<()>);

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
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || keep(&settings, &desk, last))
            .map(Self)
    }

    /// Waits for the last save, once all shards have ended.
    pub fn finish(self) {
        // A panic there was said already.
        let _ = self.0.join();
    }
}

fn keep(settings: &KeeperSettings, desk: &SurveyDesk, last: Collection) {
    let first = loop {
        let messages = last.messages();
        let received = match settings.interval {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(interval) => messages.recv_timeout(interval),
        };
        match received {
            Ok(first) => break first,
            // The shards ended without a word.
            Err(RecvTimeoutError::Disconnected) => {
                return settings.note(|_| Err(SaveError::CutShort));
            }
            Err(RecvTimeoutError::Timeout) => settings.note(|unix_seconds| {
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
