//! What is loaded before the shards serve, and saved while and after they do.

use super::{StartError, out_of};
use crate::config::Config;
use crate::runtime::clock::Clock;
use crate::shard::Shard;
use crate::shard::survey::SurveyDesk;
use crate::state::{self, Keeper, KeeperSettings, LoadError, Place, StateStats, statedump};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The state that the configuration names.
pub(super) struct State<'a> {
    config: &'a Config,
    clock: Clock,
    place: Option<Place>,
    pub stats: Arc<StateStats>,
}

impl<'a> State<'a> {
    /// Finds out whether it can be saved, while somebody is there to read why
    /// not.
    pub fn open(config: &'a Config, clock: Clock) -> Result<Self, StartError> {
        let path = &config.state_file;
        let place = match path.as_os_str().is_empty() {
            true => None,
            false => Some(place(path)?),
        };
        Ok(Self {
            config,
            clock,
            place,
            stats: Arc::default(),
        })
    }

    /// The shards with what was saved; `make` makes empty ones.
    pub fn load(&self, make: impl Fn() -> Vec<Shard>) -> Result<Vec<Shard>, StartError> {
        let mut shards = make();
        if let Some(place) = &self.place
            && !self.load_snapshot(place, &mut shards)?
        {
            // It may have been good up to some place.
            shards = make();
        }
        self.import(&mut shards)?;
        Ok(shards)
    }

    /// Starts what saves it, before the shards start.
    pub fn keep(self, desk: &SurveyDesk) -> Result<Option<Keeper>, StartError> {
        let Some(place) = self.place else {
            return Ok(None);
        };
        let settings = KeeperSettings {
            place,
            interval: interval(self.config),
            peer_ids: self.config.storage.config.peer_ids,
            clock: self.clock,
            stats: self.stats,
        };
        let keeper = Keeper::start(settings, desk).map_err(|error| out_of("threads", &error))?;
        Ok(Some(keeper))
    }

    /// Returns whether the shards are as they should be.
    fn load_snapshot(&self, place: &Place, shards: &mut [Shard]) -> Result<bool, StartError> {
        let path = place.path().display();
        let unreadable = |error: &std::io::Error| {
            StartError(format!(
                "state_file {path}: cannot be read: {error}; make it readable, or move it away \
                 to start empty"
            ))
        };
        let Some(file) = place.read().map_err(|error| unreadable(&error))? else {
            log::info!("{path}: there is no saved state yet");
            return Ok(true);
        };
        let now = self.clock.now();
        match state::load(&file, shards, now.seconds, now.unix_seconds) {
            Ok(loaded) => {
                let took = self.clock.elapsed().saturating_sub(now.elapsed);
                self.stats.loaded(loaded.saved_unix_seconds);
                log::info!(
                    "{path}: loaded {} peers in {} swarms within {:.1} s, saved {} s ago; left \
                     out {} peers that have expired and {} for which there is no room",
                    loaded.peers,
                    loaded.swarms,
                    took.as_secs_f64(),
                    now.unix_seconds.saturating_sub(loaded.saved_unix_seconds),
                    loaded.expired_peers,
                    loaded.refused_peers,
                );
                Ok(true)
            }
            Err(LoadError::Io(error)) => Err(unreadable(&error)),
            Err(LoadError::Format(error)) => {
                match place.set_aside() {
                    Ok(aside) => log::error!(
                        "{path}: the saved state is refused: {error}; starting empty (it is kept \
                         as {})",
                        aside.display()
                    ),
                    Err(rename) => {
                        return Err(StartError(format!(
                            "state_file {path}: {error}, and it cannot be set aside ({rename}); \
                             move it away to start empty"
                        )));
                    }
                }
                Ok(false)
            }
        }
    }

    fn import(&self, shards: &mut [Shard]) -> Result<(), StartError> {
        let path = &self.config.opentracker_state_file;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let shown = path.display();
        let now = self.clock.now();
        let imported = File::open(path).and_then(|file| {
            let file = BufReader::with_capacity(1 << 20, file);
            statedump::import(file, shards, now.seconds, now.unix_seconds)
        });
        let imported = imported.map_err(|error| {
            StartError(format!(
                "opentracker_state_file {shown}: {error}; name a readable file or remove the key"
            ))
        })?;
        for (line, bad) in &imported.named {
            log::warn!("{shown}: line {line} is skipped: {bad}");
        }
        let unnamed = imported.bad_lines - imported.named.len() as u64;
        if unnamed > 0 {
            log::warn!("{shown}: {unnamed} more bad lines are skipped");
        }
        log::info!(
            "{shown}: took over the downloads of {} torrents; left out {} without downloads and \
             {} that were last seen too long ago or for which there is no room",
            imported.torrents,
            imported.without_downloads,
            imported.not_kept,
        );
        Ok(())
    }
}

/// How often to save meanwhile, if at all.
pub(super) fn interval(config: &Config) -> Option<Duration> {
    Some(config.state_interval).filter(|interval| !interval.is_zero())
}

fn place(path: &Path) -> Result<Place, StartError> {
    let opened = Place::open(path).and_then(|place| {
        state::probe(&place)?;
        Ok(place)
    });
    opened.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                "another process is writing it; give each tracker a file of its own".to_owned()
            }
            _ => format!("{error}; name a file in a directory that karuta may write to"),
        };
        StartError(format!(
            "state_file {}: cannot be written: {remedy}",
            path.display()
        ))
    })
}
