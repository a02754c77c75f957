//! Which shard owns an info hash: one function, in Rust and as classic BPF.
//!
//! The owner depends on the hash's first four bytes, a per-process key and the
//! number of shards. The key keeps a stranger from aiming hashes at one shard
//! without first learning the key from timing.

use crate::bittorrent::InfoHash;
use crate::sys::steering::Instruction;

/// The number of a shard, from 0. It is also the order in which the shards'
/// sockets were bound.
pub type ShardId = usize;

/// An odd number whose multiples spread well over the upper bits (2³² divided
/// by the golden ratio; Knuth, The Art of Computer Programming, 6.4).
const SPREAD: u32 = 0x9E37_79B1;

/// Maps info hashes to shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerMap {
    key: u32,
    shards: u32,
}

impl OwnerMap {
    /// Shards that can be told apart, at most: the arithmetic has 16 bits.
    pub const MAX_SHARDS: usize = 1 << 15;

    /// A map onto `shards` shards (1 to [`OwnerMap::MAX_SHARDS`]).
    ///
    /// # Panics
    /// When `shards` is out of range.
    #[must_use]
    pub fn new(key: u32, shards: usize) -> Self {
        assert!((1..=Self::MAX_SHARDS).contains(&shards));
        Self {
            key,
            shards: shards as u32,
        }
    }

    /// The shard that owns this info hash.
    #[must_use]
    #[inline]
    pub const fn owner(&self, info_hash: &InfoHash) -> ShardId {
        let spread = (info_hash.prefix() ^ self.key).wrapping_mul(SPREAD) >> 16;
        ((spread * self.shards) >> 16) as ShardId
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards as usize
    }

    /// The same function as a program for a reuseport group of UDP sockets.
    ///
    /// The first info hash of an announce and of a scrape is at offset 16 of
    /// the payload (BEP 15). A datagram too short to hold one is a connect,
    /// which any shard can answer: an index that no socket has makes the
    /// kernel spread those by address.
    #[must_use]
    pub fn steering_program(&self) -> Vec<Instruction> {
        const HASH_OFFSET: u32 = 16;
        const HASH_END: u32 = 36;
        let op = |code: u16, k: u32| Instruction {
            code,
            jump_true: 0,
            jump_false: 0,
            k,
        };
        vec![
            op(bpf::LOAD_LENGTH, 0),
            Instruction {
                code: bpf::JUMP_IF_AT_LEAST,
                jump_true: 0,
                jump_false: 7,
                k: HASH_END,
            },
            op(bpf::LOAD_WORD_AT, HASH_OFFSET),
            op(bpf::XOR, self.key),
            op(bpf::MULTIPLY, SPREAD),
            op(bpf::SHIFT_RIGHT, 16),
            op(bpf::MULTIPLY, self.shards),
            op(bpf::SHIFT_RIGHT, 16),
            op(bpf::RETURN_A, 0),
            op(bpf::RETURN, u32::MAX),
        ]
    }
}

/// Operation codes of classic BPF (linux/bpf_common.h, linux/filter.h).
mod bpf {
    /// A = length of the packet.
    pub const LOAD_LENGTH: u16 = 0x80;
    /// A = the big-endian word at offset k.
    pub const LOAD_WORD_AT: u16 = 0x20;
    /// Jump if A >= k.
    pub const JUMP_IF_AT_LEAST: u16 = 0x35;
    /// A ^= k.
    pub const XOR: u16 = 0xa4;
    /// A *= k, modulo 2³².
    pub const MULTIPLY: u16 = 0x24;
    /// A >>= k.
    pub const SHIFT_RIGHT: u16 = 0x74;
    /// Return A.
    pub const RETURN_A: u16 = 0x16;
    /// Return k.
    pub const RETURN: u16 = 0x06;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel does with the program.
    fn interpret(program: &[Instruction], packet: &[u8]) -> u32 {
        let mut a = 0u32;
        let mut at = 0;
        loop {
            let i = program[at];
            at += 1;
            match i.code {
                bpf::LOAD_LENGTH => a = packet.len() as u32,
                bpf::LOAD_WORD_AT => {
                    let start = i.k as usize;
                    let word = packet[start..start + 4].try_into().expect("four bytes");
                    a = u32::from_be_bytes(word);
                }
                bpf::JUMP_IF_AT_LEAST => {
                    at += usize::from(if a >= i.k { i.jump_true } else { i.jump_false });
                }
                bpf::XOR => a ^= i.k,
                bpf::MULTIPLY => a = a.wrapping_mul(i.k),
                bpf::SHIFT_RIGHT => a >>= i.k,
                bpf::RETURN_A => return a,
                bpf::RETURN => return i.k,
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    proptest! {
        #[test]
        fn kernel_and_program_agree(key: u32, shards in 1usize..=OwnerMap::MAX_SHARDS, hash: [u8; 20]) {
            let map = OwnerMap::new(key, shards);
            let mut packet = vec![0u8; 16];
            packet.extend(hash);
            let owner = map.owner(&InfoHash(hash));
            prop_assert!(owner < shards);
            prop_assert_eq!(interpret(&map.steering_program(), &packet), owner as u32);
            packet.pop();
            prop_assert_eq!(interpret(&map.steering_program(), &packet), u32::MAX);
        }
    }

    #[test]
    fn hashes_spread_evenly_whatever_the_key() {
        for key in [0, 1, 0xdead_beef] {
            for shards in [2usize, 3, 7, 48] {
                let map = OwnerMap::new(key, shards);
                let mut counts = vec![0u32; shards];
                for number in 0..48_000u32 {
                    let mut hash = [0u8; 20];
                    // Low-entropy prefixes: consecutive numbers.
                    hash[..4].copy_from_slice(&number.to_be_bytes());
                    counts[map.owner(&InfoHash(hash))] += 1;
                }
                let fair = 48_000 / shards as u32;
                for count in counts {
                    assert!(count.abs_diff(fair) < fair / 5, "{count} of about {fair}");
                }
            }
        }
    }
}
