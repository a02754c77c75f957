//! One thread's UDP load, a [`Load`]: connected sockets, one per source address.
//!
//! Requests leave in runs of equal packets per socket that the kernel takes as
//! one message.
//!
//! Invariant: between two turns, everything queued has been sent.

use std::io;
use std::net::UdpSocket;

use crate::account::{Account, Verdict};
use crate::config::{Pace, RunConfig};
use crate::connect::Endpoint;
use crate::drive::Load;
use crate::inflight::{Entry, InFlight, Stray};
use crate::pace::{Timeline, nanoseconds};
use crate::packet::{self, ANNOUNCE_LEN, Announce, CONNECT_LEN, Malformed, Reply};
use crate::stats::Stats;
use crate::sys::{BATCH, Receiver, Run, Sender};
use crate::workload::{Event, Kind, Request, SwarmTooBig, info_hash};

/// Connection ids are renewed this often; BEP 15 lets them live two minutes.
const CONNECTION_ID_LIFETIME: u64 = 60_000_000_000;

/// At most one renewal per socket in this time after error replies.
const RENEWAL_PAUSE: u64 = 1_000_000_000;

/// No datagram is longer, in bytes.
const LONGEST_DATAGRAM: usize = 65535;

/// Windows from which on it pays to gather.
const GATHERING_WINDOW: usize = 32;

/// One thread's sockets, table and counts.
pub struct UdpLoad<'a> {
    config: &'a RunConfig,
    sockets: Vec<Socket>,
    in_flight: InFlight,
    account: Account,
    sender: Sender,
    receiver: Receiver,
    ipv6: bool,
    timeout: u64,
    gathers: bool,
}

/// A connected socket with its connection id and the packets queued on it.
struct Socket {
    socket: UdpSocket,
    connection_id: u64,
    renew_at: u64,
    /// When the connection id came.
    id_since: u64,
    /// The tracker has refused the connection id: a fill's requests wait for a
    /// new one.
    held: bool,
    in_flight: usize,
    announces: Box<[[u8; ANNOUNCE_LEN]]>,
    announces_queued: usize,
    connects: Box<[[u8; CONNECT_LEN]]>,
    connects_queued: usize,
    scrapes: Box<[u8]>,
    scrapes_queued: usize,
}

impl<'a> UdpLoad<'a> {
    /// Takes over sockets that already have connection ids, one per source
    /// address, in order.
    pub fn new(config: &'a RunConfig, endpoints: Vec<Endpoint>, thread: usize) -> UdpLoad<'a> {
        let ipv6 = config.target.address().is_ipv6();
        let capacity = match config.pace {
            Pace::Window(window) => window + endpoints.len(),
            Pace::Rate(rate) => {
                let timeout = config.timeout.as_secs_f64();
                (rate / config.threads as f64 * timeout * 1.25) as usize + 1024
            }
        };
        UdpLoad {
            sockets: endpoints
                .into_iter()
                .map(|e| Socket::new(e, config))
                .collect(),
            in_flight: InFlight::new(capacity, connect_request(0)),
            account: Account::new(config, thread),
            sender: Sender::new(config.segmentation),
            // One byte more, so that a reply that is too long shows.
            receiver: Receiver::new((longest_reply(config.numwant, ipv6) + 1).next_multiple_of(64)),
            ipv6,
            timeout: nanoseconds(config.timeout),
            gathers: matches!(config.pace, Pace::Window(window) if window >= GATHERING_WINDOW),
            config,
        }
    }
}

impl Load for UdpLoad<'_> {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn receive(&mut self, timeline: &Timeline) -> usize {
        let mut total = 0;
        for index in 0..self.sockets.len() {
            while self.sockets[index].in_flight > 0 {
                match self
                    .receiver
                    .receive(&self.sockets[index].socket, false, false)
                {
                    Ok(count) => {
                        let now = timeline.now();
                        for datagram in 0..count {
                            self.take_reply(index, datagram, now, timeline);
                        }
                        total += count;
                        if count < BATCH {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.account.stats.unreachable += 1;
                    }
                    Err(_) => break,
                }
            }
        }
        total
    }

    fn expire(&mut self, now: u64) {
        let sent_until = now.saturating_sub(self.timeout);
        while let Some(entry) = self.in_flight.expire(sent_until) {
            self.lose(entry);
        }
    }

    fn send(&mut self, now: u64, timeline: &Timeline) -> Result<usize, SwarmTooBig> {
        self.renew(now, timeline);
        let queued = self.queue_due(now, timeline)?;
        self.flush();
        Ok(queued)
    }

    fn abandon(&mut self) {
        while let Some(entry) = self.in_flight.expire(u64::MAX) {
            self.lose(entry);
        }
    }

    fn gathers(&self, received: usize, in_flight: usize) -> bool {
        self.gathers && received * 4 < in_flight
    }
}

impl UdpLoad<'_> {
    fn take_reply(&mut self, socket: usize, datagram: usize, now: u64, timeline: &Timeline) {
        let (bytes, cut) = self.receiver.packet(datagram);
        let (id, reply) = match packet::read_reply(bytes, self.ipv6) {
            Ok((id, reply)) => (id, Some(reply)),
            Err(Malformed::TooShort) => {
                self.account
                    .stats
                    .texts
                    .count(b"(reply shorter than 8 bytes)");
                return;
            }
            Err(
                Malformed::WrongLength { transaction_id }
                | Malformed::UnknownAction { transaction_id },
            ) => (transaction_id, None),
        };
        let entry = match self.in_flight.answer(id, socket as u16) {
            Ok(entry) => entry,
            Err(stray) => {
                let stats = &mut self.account.stats;
                *match stray {
                    Stray::Late => &mut stats.late,
                    Stray::Duplicate => &mut stats.duplicates,
                    Stray::Unknown => &mut stats.unknown_ids,
                } += 1;
                return;
            }
        };
        self.account.arrived(bytes.len(), now, timeline);
        let state = &mut self.sockets[socket];
        state.in_flight -= 1;
        let verdict = match (entry.request.kind, reply) {
            _ if cut => Verdict::Bad("(reply longer than asked for)"),
            (Kind::Connect, Some(Reply::Connect { connection_id })) => {
                state.connection_id = connection_id;
                state.renew_at = now + CONNECTION_ID_LIFETIME;
                state.id_since = now;
                state.held = false;
                self.account.source.release(socket);
                Verdict::Good { peers: 0 }
            }
            (Kind::Announce, Some(Reply::Announce { peers })) => {
                Verdict::of_peers(peers, self.config.numwant)
            }
            (Kind::Scrape, Some(Reply::Scrape { hashes })) => {
                let fewer = "(fewer swarms than asked for)";
                Verdict::of_swarms(hashes, self.config.scrape_hashes, fewer)
            }
            (Kind::Announce, Some(Reply::Error { message }))
                if self.account.source.is_fill() && is_about_connection_id(message) =>
            {
                // What was sent with an id that has been replaced since is
                // only sent again.
                if entry.sent >= state.id_since && !state.held {
                    state.held = true;
                    state.renew_at = now;
                }
                return self.account.refused_id(&entry, message, now);
            }
            (_, Some(Reply::Error { message })) => {
                state.renew_at = state.renew_at.min(now + RENEWAL_PAUSE);
                Verdict::Failure(message)
            }
            (_, Some(_)) => Verdict::Bad("(reply to another kind of request)"),
            (_, None) => Verdict::Bad("(malformed reply: length does not fit its action)"),
        };
        self.account.answered(&entry, &verdict, now);
    }

    fn lose(&mut self, entry: Entry) {
        self.sockets[usize::from(entry.request.source)].in_flight -= 1;
        self.account.lost(&entry);
    }

    /// Asks for new connection ids where the old ones are about to end.
    fn renew(&mut self, now: u64, timeline: &Timeline) {
        for index in 0..self.sockets.len() {
            if now >= self.sockets[index].renew_at {
                self.sockets[index].renew_at = now + RENEWAL_PAUSE;
                self.queue(connect_request(index as u16), 0, now, now, timeline);
            }
        }
    }

    /// Queues what may be sent now; returns how many requests that was.
    fn queue_due(&mut self, now: u64, timeline: &Timeline) -> Result<usize, SwarmTooBig> {
        let mut queued = 0;
        if self.sockets.iter().all(|socket| socket.held) {
            return Ok(0);
        }
        while !self.account.source.is_exhausted() {
            let Some(intended) = self.account.gate.due(now, self.in_flight.len()) else {
                break;
            };
            let Some((request, attempts)) = self.account.source.draw()? else {
                break;
            };
            if self.sockets[usize::from(request.source)].held {
                self.account.source.set_aside(request, attempts);
                continue;
            }
            self.account.gate.advance();
            self.queue(request, attempts, intended, now, timeline);
            queued += 1;
        }
        Ok(queued)
    }

    fn queue(
        &mut self,
        request: Request,
        attempts: u16,
        intended: u64,
        now: u64,
        timeline: &Timeline,
    ) {
        let measured = timeline.measures(intended);
        let entry = Entry {
            request,
            intended,
            sent: now,
            measured,
            attempts,
        };
        let Some(id) = self.in_flight.insert(entry) else {
            if measured {
                self.account.stats.unsent += 1;
            }
            if self.account.source.is_fill() && request.kind == Kind::Announce {
                self.account.source.put_back(request, attempts);
            }
            return;
        };
        self.account.sent(&entry);
        let index = usize::from(request.source);
        let socket = &mut self.sockets[index];
        socket.in_flight += 1;
        let full = match request.kind {
            Kind::Connect => socket.queue_connect(id),
            Kind::Announce => socket.queue_announce(id, &request, self.config.workload.seed),
            Kind::Scrape => socket.queue_scrape(id, &request, self.config),
        };
        if full {
            socket.flush(&mut self.sender, &mut self.account.stats);
        }
    }

    fn flush(&mut self) {
        for socket in &mut self.sockets {
            if socket.announces_queued + socket.connects_queued + socket.scrapes_queued > 0 {
                socket.flush(&mut self.sender, &mut self.account.stats);
            }
        }
    }
}

impl Socket {
    fn new(endpoint: Endpoint, config: &RunConfig) -> Socket {
        let mut announce = [0; ANNOUNCE_LEN];
        packet::prepare_announce(&mut announce, config.numwant);
        Socket {
            socket: endpoint.socket,
            connection_id: endpoint.connection_id,
            renew_at: CONNECTION_ID_LIFETIME,
            id_since: 0,
            held: false,
            in_flight: 0,
            announces: vec![announce; BATCH].into_boxed_slice(),
            announces_queued: 0,
            connects: vec![[0; CONNECT_LEN]; BATCH].into_boxed_slice(),
            connects_queued: 0,
            scrapes: vec![0; BATCH * packet::scrape_len(config.scrape_hashes)].into_boxed_slice(),
            scrapes_queued: 0,
        }
    }

    fn queue_connect(&mut self, id: u32) -> bool {
        packet::write_connect(&mut self.connects[self.connects_queued], id);
        self.connects_queued += 1;
        self.connects_queued == self.connects.len()
    }

    fn queue_announce(&mut self, id: u32, request: &Request, seed: u64) -> bool {
        let announce = Announce {
            connection_id: self.connection_id,
            transaction_id: id,
            info_hash: info_hash(seed, request.swarm),
            peer: request.peer(seed),
            seeder: request.has_all(),
            event: request.event,
            port: request.port,
        };
        packet::patch_announce(&mut self.announces[self.announces_queued], &announce);
        self.announces_queued += 1;
        self.announces_queued == self.announces.len()
    }

    fn queue_scrape(&mut self, id: u32, request: &Request, config: &RunConfig) -> bool {
        let len = packet::scrape_len(config.scrape_hashes);
        let start = self.scrapes_queued * len;
        let bytes = &mut self.scrapes[start..start + len];
        let workload = &config.workload;
        packet::write_scrape(bytes, self.connection_id, id, |n| {
            request.scraped(n, workload.seed, workload.swarms)
        });
        self.scrapes_queued += 1;
        self.scrapes_queued == BATCH
    }

    /// Sends everything queued. What the kernel does not take is left to the
    /// timeout, as if the network had lost it.
    fn flush(&mut self, sender: &mut Sender, stats: &mut Stats) {
        let scrape_len = self.scrapes.len() / BATCH;
        let runs = [
            Run {
                bytes: self.connects[..self.connects_queued].as_flattened(),
                packet_len: CONNECT_LEN,
            },
            Run {
                bytes: self.announces[..self.announces_queued].as_flattened(),
                packet_len: ANNOUNCE_LEN,
            },
            Run {
                bytes: &self.scrapes[..self.scrapes_queued * scrape_len],
                packet_len: scrape_len,
            },
        ];
        // The first error of a socket is often the news of an earlier packet
        // ("port unreachable"); the packets themselves then still go out.
        if let (0, Some(error)) = sender.send(&self.socket, &runs)
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            stats.unreachable += 1;
            sender.send(&self.socket, &runs);
        }
        self.connects_queued = 0;
        self.announces_queued = 0;
        self.scrapes_queued = 0;
    }
}

/// Length of the longest reply in bytes; what it may be is the tracker's choice
/// where `numwant` leaves the number of peers to it.
fn longest_reply(numwant: i32, ipv6: bool) -> usize {
    match usize::try_from(numwant) {
        Ok(peers @ 1..) => (20 + peers * if ipv6 { 18 } else { 6 }).clamp(1024, LONGEST_DATAGRAM),
        _ => LONGEST_DATAGRAM,
    }
}

/// Whether an error reply means the connection id; trackers word it freely:
/// "bad connection ID", "Connection ID missmatch".
fn is_about_connection_id(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message).to_ascii_lowercase();
    text.contains("connection id") || text.contains("connection_id")
}

fn connect_request(source: u16) -> Request {
    Request {
        kind: Kind::Connect,
        event: Event::None,
        seeder: false,
        source,
        port: 1,
        swarm: 0,
    }
}
