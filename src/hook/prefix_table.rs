//! Which list an address is on: prefixes in, one answer per address out.
//!
//! The prefixes are flattened into ranges that do not overlap, each with the
//! answer of the longest prefix over it, sorted by their beginning. A question
//! is a binary search among the ranges that share the address's first 16 bits:
//! a few steps in two arrays. A trie would follow a pointer per step and take
//! several times the memory, for the sake of changes, which a list that is
//! read as a whole does not need.

pub use crate::config::Prefix;
use crate::config::prefix_mask as mask;
use std::net::IpAddr;
use std::sync::Arc;

/// What a list says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Listed {
    /// It is on none.
    No,
    /// The longest prefix over it allows it.
    Allowed,
    /// The longest prefix over it denies it, or as long a one.
    Denied,
}

/// Networks of addresses that may do something: a table of which all shards
/// look at one copy.
#[derive(Clone, Debug)]
pub struct Networks(Option<Arc<PrefixTable>>);

impl Networks {
    /// These, or every address if there are none.
    #[must_use]
    pub fn new(prefixes: &[Prefix]) -> Self {
        let allowed = |prefix: &Prefix| (*prefix, Listed::Allowed);
        let prefixes: Vec<_> = prefixes.iter().map(allowed).collect();
        Self((!prefixes.is_empty()).then(|| Arc::new(PrefixTable::new(&prefixes))))
    }

    /// Whether none was named.
    #[must_use]
    pub const fn is_everybody(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an address is in one of those that were named.
    #[must_use]
    pub fn contains(&self, ip: &IpAddr) -> bool {
        let listed = |table: &Arc<PrefixTable>| table.find(ip) == Listed::Allowed;
        self.0.as_ref().is_some_and(listed)
    }

    /// Whether an address may do it.
    #[must_use]
    pub fn admit(&self, ip: &IpAddr) -> bool {
        self.is_everybody() || self.contains(ip)
    }
}

/// Answers for both families.
#[derive(Clone, Debug, Default)]
pub struct PrefixTable {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl PrefixTable {
    /// Takes prefixes with what they say. The longest prefix decides; between
    /// two that are the same, denial does.
    #[must_use]
    pub fn new(prefixes: &[(Prefix, Listed)]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, listed) in prefixes {
            match prefix.ip {
                IpAddr::V4(ip) => {
                    let last = u32::from(ip) | !mask(prefix.bits, 32) as u32;
                    v4.push((u32::from(ip), last, prefix.bits, *listed));
                }
                IpAddr::V6(ip) => {
                    let last = u128::from(ip) | !mask(prefix.bits, 128);
                    v6.push((u128::from(ip), last, prefix.bits, *listed));
                }
            }
        }
        Self {
            v4: Ranges::new(v4, u32::MAX, high_v4),
            v6: Ranges::new(v6, u128::MAX, high_v6),
        }
    }

    /// What the lists say of an address.
    #[must_use]
    #[inline]
    pub fn find(&self, ip: &IpAddr) -> Listed {
        match ip {
            IpAddr::V4(ip) => self.v4.find((*ip).into(), high_v4((*ip).into())),
            IpAddr::V6(ip) => self.v6.find((*ip).into(), high_v6((*ip).into())),
        }
    }

    /// How many ranges there are.
    #[must_use]
    pub const fn ranges(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }
}

const fn high_v4(address: u32) -> usize {
    (address >> 16) as usize
}

const fn high_v6(address: u128) -> usize {
    (address >> 112) as usize
}

/// One family's ranges. Each goes up to the next one's start.
#[derive(Clone, Debug, Default)]
struct Ranges<N> {
    starts: Box<[N]>,
    listed: Box<[Listed]>,
    /// For the first 16 bits of an address: the first range that starts with
    /// them or above.
    index: Box<[u32]>,
}

impl<N: Copy + Ord + Into<u128> + std::ops::Add<Output = N> + From<u8>> Ranges<N> {
    /// `prefixes`: first and last address, bits, what it says. `max`: the last
    /// address of all. `high`: the first 16 bits.
    fn new(mut prefixes: Vec<(N, N, u8, Listed)>, max: N, high: fn(N) -> usize) -> Self {
        if prefixes.is_empty() {
            return Self {
                starts: Box::default(),
                listed: Box::default(),
                index: Box::default(),
            };
        }
        // Outer prefixes before inner ones; of the same, denial last: it wins.
        prefixes.sort_unstable_by_key(|(first, _, bits, listed)| (*first, *bits, *listed));
        let mut ranges: Vec<(N, Listed)> = Vec::with_capacity(prefixes.len() * 2);
        let mut begin = |start: N, listed: Listed| {
            if ranges.last().is_some_and(|(last, _)| *last == start) {
                ranges.pop();
            }
            if ranges.last().map_or(Listed::No, |(_, last)| *last) != listed {
                ranges.push((start, listed));
            }
        };
        let mut outer: Vec<(N, Listed)> = Vec::new();
        for (first, last, _, listed) in prefixes {
            while let Some((end, _)) = outer.pop_if(|(end, _)| *end < first) {
                // `end` is below another address, so it is not the last.
                begin(
                    end + N::from(1),
                    outer.last().map_or(Listed::No, |(_, outer)| *outer),
                );
            }
            begin(first, listed);
            outer.push((last, listed));
        }
        while let Some((end, _)) = outer.pop() {
            if end < max {
                begin(
                    end + N::from(1),
                    outer.last().map_or(Listed::No, |(_, outer)| *outer),
                );
            }
        }
        let mut index = Vec::with_capacity((1 << 16) + 1);
        for (at, (start, _)) in ranges.iter().enumerate() {
            while index.len() <= high(*start) {
                index.push(at as u32);
            }
        }
        index.resize((1 << 16) + 1, ranges.len() as u32);
        Self {
            starts: ranges.iter().map(|(start, _)| *start).collect(),
            listed: ranges.iter().map(|(_, listed)| *listed).collect(),
            index: index.into(),
        }
    }

    #[inline]
    fn find(&self, address: N, high: usize) -> Listed {
        let (Some(from), Some(to)) = (self.index.get(high), self.index.get(high + 1)) else {
            return Listed::No;
        };
        let (from, to) = (*from as usize, *to as usize);
        let within = self.starts[from..to].partition_point(|start| *start <= address);
        // The last range that starts at the address or before it, if any.
        match (from + within).checked_sub(1) {
            Some(at) => self.listed[at],
            None => Listed::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Random;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    /// The longest of all prefixes over an address, by looking at each.
    fn longest(prefixes: &[(Prefix, Listed)], ip: &IpAddr) -> Listed {
        let over = prefixes.iter().filter(|(prefix, _)| match (prefix.ip, ip) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                u128::from(u32::from(first) ^ u32::from(*ip)) & mask(prefix.bits, 32) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(ip)) => {
                (u128::from(first) ^ u128::from(*ip)) & mask(prefix.bits, 128) == 0
            }
            _ => false,
        });
        over.map(|(prefix, listed)| (prefix.bits, *listed))
            .max()
            .map_or(Listed::No, |(_, listed)| listed)
    }

    #[test]
    fn agrees_with_looking_at_every_prefix() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut prefixes = Vec::new();
            for _ in 0..random.below(60) {
                let listed = [Listed::Allowed, Listed::Denied][random.below(2) as usize];
                // Few different bits, near both ends and in the middle.
                let drawn = random.next_u64() & 0x0303_0003_0300_0003;
                let drawn = if random.below(2) == 0 { drawn } else { !drawn };
                let (v4, v6) = (drawn as u32, u128::from(drawn) << 64 | u128::from(drawn));
                let (a, b) = (random.below(33) as u8, random.below(129) as u8);
                let ip = IpAddr::V4(Ipv4Addr::from(v4 & mask(a, 32) as u32));
                prefixes.push((Prefix { ip, bits: a }, listed));
                let ip = IpAddr::V6(Ipv6Addr::from(v6 & mask(b, 128)));
                prefixes.push((Prefix { ip, bits: b }, listed));
            }
            let table = PrefixTable::new(&prefixes);
            for _ in 0..500 {
                let drawn = random.next_u64() & 0x0707_0003_0300_0107;
                let drawn = if random.below(2) == 0 { drawn } else { !drawn };
                let v6 = u128::from(drawn) << 64 | u128::from(drawn);
                for ip in [
                    IpAddr::V4(Ipv4Addr::from(drawn as u32)),
                    IpAddr::V6(Ipv6Addr::from(v6)),
                ] {
                    let expected = longest(&prefixes, &ip);
                    assert_eq!(table.find(&ip), expected, "seed {seed}: {ip} {prefixes:?}");
                }
            }
        }
    }

    #[test]
    fn the_whole_address_space_is_a_prefix() {
        let all = [
            (prefix("0.0.0.0/0"), Listed::Denied),
            (prefix("::/0"), Listed::Denied),
            (prefix("255.255.255.255"), Listed::Allowed),
        ];
        let table = PrefixTable::new(&all);
        assert_eq!(
            table.find(&IpAddr::V4(Ipv4Addr::BROADCAST)),
            Listed::Allowed
        );
        assert_eq!(
            table.find(&IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Listed::Denied
        );
        assert_eq!(table.find(&IpAddr::V6(Ipv6Addr::LOCALHOST)), Listed::Denied);
    }

    #[test]
    fn no_networks_admit_everybody() {
        let everybody = Networks::new(&[]);
        let some = Networks::new(&["192.0.2.0/24".parse().expect("a prefix")]);
        for (ip, in_some) in [("192.0.2.9", true), ("192.0.3.9", false), ("::1", false)] {
            let ip = ip.parse().expect("an address");
            assert!(everybody.admit(&ip));
            assert_eq!(some.admit(&ip), in_some);
            assert!(!everybody.contains(&ip));
            assert_eq!(some.contains(&ip), in_some);
        }
    }
}
