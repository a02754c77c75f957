//! The HTTP frontend (BEP 3, 7, 21, 23, 24, 48): connections on non-blocking
//! sockets in the shard's own loop.
//!
//! A connection is read right after it was accepted and closed right after its
//! answer was written (but for TLS, where clients say goodbye too), so the
//! common connection of one request never enters the epoll. Requests of one connection are answered in their order: while
//! one waits for another shard, those behind it stay unread.
//!
//! Bounds: `max_connections`, `max_request_bytes` for each, `MOST_UNWRITTEN`
//! of answers for each, what [`stream`] says for TLS, and a deadline for
//! everything a client may delay: the handshake of TLS and the word of a proxy
//! are part of the time for a connection's first request. A turn of the loop
//! reads few connections that are in their handshake (`accept`).

mod accept;
mod connection;
mod deadlines;
pub mod handover;
mod measure;
mod reload;
mod request;
pub mod stream;
mod token;

pub use accept::Listener;
pub use token::ConnectionToken;

use super::Client;
use super::desk::{Answer, Desk, Lanes};
use super::late::LateReply;
use crate::bittorrent::{AddressFamily, InfoHash, ScrapeCounts};
use crate::hook::prefix_table::Networks;
use crate::protocol::Dialect;
use crate::protocol::http::{self as wire, HeadOptions, HeadStatus, NumWantLimits, Routes};
use crate::runtime::clock::Now;
use crate::runtime::reactor::{Interest, Reactor};
use crate::shard::Shard;
use crate::shard::exchange::PeerList;
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol, ShardStats};
use connection::{Connection, Phase, ReadResult};
use handover::{HandoverSettings, Leaving};
use slab::Slab;
use std::sync::Arc;

/// Bytes of answers that one connection may have waiting before its next
/// pipelined request is read.
const MOST_UNWRITTEN: usize = 64 << 10;

/// How long a closed connection may linger for its last bytes.
const LINGER_MILLISECONDS: u64 = 2_000;

/// What the frontend is set to.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Whose manners it has.
    pub dialect: Dialect,
    /// When clients are to announce again, in seconds.
    pub interval_seconds: u32,
    /// How long they are to wait at least, in seconds.
    pub min_interval_seconds: u32,
    /// How much later than the interval a reply may say, in seconds.
    pub interval_spread_seconds: u32,
    /// Which paths are announces and scrapes.
    pub routes: Routes,
    /// How many peers a reply holds.
    pub num_want: NumWantLimits,
    /// Hashes of a scrape that are answered, at most.
    pub max_scrape_hashes: usize,
    /// Whether `ip`, `ipv4` and `ipv6` count.
    pub allow_ip_spoofing: bool,
    /// The header in which a proxy tells the client's address.
    pub real_ip_header: Option<String>,
    /// The proxies that are believed.
    pub trusted_proxies: Networks,
    /// Whether every connection begins with a proxy's word about whom it
    /// speaks for (PROXY protocol).
    pub proxy_protocol: bool,
    /// Whether a connection may carry several requests.
    pub enable_keepalive: bool,
    /// Milliseconds for a request to arrive, from its first byte (or from the
    /// start of the connection) to its last.
    pub read_timeout: u64,
    /// Milliseconds for a client to take an answer.
    pub write_timeout: u64,
    /// Milliseconds that a connection may stay without a request.
    pub idle_timeout: u64,
    /// Connections of this shard, at most.
    pub max_connections: usize,
    /// Bytes of a request's head, at most.
    pub max_request_bytes: usize,
    /// Whether clients are told their address (BEP 24).
    pub external_ip: bool,
    /// Where `GET /` leads; empty for a page of ours.
    pub redirect_url: String,
    /// What control threads answer.
    pub handover: HandoverSettings,
}

/// What a turn of the loop lends to the frontend.
pub struct Turn<'a, L> {
    /// The time.
    pub now: &'a Now,
    /// This shard.
    pub shard: &'a mut Shard,
    /// The way to the others.
    pub desk: &'a mut Desk<L, Client>,
    /// Where connections are watched.
    pub reactor: &'a Reactor,
    /// Marks a token as a connection's for the reactor.
    pub connection_mark: u64,
    /// Marks a token as a listener's.
    pub listener_mark: u64,
}

/// One shard's listeners and connections.
pub struct HttpFrontend {
    settings: HttpSettings,
    listeners: Vec<Listener>,
    /// Accepting failed for want of descriptors: not before the next tick.
    accept_paused: bool,
    /// No new connections or requests: the tracker stops.
    stopping: bool,
    connections: Slab<Connection>,
    generation: u32,
    greetings: accept::Greetings,
    /// Connections whose answer came from another shard in this turn.
    resumed: Vec<ConnectionToken>,
    /// Where the next look at deadlines begins.
    next_deadline: usize,
    input: Vec<u8>,
    out: Vec<u8>,
    peers: PeerList,
    hashes: Vec<InfoHash>,
    files: Vec<(InfoHash, ScrapeCounts)>,
    /// Replies of this turn that waited for another shard.
    late: Vec<LateReply>,
    /// The request in hand is not for a shard.
    leaving: Option<Leaving>,
    stats: Arc<ShardStats>,
}

impl HttpFrontend {
    /// A frontend on these listeners, which are non-blocking.
    #[must_use]
    pub fn new(settings: HttpSettings, listeners: Vec<Listener>, stats: Arc<ShardStats>) -> Self {
        Self {
            input: vec![0; reload::input_bytes(&settings)],
            settings,
            listeners,
            accept_paused: false,
            stopping: false,
            connections: Slab::new(),
            generation: 0,
            greetings: accept::Greetings::default(),
            resumed: Vec::new(),
            next_deadline: 0,
            out: Vec::with_capacity(16 << 10),
            peers: PeerList::default(),
            hashes: Vec::new(),
            files: Vec::new(),
            late: Vec::new(),
            leaving: None,
            stats,
        }
    }

    /// The listeners, in the order of their numbers.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Handles what happened on a connection.
    pub fn ready<L: Lanes>(&mut self, token: ConnectionToken, turn: &mut Turn<'_, L>) {
        let Some(at) = self.place_of(token) else {
            return;
        };
        let connection = &mut self.connections[at];
        if connection.interest == Some(Interest::Nothing) {
            // Only an error or a hang-up is still reported.
            self.fail(at, DropReason::ConnectionFailed);
            return;
        }
        if connection.stream.is_handshaking() && !self.may_greet_now(at, turn) {
            return;
        }
        let connection = &mut self.connections[at];
        if connection.has_unwritten() && connection.phase != Phase::Lingering {
            if connection.write_unwritten().is_err() {
                self.fail(at, DropReason::ConnectionFailed);
                return;
            }
            self.work(at, turn);
            self.read_more(at, turn);
            return;
        }
        self.read(at, turn);
    }

    /// Takes the answer of another shard. The connection goes on at
    /// [`HttpFrontend::resume`].
    pub fn answer(&mut self, token: ConnectionToken, answer: Answer<'_>) {
        let Some(at) = self.place_of(token) else {
            self.stats
                .dropped(Protocol::Http, DropReason::ConnectionGone);
            return;
        };
        let connection = &mut self.connections[at];
        let form = connection.form;
        let family = form.client_family;
        let out = &mut connection.unwritten;
        let before = out.len();
        let dialect = self.settings.dialect;
        let response = dialect.begin_response(out, form.keep_alive);
        let (action, failure) = match answer {
            Answer::Announce(counts, peers) => {
                request::write_announce(out, &self.settings, &form, counts, peers);
                (Action::Announce, None)
            }
            Answer::Scrape(hashes, counts) => {
                self.files.clear();
                self.files
                    .extend(hashes.iter().copied().zip(counts.iter().copied()));
                dialect.write_scrape(out, &mut self.files);
                (Action::Scrape, None)
            }
            Answer::Failed => {
                self.stats.dropped(Protocol::Http, DropReason::LaneFull);
                wire::write_failure(out, request::OVERLOADED, None);
                (form.action, Some(FailureClass::Overloaded))
            }
        };
        response.finish(out);
        let bytes = out.len() - before;
        connection.phase = Phase::Reading;
        connection.served = true;
        connection.idle = false;
        connection.last |= !form.keep_alive;
        self.resumed.push(token);
        self.answered_late(form.arrived, action, family, failure);
        self.note_requests(at, 0, 0, bytes);
    }

    /// Goes on with the connections that were answered in this turn.
    pub fn resume<L: Lanes>(&mut self, turn: &mut Turn<'_, L>) {
        while let Some(token) = self.resumed.pop() {
            let Some(at) = self.place_of(token) else {
                continue;
            };
            if self.connections[at].write_unwritten().is_err() {
                self.fail(at, DropReason::ConnectionFailed);
            } else {
                self.work(at, turn);
                self.read_more(at, turn);
            }
        }
    }

    /// Stops listening and reading: requests that were read are still
    /// answered, idle connections are closed.
    pub fn stop<L: Lanes>(&mut self, turn: &mut Turn<'_, L>) {
        self.accept_all(turn);
        self.stopping = true;
        self.listeners.clear();
        for at in 0..self.connections.capacity() {
            let Some(connection) = self.connections.get_mut(at) else {
                continue;
            };
            if connection.phase == Phase::Lingering || connection.stream.is_handshaking() {
                self.close(at);
            } else if connection.phase == Phase::Waiting || connection.has_unwritten() {
                connection.form.keep_alive = false;
                connection.last = true;
            } else {
                // A request that has arrived is answered before the end, and
                // its answer says that it is the last.
                self.read(at, turn);
                if let Some(connection) = self.connections.get(at)
                    && matches!(connection.phase, Phase::Introduction | Phase::Reading)
                    && !connection.has_unwritten()
                {
                    self.close(at);
                }
            }
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Reads, and goes on from there.
    fn read<L: Lanes>(&mut self, at: usize, turn: &mut Turn<'_, L>) {
        if self.connections[at].phase == Phase::Introduction && !self.introduce(at, turn) {
            return;
        }
        self.read_once(at, turn);
        self.read_more(at, turn);
    }

    /// Reads what TLS has deciphered already, of which the reactor does not
    /// know.
    fn read_more<L: Lanes>(&mut self, at: usize, turn: &mut Turn<'_, L>) {
        while self.connections.get_mut(at).is_some_and(|connection| {
            connection.interest == Some(Interest::Read)
                && connection.phase != Phase::Lingering
                && connection.stream.has_more()
        }) {
            self.read_once(at, turn);
        }
    }

    fn read_once<L: Lanes>(&mut self, at: usize, turn: &mut Turn<'_, L>) {
        let connection = &mut self.connections[at];
        if connection.phase == Phase::Lingering {
            if connection.discard(&mut self.input) {
                self.close(at);
            }
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        let result = connection.read(&mut input);
        if let Some(handshake) = connection.stream.take_handshake() {
            self.stats.handshake(handshake);
        }
        match result {
            ReadResult::Failed => self.fail(at, DropReason::ConnectionFailed),
            ReadResult::Nothing => self.settle(at, turn),
            ReadResult::End => {
                connection.ended = true;
                self.settle(at, turn);
            }
            ReadResult::Bytes(count) if connection.phase == Phase::Waiting => {
                connection.unread.extend_from_slice(&input[..count]);
                self.settle(at, turn);
            }
            ReadResult::Bytes(count) => {
                connection.idle = false;
                if connection.unread.is_empty() {
                    if connection.served {
                        connection.deadline = milliseconds(turn.now) + self.settings.read_timeout;
                    }
                    let used = self.requests(at, &input[..count], turn);
                    if let Some(connection) = self.connections.get_mut(at) {
                        connection.unread.extend_from_slice(&input[used..count]);
                    }
                } else {
                    connection.unread.extend_from_slice(&input[..count]);
                }
                self.work(at, turn);
            }
        }
        self.input = input;
    }

    /// Answers the requests that lie in `unread`, as long as answers can be
    /// written, and then sees what the connection waits for.
    fn work<L: Lanes>(&mut self, at: usize, turn: &mut Turn<'_, L>) {
        loop {
            let Some(connection) = self.connections.get_mut(at) else {
                return;
            };
            let may_go_on = connection.phase == Phase::Reading
                && !connection.last
                && !connection.unread.is_empty()
                && !connection.has_unwritten();
            if !may_go_on {
                break;
            }
            let mut unread = std::mem::take(&mut connection.unread);
            let used = self.requests(at, &unread, turn);
            let Some(connection) = self.connections.get_mut(at) else {
                return;
            };
            unread.drain(..used);
            connection.unread = unread;
            if used == 0 {
                break;
            }
        }
        self.settle(at, turn);
    }

    /// Handles the requests at the front of `input` and writes their answers;
    /// returns how many bytes they took. May close the connection.
    fn requests<L: Lanes>(&mut self, at: usize, input: &[u8], turn: &mut Turn<'_, L>) -> usize {
        let (mut used, mut requests) = (0, 0);
        self.out.clear();
        while used < input.len() && self.out.len() < MOST_UNWRITTEN {
            let connection = &self.connections[at];
            if connection.last || connection.phase != Phase::Reading {
                break;
            }
            let answer_at = self.out.len();
            let options = HeadOptions {
                max_head_bytes: self.settings.max_request_bytes,
                real_ip_header: self.settings.real_ip_header.as_deref(),
            };
            match self.settings.dialect.parse_head(&input[used..], &options) {
                Ok(HeadStatus::Partial) => break,
                Ok(HeadStatus::Complete(head)) => {
                    used += head.head_len;
                    requests += 1;
                    self.request(at, &head, turn);
                    self.count_error(answer_at, Some(head.query));
                }
                Err(error) => {
                    let family = AddressFamily::of(&connection.peer);
                    self.stats.request(Protocol::Http, Action::Other, family);
                    self.stats
                        .reply(Protocol::Http, Action::Other, family, Outcome::Error);
                    let (status, out) = (error.status(), &mut self.out);
                    self.settings
                        .dialect
                        .write_status(out, status, false, false);
                    self.count_error(answer_at, None);
                    self.connections[at].last = true;
                }
            }
            if let Some(leaving) = self.leaving.take() {
                self.note_requests(at, requests, used, 0);
                self.hand_over(at, leaving, used < input.len(), turn);
                return used;
            }
        }
        self.note_requests(at, requests, used, self.out.len());
        let connection = &mut self.connections[at];
        if !self.out.is_empty() && connection.write_from(&self.out).is_err() {
            self.fail(at, DropReason::ConnectionFailed);
        } else if used > 0 {
            // The time of the next request, or of these answers, begins now.
            let time = match connection.has_unwritten() {
                true => self.settings.write_timeout,
                false => self.settings.read_timeout,
            };
            connection.deadline = milliseconds(turn.now) + time;
        }
        used
    }

    /// Closes the connection if it is done; else sees to it that the reactor
    /// watches for what it waits for, and until when.
    fn settle<L: Lanes>(&mut self, at: usize, turn: &Turn<'_, L>) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if connection.phase == Phase::Lingering {
            return;
        }
        let now = milliseconds(turn.now);
        let interest = if connection.has_unwritten() {
            if connection.interest != Some(Interest::Write) {
                connection.deadline = now + self.settings.write_timeout;
            }
            Interest::Write
        } else if connection.phase == Phase::Waiting {
            // The desk's patience is the deadline here.
            connection.deadline = u64::MAX;
            let full = connection.unread.len() >= self.settings.max_request_bytes;
            if full || connection.ended {
                Interest::Nothing
            } else {
                Interest::Read
            }
        } else if connection.last || connection.ended {
            let more_comes = !connection.unread.is_empty()
                || connection.body_follows
                || connection.stream.has_goodbyes();
            if connection.ended || !more_comes || self.stopping {
                self.close(at);
                return;
            }
            connection.stream.end();
            connection.phase = Phase::Lingering;
            connection.unread = Vec::new();
            connection.deadline = now + LINGER_MILLISECONDS;
            Interest::Read
        } else {
            if connection.served && connection.unread.is_empty() {
                // Once: what is no request does not make it less idle.
                if !std::mem::replace(&mut connection.idle, true) {
                    connection.deadline = now + self.settings.idle_timeout;
                }
            } else if connection.deadline == u64::MAX {
                connection.deadline = now + self.settings.read_timeout;
            }
            Interest::Read
        };
        self.watch(at, interest, turn);
    }

    fn watch<L: Lanes>(&mut self, at: usize, interest: Interest, turn: &Turn<'_, L>) {
        let connection = &mut self.connections[at];
        if connection.interest == Some(interest) {
            return;
        }
        let token = ConnectionToken {
            place: at as u32,
            generation: connection.generation,
        };
        let token = turn.connection_mark | token.to_bits();
        let result = match connection.interest {
            None => turn
                .reactor
                .add(connection.stream.socket(), token, interest),
            Some(_) => turn
                .reactor
                .modify(connection.stream.socket(), token, interest),
        };
        connection.interest = Some(interest);
        if result.is_err() {
            self.fail(at, DropReason::ConnectionFailed);
        }
    }

    fn place_of(&self, token: ConnectionToken) -> Option<usize> {
        let at = token.place as usize;
        let connection = self.connections.get(at)?;
        (connection.generation == token.generation).then_some(at)
    }

    fn fail(&mut self, at: usize, reason: DropReason) {
        self.stats.dropped(Protocol::Http, reason);
        self.close(at);
    }

    fn close(&mut self, at: usize) {
        // Dropping the socket closes it, which takes it out of the epoll.
        let mut connection = self.connections.remove(at);
        if connection.stream.is_half_greeted() {
            self.stats.handshake(Handshake::Failed);
        }
        connection.stream.say_goodbye();
    }
}

/// Monotonic milliseconds since the process started.
fn milliseconds(now: &Now) -> u64 {
    now.elapsed.as_millis() as u64
}
