//! The UDP frontend (BEP 15, BEP 41): datagrams in batches.
//!
//! A batch is handled in three steps: read and verify every datagram, fetch
//! what their swarms need, then announce and encode straight into the send
//! buffers. The steps are apart so that the cache misses of a batch overlap.
//!
//! Nothing is sent to a source that has not shown a connection id but answers
//! no longer than the request (a connection id itself, or that one is bad), so
//! the tracker is no use for reflection. Nor is anything answered that an answer
//! of a tracker could be: with one forged datagram two trackers would answer
//! each other for ever.

mod measure;
mod peers;
mod read;
mod settings;

pub use settings::UdpSettings;

use super::Client;
use super::desk::{Answer, Desk, Lanes};
use super::late::LateReply;
use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, InfoHash, ScrapeCounts};
use crate::protocol::udp::{self, ANNOUNCE_HEADER_BYTES, AnnounceAction};
use crate::runtime::clock::Now;
use crate::shard::Shard;
use crate::shard::stats::{Action, DropReason, Outcome, Protocol, ShardStats};
use crate::swarm::Lookup;
use crate::sys::datagram::{Address, BATCH, Inbox, LocalAddress, Outbox};
use peers::DatagramPeers;
use read::Reader;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// What is needed to answer a datagram later.
#[derive(Clone, Copy, Debug)]
pub struct UdpClient {
    endpoint: usize,
    to: Address,
    from: LocalAddress,
    transaction_id: u32,
    action: AnnounceAction,
    interval_seconds: u32,
    /// When the datagram was found, since the start.
    arrived: Duration,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.ip(), self.port())
    }
}

/// How many datagrams ahead of the one that is read the fetching is.
const AHEAD: usize = 4;

/// One socket of this shard.
struct Endpoint {
    socket: UdpSocket,
    family: AddressFamily,
    outbox: Outbox,
}

/// An announce of this shard's own, verified, whose swarm is being fetched.
struct Prepared {
    announce: Announce,
    lookup: Lookup,
    transaction_id: u32,
    action: AnnounceAction,
    interval_seconds: u32,
    /// Its place in the inbox.
    at: usize,
}

/// One shard's UDP sockets.
pub struct UdpFrontend {
    settings: UdpSettings,
    endpoints: Vec<Endpoint>,
    inbox: Inbox,
    prepared: Vec<Prepared>,
    /// The hashes of a scrape, for hooks.
    scraped: Vec<InfoHash>,
    /// Replies of this turn that waited for another shard.
    late: Vec<LateReply>,
    stats: Arc<ShardStats>,
}

impl UdpFrontend {
    /// A frontend on these sockets, each bound to an address of the family.
    #[must_use]
    pub fn new(
        settings: UdpSettings,
        sockets: Vec<(UdpSocket, AddressFamily)>,
        stats: Arc<ShardStats>,
    ) -> Self {
        let endpoints = sockets
            .into_iter()
            .map(|(socket, family)| Endpoint {
                socket,
                family,
                outbox: Outbox::new(settings.max_packet_bytes[family.index()]),
            })
            .collect();
        Self {
            settings,
            endpoints,
            inbox: Inbox::default(),
            prepared: Vec::with_capacity(BATCH),
            scraped: Vec::new(),
            late: Vec::new(),
            stats,
        }
    }

    /// Exchanges the settings for these.
    pub fn swap_settings(&mut self, settings: &mut UdpSettings) {
        self.flush_all();
        for endpoint in &mut self.endpoints {
            let bytes = |settings: &UdpSettings| settings.max_packet_bytes[endpoint.family.index()];
            if bytes(settings) != bytes(&self.settings) {
                endpoint.outbox = Outbox::new(bytes(settings));
            }
        }
        std::mem::swap(&mut self.settings, settings);
    }

    /// The sockets, in the order of their numbers.
    pub fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.endpoints.iter().map(|endpoint| &endpoint.socket)
    }

    /// The socket of this number.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn socket(&self, endpoint: usize) -> &UdpSocket {
        &self.endpoints[endpoint].socket
    }

    /// Receives one batch on the socket of this number and answers it; returns
    /// how many datagrams it had.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)`; the socket stays usable.
    pub fn serve<L: Lanes>(
        &mut self,
        endpoint: usize,
        now: &Now,
        shard: &mut Shard,
        desk: &mut Desk<L, Client>,
    ) -> io::Result<usize> {
        let count = self.inbox.receive(&self.endpoints[endpoint].socket)?;
        if count == 0 {
            return Ok(0);
        }
        self.note_batch(endpoint, count);
        self.prepared.clear();
        let Endpoint { family, outbox, .. } = &mut self.endpoints[endpoint];
        let mut reader = Reader {
            settings: &self.settings,
            endpoint,
            family: *family,
            outbox,
            prepared: &mut self.prepared,
            scraped: &mut self.scraped,
            stats: &self.stats,
            now,
            shard,
            desk,
        };
        for at in 0..count {
            self.inbox.prefetch(at + AHEAD);
            reader.read(at, &self.inbox.datagram(at));
        }
        for prepared in &mut self.prepared {
            shard.prefetch_group(prepared.announce.family(), &mut prepared.lookup);
        }
        for prepared in &mut self.prepared {
            shard.prefetch_slot(prepared.announce.family(), &mut prepared.lookup);
        }
        for prepared in &self.prepared {
            shard.prefetch_peers(&prepared.lookup, &prepared.announce);
        }
        match self.settings.dialect.combines_families() {
            false => self.announce_prepared::<false>(endpoint, now, shard),
            true => {
                for prepared in &self.prepared {
                    shard.prefetch_other_family(&prepared.announce);
                }
                self.announce_prepared::<true>(endpoint, now, shard);
            }
        }
        self.flush(endpoint);
        Ok(count)
    }

    /// Answers a client that waited for another shard.
    pub fn answer(&mut self, client: &UdpClient, answer: &Answer<'_>) {
        let limit = self.settings.max_packet_bytes[self.endpoints[client.endpoint].family.index()];
        if self.endpoints[client.endpoint].outbox.is_full() {
            self.flush(client.endpoint);
        }
        let (outbox, family) = {
            let endpoint = &mut self.endpoints[client.endpoint];
            (&mut endpoint.outbox, endpoint.family)
        };
        match answer {
            Answer::Announce(counts, peers) => {
                outbox.push(&client.to, client.from, |buffer| {
                    let stride = family.compact_peer_bytes();
                    let room = (limit - ANNOUNCE_HEADER_BYTES) / stride * stride;
                    let peers = &peers.compact[..peers.compact.len().min(room)];
                    let end = ANNOUNCE_HEADER_BYTES + peers.len();
                    buffer[ANNOUNCE_HEADER_BYTES..end].copy_from_slice(peers);
                    announce_header(buffer, client, counts)?;
                    Some(end)
                });
                self.answered_late(client, Action::Announce, family);
            }
            Answer::Scrape(_, counts) => {
                // More than fits was asked for if the limit has changed since.
                let fits = counts.len().min(self.settings.scrape_limit(family));
                push_scrape(outbox, client, &counts[..fits]);
                self.answered_late(client, Action::Scrape, family);
            }
            // The client asks again by itself.
            Answer::Failed => self.stats.dropped(Protocol::Udp, DropReason::LaneFull),
        }
    }

    /// Sends what [`UdpFrontend::answer`] has left in the boxes.
    pub fn flush_all(&mut self) {
        for endpoint in 0..self.endpoints.len() {
            self.flush(endpoint);
        }
    }

    fn flush(&mut self, endpoint: usize) {
        let Endpoint { socket, outbox, .. } = &mut self.endpoints[endpoint];
        if outbox.is_empty() {
            return;
        }
        let sent = outbox.send(&*socket);
        if let Some(listener) = self.stats.listener(Protocol::Udp, endpoint) {
            listener.departures.add(sent.sent as u64);
            listener.bytes_out.add(sent.bytes);
        }
        if sent.failed > 0 {
            self.stats
                .drops(Protocol::Udp, DropReason::SendFailed)
                .add(sent.failed as u64);
        }
    }

    /// The last step: announces what was prepared and encodes the replies, with
    /// the counts of one or `BOTH` families.
    fn announce_prepared<const BOTH: bool>(
        &mut self,
        endpoint: usize,
        now: &Now,
        shard: &mut Shard,
    ) {
        let Self {
            endpoints,
            inbox,
            prepared,
            stats,
            ..
        } = self;
        let Endpoint { family, outbox, .. } = &mut endpoints[endpoint];
        for prepared in &*prepared {
            let datagram = inbox.datagram(prepared.at);
            outbox.push(datagram.from, datagram.to, |buffer| {
                let mut peers = DatagramPeers {
                    buffer: buffer.get_mut(ANNOUNCE_HEADER_BYTES..)?,
                    filled: 0,
                };
                let (lookup, announce) = (&prepared.lookup, &prepared.announce);
                let counts = match BOTH {
                    false => shard.announce_prefetched(now.seconds, lookup, announce, &mut peers),
                    true => shard.announce_counting_both(now.seconds, lookup, announce, &mut peers),
                };
                let end = ANNOUNCE_HEADER_BYTES + peers.filled;
                udp::write_announce_header(
                    buffer,
                    prepared.action,
                    prepared.transaction_id,
                    prepared.interval_seconds,
                    counts.incomplete,
                    counts.complete,
                )
                .ok()?;
                Some(end)
            });
            stats.reply(Protocol::Udp, Action::Announce, *family, Outcome::Ok);
        }
    }
}

fn announce_header(
    buffer: &mut [u8],
    client: &UdpClient,
    counts: &AnnounceCounts,
) -> Option<usize> {
    udp::write_announce_header(
        buffer,
        client.action,
        client.transaction_id,
        client.interval_seconds,
        counts.incomplete,
        counts.complete,
    )
    .ok()
}

fn push_scrape(outbox: &mut Outbox, client: &UdpClient, counts: &[ScrapeCounts]) {
    outbox.push(&client.to, client.from, |buffer| {
        udp::write_scrape(buffer, client.transaction_id, counts.iter().copied()).ok()
    });
}
