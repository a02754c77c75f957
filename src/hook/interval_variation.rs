//! Longer intervals for some peers, so that they do not all come back at the
//! same time (Chihaya's hook).
//!
//! Which announces, and how much, follows from info hash and peer id: a peer
//! gets the same answer each time, and no random source is needed.
//!
//! Options: `modify_response_probability` (above 0, to 1: the part of all
//! peers that is concerned), `max_increase_delta` (seconds; those concerned
//! get 1 to so many more), `modify_min_interval` (default true: the least
//! interval grows too).

use super::{AnnounceRequest, Hook, Verdict};
use crate::bittorrent::Announce;
use crate::config::Section;

/// The hook.
#[derive(Clone, Debug)]
pub struct IntervalVariation {
    options: Options,
}

#[derive(Clone, Debug)]
struct Options {
    probability: f64,
    max_increase_seconds: u32,
    modify_min_interval: bool,
}

impl Hook for IntervalVariation {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options {
            probability: 0.2,
            max_increase_seconds: 60,
            modify_min_interval: true,
        };
        options.fraction(
            "modify_response_probability",
            (0.0, 1.0),
            &mut read.probability,
        );
        let most = &mut read.max_increase_seconds;
        options.integer("max_increase_delta", 1..=86_400, most);
        options.boolean("modify_min_interval", &mut read.modify_min_interval);
        Self { options: read }
    }

    fn announce(&mut self, request: &mut AnnounceRequest<'_>) -> Verdict {
        let extra = self.options.extra_seconds(request.announce);
        request.effects.extra_interval_seconds += extra;
        if self.options.modify_min_interval {
            request.effects.extra_min_interval_seconds += extra;
        }
        Verdict::Continue
    }
}

impl Options {
    /// 0 for those that are not concerned.
    fn extra_seconds(&self, announce: &Announce) -> u32 {
        const UNIT: u64 = 1 << 24;
        let mut numbers = Numbers {
            first: sum_of_words(&announce.info_hash.0),
            second: sum_of_words(&announce.peer_id.0),
        };
        let chance = numbers.below(UNIT) as f64 / UNIT as f64;
        if self.probability < 1.0 && chance >= self.probability {
            return 0;
        }
        // Below a day.
        numbers.below(self.max_increase_seconds.into()) as u32 + 1
    }
}

/// The first two 64-bit words of a name together.
fn sum_of_words(name: &[u8; 20]) -> u64 {
    let (words, _) = name.as_chunks();
    let sum = |sum: u64, word: &[u8; 8]| sum.wrapping_add(u64::from_be_bytes(*word));
    words.iter().fold(0, sum)
}

/// The generator xorshift128+ (Vigna 2014), seeded with names.
struct Numbers {
    first: u64,
    second: u64,
}

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        let (mut a, b) = (self.first, self.second);
        let value = a.wrapping_add(b);
        a ^= a << 23;
        self.first = b;
        self.second = a ^ b ^ (a >> 18) ^ (b >> 5);
        value % bound
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, judge_at, problems, read};
    use super::super::{Context, Effects, Moment, Transport};
    use super::*;
    use crate::bittorrent::PeerId;

    fn effects(hook: &mut IntervalVariation, peer: u64) -> Effects {
        let mut announce = announce();
        let mut id = [b'x'; 20];
        let mixed = peer.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        id[..8].copy_from_slice(&mixed.to_be_bytes());
        announce.peer_id = PeerId(id);
        let context = Context::bare(Transport::Udp, announce.ip);
        let (verdict, effects) = judge_at(hook, &mut announce, Moment::default(), &context, b"");
        assert_eq!(verdict, Verdict::Continue);
        effects
    }

    #[test]
    fn about_the_wanted_part_waits_longer_within_the_bound() {
        let mut hook: IntervalVariation =
            read("{modify_response_probability: 0.25, max_increase_delta: 60}");
        let all: Vec<Effects> = (0..4000).map(|peer| effects(&mut hook, peer)).collect();
        let extra = all.iter().map(|effects| effects.extra_interval_seconds);
        let longer = extra.clone().filter(|seconds| *seconds > 0).count();
        assert!((800..1200).contains(&longer), "{longer}");
        assert!(extra.clone().max() <= Some(60) && extra.max() > Some(50));
        for effects in &all {
            let Effects {
                extra_interval_seconds,
                extra_min_interval_seconds,
            } = effects;
            assert_eq!(extra_interval_seconds, extra_min_interval_seconds);
        }
    }

    #[test]
    fn the_same_peer_gets_the_same_and_the_least_interval_can_be_left_alone() {
        let mut hook: IntervalVariation =
            read("{modify_response_probability: 1, modify_min_interval: false}");
        for peer in 0..100 {
            let first = effects(&mut hook, peer);
            assert!((1..=60).contains(&first.extra_interval_seconds));
            assert_eq!(first.extra_min_interval_seconds, 0);
            assert_eq!(effects(&mut hook, peer), first);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            (
                "modify_response_probability: 0",
                "0 is not a number above 0",
            ),
            ("modify_response_probability: 1.5", "1.5 is not a number"),
            (
                "max_increase_delta: 0",
                "max_increase_delta: 0 is out of range",
            ),
            ("max_increase_delt: 1", "did you mean"),
        ] {
            let found = problems::<IntervalVariation>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
        assert_eq!(problems::<IntervalVariation>("{}"), "");
    }
}
