//! Which peers a reply names.
//!
//! A seeder gets leechers only; a leecher gets seeders first, then leechers.
//! Never the announcer itself, and exactly as many as wanted if there are.
//!
//! When there are more than wanted, the choice is a window of neighbours at a
//! random place (around the end of its kind): 30 peers are then a few cache
//! lines instead of thirty. The start is uniform, so every peer is equally
//! likely to be handed out. From [`TWO_WINDOWS_FROM`] peers on it is two
//! windows with a random gap between them, so that two peers which joined one
//! after the other do not always come together; shifting the whole pattern by
//! a uniform offset keeps each peer's chance the same.

use super::lineup::Tally;
use super::random::Random;
use std::ops::Range;

/// A window smaller than this is not worth two cache misses.
const TWO_WINDOWS_FROM: usize = 8;

/// The announcer's own entry in the lineup, if it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) at: Option<usize>,
    pub(super) is_seeder: bool,
}

/// Calls `emit` with the runs of places to hand out, and returns how many
/// places they cover: `want`, or all that may be handed out.
#[inline]
pub(super) fn choose(
    tally: Tally,
    own: Own,
    want: usize,
    random: &mut Random,
    mut emit: impl FnMut(Range<usize>),
) -> usize {
    let (seeders, len) = (tally.seeders as usize, tally.len as usize);
    let mut given = 0;
    if !own.is_seeder {
        // The announcer is no seeder, so it is not among them.
        given = window(0..seeders, None, want, random, &mut emit);
    }
    if given < want {
        let own_at = if own.is_seeder { None } else { own.at };
        given += window(seeders..len, own_at, want - given, random, &mut emit);
    }
    given
}

/// Hands out `want` places of `kind` other than `skip`, or all of them.
#[inline]
fn window(
    kind: Range<usize>,
    skip: Option<usize>,
    want: usize,
    random: &mut Random,
    emit: &mut impl FnMut(Range<usize>),
) -> usize {
    let others = kind.len() - usize::from(skip.is_some());
    if want == 0 || others == 0 {
        return 0;
    }
    let ring = Ring { kind, skip, others };
    if others <= want {
        ring.emit(0, others, emit);
        return others;
    }
    let start = random.below(others as u32) as usize;
    if want < TWO_WINDOWS_FROM || others < 4 * want {
        ring.emit(start, want, emit);
        return want;
    }
    let first = want / 2;
    let gap = random.below((others - want) as u32 + 1) as usize;
    let second = start + first + gap;
    ring.emit(start, first, emit);
    ring.emit(
        if second < others {
            second
        } else {
            second - others
        },
        want - first,
        emit,
    );
    want
}

/// The places of one kind without the skipped one, numbered from 0, in a ring.
struct Ring {
    kind: Range<usize>,
    skip: Option<usize>,
    others: usize,
}

impl Ring {
    /// Emits `count` (at most all) from number `start` on, in up to three runs.
    #[inline]
    fn emit(&self, start: usize, count: usize, emit: &mut impl FnMut(Range<usize>)) {
        let end = start + count;
        if end <= self.others {
            self.emit_line(start..end, emit);
        } else {
            self.emit_line(start..self.others, emit);
            self.emit_line(0..end - self.others, emit);
        }
    }

    #[inline]
    fn emit_line(&self, line: Range<usize>, emit: &mut impl FnMut(Range<usize>)) {
        let (start, end) = (self.kind.start + line.start, self.kind.start + line.end);
        match self.skip {
            Some(skip) if skip < end => {
                // Numbers from the skipped place on stand for the next place.
                if start < skip {
                    emit(start..skip);
                }
                if skip < end {
                    emit(start.max(skip) + 1..end + 1);
                }
            }
            _ => emit(start..end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(tally: Tally, own: Own, want: usize, random: &mut Random) -> Vec<usize> {
        let mut places = Vec::new();
        let given = choose(tally, own, want, random, |run| {
            assert!(!run.is_empty());
            places.extend(run);
        });
        assert_eq!(given, places.len());
        places
    }

    /// Exact number, no repeats, right kinds, never the own place: every size.
    #[test]
    fn the_rules_hold_for_every_small_swarm() {
        let mut random = Random::new(1);
        for len in 0..24usize {
            for seeders in 0..=len {
                let tally = Tally {
                    len: len as u32,
                    seeders: seeders as u32,
                    paused: 0,
                };
                for at in (0..len).map(Some).chain([None]) {
                    for want in [0, 1, 2, 5, 8, 9, 30] {
                        let is_seeder = at.is_some_and(|at| at < seeders);
                        let own = Own { at, is_seeder };
                        let places = chosen(tally, own, want, &mut random);
                        let leechers = len - seeders - usize::from(at.is_some() && !is_seeder);
                        let possible = leechers + if is_seeder { 0 } else { seeders };
                        assert_eq!(places.len(), want.min(possible));
                        assert!(
                            places
                                .iter()
                                .all(|place| Some(*place) != at && *place < len)
                        );
                        let from_seeders = places.iter().filter(|place| **place < seeders).count();
                        let expected = if is_seeder { 0 } else { want.min(seeders) };
                        assert_eq!(from_seeders, expected, "seeders come first");
                        let mut sorted = places.clone();
                        sorted.sort_unstable();
                        sorted.dedup();
                        assert_eq!(sorted.len(), places.len(), "nobody twice");
                    }
                }
            }
        }
    }

    /// A chi-square test over the places: with 200 of them, the statistic is
    /// about 199 with a deviation of 20 if they are equally likely (windows
    /// make it smaller or larger by their correlation, hence the wide bound).
    #[test]
    fn every_peer_is_handed_out_equally_often() {
        for (want, at) in [
            (1, Some(0)),
            (5, Some(77)),
            (30, Some(199)),
            (50, None),
            (120, Some(3)),
        ] {
            let mut random = Random::new(42);
            let tally = Tally {
                len: 200,
                seeders: 0,
                paused: 0,
            };
            let own = Own {
                at,
                is_seeder: false,
            };
            let mut counts = [0u32; 200];
            let rounds = 400_000 / want;
            for _ in 0..rounds {
                for place in chosen(tally, own, want, &mut random) {
                    counts[place] += 1;
                }
            }
            let others = 200 - usize::from(at.is_some());
            let mean = (rounds * want) as f64 / others as f64;
            let mut chi_square = 0.0;
            for (place, count) in counts.iter().enumerate() {
                if Some(place) == at {
                    assert_eq!(*count, 0);
                } else {
                    chi_square += (f64::from(*count) - mean).powi(2) / mean;
                    assert!(
                        (f64::from(*count) - mean).abs() < mean * 0.15,
                        "{want} {place} {count}"
                    );
                }
            }
            assert!(chi_square < 400.0, "want {want}: {chi_square}");
        }
    }

    /// Two windows: neighbours come together less often than always.
    #[test]
    fn big_swarms_are_handed_out_in_two_windows() {
        let mut random = Random::new(7);
        let tally = Tally {
            len: 1000,
            seeders: 0,
            paused: 0,
        };
        let own = Own {
            at: None,
            is_seeder: false,
        };
        let mut gaps = 0;
        for _ in 0..100 {
            let mut runs = Vec::new();
            choose(tally, own, 30, &mut random, |run| runs.push(run));
            gaps += usize::from(runs.windows(2).any(|pair| pair[0].end != pair[1].start));
        }
        assert!(gaps > 90, "{gaps}");
    }
}
