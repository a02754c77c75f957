//! The table against a plain map, with blocks so small that everything happens.

use super::super::random::Random;
use super::*;
use crate::sys::huge::{HugeBox, Regions};
use std::collections::BTreeMap;

/// Sixteen entries a block, at most two blocks a segment: splits early.
type Small = Table<u64, 2, 2, Counted>;

/// Counts the blocks that are out.
#[derive(Default)]
struct Counted {
    regions: Regions<Block<u64, 2>>,
    out: usize,
}

impl Memory<Block<u64, 2>> for Counted {
    type Owned = HugeBox<Block<u64, 2>>;

    fn put(&mut self, value: Block<u64, 2>) -> Self::Owned {
        self.out += 1;
        self.regions.put(value)
    }

    fn give(&mut self, owned: Self::Owned) {
        self.out -= 1;
        self.regions.give(owned);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.out, 0, "a dropped table gives all back");
        }
    }
}

/// Entries are their own hash's source.
fn hasher(entry: &u64) -> u64 {
    super::super::hash::fold(*entry ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15)
}

/// Every invariant that the module states.
fn check(table: &Small) {
    let mut len = 0;
    let mut blocks = 0;
    for (at, segment) in table.segments.iter().enumerate() {
        assert_eq!(
            table.segment_of(if segment.depth == 0 {
                0
            } else {
                u64::from(segment.prefix) << (64 - segment.depth)
            }),
            at
        );
        assert!(segment.depth <= table.depth);
        let mut own = 0;
        for group in 0..segment.groups() {
            for spot in table.spots(at, group) {
                own += 1;
                let hash = hasher(table.entry(spot));
                assert_eq!(table.segment_of(hash), at);
                let mut full = segment.home(hash);
                while full != group {
                    assert_eq!(
                        segment.group(full).0 & ALL_EMPTY,
                        0,
                        "a gap before an entry"
                    );
                    full = (full + 1) % segment.groups();
                }
            }
        }
        assert_eq!(own, segment.len);
        len += own;
        blocks += segment.block_count();
    }
    assert_eq!((len, blocks), (table.len, table.blocks));
    assert_eq!(table.memory.out, blocks);
    let deepest = table.segments.iter().map(|segment| segment.depth).max();
    assert_eq!(
        deepest,
        Some(table.depth),
        "the directory is no larger than needed"
    );
}

#[test]
fn random_operations_match_a_map() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut table = Small::new();
        let mut model = BTreeMap::new();
        for step in 0..3000u32 {
            // Grows for a while, then shrinks, twice.
            let growing = step % 1500 < 700;
            let key = u64::from(random.below(600));
            let hash = hasher(&key);
            let spot = table.find(hash, |entry| *entry == key);
            assert_eq!(
                spot.is_some(),
                model.contains_key(&key),
                "seed {seed} step {step}"
            );
            match spot {
                Some(spot) if !growing || random.below(4) == 0 => {
                    table.remove(spot, hasher);
                    table.tidy(hash, hasher);
                    model.remove(&key);
                }
                None if growing => {
                    let spot = table.insert(hash, key, hasher);
                    assert_eq!(*table.entry(spot), key);
                    model.insert(key, ());
                }
                _ => {}
            }
            if step % 50 == 0 {
                check(&table);
            }
        }
        for key in 0..600 {
            let found = table.get(hasher(&key), |entry| *entry == key);
            assert_eq!(found.is_some(), model.contains_key(&key));
        }
    }
}

/// Look-ups begun at any time find what is there when they end, whatever the
/// table did between.
#[test]
fn a_hint_is_never_believed_blindly() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut table = Small::new();
        let mut begun: Vec<(u64, Lookup)> = Vec::new();
        let mut hinted = 0;
        for step in 0..3000u32 {
            let growing = step % 1500 < 700;
            let key = u64::from(random.below(600));
            let mut lookup = Lookup::from(hasher(&key));
            if random.below(8) > 0 {
                table.prefetch_control(&mut lookup);
            }
            if random.below(8) > 0 {
                table.prefetch_entry(&mut lookup);
            }
            begun.push((key, lookup));
            let at = random.below(begun.len() as u32) as usize;
            let (key, lookup) = begun[at];
            if begun.len() > 40 {
                begun.swap_remove(at);
            }
            let mut looks = 0;
            let is_it = |entry: &u64| {
                looks += 1;
                *entry == key
            };
            let found = table.find_hinted(&lookup, is_it);
            let spot = table.find(lookup.hash, |entry| *entry == key);
            assert_eq!(found, spot, "seed {seed} step {step}");
            hinted += u32::from(found.is_some() && looks == 1);
            match spot {
                Some(spot) if !growing || random.below(4) == 0 => {
                    table.remove(spot, hasher);
                    table.tidy(lookup.hash, hasher);
                }
                None if growing || random.below(4) == 0 => {
                    table.insert(lookup.hash, key, hasher);
                }
                _ => {}
            }
        }
        check(&table);
        assert!(hinted > 100, "seed {seed}: only {hinted} hints were of use");
    }
}

#[test]
fn emptied_it_gives_its_memory_back() {
    let mut table = Small::new();
    let empty = table.bytes();
    for key in 0..10_000 {
        table.insert(hasher(&key), key, hasher);
    }
    assert!(table.segments.len() > 300 && table.depth > 8);
    check(&table);
    for key in 0..10_000 {
        let hash = hasher(&key);
        let spot = table
            .find(hash, |entry| *entry == key)
            .expect("inserted above");
        table.remove(spot, hasher);
        table.tidy(hash, hasher);
    }
    check(&table);
    assert_eq!((table.len(), table.depth), (0, 0));
    assert!(table.bytes() < empty + 1000, "{} bytes left", table.bytes());
}

/// A walk by home groups sees each entry that is there all the time exactly
/// once, however the table grows or shrinks between its steps.
#[test]
fn a_walk_survives_growth_and_shrinking() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let mut table = Small::new();
        let steady = 0..300u64;
        let mut passing = 1000u64;
        for key in steady.clone() {
            table.insert(hasher(&key), key, hasher);
        }
        let mut seen = BTreeMap::new();
        let mut cursor = Some(0);
        let mut steps = 0;
        while let Some(at) = cursor {
            let (segment, group) = table.at_cursor(at);
            table.natives(at, hasher, |entry| *seen.entry(*entry).or_insert(0) += 1);
            cursor = table.after(segment, group);
            assert!(cursor.is_none_or(|next| next > at), "the walk goes forward");
            steps += 1;
            for _ in 0..random.below(60) {
                let key = passing;
                if steps % 20 < 10 {
                    table.insert(hasher(&key), key, hasher);
                    passing += 1;
                } else if passing > 1000 {
                    passing -= 1;
                    let hash = hasher(&passing);
                    let spot = table.find(hash, |entry| *entry == passing).expect("there");
                    table.remove(spot, hasher);
                    table.tidy(hash, hasher);
                }
            }
        }
        check(&table);
        for key in steady {
            assert_eq!(seen.get(&key), Some(&1), "seed {seed} key {key}");
        }
    }
}

#[test]
fn loads_stay_where_the_module_says() {
    let mut table = Table::<u64, 16, 16, Heap>::new();
    for key in 0..100_000u64 {
        table.insert(hasher(&key), key, hasher);
        if key > 5_000 && key % 1000 == 0 {
            let capacity = table.blocks * 16 * LANES;
            let load = table.len() * 100 / capacity;
            assert!((76..=90).contains(&load), "{load} % at {key}");
        }
    }
}

/// Equal hashes cannot be split apart: the segment grows instead.
#[test]
fn equal_hashes_end_in_one_long_segment() {
    let mut table = Table::<u64, 1, 2, Heap>::new();
    for key in 0..200u64 {
        table.insert(42, key, |_| 42);
    }
    for key in 0..200u64 {
        assert!(table.get(42, |entry| *entry == key).is_some());
    }
    for key in 0..200u64 {
        let spot = table.find(42, |entry| *entry == key).expect("inserted");
        table.remove(spot, |_| 42);
        table.tidy(42, |_| 42);
    }
    assert_eq!((table.len(), table.depth), (0, 0));
}
