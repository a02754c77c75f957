//! How a peer lies in memory: its compact wire form, then 16 bits of state.
//!
//! Four kinds: IPv4 (8 bytes) and IPv6 (20 bytes), each also with the peer id
//! (28 and 40 bytes) for trackers whose replies must name it. All are plain
//! bytes without alignment, so arrays of them have no holes. The first bytes
//! are in network order exactly as BEP 23 and BEP 7 write them, so a reply is
//! made by copying.
//!
//! Port 0 does not occur (frontends refuse it), so an all-zero peer is "none".

use super::hash::Keys;
use crate::bittorrent::PeerId;
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of the pages that chunks of peers share, about.
pub(super) const PAGE_BYTES: usize = 16 * 1024;

/// A peer as the swarm store keeps it. Implemented by the four types of this
/// module; what follows the address is the store's own business.
pub trait StoredPeer: Copy + Default + PartialEq + Eq + Debug + 'static {
    /// Its kind of address.
    type Ip: Copy + Debug + PartialEq;
    /// The peers that fit inside a table slot; at least 16 bytes.
    #[doc(hidden)]
    type Body: Copy + Default + AsRef<[Self]> + AsMut<[Self]>;
    /// As many as fit in [`PAGE_BYTES`].
    #[doc(hidden)]
    type Page: Copy + AsRef<[Self]> + AsMut<[Self]>;
    /// A page of "none".
    #[doc(hidden)]
    const EMPTY_PAGE: Self::Page;

    /// A peer at an address. `port` is 1 to 65535.
    #[must_use]
    fn new(ip: Self::Ip, port: u16) -> Self;

    /// The same peer with its id, where the kind keeps ids; else unchanged.
    #[must_use]
    fn with_peer_id(self, peer_id: &PeerId) -> Self;

    /// Its address.
    fn ip(&self) -> Self::Ip;

    /// Its port.
    fn port(&self) -> u16;

    /// Its id, where the kind keeps ids.
    fn peer_id(&self) -> Option<PeerId>;

    /// Address and port as replies carry them: 6 bytes (BEP 23) or 18 (BEP 7).
    fn compact(&self) -> &[u8];

    /// Whether both have the same address and port: the identity of a peer.
    fn same_address(&self, other: &Self) -> bool;

    /// Where in `peers` the address of `key` is.
    #[doc(hidden)]
    fn find(peers: &[Self], key: &Self) -> Option<usize>;

    /// The 16 bits of `stamp`.
    #[doc(hidden)]
    fn flags(&self) -> u16;

    /// The same peer with other flags.
    #[doc(hidden)]
    #[must_use]
    fn with_flags(self, flags: u16) -> Self;

    /// The keyed hash of address and port.
    #[doc(hidden)]
    fn hash_address(&self, keys: &AddressKeys<'_>) -> u64;

    /// Four numbers in the place of the peers of a slot.
    #[doc(hidden)]
    fn pack(words: [u32; 4]) -> Self::Body;

    /// What [`StoredPeer::pack`] was given.
    #[doc(hidden)]
    fn unpack(body: &Self::Body) -> [u32; 4];
}

/// The keys of a store, as the trait may see them.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct AddressKeys<'a>(pub(super) &'a Keys);

/// Peers compared at a time by `find`: enough to keep vector units busy.
const STRIDE: usize = 8;

macro_rules! stored_peer {
    ($(#[$doc:meta])* $name:ident, $ip:ty, compact $compact:literal, bytes $bytes:literal,
     inline $inline:literal, id $id:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(transparent)]
        pub struct $name([u8; $bytes]);

        impl Default for $name {
            /// The peer that stands for "none".
            #[inline]
            fn default() -> Self {
                Self([0; $bytes])
            }
        }

        impl StoredPeer for $name {
            type Ip = $ip;
            type Body = [Self; $inline];
            type Page = [Self; PAGE_BYTES / $bytes];

            const EMPTY_PAGE: Self::Page = [Self([0; $bytes]); PAGE_BYTES / $bytes];

            #[inline]
            fn new(ip: $ip, port: u16) -> Self {
                let mut bytes = [0; $bytes];
                bytes[..$compact - 2].copy_from_slice(&ip.octets());
                bytes[$compact - 2..$compact].copy_from_slice(&port.to_be_bytes());
                Self(bytes)
            }

            #[inline]
            fn with_peer_id(self, peer_id: &PeerId) -> Self {
                let mut bytes = self.0;
                if $id {
                    bytes[$compact + 2..].copy_from_slice(&peer_id.0);
                }
                Self(bytes)
            }

            #[inline]
            fn ip(&self) -> $ip {
                let mut octets = [0; $compact - 2];
                octets.copy_from_slice(&self.0[..$compact - 2]);
                octets.into()
            }

            #[inline]
            fn port(&self) -> u16 {
                u16::from_be_bytes([self.0[$compact - 2], self.0[$compact - 1]])
            }

            #[inline]
            fn peer_id(&self) -> Option<PeerId> {
                self.0[$compact + 2..].first_chunk().map(|id| PeerId(*id))
            }

            #[inline]
            fn compact(&self) -> &[u8] {
                &self.0[..$compact]
            }

            #[inline]
            fn same_address(&self, other: &Self) -> bool {
                self.address() == other.address()
            }

            #[inline]
            fn find(peers: &[Self], key: &Self) -> Option<usize> {
                let key = key.address();
                let (strides, rest) = peers.as_chunks::<STRIDE>();
                for (at, stride) in strides.iter().enumerate() {
                    let mut hits = 0u32;
                    for (lane, peer) in stride.iter().enumerate() {
                        hits |= u32::from(peer.address() == key) << lane;
                    }
                    if hits != 0 {
                        return Some(at * STRIDE + hits.trailing_zeros() as usize);
                    }
                }
                let hit = rest.iter().position(|peer| peer.address() == key)?;
                Some(strides.len() * STRIDE + hit)
            }

            #[inline]
            fn flags(&self) -> u16 {
                u16::from_le_bytes([self.0[$compact], self.0[$compact + 1]])
            }

            #[inline]
            fn with_flags(mut self, flags: u16) -> Self {
                self.0[$compact..$compact + 2].copy_from_slice(&flags.to_le_bytes());
                self
            }

            #[inline]
            fn hash_address(&self, keys: &AddressKeys<'_>) -> u64 {
                let (low, high, rest) = self.words();
                keys.0.address(low, high, rest)
            }

            #[inline]
            fn pack(words: [u32; 4]) -> Self::Body {
                let mut body = Self::Body::default();
                for (at, word) in words.iter().enumerate() {
                    let (peer, byte) = (at * 4 / $bytes, at * 4 % $bytes);
                    body[peer].0[byte..byte + 4].copy_from_slice(&word.to_le_bytes());
                }
                body
            }

            #[inline]
            fn unpack(body: &Self::Body) -> [u32; 4] {
                let mut words = [0; 4];
                for (at, word) in words.iter_mut().enumerate() {
                    let (peer, byte) = (at * 4 / $bytes, at * 4 % $bytes);
                    let mut bytes = [0; 4];
                    bytes.copy_from_slice(&body[peer].0[byte..byte + 4]);
                    *word = u32::from_le_bytes(bytes);
                }
                words
            }
        }
    };
}

macro_rules! address_of_4 {
    ($name:ident) => {
        impl $name {
            /// Address and port as one number.
            #[inline]
            fn address(&self) -> u64 {
                let [a, b, c, d, e, f, g, h, ..] = self.0;
                u64::from_le_bytes([a, b, c, d, e, f, g, h]) & 0xffff_ffff_ffff
            }

            #[inline]
            fn words(&self) -> (u64, u64, u64) {
                (self.address(), 0, 0)
            }
        }
    };
}

macro_rules! address_of_6 {
    ($name:ident) => {
        impl $name {
            /// Address and port, to compare.
            #[inline]
            fn address(&self) -> (u128, u16) {
                let mut ip = [0; 16];
                ip.copy_from_slice(&self.0[..16]);
                (
                    u128::from_le_bytes(ip),
                    u16::from_le_bytes([self.0[16], self.0[17]]),
                )
            }

            #[inline]
            fn words(&self) -> (u64, u64, u64) {
                let (ip, port) = self.address();
                (ip as u64, (ip >> 64) as u64, u64::from(port))
            }
        }
    };
}

stored_peer!(
    /// An IPv4 peer: 8 bytes.
    Peer4, Ipv4Addr, compact 6, bytes 8, inline 2, id false
);
stored_peer!(
    /// An IPv6 peer: 20 bytes.
    Peer6, Ipv6Addr, compact 18, bytes 20, inline 1, id false
);
stored_peer!(
    /// An IPv4 peer with its id: 28 bytes.
    Peer4WithId, Ipv4Addr, compact 6, bytes 28, inline 1, id true
);
stored_peer!(
    /// An IPv6 peer with its id: 40 bytes.
    Peer6WithId, Ipv6Addr, compact 18, bytes 40, inline 1, id true
);
address_of_4!(Peer4);
address_of_4!(Peer4WithId);
address_of_6!(Peer6);
address_of_6!(Peer6WithId);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<P: StoredPeer>(ip: P::Ip, other: P::Ip, size: usize, id: bool) {
        assert_eq!((size_of::<P>(), align_of::<P>()), (size, 1));
        let peer_id = PeerId(*b"-KA0001-abcdefghijkl");
        let peer = P::new(ip, 0x1af1).with_peer_id(&peer_id).with_flags(0xffff);
        assert_eq!((peer.ip(), peer.port()), (ip, 0x1af1));
        assert_eq!(peer.flags(), 0xffff);
        assert_eq!(peer.peer_id(), id.then_some(peer_id));
        assert!(
            peer.same_address(&P::new(ip, 0x1af1)),
            "flags and id are no identity"
        );
        assert!(!peer.same_address(&P::new(ip, 0x1af2)));
        assert!(!peer.same_address(&P::new(other, 0x1af1)));
        assert_eq!(
            P::unpack(&P::pack([1, u32::MAX, 3, 4])),
            [1, u32::MAX, 3, 4]
        );
        for len in 0..40u16 {
            let peers: Vec<P> = (1..=len)
                .map(|port| P::new(ip, port).with_flags(port))
                .collect();
            for port in 1..=len {
                let found = P::find(&peers, &P::new(ip, port));
                assert_eq!(found, Some(usize::from(port) - 1));
            }
            assert_eq!(P::find(&peers, &P::new(ip, len + 1)), None);
            assert_eq!(P::find(&peers, &P::new(other, 1)), None);
        }
    }

    #[test]
    fn the_four_kinds() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        check::<Peer4>(a, b, 8, false);
        check::<Peer4WithId>(a, b, 28, true);
        let (a, b) = (a.to_ipv6_mapped(), b.to_ipv6_mapped());
        check::<Peer6>(a, b, 20, false);
        check::<Peer6WithId>(a, b, 40, true);
    }

    /// BEP 23: 4 bytes of address, 2 of port, network order; BEP 7: 16 and 2.
    #[test]
    fn compact_is_the_wire_form() {
        let peer = Peer4::new(Ipv4Addr::new(10, 20, 30, 40), 0x1af1).with_flags(0xffff);
        assert_eq!(peer.compact(), [10, 20, 30, 40, 0x1a, 0xf1]);
        let ip: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let peer = Peer6WithId::new(ip, 0x1af1).with_flags(0xffff);
        assert_eq!(peer.compact()[..16], ip.octets());
        assert_eq!(peer.compact()[16..], [0x1a, 0xf1]);
    }
}
