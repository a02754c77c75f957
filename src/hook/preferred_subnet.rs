//! Peers in the requester's subnet come first (Chihaya's option, as Facebook
//! used it): downloads stay within a rack or a site.
//!
//! Acts where peers are chosen: see [`super::selection`]. A swarm is not sorted
//! by address, so at most `examined_peers` of it are looked at for each
//! announce; those are drawn at random. That is the cost of this hook.
//!
//! Options: `preferred_ipv4_subnet_mask_bits_set` (0 to 32),
//! `preferred_ipv6_subnet_mask_bits_set` (0 to 128), each 0 (default) for no
//! preference; `examined_peers` (default 1024).

use super::selection::PreferredSubnet;
use super::{Hook, Selection};
use crate::config::Section;

/// The hook.
#[derive(Clone, Debug)]
pub struct PreferredSubnetHook {
    options: PreferredSubnet,
}

impl Hook for PreferredSubnetHook {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = PreferredSubnet {
            bits: [0, 0],
            examined: 1024,
        };
        let (v4, v6) = (
            "preferred_ipv4_subnet_mask_bits_set",
            "preferred_ipv6_subnet_mask_bits_set",
        );
        options.integer(v4, 0..=32, &mut read.bits[0]);
        options.integer(v6, 0..=128, &mut read.bits[1]);
        options.integer("examined_peers", 1..=100_000, &mut read.examined);
        if read.bits == [0, 0] && options.is_sound(&[v4, v6]) {
            options.refuse_all("wants a number of mask bits for IPv4, IPv6 or both");
        }
        Self { options: read }
    }

    fn shape(&self, selection: &mut Selection) -> bool {
        selection.preferred_subnet = Some(self.options);
        true
    }
}
