//! `s24s`: the IPv4 networks with the most peers, by /28 and by /24.
//!
//! The number of networks is bounded by counting only those that matter
//! (Misra and Gries): when there are too many, all counts are lowered by the
//! same amount and what falls to nothing is forgotten. A count may then be too
//! low by at most all peers divided by `KEPT`; up to `KEPT` networks all
//! are exact.

use super::render::line;
use ahash::AHashMap;
use std::net::Ipv4Addr;

/// Networks that are counted for certain.
const KEPT: usize = 1 << 16;

/// Networks in each list.
const LISTED: usize = 128;

/// Bits of a network of the first list, and of the second.
const WIDTHS: [u32; 2] = [28, 24];

/// Peers by network, so far.
#[derive(Debug)]
pub struct BusyNetworks {
    counts: [Counts; WIDTHS.len()],
}

impl Default for BusyNetworks {
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl BusyNetworks {
    fn keeping(kept: usize) -> Self {
        let counts = || Counts {
            kept,
            by_network: AHashMap::new(),
        };
        Self {
            counts: [counts(), counts()],
        }
    }

    /// Counts a peer.
    pub fn add(&mut self, ip: Ipv4Addr) {
        for (counts, width) in self.counts.iter_mut().zip(WIDTHS) {
            counts.add(u32::from(ip) & (u32::MAX << (32 - width)));
        }
    }

    /// Both lists.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (counts, width) in self.counts.iter().zip(WIDTHS) {
            line(&mut text, format_args!("Networks, limit /{width}:\n"));
            for (count, network) in counts.busiest(LISTED) {
                let network = Ipv4Addr::from(network);
                line(&mut text, format_args!("{count:08}: {network}\n"));
            }
            text.push('\n');
        }
        text
    }
}

#[derive(Debug)]
struct Counts {
    kept: usize,
    by_network: AHashMap<u32, u64>,
}

impl Counts {
    fn add(&mut self, network: u32) {
        *self.by_network.entry(network).or_insert(0) += 1;
        // At twice the size, so that it is seldom done.
        if self.by_network.len() >= 2 * self.kept {
            self.thin_out();
        }
    }

    /// Lowers all counts so far that `kept` are left at most.
    fn thin_out(&mut self) {
        let mut counts: Vec<u64> = self.by_network.values().copied().collect();
        let at = counts.len() - self.kept - 1;
        let (_, least, _) = counts.select_nth_unstable(at);
        let least = *least;
        self.by_network.retain(|_, count| {
            *count = count.saturating_sub(least);
            *count > 0
        });
    }

    fn busiest(&self, amount: usize) -> Vec<(u64, u32)> {
        let mut all: Vec<(u64, u32)> = self
            .by_network
            .iter()
            .map(|(network, count)| (*count, *network))
            .collect();
        all.sort_unstable_by_key(|(count, network)| (std::cmp::Reverse(*count), *network));
        all.truncate(amount);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_both_widths_busiest_first() {
        let mut networks = BusyNetworks::default();
        for (ip, peers) in [
            ([192, 0, 2, 17], 2),
            ([192, 0, 2, 40], 1),
            ([10, 0, 0, 1], 2),
        ] {
            for _ in 0..peers {
                networks.add(ip.into());
            }
        }
        assert_eq!(
            networks.render(),
            "Networks, limit /28:\n00000002: 10.0.0.0\n00000002: 192.0.2.16\n\
             00000001: 192.0.2.32\n\nNetworks, limit /24:\n00000003: 192.0.2.0\n\
             00000002: 10.0.0.0\n\n"
        );
    }

    #[test]
    fn busy_networks_survive_a_crowd_of_others() {
        let mut networks = BusyNetworks::keeping(16);
        for other in 0..4000u32 {
            networks.add(Ipv4Addr::from(0x0a00_0000 + (other << 8)));
            if other % 4 == 0 {
                networks.add([192, 0, 2, 1].into());
            }
        }
        for counts in &networks.counts {
            assert!(counts.by_network.len() < 32, "it stays bounded");
            let (count, network) = counts.busiest(1)[0];
            assert_eq!(Ipv4Addr::from(network), Ipv4Addr::new(192, 0, 2, 0));
            // 5000 peers; too low by 5000 / 16 at most.
            assert!((1000 - 5000 / 16..=1000).contains(&count), "{count}");
        }
    }
}
