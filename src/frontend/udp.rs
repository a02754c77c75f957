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

mod frames;
mod link;
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
use crate::sys::datagram::{Address, BATCH, Inbox};
use crate::sys::xdp::socket::{FrameReceiver, FrameSender};
use frames::{FrameInbox, FrameOutbox};
use link::{Arrivals, Departures, FrameLink, Link, ReturnPath, SocketBatch};
use peers::DatagramPeers;
use read::Reader;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// What is needed to answer a datagram later.
#[derive(Clone, Copy, Debug)]
pub struct UdpClient {
    endpoint: usize,
    to: Address,
    back: ReturnPath,
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

/// One socket of this shard, or one queue of a network interface.
struct Endpoint {
    link: Link,
    /// The number of the listener that it is counted for.
    listener: usize,
    /// How many datagrams the kernel had dropped at the last look.
    dropped: u32,
}

/// A queue of a network interface that a shard serves past the kernel's network
/// stack (AF_XDP).
pub struct FrameQueue {
    /// The number of the listener that it is counted for.
    pub listener: usize,
    /// Bytes of an IP packet that the interface carries, at most.
    pub mtu: usize,
    /// Where frames come from.
    pub receiver: FrameReceiver,
    /// Where they go to.
    pub sender: FrameSender,
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
    /// A frontend on these sockets, each bound to an address of the family, and
    /// counted for the listener of its number.
    #[must_use]
    pub fn new(
        settings: UdpSettings,
        sockets: Vec<(UdpSocket, AddressFamily)>,
        stats: Arc<ShardStats>,
    ) -> Self {
        let endpoints = sockets
            .into_iter()
            .enumerate()
            .map(|(listener, (socket, family))| Endpoint {
                link: Link::Socket {
                    socket,
                    family,
                    outbox: settings.outbox(family),
                },
                listener,
                dropped: 0,
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

    /// Serves these queues as well.
    #[must_use]
    pub fn with_frames(mut self, queues: impl IntoIterator<Item = FrameQueue>) -> Self {
        self.endpoints
            .extend(queues.into_iter().map(|queue| Endpoint {
                link: Link::Frames(Box::new(FrameLink {
                    inbox: FrameInbox::new(queue.receiver),
                    outbox: FrameOutbox::new(queue.sender, queue.mtu),
                })),
                listener: queue.listener,
                dropped: 0,
            }));
        self
    }

    /// Exchanges the settings for these.
    pub fn swap_settings(&mut self, settings: &mut UdpSettings) {
        self.flush_all();
        for endpoint in &mut self.endpoints {
            if let Link::Socket { family, outbox, .. } = &mut endpoint.link {
                let bytes = |settings: &UdpSettings| settings.max_packet_bytes[family.index()];
                if bytes(settings) != bytes(&self.settings) {
                    *outbox = settings.outbox(*family);
                }
            }
        }
        std::mem::swap(&mut self.settings, settings);
    }

    /// How many sockets and queues there are; they are numbered in this order.
    #[must_use]
    pub const fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// What tells that datagrams have come for the endpoint of this number.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn descriptor(&self, endpoint: usize) -> BorrowedFd<'_> {
        match &self.endpoints[endpoint].link {
            Link::Socket { socket, .. } => socket.as_fd(),
            Link::Frames(link) => link.inbox.as_fd(),
        }
    }

    /// Receives one batch on the endpoint of this number and answers it;
    /// returns how many datagrams it had.
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
        let Self {
            settings,
            endpoints,
            inbox,
            prepared,
            scraped,
            stats,
            ..
        } = self;
        let Endpoint { link, listener, .. } = &mut endpoints[endpoint];
        let mut turn = Turn {
            settings,
            endpoint,
            prepared,
            scraped,
            stats,
            now,
            shard,
            desk,
        };
        let count = match link {
            Link::Socket {
                socket,
                family,
                outbox,
            } => {
                let family = *family;
                let count = inbox.receive(&*socket)?;
                if count == 0 {
                    return Ok(0);
                }
                measure::note_batch(turn.stats, *listener, count, inbox.bytes());
                turn.handle(&SocketBatch { inbox, family }, outbox, count);
                count
            }
            Link::Frames(frames) => {
                let FrameLink { inbox, outbox } = &mut **frames;
                let received = inbox.receive();
                let count = received.datagrams + received.bad;
                if count == 0 {
                    return Ok(0);
                }
                measure::note_batch(turn.stats, *listener, count, received.bytes);
                turn.drop_bad_frames(received.bad);
                turn.handle(&*inbox, outbox, received.datagrams);
                count
            }
        };
        self.flush(endpoint);
        Ok(count)
    }

    /// Answers a client that waited for another shard.
    pub fn answer(&mut self, client: &UdpClient, answer: &Answer<'_>) {
        let family = AddressFamily::of(&client.to.ip());
        let answered = match answer {
            Answer::Announce(counts, peers) => {
                let limit = self.settings.max_packet_bytes[family.index()];
                self.push_late(client, |buffer| {
                    let stride = family.compact_peer_bytes();
                    let room = (limit.min(buffer.len()) - ANNOUNCE_HEADER_BYTES) / stride * stride;
                    let peers = &peers.compact[..peers.compact.len().min(room)];
                    let end = ANNOUNCE_HEADER_BYTES + peers.len();
                    buffer[ANNOUNCE_HEADER_BYTES..end].copy_from_slice(peers);
                    announce_header(buffer, client, counts)?;
                    Some(end)
                });
                Action::Announce
            }
            Answer::Scrape(_, counts) => {
                // More than fits was asked for if the limit has changed since.
                let fits = counts.len().min(self.settings.scrape_limit(family));
                self.push_late(client, |buffer| {
                    write_scrape(buffer, client, &counts[..fits])
                });
                Action::Scrape
            }
            // The client asks again by itself.
            Answer::Failed => return self.stats.dropped(Protocol::Udp, DropReason::LaneFull),
        };
        self.answered_late(client, answered, family);
    }

    fn push_late(&mut self, client: &UdpClient, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if self.endpoints[client.endpoint].link.is_full() {
            self.flush(client.endpoint);
        }
        match (&mut self.endpoints[client.endpoint].link, client.back) {
            (Link::Socket { outbox, .. }, ReturnPath::Socket(from)) => {
                outbox.push(&client.to, from, write);
            }
            (Link::Frames(link), ReturnPath::Frame(headers)) => {
                link.outbox.push(&client.to, headers, write);
            }
            // Endpoints keep their numbers, and so each its kind.
            _ => {}
        }
    }

    /// Sends what [`UdpFrontend::answer`] has left in the boxes.
    pub fn flush_all(&mut self) {
        for endpoint in 0..self.endpoints.len() {
            self.flush(endpoint);
        }
    }

    /// What is done now and then: sends what could not be sent at once, and
    /// counts what the kernel had no room for.
    pub fn tick(&mut self) {
        self.flush_all();
        for endpoint in &mut self.endpoints {
            // A kernel that does not tell is asked in vain.
            let dropped = endpoint.link.dropped().unwrap_or(endpoint.dropped);
            let new = dropped.wrapping_sub(endpoint.dropped);
            endpoint.dropped = dropped;
            if let Some(listener) = self.stats.listener(Protocol::Udp, endpoint.listener) {
                listener.overflows.add(u64::from(new));
            }
        }
    }

    fn flush(&mut self, endpoint: usize) {
        let Endpoint { link, listener, .. } = &mut self.endpoints[endpoint];
        let Some(sent) = link.flush() else {
            return;
        };
        if let Some(listener) = self.stats.listener(Protocol::Udp, *listener) {
            listener.departures.add(sent.sent as u64);
            listener.bytes_out.add(sent.bytes);
        }
        if sent.failed > 0 {
            self.stats
                .drops(Protocol::Udp, DropReason::SendFailed)
                .add(sent.failed as u64);
        }
    }
}

/// What a batch is handled with, lent by the frontend.
struct Turn<'a, L> {
    settings: &'a UdpSettings,
    endpoint: usize,
    prepared: &'a mut Vec<Prepared>,
    scraped: &'a mut Vec<InfoHash>,
    stats: &'a ShardStats,
    now: &'a Now,
    shard: &'a mut Shard,
    desk: &'a mut Desk<L, Client>,
}

impl<L: Lanes> Turn<'_, L> {
    /// Handles the first `count` datagrams of a batch, step by step.
    #[inline]
    fn handle<I, O>(&mut self, inbox: &I, outbox: &mut O, count: usize)
    where
        I: Arrivals,
        O: Departures<Back = I::Back>,
    {
        self.prepared.clear();
        let mut reader = Reader {
            settings: self.settings,
            endpoint: self.endpoint,
            outbox,
            prepared: self.prepared,
            scraped: self.scraped,
            stats: self.stats,
            now: self.now,
            shard: self.shard,
            desk: self.desk,
        };
        for at in 0..count {
            inbox.prefetch(at + AHEAD);
            reader.read(at, inbox.family(at), &inbox.datagram(at));
        }
        let (shard, prepared) = (&mut *self.shard, &mut *self.prepared);
        for prepared in &mut *prepared {
            shard.prefetch_group(prepared.announce.family(), &mut prepared.lookup);
        }
        for prepared in &mut *prepared {
            shard.prefetch_slot(prepared.announce.family(), &mut prepared.lookup);
        }
        for prepared in &*prepared {
            shard.prefetch_peers(&prepared.lookup, &prepared.announce);
        }
        match self.settings.dialect.combines_families() {
            false => self.announce::<I, O, false>(inbox, outbox),
            true => {
                for prepared in &*prepared {
                    shard.prefetch_other_family(&prepared.announce);
                }
                self.announce::<I, O, true>(inbox, outbox);
            }
        }
    }

    /// The last step: announces what was prepared and encodes the replies, with
    /// the counts of one or `BOTH` families.
    fn announce<I, O, const BOTH: bool>(&mut self, inbox: &I, outbox: &mut O)
    where
        I: Arrivals,
        O: Departures<Back = I::Back>,
    {
        let (shard, now) = (&mut *self.shard, self.now);
        for prepared in &*self.prepared {
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
            let family = inbox.family(prepared.at);
            self.stats
                .reply(Protocol::Udp, Action::Announce, family, Outcome::Ok);
        }
    }

    /// Counts frames that cannot be answered.
    #[inline]
    fn drop_bad_frames(&self, bad: usize) {
        if bad > 0 {
            let drops = self.stats.drops(Protocol::Udp, DropReason::BadFrame);
            drops.add(bad as u64);
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

fn write_scrape(buffer: &mut [u8], client: &UdpClient, counts: &[ScrapeCounts]) -> Option<usize> {
    udp::write_scrape(buffer, client.transaction_id, counts.iter().copied()).ok()
}
