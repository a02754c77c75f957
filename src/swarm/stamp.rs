//! The 16 bits that a stored peer carries beside its address.
//!
//! Layout: bit 15 seeder, bit 14 paused (BEP 21), bits 0 to 13 when the peer
//! last announced, in coarse units. The unit is a power of two of seconds,
//! chosen so that the lifetime is at most [`MAX_LIFETIME_UNITS`].
//!
//! The arithmetic wraps: an age is the difference of two stamps modulo 2^14,
//! so an age is told rightly as long as it is below 2^14 units. A peer is due
//! when its age exceeds the lifetime, and it *looks* due from then until its
//! true age reaches 2^14 units, that is for at least 3/4 of the range: three
//! lifetimes (with the usual 31 minutes: four hours). A sweep that passes each
//! peer at least that often therefore finds every due peer. Should it be
//! slower, nothing breaks: a due peer that is met too late looks young once
//! more and stays for one more turn of the range at most per miss.
//!
//! `now` itself is a `u32` of seconds and may wrap as well: 2^32 is a multiple
//! of 2^14 units for every unit used here (2^18 seconds at most), so the
//! differences stay right.

/// Set for a peer that has everything.
pub(super) const SEEDER: u16 = 1 << 15;
/// Set for a leecher whose last event was `paused` (BEP 21).
pub(super) const PAUSED: u16 = 1 << 14;
/// The bits of the time.
const TIME: u16 = (1 << 14) - 1;
/// The longest lifetime in units: a quarter of the range, see the module.
const MAX_LIFETIME_UNITS: u32 = 1 << 12;
/// The longest lifetime, 34 years: more would need a unit with which the wrap
/// of `now` could not be told.
const MAX_LIFETIME_SECONDS: u32 = MAX_LIFETIME_UNITS << 18;

/// Turns seconds into stamps and tells which stamps are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Seconds per unit, as a power of two.
    shift: u32,
    lifetime_units: u16,
}

impl Clock {
    /// A clock for peers that live `lifetime_seconds` after an announce.
    pub(super) fn new(lifetime_seconds: u32) -> Self {
        // In steps of eight, so that a reload which changes the lifetime a
        // little seldom changes the unit (see `SwarmStore::set_settings`).
        let lifetime_seconds = lifetime_seconds.min(MAX_LIFETIME_SECONDS);
        let mut shift = 0;
        while Self::units(lifetime_seconds, shift) > MAX_LIFETIME_UNITS {
            shift += 3;
        }
        let lifetime_units = Self::units(lifetime_seconds, shift) as u16;
        Self {
            shift,
            lifetime_units,
        }
    }

    /// Whether stamps of both clocks mean the same.
    pub(super) fn same_unit(self, other: Self) -> bool {
        self.shift == other.shift
    }

    /// The stamp of `now`, without flags.
    #[inline]
    pub(super) fn stamp(self, now_seconds: u32) -> u16 {
        (now_seconds >> self.shift) as u16 & TIME
    }

    /// Whether a peer with these flags has been silent for longer than the
    /// lifetime. It lives for the lifetime at least and for two units more at
    /// most; with units of one second, exactly.
    #[inline]
    pub(super) fn expired(self, now_seconds: u32, flags: u16) -> bool {
        let age = self.stamp(now_seconds).wrapping_sub(flags) & TIME;
        age > self.lifetime_units
    }

    /// Seconds since the stamp of these flags, a unit less or more.
    #[inline]
    pub(super) fn age(self, now_seconds: u32, flags: u16) -> u32 {
        u32::from(self.stamp(now_seconds).wrapping_sub(flags) & TIME) << self.shift
    }

    /// The same flags with the time of `now`.
    #[inline]
    pub(super) fn restamp(self, now_seconds: u32, flags: u16) -> u16 {
        (flags & !TIME) | self.stamp(now_seconds)
    }

    /// Seconds in units, rounded up.
    fn units(seconds: u32, shift: u32) -> u32 {
        (u64::from(seconds).div_ceil(1 << shift)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks through several turns of the stamp range and over the wrap of
    /// `now`, and compares with the true age.
    #[test]
    fn ages_are_right_over_every_wrap() {
        for lifetime in [1, 60, 1860, 2700, 4096, 4097, 86_400, 1_000_000, 1 << 30] {
            let clock = Clock::new(lifetime);
            let unit = 1u64 << clock.shift;
            let range = unit << 14;
            for turn in 0..40u64 {
                // Starts in odd places, some close to the wrap of u32.
                let seen = (turn * 977 * unit + turn * range / 3) as u32;
                let seen = if turn % 4 == 3 {
                    u32::MAX - turn as u32
                } else {
                    seen
                };
                let flags = clock.stamp(seen);
                let at = |age: u64| clock.expired(seen.wrapping_add(age as u32), flags);
                let lifetime = u64::from(lifetime);
                for age in [0, 1, lifetime / 2, lifetime - 1, lifetime] {
                    assert!(!at(age), "lifetime {lifetime} age {age} seen {seen}");
                }
                // Looks due from two units after the lifetime to the range's end.
                for age in [lifetime + 2 * unit, lifetime * 3, range - 2 * unit] {
                    if age < u64::from(u32::MAX) && age >= lifetime + 2 * unit {
                        assert!(at(age), "lifetime {lifetime} age {age} seen {seen}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_second_units_are_exact() {
        let clock = Clock::new(1860);
        let flags = clock.stamp(u32::MAX - 5);
        assert!(!clock.expired((u32::MAX - 5).wrapping_add(1860), flags));
        assert!(clock.expired((u32::MAX - 5).wrapping_add(1861), flags));
    }

    /// What the module says happens to a sweep that is far too slow.
    #[test]
    fn a_peer_met_a_whole_range_later_looks_young_once() {
        let clock = Clock::new(1860);
        let flags = clock.stamp(100);
        assert!(clock.expired(100 + (1 << 14) - 1, flags));
        assert!(!clock.expired(100 + (1 << 14), flags));
        assert!(clock.expired(100 + (1 << 14) + 1861, flags));
    }

    #[test]
    fn the_longest_lifetime_is_a_limit() {
        assert_eq!(Clock::new(u32::MAX), Clock::new(MAX_LIFETIME_SECONDS));
        assert_eq!(Clock::new(MAX_LIFETIME_SECONDS).shift, 18);
    }

    #[test]
    fn flags_do_not_disturb_the_time() {
        let clock = Clock::new(60);
        let flags = clock.stamp(1000) | SEEDER | PAUSED;
        assert!(!clock.expired(1060, flags));
        assert!(clock.expired(1061, flags));
        assert_eq!(
            clock.restamp(2000, flags),
            clock.stamp(2000) | SEEDER | PAUSED
        );
    }
}
