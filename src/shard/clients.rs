//! Which programs peers use, counted when they start (`client_breakdown`).
//!
//! A client is told by the first characters of its peer id (BEP 20): `-qB4` of
//! `-qB4650-...` is qBittorrent 4. Peer ids are not stored, so what is counted
//! is not the peers there are but the announces with `event=started`, of which
//! a client sends one for each torrent and session.
//!
//! Anybody can send any peer id. The table therefore has a fixed size; when
//! there is no place for a new client, one that has not been seen for long
//! gives way, and its count is forgotten. What finds no place, or is no id, is
//! counted as other.
//!
//! One writer, the shard's own thread; readers take no lock.

use super::stats::{Counter, Gauge};
use crate::bittorrent::PeerId;
use std::fmt;

/// Clients that one shard tells apart, at most.
pub const MAX_CLIENTS: usize = SETS * WAYS;

/// Places are grouped: an id belongs into one set, anywhere in it.
const SETS: usize = 64;
const WAYS: usize = 4;

/// How long a client keeps its place: as many others as this must have been
/// turned away by its set since it was last seen.
const STANDING: u64 = 255;

/// How much of a peer id names the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId([u8; 4]);

impl ClientId {
    /// The id of a client; `None` when these are no printable characters as
    /// BEP 20 has them.
    #[must_use]
    #[inline]
    pub fn of(peer_id: &PeerId) -> Option<Self> {
        let id = *peer_id.0.first_chunk::<4>()?;
        let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        id.iter().all(is_usual).then_some(Self(id))
    }

    /// As one number, which is not 0.
    const fn key(self) -> u64 {
        u32::from_be_bytes(self.0) as u64
    }

    const fn from_key(key: u64) -> Self {
        Self((key as u32).to_be_bytes())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|&byte| write!(f, "{}", byte as char))
    }
}

/// The clients of one shard: 6 KiB.
#[derive(Debug)]
pub struct ClientTable {
    sets: Box<[[Place; WAYS]]>,
    other: Counter,
}

/// A client; its key is 0 where there is none.
#[derive(Debug, Default)]
struct Place {
    key: Gauge,
    count: Counter,
    /// Counted down by those that find no place, and up again by its own.
    standing: Gauge,
}

impl Default for ClientTable {
    fn default() -> Self {
        Self {
            sets: (0..SETS).map(|_| Default::default()).collect(),
            other: Counter::default(),
        }
    }
}

impl ClientTable {
    /// Counts a client that has started.
    pub fn count(&self, peer_id: &PeerId) {
        let Some(id) = ClientId::of(peer_id) else {
            self.other.add(1);
            return;
        };
        let key = id.key();
        // Fibonacci hashing: the upper bits depend on all of the key.
        let set = &self.sets[((key as u32).wrapping_mul(0x9e37_79b9) >> 26) as usize];
        if let Some(place) = set.iter().find(|place| place.key.get() == key) {
            place.count.add(1);
            place.standing.set(STANDING);
            return;
        }
        let Some(weakest) = set.iter().min_by_key(|place| place.standing.get()) else {
            return;
        };
        if weakest.standing.get() > 0 {
            weakest.standing.sub(1);
            self.other.add(1);
            return;
        }
        weakest.key.set(key);
        weakest.count.restart(1);
        weakest.standing.set(STANDING);
    }

    /// What was counted, in no order.
    pub fn counts(&self) -> impl Iterator<Item = (ClientId, u64)> {
        let places = self.sets.as_flattened().iter();
        places.filter_map(|place| {
            let (key, count) = (place.key.get(), place.count.get());
            // A place that changes hands just now is left out.
            let is_same = key != 0 && place.key.get() == key;
            is_same.then(|| (ClientId::from_key(key), count))
        })
    }

    /// Starts that were not counted for a client.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn peer_id(start: &[u8]) -> PeerId {
        let mut id = [b'x'; 20];
        id[..start.len()].copy_from_slice(start);
        PeerId(id)
    }

    fn counts(table: &ClientTable) -> BTreeMap<String, u64> {
        let counts = table.counts();
        counts.map(|(id, count)| (id.to_string(), count)).collect()
    }

    #[test]
    fn a_client_is_told_by_its_first_characters() {
        let table = ClientTable::default();
        for start in ["-qB4650-", "-qB4600-", "-TR3000-", "M7-2-3--"] {
            table.count(&peer_id(start.as_bytes()));
        }
        table.count(&peer_id(b"\0\xff<\""));
        table.count(&peer_id(b"-q\"4"));
        let expected = [("-TR3", 1), ("-qB4", 2), ("M7-2", 1)];
        let expected = expected.map(|(id, count)| (id.to_owned(), count));
        assert_eq!(counts(&table), BTreeMap::from(expected));
        assert_eq!(table.other(), 2);
    }

    #[test]
    fn a_client_that_is_seen_keeps_its_place_among_many_that_are_not() {
        let table = ClientTable::default();
        let mut real = 0;
        for number in 0..200_000u32 {
            if number % 16 == 0 {
                table.count(&peer_id(b"-qB4650-"));
                real += 1;
            }
            // Four digits of base 36, each id about once in eight rounds.
            let digit = |power: u32| {
                b"0123456789abcdefghijklmnopqrstuvwxyz"[(number / 36u32.pow(power) % 36) as usize]
            };
            table.count(&peer_id(&[digit(3), digit(2), digit(1), digit(0)]));
        }
        let counts = counts(&table);
        assert_eq!(counts["-qB4"], real);
        assert!(counts.len() <= MAX_CLIENTS);
        assert!(counts.len() > MAX_CLIENTS / 2, "{}", counts.len());
        assert!(table.other() > 100_000);
    }

    #[test]
    fn a_client_that_is_gone_gives_way() {
        let table = ClientTable::default();
        let id = |number: u32| format!("-{:03}", number % 1000);
        for number in 0..1000 {
            table.count(&peer_id(id(number).as_bytes()));
        }
        assert!(counts(&table).keys().all(|id| id.starts_with('-')));
        for _ in 0..WAYS as u64 * (STANDING + 1) {
            table.count(&peer_id(b"NEW1"));
        }
        assert!(counts(&table).contains_key("NEW1"));
    }
}
