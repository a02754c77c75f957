//! What a peer says of itself and what a tracker knows of a swarm.

use super::{InfoHash, PeerId};
use std::net::IpAddr;

/// IPv4 and IPv6 swarms are kept apart (BEP 7): which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

impl AddressFamily {
    /// Both families, in the order of [`AddressFamily::index`].
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address. An IPv4-mapped IPv6 address counts as IPv6:
    /// frontends unmap before they ask.
    #[must_use]
    #[inline]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// 0 for IPv4, 1 for IPv6.
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }

    /// Bytes of one peer in compact form (BEP 23: 6; BEP 7: 18).
    #[must_use]
    #[inline]
    pub const fn compact_peer_bytes(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// The name used in metrics: `IPv4` or `IPv6`, as Chihaya writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Why a peer announces (BEP 3; `paused`: BEP 21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Event {
    /// A regular announce, at the interval.
    #[default]
    None,
    /// The first announce of a session.
    Started,
    /// The client shuts down or removes the torrent.
    Stopped,
    /// The download has just finished.
    Completed,
    /// The peer has all it wants but not all there is (BEP 21, partial seed).
    Paused,
}

/// One announce, validated: what a frontend hands to the owner of the hash.
///
/// The address is where other peers will be sent; it is never an IPv4-mapped
/// IPv6 address. The port is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Where the peer can be reached.
    pub ip: IpAddr,
    /// The port on which it listens, 1 to 65535.
    pub port: u16,
    /// Why it announces.
    pub event: Event,
    /// Bytes still to download; 0 makes it a seeder.
    pub left: u64,
    /// Bytes downloaded in this session, as the client says.
    pub downloaded: u64,
    /// Bytes uploaded in this session, as the client says.
    pub uploaded: u64,
    /// How many peers to answer with, at most: already clamped by the frontend.
    pub num_want: u32,
}

impl Announce {
    /// Whether this announce makes its sender a seeder: nothing left to
    /// download, or the event `completed`, whatever `left` says.
    #[must_use]
    #[inline]
    pub fn is_seeder(&self) -> bool {
        self.left == 0 || self.event == Event::Completed
    }

    /// The family of the swarm that this announce belongs to.
    #[must_use]
    #[inline]
    pub const fn family(&self) -> AddressFamily {
        AddressFamily::of(&self.ip)
    }
}

/// What an announce reply says of the swarm, after the announcer was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceCounts {
    /// Peers that have everything (seeders).
    pub complete: u32,
    /// Peers that have not (leechers, partial seeds included).
    pub incomplete: u32,
    /// Leechers that have completed since the swarm is known.
    pub downloaded: u32,
}

/// What a scrape says of one swarm (BEP 48, BEP 15; `downloaders`: BEP 21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Peers that have everything (seeders).
    pub complete: u32,
    /// Peers that have not (leechers, partial seeds included).
    pub incomplete: u32,
    /// Leechers that have completed since the swarm is known.
    pub downloaded: u32,
    /// `incomplete` without the partial seeds (those whose last event was
    /// `paused`): the peers that are downloading.
    pub downloaders: u32,
}

impl ScrapeCounts {
    /// The counts of two swarms of one info hash (IPv4 and IPv6) together.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self {
            complete: self.complete.saturating_add(other.complete),
            incomplete: self.incomplete.saturating_add(other.incomplete),
            downloaded: self.downloaded.saturating_add(other.downloaded),
            downloaders: self.downloaders.saturating_add(other.downloaders),
        }
    }
}
