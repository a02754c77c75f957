//! What the UDP frontend is set to, and what follows from it for a request.

use crate::bittorrent::{AddressFamily, Announce};
use crate::protocol::Dialect;
use crate::protocol::udp::{self, AnnounceFields, ConnectionIds, ErrorText};
use crate::shard::Shard;
use crate::sys::datagram::Outbox;
use std::net::IpAddr;

/// What the frontend is set to.
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// Whose manners it has.
    pub dialect: Dialect,
    /// When clients are to announce again, in seconds.
    pub interval_seconds: u32,
    /// How much later than that a reply may say, in seconds.
    pub interval_spread_seconds: u32,
    /// Issues and verifies connection ids.
    pub connection_ids: ConnectionIds,
    /// Whether the address field of an announce counts.
    pub allow_ip_spoofing: bool,
    /// Peers in a reply to a client that does not say how many it wants.
    pub default_num_want: u32,
    /// Peers in a reply, at most.
    pub max_num_want: u32,
    /// Hashes of a scrape that are answered, at most.
    pub max_scrape_hashes: usize,
    /// Bytes of a reply, at most, by family (see [`AddressFamily::index`]).
    pub max_packet_bytes: [usize; 2],
}

impl UdpSettings {
    /// For the replies of a socket of this family.
    pub(super) fn outbox(&self, family: AddressFamily) -> Outbox {
        let most = self.max_packet_bytes[family.index()];
        Outbox::new(most, udp::sure_packet_bytes(family))
    }

    #[inline(always)]
    pub(super) fn announce(
        &self,
        fields: &AnnounceFields<'_>,
        source: IpAddr,
        family: AddressFamily,
    ) -> Result<Announce, ErrorText> {
        let ip = udp::resolve_address(fields.claimed_ip, self.allow_ip_spoofing, source)?;
        let wanted = u32::try_from(fields.num_want).unwrap_or(self.default_num_want);
        let fits = udp::max_peers_for(self.max_packet_bytes[family.index()], family);
        Ok(Announce {
            info_hash: fields.info_hash,
            peer_id: fields.peer_id,
            ip,
            port: fields.port,
            event: fields.event,
            left: fields.left,
            downloaded: fields.downloaded,
            uploaded: fields.uploaded,
            num_want: wanted.min(self.max_num_want).min(fits as u32),
        })
    }

    /// Whether announces need [`UdpSettings::vary`].
    #[inline]
    pub(super) const fn varies(&self) -> bool {
        self.interval_spread_seconds | self.dialect as u32 != 0
    }

    /// What few trackers do to an announce: an interval of its own, the events
    /// of another dialect.
    #[inline(never)]
    pub(super) fn vary(
        &self,
        shard: &mut Shard,
        announce: &mut Announce,
        interval_seconds: &mut u32,
    ) {
        let more = shard.random_up_to(self.interval_spread_seconds);
        *interval_seconds = interval_seconds.saturating_add(more);
        announce.event = self.dialect.event(announce.event, announce.left);
    }

    /// Hashes of a scrape that are answered: as configured, as many as fit.
    pub(super) fn scrape_limit(&self, family: AddressFamily) -> usize {
        let room = self.max_packet_bytes[family.index()] - udp::SCRAPE_HEADER_BYTES;
        self.max_scrape_hashes.min(room / udp::SCRAPE_ENTRY_BYTES)
    }
}
