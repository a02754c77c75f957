//! How connections begin: accepted, within the limit, and introduced by their
//! proxy where that is asked for.

use super::connection::{Connection, Phase, ReplyForm};
use super::stream::Stream;
use super::token::ConnectionToken;
use super::{HttpFrontend, Turn, milliseconds};
use crate::bittorrent::{AddressFamily, Event};
use crate::frontend::desk::Lanes;
use crate::hook::Effects;
use crate::protocol::proxy::{Introduced, Introduction};
use crate::runtime::clock::Now;
use crate::runtime::reactor::Interest;
use crate::shard::stats::{Action, DropReason, Protocol};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustls::ServerConfig;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Connections accepted from one listener in one turn of the loop.
const ACCEPT_BATCH: usize = 64;

/// Reads of connections that are in their handshake, in one turn of the loop: a
/// handshake costs as much as hundreds of announces, for which others would
/// wait. The rest is read in the next turns, without the reactor, in which it
/// would crowd out others.
const MOST_GREETINGS: usize = 8;

/// As [`ACCEPT_BATCH`] where TLS is spoken, for the reason of [`MOST_GREETINGS`]
/// and apart from it: so neither new connections nor those that are in their
/// handshake wait for the others.
const TLS_ACCEPT_BATCH: usize = 8;

/// Batches that a stopping shard still accepts from one listener: what the
/// kernel may hold (`TCP_BACKLOG` in `sys/socket.rs`).
const STOP_BATCHES: usize = 64;

/// A listening socket, which is non-blocking, and what is spoken there.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// How TLS is spoken; without it plain HTTP is.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What becomes of connections in their handshake.
#[derive(Default)]
pub(super) struct Greetings {
    /// How many were read in which turn, named by its time.
    read: usize,
    turn: Duration,
    /// Those that had no place in their turn; the reactor does not name them.
    postponed: VecDeque<ConnectionToken>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl HttpFrontend {
    /// Accepts what waits at the listener of this number; returns whether there
    /// may be more.
    pub fn accept<L: Lanes>(&mut self, listener: usize, turn: &mut Turn<'_, L>) -> bool {
        let speaks_tls = |listener: &Listener| listener.tls.is_some();
        let batch = match self.listeners.get(listener).is_some_and(speaks_tls) {
            true => TLS_ACCEPT_BATCH,
            false => ACCEPT_BATCH,
        };
        for _ in 0..batch {
            if self.stopping {
                return false;
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(&self.listeners[listener], flags) {
                Ok((socket, address)) => {
                    self.stats.connections_accepted.add(1);
                    if let Some(listener) = self.stats.listener(Protocol::Http, listener) {
                        listener.arrivals.add(1);
                    }
                    let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
                    if let Some(peer) = peer {
                        let (socket, ip) = (TcpStream::from(socket), peer.ip().to_canonical());
                        self.begin(socket, ip, listener, turn);
                    }
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // The listener stays ready: without a pause the loop would
                    // spin until a descriptor or memory comes free.
                    self.stats.dropped(Protocol::Http, DropReason::AcceptFailed);
                    self.pause_accept(turn, Interest::Nothing);
                    return false;
                }
                // The connection ended while it waited, or its network is in
                // trouble (accept(2)): try the next one.
                Err(_) => {}
            }
        }
        true
    }

    /// Accepts everything that waits, but where TLS is spoken: handshakes take
    /// round trips for which a stopping shard has no time.
    pub(super) fn accept_all<L: Lanes>(&mut self, turn: &mut Turn<'_, L>) {
        for at in 0..self.listeners.len() {
            let is_plain = self.listeners[at].tls.is_none();
            let _ = is_plain && (0..STOP_BATCHES).all(|_| self.accept(at, turn));
        }
    }

    fn begin<L: Lanes>(
        &mut self,
        socket: TcpStream,
        peer: IpAddr,
        listener: usize,
        turn: &mut Turn<'_, L>,
    ) {
        if let Some(reason) = self.turned_away(&peer) {
            self.stats.dropped(Protocol::Http, reason);
            return;
        }
        let Ok(stream) = Stream::accepted(socket, self.listeners[listener].tls.as_ref()) else {
            self.stats
                .dropped(Protocol::Http, DropReason::ConnectionFailed);
            return;
        };
        let introduction = self
            .settings
            .proxy_protocol
            .then(|| Box::new(Introduction::default()));
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        let at = self.connections.insert(Connection {
            stream,
            listener,
            peer,
            generation: self.generation,
            phase: match introduction {
                None => Phase::Reading,
                Some(_) => Phase::Introduction,
            },
            introduction,
            deadline: milliseconds(turn.now) + self.settings.read_timeout,
            unread: Vec::new(),
            unwritten: Vec::new(),
            written: 0,
            form: ReplyForm {
                action: Action::Other,
                keep_alive: false,
                compact: true,
                peer_ids: false,
                family: AddressFamily::of(&peer),
                client_family: AddressFamily::of(&peer),
                event: Event::None,
                external_ip: None,
                effects: Effects::default(),
                arrived: turn.now.elapsed,
            },
            interest: None,
            ended: false,
            last: false,
            body_follows: false,
            served: false,
            idle: false,
        });
        self.read(at, turn);
    }

    /// Why a connection from this address is closed at once.
    fn turned_away(&self, peer: &IpAddr) -> Option<DropReason> {
        if self.connections.len() >= self.settings.max_connections {
            return Some(DropReason::ConnectionLimit);
        }
        (self.settings.proxy_protocol && !self.settings.trusted_proxies.admit(peer))
            .then_some(DropReason::UntrustedProxy)
    }

    /// Reads what a proxy says before the client's first byte, and nothing
    /// beyond it; returns whether the client's bytes are next.
    ///
    /// The socket is looked into first, because what follows may be TLS, which
    /// reads from the socket itself.
    pub(super) fn introduce<L: Lanes>(&mut self, at: usize, turn: &mut Turn<'_, L>) -> bool {
        let connection = &mut self.connections[at];
        let Some(introduction) = &mut connection.introduction else {
            return true;
        };
        let introduced = loop {
            let mut socket = connection.stream.socket();
            let count = match socket.peek(&mut self.input) {
                Ok(count) if count > 0 => count,
                Ok(_) if !introduction.has_begun() => {
                    // Someone looked whether the port is open.
                    self.close(at);
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.settle(at, turn);
                    return false;
                }
                _ => break None,
            };
            let read = introduction.read(&self.input[..count]);
            let Ok((used, introduced)) = read else {
                break None;
            };
            if socket.read_exact(&mut self.input[..used]).is_err() {
                break None;
            }
            if introduced != Introduced::Partly {
                break Some(introduced);
            }
        };
        match introduced {
            None => {
                self.fail(at, DropReason::BadProxyHeader);
                return false;
            }
            Some(Introduced::As(ip)) => connection.peer = ip,
            Some(_) => {}
        }
        connection.introduction = None;
        connection.phase = Phase::Reading;
        true
    }

    /// Whether handshakes were put off to the next turn.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        !self.greetings.postponed.is_empty()
    }

    /// Goes on with handshakes that were put off, as many as a turn has.
    pub fn greet<L: Lanes>(&mut self, turn: &mut Turn<'_, L>) {
        while let Some(&token) = self.greetings.postponed.front() {
            let at = self.place_of(token);
            if at.is_some() && !self.may_greet(turn.now) {
                return;
            }
            self.greetings.postponed.pop_front();
            if let Some(at) = at {
                // Which has the reactor watch it again.
                self.read(at, turn);
            }
        }
    }

    /// Whether a connection in its handshake is read in this turn; if not, it
    /// is put off.
    pub(super) fn may_greet_now<L: Lanes>(&mut self, at: usize, turn: &Turn<'_, L>) -> bool {
        if self.greetings.postponed.is_empty() && self.may_greet(turn.now) {
            return true;
        }
        self.greetings.postponed.push_back(self.token(at));
        self.watch(at, Interest::Nothing, turn);
        false
    }

    /// Whether one more connection in its handshake is read in this turn.
    fn may_greet(&mut self, now: &Now) -> bool {
        let greetings = &mut self.greetings;
        if std::mem::replace(&mut greetings.turn, now.elapsed) != now.elapsed {
            greetings.read = 0;
        }
        greetings.read += 1;
        greetings.read <= MOST_GREETINGS
    }

    pub(super) fn pause_accept<L: Lanes>(&mut self, turn: &Turn<'_, L>, interest: Interest) {
        self.accept_paused = interest == Interest::Nothing;
        for (number, listener) in self.listeners.iter().enumerate() {
            let token = turn.listener_mark | number as u64;
            if let Err(error) = turn.reactor.modify(listener, token, interest) {
                log::error!("cannot watch a listener: {error}");
            }
        }
    }

    pub(super) fn token(&self, at: usize) -> ConnectionToken {
        ConnectionToken {
            place: at as u32,
            generation: self.connections[at].generation,
        }
    }
}
