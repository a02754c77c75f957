//! How much of a shard each tick sweeps.

use crate::swarm::Totals;

/// How fast the swarms of one family are swept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The most that there was to visit in this pass. The pace must not fall
    /// with what the pass itself removes: it would never come to an end.
    pub items: u64,
    /// The part of an item that a tick was too short for, in thousandths.
    remainder: u64,
}

impl Pace {
    /// Items to visit in this tick.
    pub fn budget(&mut self, items: u64, milliseconds: u64, sweep_seconds: u32) -> usize {
        self.items = self.items.max(items);
        // Ten per cent more than the average pace, so that a pass ends in time
        // although the tables grow meanwhile.
        let due = self.items * milliseconds * 11 / 10 / u64::from(sweep_seconds);
        let due = due + self.remainder;
        self.remainder = due % 1000;
        usize::try_from(due / 1000).unwrap_or(usize::MAX)
    }
}

/// What a sweep of everything visits, about and rather too much: swarms, peers
/// and, one for every eight places of the tables, groups of places. Those are
/// fewer than half the swarms, but for tables so small that it does not matter.
pub(super) fn weight(totals: &Totals) -> u64 {
    const SMALL_TABLE: u64 = 1024;
    SMALL_TABLE + totals.swarms + totals.swarms / 2 + totals.seeders + totals.leechers
}
