//! A big set of info hashes to which small changes are made while it is asked:
//! what the FIFOs of torrent approval say is laid over what the files say.
//!
//! Each batch of changes is a layer of its own; nothing that is being asked
//! ever changes. Layers are merged when they come close in size, so that there
//! are few of them (each is four times the next), and a hash is copied a few
//! times in its life, however many there are: a list of millions is copied only
//! once changes amount to a quarter of it.

use super::hash_list::HashList;
use crate::bittorrent::InfoHash;
use std::collections::HashMap;
use std::sync::Arc;

/// How many times bigger than the next a layer is.
const FACTOR: usize = 4;

/// Changes to a set: whether each hash is in it from now on.
pub type Changes = HashMap<InfoHash, bool>;

/// The set. A clone, or a changed one, shares all layers that are the same.
#[derive(Clone, Debug)]
pub struct LayeredList {
    /// From the oldest to the newest. The first one takes nothing out.
    layers: Vec<Arc<Layer>>,
    seed: u64,
}

#[derive(Debug)]
struct Layer {
    put_in: HashList,
    taken_out: HashList,
}

impl LayeredList {
    /// A set without changes. `seed` should not be known to strangers.
    #[must_use]
    pub fn new(list: HashList, seed: u64) -> Self {
        let base = Layer {
            put_in: list,
            taken_out: HashList::new(&[], seed),
        };
        Self {
            layers: vec![Arc::new(base)],
            seed,
        }
    }

    /// Whether a hash is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, hash: &InfoHash) -> bool {
        for layer in self.layers.iter().rev() {
            if layer.put_in.contains(hash) {
                return true;
            }
            if layer.taken_out.contains(hash) {
                return false;
            }
        }
        false
    }

    /// The set after these changes.
    #[must_use]
    pub fn changed(&self, changes: &Changes) -> Self {
        let mut list = self.clone();
        if changes.is_empty() {
            return list;
        }
        let hashes = |wanted: bool| {
            let hashes = changes.iter().filter(move |(_, is_in)| **is_in == wanted);
            let hashes = hashes.map(|(hash, _)| *hash);
            HashList::collect(changes.len(), hashes, self.seed)
        };
        list.layers.push(Arc::new(Layer {
            put_in: hashes(true),
            taken_out: hashes(false),
        }));
        while let [.., older, newer] = list.layers.as_slice() {
            if older.len() >= FACTOR * newer.len() {
                break;
            }
            let is_base = list.layers.len() == 2;
            let merged = older.with(newer, is_base, self.seed);
            list.layers.truncate(list.layers.len() - 2);
            list.layers.push(Arc::new(merged));
        }
        list
    }
}

impl Layer {
    fn len(&self) -> usize {
        self.put_in.len() + self.taken_out.len()
    }

    /// This layer and a newer one as one. Below the base there is nothing to
    /// take out.
    fn with(&self, newer: &Self, is_base: bool, seed: u64) -> Self {
        let put_in = self.put_in.iter();
        let put_in = put_in.filter(|hash| !newer.taken_out.contains(hash));
        let taken_out = self.taken_out.iter();
        let taken_out = taken_out.filter(|hash| !newer.put_in.contains(hash));
        let most = if is_base { 0 } else { usize::MAX };
        let count = |one: &HashList, other: &HashList| one.len() + other.len();
        Self {
            put_in: HashList::collect(
                count(&self.put_in, &newer.put_in),
                put_in.chain(newer.put_in.iter()),
                seed,
            ),
            taken_out: HashList::collect(
                count(&self.taken_out, &newer.taken_out).min(most),
                taken_out.chain(newer.taken_out.iter()),
                seed,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn hash(number: u64) -> InfoHash {
        let mut hash = [0; 20];
        hash[4..12].copy_from_slice(&number.to_be_bytes());
        InfoHash(hash)
    }

    #[test]
    fn agrees_with_a_plain_set() {
        for seed in 0..20 {
            let mut random = crate::swarm::Random::new(seed);
            let base: Vec<InfoHash> = (0..random.below(300))
                .map(|at| hash(u64::from(at)))
                .collect();
            let mut set: HashSet<InfoHash> = base.iter().copied().collect();
            let mut list = LayeredList::new(HashList::new(&base, 7), 7);
            for _ in 0..100 {
                let mut changes = Changes::new();
                for _ in 0..random.below(6) {
                    let hash = hash(u64::from(random.below(400)));
                    changes.insert(hash, random.below(2) == 0);
                }
                let before = list.clone();
                list = list.changed(&changes);
                for at in 0..400 {
                    let hash = hash(at);
                    let was = set.contains(&hash);
                    assert_eq!(before.contains(&hash), was, "seed {seed}: {hash}");
                }
                for (hash, is_in) in changes {
                    if is_in {
                        set.insert(hash)
                    } else {
                        set.remove(&hash)
                    };
                }
                for at in 0..400 {
                    let hash = hash(at);
                    let is_in = set.contains(&hash);
                    assert_eq!(list.contains(&hash), is_in, "seed {seed}: {hash}");
                }
                assert!(list.layers.len() < 12, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_big_list_is_not_copied_for_a_small_change() {
        let base: Vec<InfoHash> = (1..=10_000).map(hash).collect();
        let first = LayeredList::new(HashList::new(&base, 7), 7);
        let mut list = first.clone();
        for at in 0..2000 {
            list = list.changed(&Changes::from([(hash(20_000 + at), true)]));
            assert!(Arc::ptr_eq(&first.layers[0], &list.layers[0]));
            assert!(list.layers.len() <= 8, "{}", list.layers.len());
        }
        let more = (0..3000).map(|at| (hash(30_000 + at), true)).collect();
        list = list.changed(&more);
        assert_eq!(list.layers.len(), 1, "a quarter of the list");
        assert_eq!(list.layers[0].len(), 15_000);
    }
}
