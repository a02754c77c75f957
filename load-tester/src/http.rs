//! One thread's HTTP load: many connections on one epoll instance, one request
//! at a time on each, either many per connection or one.
//!
//! Like the UDP loop it never sleeps. A fixed rate that finds all connections
//! busy lets its requests wait here, and their latency counts from when they
//! should have been sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Pace, RunConfig, Target};
use crate::http_message::{self, Progress as Reading, RequestStyle, Verdict};
use crate::inflight::Entry;
use crate::pace::{Progress, Timeline, nanoseconds};
use crate::schedule::Schedule;
use crate::source::{FILL_PATIENCE, Source};
use crate::stats::Stats;
use crate::sys::{self, Epoll};
use crate::workload::{Kind, SwarmTooBig};

/// How long the tracker is waited for before a run.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause before a failed connection is tried again.
const RETRY_AFTER: u64 = 100_000_000;

/// How often connections are looked at for timeouts, and totals published.
const LOOK_EVERY: u64 = 10_000_000;

/// Requests of a fixed rate that may wait for a connection; later ones count
/// as not sent.
const MAX_BACKLOG: usize = 1 << 20;

/// Most connections per thread.
pub const MAX_CONNECTIONS: usize = 50_000;

/// Why there is no connection.
#[derive(Debug)]
pub enum HttpError {
    /// The source address cannot be used.
    Bind(IpAddr, io::Error),
    /// The host refused the connection.
    NothingListens(SocketAddr),
    /// The connection failed otherwise.
    Connect(SocketAddr, io::Error),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Bind(ip, error) => write!(
                f,
                "cannot connect from {ip}: {error}; give addresses of this host with --source-addresses, or fewer --sources"
            ),
            HttpError::NothingListens(to) => write!(
                f,
                "nothing listens on TCP {to} (connection refused); start the tracker or check address and port"
            ),
            HttpError::Connect(to, error) => write!(f, "cannot connect to TCP {to}: {error}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// Proof that the tracker takes connections from every source address.
pub struct Prepared(());

impl Prepared {
    /// Tries one connection per source address.
    pub fn new(config: &RunConfig) -> Result<Prepared, HttpError> {
        let target = config.target.address();
        for source in &config.sources {
            let socket = open(target, *source)?;
            match socket.connect_timeout(&target.into(), CONNECT_TIMEOUT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(HttpError::NothingListens(target));
                }
                Err(error) => return Err(HttpError::Connect(target, error)),
            }
        }
        Ok(Prepared(()))
    }
}

/// One thread's connections and counts.
pub struct HttpLoad<'a> {
    config: &'a RunConfig,
    target: SocketAddr,
    style: RequestStyle,
    connections: Vec<Connection>,
    /// Connections without a request.
    idle: Vec<usize>,
    source: Source,
    schedule: Option<Schedule>,
    /// When requests were due that found no connection.
    backlog: VecDeque<u64>,
    stats: Stats,
    totals: [u64; 3],
}

struct Connection {
    stream: Option<TcpStream>,
    source: u16,
    request: Option<Entry>,
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

impl<'a> HttpLoad<'a> {
    /// Opens its connections when they are needed.
    pub fn new(config: &'a RunConfig, _prepared: Prepared, thread: usize) -> HttpLoad<'a> {
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
            closing: false,
            retry_at: 0,
            deadline: u64::MAX,
            out: Vec::with_capacity(512),
            sent: 0,
            input: vec![0; 4096],
            received: 0,
        };
        HttpLoad {
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
            source: Source::new(config, thread),
            schedule: match config.pace {
                Pace::Window(_) => None,
                Pace::Rate(rate) => Some(Schedule::new(rate, thread, config.threads)),
            },
            backlog: VecDeque::with_capacity(1024),
            stats: Stats::new(),
            totals: [0; 3],
            config,
        }
    }

    /// Runs until the timeline's end, or the end of the fill, and then until
    /// every request is answered or lost. Also returns when the last reply came.
    pub fn run(
        mut self,
        timeline: &Timeline,
        progress: &Progress,
    ) -> Result<(Stats, u64), SwarmTooBig> {
        let Ok(mut epoll) = Epoll::new(1024) else {
            self.stats.broken_connections += 1;
            return Ok((self.stats, 0));
        };
        if let Some(schedule) = &mut self.schedule {
            schedule.end_at(timeline.end);
        }
        let last_chance = timeline
            .end
            .saturating_add(nanoseconds(self.config.timeout));
        let mut look_at = 0;
        let mut last_reply = 0;
        let mut turn_began = 0;
        loop {
            let events = epoll.wait(0).unwrap_or(0);
            for event in 0..events {
                let (_, token) = epoll.event(event);
                self.advance(token as usize, timeline);
            }
            let now = timeline.now();
            if events > 0 {
                last_reply = now;
            }
            // What waits at the end still gets its chance, but not for ever.
            let open = match &self.schedule {
                None => now < timeline.end,
                Some(schedule) => {
                    !schedule.is_over() || (!self.backlog.is_empty() && now < last_chance)
                }
            };
            let stalled = self.source.is_fill() && now - last_reply > FILL_PATIENCE;
            self.stats.stalled |= stalled;
            let sending = open && !stalled && !progress.stop.load(Ordering::Relaxed);
            let dispatched = if sending {
                self.dispatch(now, timeline, &epoll)?
            } else {
                0
            };
            if now >= look_at {
                look_at = now + LOOK_EVERY;
                self.expire(now);
                let [replies, lost, errors] = self.totals;
                progress.publish(replies, lost, errors);
            }
            let at_rest = self.connections.len() == self.idle.len();
            if at_rest && (!sending || self.source.is_exhausted()) {
                let never_sent = self
                    .backlog
                    .iter()
                    .filter(|due| timeline.measures(**due))
                    .count();
                self.stats.unsent += never_sent as u64;
                let [replies, lost, errors] = self.totals;
                progress.publish(replies, lost, errors);
                return Ok((self.stats, last_reply));
            }
            if events + dispatched == 0 && timeline.measures(now) {
                self.stats.idle_nanoseconds += now - turn_began;
            }
            turn_began = now;
        }
    }

    /// Gives requests to idle connections; returns how many.
    fn dispatch(
        &mut self,
        now: u64,
        timeline: &Timeline,
        epoll: &Epoll,
    ) -> Result<usize, SwarmTooBig> {
        if let Some(schedule) = &mut self.schedule {
            while let Some(due) = schedule.take_due(now) {
                if self.backlog.len() < MAX_BACKLOG {
                    self.backlog.push_back(due);
                } else if timeline.measures(due) {
                    self.stats.unsent += 1;
                }
            }
        }
        let mut dispatched = 0;
        // One look at each connection that is idle now.
        for _ in 0..self.idle.len() {
            if self.source.is_exhausted() || (self.schedule.is_some() && self.backlog.is_empty()) {
                break;
            }
            let Some(index) = self.idle.pop() else { break };
            let source = self.connections[index].source;
            let next = match self.connections[index].retry_at > now {
                true => None,
                false => self.source.next_from(source)?,
            };
            let Some((request, attempts)) = next else {
                // To the other end, so that the next one gets its turn.
                self.idle.insert(0, index);
                continue;
            };
            let intended = match self.schedule {
                Some(_) => self.backlog.pop_front().unwrap_or(now),
                None => now,
            };
            let measured = timeline.measures(intended);
            if measured {
                self.stats.sent[request.kind as usize] += 1;
            }
            let connection = &mut self.connections[index];
            connection.request = Some(Entry {
                request,
                intended,
                sent: now,
                measured,
                attempts,
            });
            connection.deadline = now + nanoseconds(self.config.timeout);
            self.style.write(&request, &mut connection.out);
            connection.sent = 0;
            dispatched += 1;
            if connection.stream.is_none() {
                let source = self.config.sources[usize::from(source)];
                match connect(self.target, source, epoll, index) {
                    Ok(stream) => self.connections[index].stream = Some(stream),
                    Err(_) => {
                        self.break_off(index, now, false);
                        continue;
                    }
                }
            }
            self.advance(index, timeline);
        }
        Ok(dispatched)
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
                Err(_) => return self.break_off(index, timeline.now(), false),
            }
        }
        let ended = loop {
            if connection.received == connection.input.len() {
                connection.input.resize(connection.received * 2, 0);
            }
            match stream.read(&mut connection.input[connection.received..]) {
                Ok(0) => break true,
                Ok(read) => connection.received += read,
                Err(error) if waits(&error) => break false,
                Err(_) => break true,
            }
            if connection.input.len() > 1 << 20 {
                break true;
            }
        };
        if connection.request.is_some() {
            self.take_reply(index, ended, timeline);
        } else if ended {
            self.close(index);
        }
    }

    fn take_reply(&mut self, index: usize, ended: bool, timeline: &Timeline) {
        let connection = &mut self.connections[index];
        if connection.received == 0 && !ended {
            return;
        }
        let now = timeline.now();
        let (outcome, closes, len) =
            match http_message::read_reply(&connection.input[..connection.received], ended) {
                Reading::Partial => return,
                Reading::Malformed(_) if connection.received == 0 => {
                    return self.break_off(index, now, false);
                }
                Reading::Malformed(why) => (Verdict::Bad(why), true, connection.received),
                Reading::Complete(reply) => {
                    let kind = connection
                        .request
                        .map_or(Kind::Announce, |entry| entry.request.kind);
                    let verdict = http_message::judge(&reply, kind, self.config.numwant);
                    let verdict = match verdict {
                        Verdict::Good { .. } if reply.len < connection.received => {
                            Verdict::Bad("(bytes after the end of the reply)")
                        }
                        other => other,
                    };
                    (verdict, reply.closes, reply.len)
                }
            };
        let Some(entry) = connection.request.take() else {
            return;
        };
        self.totals[0] += 1;
        if timeline.measures(now) {
            self.stats.replies_in_interval += 1;
            self.stats.reply_bytes += len as u64;
        }
        let refused = match outcome {
            Verdict::Good { peers } => {
                if entry.measured {
                    self.stats.peers += peers as u64;
                    self.stats
                        .answered(entry.request.kind, now - entry.intended.min(now));
                }
                false
            }
            Verdict::Failure(reason) => {
                if entry.measured {
                    self.stats.error_replies += 1;
                    self.stats.texts.count(reason);
                }
                true
            }
            Verdict::Bad(why) => {
                if entry.measured {
                    self.stats.bad_replies += 1;
                    self.stats.texts.count(why.as_bytes());
                }
                true
            }
        };
        connection.received = 0;
        if refused {
            self.totals[2] += 1;
            self.fail(entry, true);
        }
        if ended {
            self.close(index);
        } else if closes || !self.config.keep_alive {
            // The server closes; whoever closes first keeps the port busy.
            self.connections[index].closing = true;
            self.connections[index].deadline = now + nanoseconds(self.config.timeout);
        } else {
            self.connections[index].deadline = u64::MAX;
            self.idle.push(index);
        }
    }

    /// Ends a connection that has no request.
    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.stream = None;
        connection.received = 0;
        connection.deadline = u64::MAX;
        // One that was idle is on the list already.
        if connection.closing || !self.idle.contains(&index) {
            connection.closing = false;
            self.idle.push(index);
        }
    }

    /// Ends a connection whose request gets no reply.
    fn break_off(&mut self, index: usize, now: u64, timed_out: bool) {
        let connection = &mut self.connections[index];
        if !timed_out {
            self.stats.broken_connections += 1;
            connection.retry_at = now + RETRY_AFTER;
        }
        connection.closing = true;
        if let Some(entry) = connection.request.take() {
            self.totals[1] += 1;
            if entry.measured {
                self.stats.lost += 1;
            }
            self.fail(entry, false);
        }
        self.close(index);
    }

    fn fail(&mut self, entry: Entry, refused: bool) {
        if !self.source.is_fill() {
            return;
        }
        if self.source.failed(entry.request, entry.attempts, refused) {
            self.stats.retransmitted += 1;
        } else {
            self.stats.rejected += 1;
        }
    }

    fn expire(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if self.connections[index].deadline <= now {
                self.break_off(index, now, true);
            }
        }
    }
}

fn open(target: SocketAddr, source: Option<IpAddr>) -> Result<Socket, HttpError> {
    let failed = |error| HttpError::Connect(target, error);
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(failed)?;
    if let Some(ip) = source {
        // Only a convenience where it is not supported: fewer ports then.
        let _ = sys::bind_address_without_port(&socket);
        socket
            .bind(&SocketAddr::new(ip, 0).into())
            .map_err(|error| HttpError::Bind(ip, error))?;
    }
    Ok(socket)
}

fn connect(
    target: SocketAddr,
    source: Option<IpAddr>,
    epoll: &Epoll,
    index: usize,
) -> io::Result<TcpStream> {
    let socket = open(target, source).map_err(|error| match error {
        HttpError::Bind(_, error) | HttpError::Connect(_, error) => error,
        HttpError::NothingListens(_) => io::ErrorKind::ConnectionRefused.into(),
    })?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
    epoll.add(socket.as_raw_fd(), events, index as u64)?;
    Ok(socket.into())
}

/// Whether the operation may succeed later: the socket is busy or not yet
/// connected.
fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}
