//! The UDP frontend (BEP 15, BEP 41): datagrams in batches.
//!
//! A batch is handled in three steps: read and verify every datagram, fetch
//! what their swarms need, then announce and encode straight into the send
//! buffers. The steps are apart so that the cache misses of a batch overlap.
//!
//! Nothing is sent to a source that has not shown a connection id but answers
//! no longer than the request (a connection id itself, or that one is bad), so
//! the tracker is no use for reflection.

mod measure;
mod peers;
mod settings;

pub use settings::UdpSettings;

use super::desk::{Answer, Asked, Desk, Lanes};
use super::late::LateReply;
use super::{Client, dialect};
use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, InfoHash, ScrapeCounts};
use crate::hook::{Context, Refused, Transport, Url};
use crate::protocol::Dialect;
use crate::protocol::udp::{
    self, ANNOUNCE_HEADER_BYTES, AnnounceAction, ErrorText, ParseError, Request, ScrapeHashes,
};
use crate::runtime::clock::Now;
use crate::shard::Shard;
use crate::shard::exchange::Question;
use crate::shard::families::{Families, Peers};
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, DropReason, Outcome, Protocol, ShardStats};
use crate::sys::datagram::{Address, BATCH, Inbox, LocalAddress, Outbox};
use peers::DatagramPeers;
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

/// One socket of this shard.
struct Endpoint {
    socket: UdpSocket,
    family: AddressFamily,
    outbox: Outbox,
}

/// An announce of this shard's own, verified, whose swarm is being fetched.
struct Prepared {
    announce: Announce,
    hash: u64,
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
        for at in 0..count {
            self.read(endpoint, at, now, shard, desk);
        }
        for prepared in &self.prepared {
            shard.prefetch_slot(prepared.announce.family(), prepared.hash);
        }
        for prepared in &self.prepared {
            shard.prefetch_peers(prepared.hash, &prepared.announce);
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
                outbox.push(client.to, client.from, |buffer| {
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

    /// The first step for one datagram: answers it if no swarm is needed, asks
    /// its owner if that is another shard, or prepares it.
    fn read<L: Lanes>(
        &mut self,
        endpoint: usize,
        at: usize,
        now: &Now,
        shard: &mut Shard,
        desk: &mut Desk<L, Client>,
    ) {
        let Self {
            settings,
            endpoints,
            inbox,
            prepared,
            scraped,
            stats,
            ..
        } = self;
        let Endpoint { family, outbox, .. } = &mut endpoints[endpoint];
        let family = *family;
        let datagram = inbox.datagram(at);
        let mut client = UdpClient {
            endpoint,
            to: datagram.from,
            from: datagram.to,
            transaction_id: 0,
            action: AnnounceAction::Standard,
            interval_seconds: settings.interval_seconds,
            arrived: now.elapsed,
        };
        let source = datagram.from.ip();
        let accepts = |id| {
            settings
                .connection_ids
                .accepts(now.unix_seconds, source, id)
        };
        let dialect = settings.dialect;
        let parsed = match udp::parse(datagram.bytes) {
            Err(ParseError::Answer {
                connection_id,
                error,
                ..
            }) if dialect == Dialect::Opentracker
                && (error == ErrorText::UnknownAction || accepts(connection_id)) =>
            {
                udp::parse_leniently(datagram.bytes)
            }
            parsed => parsed,
        };
        let request = match parsed {
            Ok(request) => request,
            Err(ParseError::Drop(reason)) => {
                stats.request(Protocol::Udp, Action::Other, family);
                stats.dropped(Protocol::Udp, drop_reason(reason));
                return;
            }
            Err(ParseError::Answer {
                connection_id,
                transaction_id,
                error,
            }) => {
                stats.request(Protocol::Udp, Action::Other, family);
                client.transaction_id = transaction_id;
                if accepts(connection_id) {
                    push_error(outbox, &client, error.as_str());
                    let class = FailureClass::of(error.as_str());
                    stats.refused(Protocol::Udp, Action::Other, family, class);
                } else {
                    let (bytes, action) = (datagram.bytes.len(), Action::Other);
                    refuse(outbox, &client, bytes, dialect, action, family, stats);
                }
                return;
            }
        };
        client.transaction_id = request.transaction_id();
        let action = match request {
            Request::Connect { .. } => Action::Connect,
            Request::Announce { .. } => Action::Announce,
            Request::Scrape { .. } => Action::Scrape,
        };
        stats.request(Protocol::Udp, action, family);
        if request.connection_id().is_some_and(|id| !accepts(id)) {
            let bytes = datagram.bytes.len();
            refuse(outbox, &client, bytes, dialect, action, family, stats);
            return;
        }
        match request {
            Request::Connect { transaction_id } => {
                let id = settings.connection_ids.issue(now.unix_seconds, source);
                outbox.push(client.to, client.from, |buffer| {
                    udp::write_connect(buffer, transaction_id, id).ok()
                });
                stats.reply(Protocol::Udp, Action::Connect, family, Outcome::Ok);
            }
            Request::Announce {
                announce: fields,
                transaction_id,
                ..
            } => {
                client.action = fields.action;
                let mut announce = match settings.announce(&fields, source, family) {
                    Ok(announce) => announce,
                    Err(error) => {
                        push_error(outbox, &client, error.as_str());
                        let class = FailureClass::of(error.as_str());
                        stats.refused(Protocol::Udp, Action::Announce, family, class);
                        return;
                    }
                };
                if settings.varies() {
                    settings.vary(shard, &mut announce, &mut client);
                }
                let context = Context {
                    url: Url::Data(fields.url_data),
                    ..Context::bare(Transport::Udp, source)
                };
                if shard.hooks().judges() {
                    let judgement = shard.before_announce(now.into(), &mut announce, &context);
                    match dialect::accept(dialect, judgement, &announce) {
                        Ok(effects) => {
                            client.interval_seconds = client
                                .interval_seconds
                                .saturating_add(effects.extra_interval_seconds)
                        }
                        Err(refused) => {
                            answer_refused(outbox, &client, &refused, action, family, stats);
                            return;
                        }
                    }
                }
                let owner = shard.owners().owner(&announce.info_hash);
                if shard.hooks().notes() {
                    shard.after_announce(now.into(), &announce, &context);
                }
                if owner == shard.id() {
                    let hash = shard.prefetch_swarm(family, &announce.info_hash);
                    prepared.push(Prepared {
                        announce,
                        hash,
                        transaction_id,
                        action: fields.action,
                        interval_seconds: client.interval_seconds,
                        at,
                    });
                    return;
                }
                stats.cross_shard_request(Protocol::Udp);
                let question = match dialect.combines_families() {
                    false => Question::Announce(announce),
                    true => Question::AnnounceBoth(announce, Peers::Own),
                };
                let asked = desk.ask_one(now.seconds, owner, question, Client::Udp(client));
                if asked == Asked::Refused {
                    stats.dropped(Protocol::Udp, DropReason::LaneFull);
                }
            }
            Request::Scrape { info_hashes, .. } => {
                let hashes = info_hashes.truncated(settings.scrape_limit(family));
                if shard.hooks().judges() {
                    scraped.clear();
                    if shard.hooks().wants().scrapes {
                        scraped.extend(hashes.iter());
                    }
                    let context = Context::bare(Transport::Udp, source);
                    let result = shard.before_scrape(now.into(), scraped, &context);
                    if let Err(refused) = result {
                        let refused = dialect::word(dialect, refused);
                        answer_refused(outbox, &client, &refused, action, family, stats);
                        return;
                    }
                }
                let families = match dialect.combines_families() {
                    false => Families::One(family),
                    true => Families::Both,
                };
                let asked = (hashes, families);
                scrape(asked, client, now, family, shard, desk, outbox, stats);
            }
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
                let (hash, announce) = (prepared.hash, &prepared.announce);
                let counts = match BOTH {
                    false => shard.announce_prefetched(now.seconds, hash, announce, &mut peers),
                    true => shard.announce_counting_both(now.seconds, hash, announce, &mut peers),
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

#[expect(
    clippy::too_many_arguments,
    reason = "the frontend's parts, borrowed apart"
)]
fn scrape<L: Lanes>(
    (hashes, families): (ScrapeHashes<'_>, Families),
    client: UdpClient,
    now: &Now,
    family: AddressFamily,
    shard: &mut Shard,
    desk: &mut Desk<L, Client>,
    outbox: &mut Outbox,
    stats: &ShardStats,
) {
    let id = shard.id();
    if hashes.iter().any(|hash| shard.owners().owner(&hash) != id) {
        stats.cross_shard_request(Protocol::Udp);
    }
    desk.scrape(
        now.seconds,
        shard,
        families,
        hashes.iter(),
        Client::Udp(client),
        |_, answer| match answer {
            Answer::Scrape(_, counts) => {
                push_scrape(outbox, &client, counts);
                stats.reply(Protocol::Udp, Action::Scrape, family, Outcome::Ok);
            }
            _ => stats.dropped(Protocol::Udp, DropReason::LaneFull),
        },
    );
}

fn push_scrape(outbox: &mut Outbox, client: &UdpClient, counts: &[ScrapeCounts]) {
    outbox.push(client.to, client.from, |buffer| {
        udp::write_scrape(buffer, client.transaction_id, counts.iter().copied()).ok()
    });
}

fn push_error(outbox: &mut Outbox, client: &UdpClient, text: &str) {
    outbox.push(client.to, client.from, |buffer| {
        udp::write_error(buffer, client.transaction_id, text).ok()
    });
}

/// Answers a request that a hook refused, if it is to have an answer.
fn answer_refused(
    outbox: &mut Outbox,
    client: &UdpClient,
    refused: &Refused,
    action: Action,
    family: AddressFamily,
    stats: &ShardStats,
) {
    match refused.failure {
        Some(failure) => {
            push_error(outbox, client, failure.reason);
            let class = FailureClass::of(failure.reason);
            stats.refused(Protocol::Udp, action, family, class);
        }
        None => stats.dropped(Protocol::Udp, DropReason::Hook),
    }
}

const fn drop_reason(reason: udp::DropReason) -> DropReason {
    match reason {
        udp::DropReason::TooShort => DropReason::TooShort,
        udp::DropReason::WrongProtocolId => DropReason::BadMagic,
        udp::DropReason::Malformed => DropReason::Malformed,
    }
}

/// Answers a connection id that was not accepted, unless the answer would be
/// longer than the request.
fn refuse(
    outbox: &mut Outbox,
    client: &UdpClient,
    request_bytes: usize,
    dialect: Dialect,
    action: Action,
    family: AddressFamily,
    stats: &ShardStats,
) {
    stats.opentracker.connection_id_mismatches.add(1);
    let before = outbox.len();
    outbox.push(client.to, client.from, |buffer| {
        let text = dialect.bad_connection_id();
        udp::write_bad_connection_id(buffer, request_bytes, client.transaction_id, text)
    });
    if outbox.len() == before {
        stats.dropped(Protocol::Udp, DropReason::BadConnectionId);
    } else {
        stats.refused(Protocol::Udp, action, family, FailureClass::BadConnectionId);
    }
}
