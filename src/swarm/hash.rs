//! The keyed hash of info hashes and of peer addresses.
//!
//! Why keyed: an attacker chooses info hashes (and, over IPv6, addresses), and
//! could otherwise aim thousands of them at one table segment. Why not SipHash:
//! it costs more than the rest of a lookup. A folded 128-bit product mixes 16
//! bytes in one multiplication, and whoever does not know the keys cannot aim.

use crate::bittorrent::InfoHash;

/// The secret of one process (or test) for its tables.
#[derive(Clone, Debug)]
pub(super) struct Keys([u64; 4]);

impl Keys {
    /// Stretches one secret seed into the keys (splitmix64).
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([0; 4].map(|_: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    /// Hash of an info hash.
    #[inline]
    pub(super) fn info_hash(&self, info_hash: &InfoHash) -> u64 {
        let (low, rest) = split(&info_hash.0);
        let (middle, rest) = split(rest);
        let last = rest
            .first_chunk()
            .map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
        self.mix(low, middle, last)
    }

    /// Hash of an address: its bytes in two words and a rest.
    #[inline]
    pub(super) fn address(&self, low: u64, high: u64, rest: u64) -> u64 {
        self.mix(low, high, rest)
    }

    #[inline]
    fn mix(&self, low: u64, high: u64, rest: u64) -> u64 {
        let [a, b, c, d] = self.0;
        // The second product takes the first one's result and the rest on one
        // side and a fixed odd key on the other, so no single input can zero it.
        let first = fold(low ^ a, high ^ b);
        fold(first ^ rest.rotate_left(32) ^ c, d | 1)
    }
}

/// The low half of the 128-bit product, mixed with the high half.
#[inline]
pub(super) const fn fold(left: u64, right: u64) -> u64 {
    let product = (left as u128).wrapping_mul(right as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The first eight bytes as a number, and what follows.
#[inline]
fn split(bytes: &[u8]) -> (u64, &[u8]) {
    bytes
        .split_first_chunk()
        .map_or((0, bytes), |(head, rest)| (u64::from_le_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_seed_count() {
        let keys = Keys::new(7);
        let zero = keys.info_hash(&InfoHash([0; 20]));
        for at in 0..20 {
            let mut bytes = [0; 20];
            bytes[at] = 1;
            assert_ne!(keys.info_hash(&InfoHash(bytes)), zero, "byte {at}");
        }
        assert_ne!(Keys::new(8).info_hash(&InfoHash([0; 20])), zero);
    }

    #[test]
    fn counting_info_hashes_spread_evenly() {
        // Top bits choose the segment, low bits are the fingerprint: both must
        // be even for the dullest input, hashes that differ in one counter.
        for shift in [0, 57, 40] {
            for offset in [0, 8, 16] {
                let keys = Keys::new(3);
                let mut buckets = [0u32; 128];
                for n in 0..128_000u32 {
                    let mut bytes = [0; 20];
                    bytes[offset..offset + 4].copy_from_slice(&n.to_le_bytes());
                    buckets[(keys.info_hash(&InfoHash(bytes)) >> shift) as usize & 127] += 1;
                }
                let (min, max) = (buckets.iter().min(), buckets.iter().max());
                assert!(
                    min >= Some(&850) && max <= Some(&1150),
                    "{shift} {min:?} {max:?}"
                );
            }
        }
    }
}
