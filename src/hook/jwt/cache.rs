//! Tokens whose signature was good, in a table of fixed size: 48 bytes for each,
//! and nothing is allocated after the start.
//!
//! A token is known by a keyed hash of 128 bits (SipHash with a secret key):
//! whoever cannot know the key cannot make a token that is taken for another.

use crate::bittorrent::InfoHash;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Tokens among which a new one finds its place.
const WAYS: usize = 4;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) info_hash: InfoHash,
    /// In seconds since 1970.
    pub(super) good_until: u64,
}

/// A token's name.
pub(super) type Name = u128;

/// The tokens of one shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache {
    /// 0 names nothing.
    names: Vec<[Name; WAYS]>,
    known: Vec<[Known; WAYS]>,
    key: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            info_hash: InfoHash([0; 20]),
            good_until: 0,
        }
    }
}

impl Cache {
    /// Room for so many tokens. `key` is secret.
    pub(super) fn new(tokens: usize, key: u64) -> Self {
        let sets = tokens.div_ceil(WAYS);
        Self {
            names: vec![[0; WAYS]; sets],
            known: vec![[Known::default(); WAYS]; sets],
            key,
        }
    }

    /// The name of a token.
    pub(super) fn name(&self, token: &[u8]) -> Name {
        let mut hasher = SipHasher24::new_with_keys(self.key, !self.key.rotate_left(32));
        hasher.write(token);
        hasher.finish128().as_u128().max(1)
    }

    /// The torrent that a token is good for now.
    pub(super) fn find(&self, name: Name, now: u64) -> Option<InfoHash> {
        let set = self.set(name);
        let at = self
            .names
            .get(set)?
            .iter()
            .position(|known| *known == name)?;
        let known = self.known[set][at];
        (now < known.good_until).then_some(known.info_hash)
    }

    /// Remembers a token; forgets one whose time is up, or any.
    pub(super) fn insert(&mut self, name: Name, token: Known, now: u64) {
        let set = self.set(name);
        let Some(names) = self.names.get_mut(set) else {
            return;
        };
        let known = &mut self.known[set];
        let same = names.iter().position(|known| *known == name);
        let free = || known.iter().position(|known| known.good_until <= now);
        // Which of them goes is as good as random.
        let at = same.or_else(free).unwrap_or((name >> 64) as usize % WAYS);
        names[at] = name;
        known[at] = token;
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.names.fill([0; WAYS]);
        self.known.fill([Known::default(); WAYS]);
    }

    fn set(&self, name: Name) -> usize {
        ((u128::from(name as u64) * self.names.len() as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_up_to_its_bound_and_until_the_time_is_up() {
        let mut cache = Cache::new(64, 5);
        let known = |number: u8, good_until| Known {
            info_hash: InfoHash([number; 20]),
            good_until,
        };
        for number in 0..200u8 {
            let name = cache.name(&[number]);
            cache.insert(name, known(number, 100), 10);
            assert_eq!(cache.find(name, 99), Some(InfoHash([number; 20])));
            assert_eq!(cache.find(name, 100), None);
        }
        let found = (0..200u8).filter(|number| cache.find(cache.name(&[*number]), 10).is_some());
        assert!((40..=64).contains(&found.count()));
        let name = cache.name(b"later");
        cache.insert(name, known(7, 300), 200);
        assert_eq!(cache.find(name, 250), Some(InfoHash([7; 20])));
        cache.clear();
        assert_eq!(cache.find(name, 250), None);
        assert_eq!(Cache::default().find(name, 0), None);
    }
}
