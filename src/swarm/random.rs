//! A small seeded random source for choosing peers.
//!
//! Why its own: choosing where a window of peers begins needs a few cheap,
//! well spread numbers per announce and nothing secret, and invariant 2 wants
//! every seed to be an argument. This is the wyrand construction: a counter
//! with an odd step, folded through a 128-bit product.

use super::hash::fold;

/// A pseudo-random sequence fixed by its seed. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence that belongs to `seed`; any value will do.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        fold(self.state, self.state ^ 0xe703_7ed1_a0b4_28db)
    }

    /// A number in `0..bound`, each equally likely (to within `bound` in
    /// 2^64); 0 when `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = Random::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn the_seed_fixes_the_sequence() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [random.next_u64(), random.next_u64(), random.next_u64()]
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
