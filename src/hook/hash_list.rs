//! A set of info hashes as compact as can be and fast to ask: lists of many
//! millions, asked once per announce.
//!
//! A flat table with open addressing: 20 bytes per place, three places for two
//! hashes, one cache line per question in most cases. 5 million hashes take 150
//! MB. The places are found with a keyed hash, since the list may hold hashes
//! that strangers have chosen.

use crate::bittorrent::InfoHash;

/// What an unused place holds. A list may hold it too: that is told apart.
const UNUSED: [u8; 20] = [0; 20];

/// A set of info hashes that does not change.
#[derive(Clone, Debug)]
pub struct HashList {
    places: Box<[[u8; 20]]>,
    keys: ahash::RandomState,
    /// Whether the hash of only zeros is in the set.
    has_zero: bool,
    len: usize,
}

impl HashList {
    /// The set of these hashes; repeats count once. `seed` should not be known
    /// to strangers.
    #[must_use]
    pub fn new(hashes: &[InfoHash], seed: u64) -> Self {
        Self::collect(hashes.len(), hashes.iter().copied(), seed)
    }

    /// The same for hashes that nobody holds in one piece: `most` is what there
    /// may be of them; what is more than that is left out.
    #[must_use]
    pub fn collect(most: usize, hashes: impl Iterator<Item = InfoHash>, seed: u64) -> Self {
        let places = match most {
            0 => 0,
            count => count + count / 2 + 1,
        };
        let mut list = Self {
            places: vec![UNUSED; places].into_boxed_slice(),
            keys: ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 1),
            has_zero: false,
            len: 0,
        };
        for hash in hashes.take(most) {
            list.insert(&hash);
        }
        list
    }

    /// How many hashes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All hashes, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = InfoHash> + '_ {
        let used = self.places.iter().filter(|place| **place != UNUSED);
        let zero = self.has_zero.then_some(InfoHash(UNUSED));
        used.map(|place| InfoHash(*place)).chain(zero)
    }

    /// Whether a hash is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, hash: &InfoHash) -> bool {
        if self.len == 0 {
            return false;
        }
        if hash.0 == UNUSED {
            return self.has_zero;
        }
        // There always is an unused place, unless there is no place at all.
        let mut at = self.first_place(hash);
        while let Some(place) = self.places.get(at) {
            if *place == hash.0 {
                return true;
            }
            if *place == UNUSED {
                return false;
            }
            at = self.next_place(at);
        }
        false
    }

    fn insert(&mut self, hash: &InfoHash) {
        if hash.0 == UNUSED {
            self.len += usize::from(!self.has_zero);
            self.has_zero = true;
            return;
        }
        let mut at = self.first_place(hash);
        while self.places[at] != UNUSED {
            if self.places[at] == hash.0 {
                return;
            }
            at = self.next_place(at);
        }
        self.places[at] = hash.0;
        self.len += 1;
    }

    /// A place that depends on all bits of the hash.
    #[inline]
    fn first_place(&self, hash: &InfoHash) -> usize {
        let number = u128::from(self.keys.hash_one(hash.0));
        ((number * self.places.len() as u128) >> 64) as usize
    }

    #[inline]
    const fn next_place(&self, at: usize) -> usize {
        if at + 1 < self.places.len() {
            at + 1
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn agrees_with_a_plain_set() {
        let mut random = crate::swarm::Random::new(5);
        let mut draw = || {
            // Few different bytes, so that hashes repeat.
            let mut hash = [0; 20];
            hash[19] = random.below(200) as u8;
            hash[3] = random.below(3) as u8;
            InfoHash(hash)
        };
        for count in [0, 1, 2, 3, 10, 100, 600] {
            let hashes: Vec<InfoHash> = (0..count).map(|_| draw()).collect();
            let list = HashList::new(&hashes, 9);
            let set: HashSet<InfoHash> = hashes.iter().copied().collect();
            assert_eq!((list.len(), list.is_empty()), (set.len(), count == 0));
            assert_eq!(list.iter().collect::<HashSet<_>>(), set);
            for hash in hashes.into_iter().chain((0..500).map(|_| draw())) {
                assert_eq!(list.contains(&hash), set.contains(&hash), "{hash}");
            }
        }
    }
}
