//! A swarm as a map.

use karuta::bittorrent::{AnnounceCounts, ScrapeCounts};
use std::collections::BTreeMap;

/// A stored peer.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub is_seeder: bool,
    pub is_paused: bool,
    pub seen: u32,
}

/// A stored swarm.
#[derive(Clone, Debug, Default)]
pub struct ModelSwarm {
    pub downloads: u32,
    pub members: BTreeMap<u16, Member>,
    /// Since when there are no members.
    pub empty_since: u32,
}

impl ModelSwarm {
    pub fn seeders(&self) -> u32 {
        self.members.values().filter(|peer| peer.is_seeder).count() as u32
    }

    pub fn counts(&self) -> AnnounceCounts {
        AnnounceCounts {
            complete: self.seeders(),
            incomplete: self.members.len() as u32 - self.seeders(),
            downloaded: self.downloads,
        }
    }

    pub fn scrape(&self) -> ScrapeCounts {
        let AnnounceCounts {
            complete,
            incomplete,
            downloaded,
        } = self.counts();
        let paused = self.members.values().filter(|peer| peer.is_paused).count() as u32;
        let downloaders = incomplete - paused;
        ScrapeCounts {
            complete,
            incomplete,
            downloaded,
            downloaders,
        }
    }
}
