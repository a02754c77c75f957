//! Whose manners the tracker has: its own, or those of opentracker 1.0, for
//! operators who replace one and want no client to notice.
//!
//! A [`Dialect`] is asked wherever the two differ, so that frontends have one
//! way of doing things: here for UDP and for texts, in `http/dialect.rs` for
//! HTTP. How opentracker behaves was seen from its outside and in its source.
//! Where its ways would harm somebody they are not followed: a source that has
//! not shown a connection id never gets more bytes than it sent, refusals are
//! well-formed, nobody is handed itself while others are there, and a peer
//! without a port is answered but handed to nobody.

use super::udp;
use crate::bittorrent::{AddressFamily, Event};
use serde::Serialize;

/// Whose manners the tracker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Its own, which are mostly Chihaya's.
    #[default]
    Karuta,
    /// Those of opentracker 1.0.
    Opentracker,
}

/// How opentracker words the refusal of a torrent that is not on its list.
const NOT_AUTHORIZED: &str = "Requested download is not authorized for use with this tracker.";

/// How opentracker words that a connection id is wrong. It sends the byte that
/// ends a text in C with it, and clients exist that compare it: see
/// `ConnectionIdMissmatchNul` in the BitTorrent library of anacrolix.
const CONNECTION_ID_MISSMATCH: &str = "Connection ID missmatch.\0";

/// Peers in a UDP reply of opentracker, by family.
const MAX_PEERS_UDP: [usize; 2] = [200, 66];

impl Dialect {
    /// Whether IPv4 and IPv6 peers of a torrent are one swarm: counted
    /// together and, over HTTP, handed out together. BEP 7 keeps them apart.
    #[must_use]
    #[inline]
    pub const fn combines_families(self) -> bool {
        matches!(self, Self::Opentracker)
    }

    /// The text for a torrent that is not on the list, where `own` is ours.
    #[must_use]
    pub const fn unapproved(self, own: &'static str) -> &'static str {
        match self {
            Self::Karuta => own,
            Self::Opentracker => NOT_AUTHORIZED,
        }
    }

    /// What an announce with this event is taken for. To opentracker,
    /// `completed` means nothing from a peer that has something left.
    #[must_use]
    #[inline]
    pub const fn event(self, event: Event, left: u64) -> Event {
        match (self, event) {
            (Self::Opentracker, Event::Completed) if left > 0 => Event::None,
            _ => event,
        }
    }

    /// The text for a wrong connection id over UDP.
    #[must_use]
    pub const fn bad_connection_id(self) -> &'static str {
        match self {
            Self::Karuta => udp::ErrorText::BadConnectionId.as_str(),
            Self::Opentracker => CONNECTION_ID_MISSMATCH,
        }
    }

    /// Peers in a UDP reply to a client that does not say how many it wants:
    /// opentracker reads -1 as a very large number.
    #[must_use]
    pub const fn default_num_want_udp(self, default: u32, max: u32) -> u32 {
        match self {
            Self::Karuta => default,
            Self::Opentracker => max,
        }
    }

    /// Bytes of a UDP reply, at most, where `configured` is the setting.
    #[must_use]
    pub fn max_packet_bytes(self, family: AddressFamily, configured: usize) -> usize {
        let Self::Opentracker = self else {
            return configured;
        };
        let [v4, v6] = MAX_PEERS_UDP;
        let peers = match family {
            AddressFamily::V4 => v4,
            AddressFamily::V6 => v6,
        };
        let peers_bytes = peers.saturating_mul(family.compact_peer_bytes());
        configured.min(udp::ANNOUNCE_HEADER_BYTES.saturating_add(peers_bytes))
    }
}
