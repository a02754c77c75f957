//! One thread's HTTP load, a [`Load`]: many connections on one epoll instance,
//! one request at a time on each, either many per connection or one.
//!
//! A fixed rate that finds all connections busy lets its requests wait in the
//! schedule, and their latency counts from when they should have been sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use serde::Serialize;

use crate::account::{Account, Verdict};
use crate::config::{RunConfig, Target};
use crate::connect;
use crate::drive::Load;
use crate::http_message::{self, Progress, Reply, RequestStyle};
use crate::inflight::Entry;
use crate::pace::{Timeline, nanoseconds};
use crate::sys::Epoll;
use crate::workload::{Kind, SwarmTooBig};

/// Pause before a failed connection is tried again.
const RETRY_AFTER: u64 = 100_000_000;

/// How long a server may take to close a connection after the reply, at most:
/// then it is closed from here, so that no rate is bound by the timeout.
const GRACE: Duration = Duration::from_millis(100);

/// How often connections are looked at for timeouts.
const LOOK_EVERY: u64 = 10_000_000;

/// Longest reply taken, in bytes.
const MAX_REPLY: usize = 1 << 20;

/// The deadline of a connection that waits for nothing.
const NEVER: u64 = u64::MAX;

/// Most connections per thread.
pub const MAX_CONNECTIONS: usize = 50_000;

/// What became of connections, in the whole run with its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Whether they were to stay open between requests; `None` over UDP.
    pub keep_alive: Option<bool>,
    /// Connections that were opened or tried.
    pub opened: u64,
    /// Replies that came over them.
    pub replies: u64,
    /// Replies after which the server closed.
    pub closed_by_server: u64,
    /// Replies after which it did not, although asked to or announced.
    pub not_closed_by_server: u64,
}

impl Connections {
    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Connections) {
        self.keep_alive = self.keep_alive.or(other.keep_alive);
        self.opened += other.opened;
        self.replies += other.replies;
        self.closed_by_server += other.closed_by_server;
        self.not_closed_by_server += other.not_closed_by_server;
    }

    /// Why the run is not what was asked for, if more than half of the replies
    /// say so.
    pub fn fault(&self) -> Option<String> {
        let most = |count: u64| count > self.replies / 2;
        let (kept_open, ended) = (
            self.not_closed_by_server,
            self.closed_by_server + self.not_closed_by_server,
        );
        match self.keep_alive? {
            true if most(ended) => Some(format!(
                "the tracker closes the connection after each reply: use --no-keep-alive (closed after {ended} of {} replies)",
                self.replies
            )),
            false if most(kept_open) => Some(format!(
                "the tracker does not close the connection after its reply ({kept_open} of {} times), which bounds the rate: leave out --no-keep-alive",
                self.replies
            )),
            _ => None,
        }
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} opened, closed by the server after {} of {} replies",
            self.opened, self.closed_by_server, self.replies
        )?;
        match self.not_closed_by_server {
            0 => Ok(()),
            n => write!(f, ", not closed by it after {n}"),
        }
    }
}

/// One thread's connections and counts.
pub struct HttpLoad<'a> {
    config: &'a RunConfig,
    target: SocketAddr,
    style: RequestStyle,
    connections: Vec<Connection>,
    /// Connections without a request.
    idle: VecDeque<usize>,
    epoll: Epoll,
    account: Account,
    look_at: u64,
}

struct Connection {
    stream: Option<TcpStream>,
    source: u16,
    request: Option<Entry>,
    /// A reply came over the stream.
    replied: bool,
    /// The reply is complete and only the server's closing is awaited.
    closing: bool,
    /// Not before this time, after a failure.
    retry_at: u64,
    deadline: u64,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    received: usize,
}

/// What is left of a connection after a reply.
enum After {
    /// It can carry another request.
    Stays,
    /// The server was asked to close it, or says that it will.
    Closing,
    /// Where the next reply would begin cannot be told.
    Useless,
    /// The server has closed it.
    Ended,
}

impl After {
    /// After a complete reply that came among `received` bytes.
    fn of(reply: &Reply<'_>, received: usize, keep_alive: bool) -> After {
        match () {
            // Not read to its end, so no further event would come.
            () if received > MAX_REPLY => After::Useless,
            () if reply.closes || !keep_alive => After::Closing,
            () => After::Stays,
        }
    }
}

impl<'a> HttpLoad<'a> {
    /// Opens its connections when they are needed.
    pub fn new(config: &'a RunConfig, thread: usize) -> io::Result<HttpLoad<'a>> {
        let (host, path) = match &config.target {
            Target::Http { host, path, .. } => (host.as_str(), path.as_str()),
            Target::Udp(_) => ("", ""),
        };
        let workload = &config.workload;
        let sources = config.sources.len();
        let connection = |index: usize| Connection {
            stream: None,
            source: (index % sources) as u16,
            request: None,
            replied: false,
            closing: false,
            retry_at: 0,
            deadline: NEVER,
            out: Vec::with_capacity(512),
            sent: 0,
            input: vec![0; 4096],
            received: 0,
        };
        let mut account = Account::new(config, thread);
        account.stats.connections.keep_alive = Some(config.keep_alive);
        Ok(HttpLoad {
            target: config.target.address(),
            style: RequestStyle::new(
                host,
                path,
                config.keep_alive,
                config.numwant,
                config.scrape_hashes,
                workload.seed,
                workload.swarms,
            ),
            connections: (0..config.connections).map(connection).collect(),
            idle: (0..config.connections).rev().collect(),
            epoll: Epoll::new(1024)?,
            account,
            look_at: 0,
            config,
        })
    }
}

impl Load for HttpLoad<'_> {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    fn in_flight(&self) -> usize {
        self.connections.len() - self.idle.len()
    }

    fn receive(&mut self, timeline: &Timeline) -> usize {
        let events = self.epoll.wait(0).unwrap_or(0);
        for event in 0..events {
            let (_, token) = self.epoll.event(event);
            self.advance(token as usize, timeline);
        }
        events
    }

    fn expire(&mut self, now: u64) {
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.give_up(now);
        }
    }

    fn send(&mut self, now: u64, timeline: &Timeline) -> Result<usize, SwarmTooBig> {
        let mut sent = 0;
        // One look at each connection that is idle now.
        for _ in 0..self.idle.len() {
            if self.account.source.is_exhausted() {
                break;
            }
            // The window is as many as there are connections.
            let Some(intended) = self.account.gate.due(now, 0) else {
                break;
            };
            let Some(index) = self.idle.pop_back() else {
                break;
            };
            let connection = &self.connections[index];
            let next = match connection.retry_at > now {
                true => None,
                false => self.account.source.next_from(connection.source)?,
            };
            let Some((request, attempts)) = next else {
                // To the other end, so that the next one gets its turn.
                self.idle.push_front(index);
                continue;
            };
            self.account.gate.advance();
            let entry = Entry {
                request,
                intended,
                sent: now,
                measured: timeline.measures(intended),
                attempts,
            };
            self.begin(index, entry, timeline);
            sent += 1;
        }
        Ok(sent)
    }

    fn abandon(&mut self) {
        self.give_up(NEVER - 1);
    }

    fn gathers(&self, _received: usize, _in_flight: usize) -> bool {
        false
    }
}

impl HttpLoad<'_> {
    /// Gives a request to a connection without one.
    fn begin(&mut self, index: usize, entry: Entry, timeline: &Timeline) {
        self.account.sent(&entry);
        let connection = &mut self.connections[index];
        self.style.write(&entry.request, &mut connection.out);
        connection.sent = 0;
        connection.request = Some(entry);
        connection.deadline = entry.sent + nanoseconds(self.config.timeout);
        if connection.stream.is_none() {
            let source = self.config.sources[usize::from(connection.source)];
            self.account.stats.connections.opened += 1;
            match connect(self.target, source, &self.epoll, index) {
                Ok(stream) => connection.stream = Some(stream),
                Err(error) => return self.break_off(index, entry.sent, &error.to_string()),
            }
        }
        self.advance(index, timeline);
    }

    /// Writes and reads as much as the connection allows.
    fn advance(&mut self, index: usize, timeline: &Timeline) {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else {
            return;
        };
        while connection.request.is_some() && connection.sent < connection.out.len() {
            match stream.write(&connection.out[connection.sent..]) {
                Ok(written) => connection.sent += written,
                Err(error) if waits(&error) => break,
                Err(error) => {
                    let reason = error.to_string();
                    self.ended_by_server(index);
                    return self.break_off(index, timeline.now(), &reason);
                }
            }
        }
        let mut failure = None;
        // A reply that is too long stays unread: its connection ends here.
        let ended = loop {
            if connection.received > MAX_REPLY {
                break false;
            }
            if connection.received == connection.input.len() {
                connection.input.resize(connection.received * 2, 0);
            }
            match stream.read(&mut connection.input[connection.received..]) {
                Ok(0) => break true,
                Ok(read) => connection.received += read,
                Err(error) if waits(&error) => break false,
                Err(error) => {
                    failure = Some(error);
                    break true;
                }
            }
        };
        if connection.request.is_some() {
            if ended && connection.received == 0 {
                self.ended_by_server(index);
                let reason = failure.map(|error| error.to_string());
                let closed = "(closed by the server before the reply)";
                return self.break_off(index, timeline.now(), reason.as_deref().unwrap_or(closed));
            }
            self.take_reply(index, ended, timeline);
        } else if ended {
            self.ended_by_server(index);
            self.close(index);
        } else if connection.received > MAX_REPLY {
            self.close(index);
        }
    }

    fn take_reply(&mut self, index: usize, ended: bool, timeline: &Timeline) {
        let connection = &mut self.connections[index];
        if connection.received == 0 {
            return;
        }
        let now = timeline.now();
        let received = connection.received;
        let (verdict, after, len) =
            match http_message::read_reply(&connection.input[..received], ended) {
                Progress::Partial if received > MAX_REPLY => {
                    let why = Verdict::Bad("(reply longer than 1 MiB)");
                    (why, After::Useless, received)
                }
                Progress::Partial => return,
                Progress::Malformed(why) => (Verdict::Bad(why), After::Useless, received),
                Progress::Complete(reply) => {
                    let kind = connection
                        .request
                        .map_or(Kind::Announce, |entry| entry.request.kind);
                    // More hashes than there are swarms name some twice.
                    let swarms = self.config.workload.swarms as usize;
                    let asked = self.config.scrape_hashes.min(swarms);
                    let verdict = http_message::judge(&reply, kind, self.config.numwant, asked);
                    let after = After::of(&reply, received, self.config.keep_alive);
                    match verdict {
                        Verdict::Good { .. } if reply.len < received => {
                            let why = Verdict::Bad("(bytes after the end of the reply)");
                            (why, after, reply.len)
                        }
                        verdict => (verdict, after, reply.len),
                    }
                }
            };
        let Some(entry) = connection.request.take() else {
            return;
        };
        self.account.arrived(len, now, timeline);
        self.account.answered(&entry, &verdict, now);
        self.go_on(index, if ended { After::Ended } else { after }, now);
    }

    /// What a connection does after a reply.
    fn go_on(&mut self, index: usize, after: After, now: u64) {
        let connection = &mut self.connections[index];
        connection.received = 0;
        connection.replied = true;
        self.account.stats.connections.replies += 1;
        match after {
            After::Ended => {
                self.ended_by_server(index);
                self.close(index);
            }
            After::Useless => self.close(index),
            After::Closing => {
                // The server closes; whoever closes first keeps the port busy.
                connection.closing = true;
                connection.deadline = now + nanoseconds(self.config.timeout.min(GRACE));
            }
            After::Stays => {
                connection.deadline = NEVER;
                self.idle.push_back(index);
            }
        }
    }

    /// The server has ended the stream; counts that where a reply came before.
    fn ended_by_server(&mut self, index: usize) {
        if self.connections[index].replied {
            self.account.stats.connections.closed_by_server += 1;
        }
    }

    /// Ends a connection that has no request.
    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.replied = false;
        connection.received = 0;
        connection.deadline = NEVER;
        // One that was idle is on the list already.
        if connection.closing || !self.idle.contains(&index) {
            connection.closing = false;
            self.idle.push_back(index);
        }
    }

    /// Ends a connection that failed, and keeps the reason.
    fn break_off(&mut self, index: usize, now: u64, reason: &str) {
        self.account.stats.broken_connections += 1;
        self.account.stats.break_reasons.count(reason.as_bytes());
        self.connections[index].retry_at = now + RETRY_AFTER;
        self.drop_request(index);
    }

    /// Ends a connection whose request gets no reply.
    fn drop_request(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.closing = true;
        if let Some(entry) = connection.request.take() {
            self.account.lost(&entry);
        }
        self.close(index);
    }

    /// Breaks off what should have ended by `now`.
    fn give_up(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if self.connections[index].deadline <= now {
                if self.connections[index].closing {
                    self.account.stats.connections.not_closed_by_server += 1;
                }
                self.drop_request(index);
            }
        }
    }
}

fn connect(
    target: SocketAddr,
    source: Option<IpAddr>,
    epoll: &Epoll,
    index: usize,
) -> io::Result<TcpStream> {
    let stream = connect::begin_tcp(target, source)?;
    let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
    epoll.add(stream.as_raw_fd(), events, index as u64)?;
    Ok(stream)
}

/// Whether the operation may succeed later: the socket is busy or not yet
/// connected.
fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}
