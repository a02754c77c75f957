//! One shard's main loop: waits for sockets, lanes and the tick, and feeds the
//! frontends. The only task of its executor.
//!
//! A turn: handle what is ready, then what came over the lanes, then a slice of
//! the sweep and the tick, then a slice of a survey if there is one, then ring
//! the bells of those that were sent something. Every step is bounded, so that
//! no source starves another.

use super::Client;
use super::desk::{Answer, Desk, Lanes};
use super::http::{ConnectionToken, HttpFrontend, Turn};
use super::udp::UdpFrontend;
use super::update::ShardUpdate;
use crate::runtime::clock::{Clock, Now};
use crate::runtime::executor;
use crate::runtime::mailbox::Mailbox;
use crate::runtime::mesh::{Bell, Port};
use crate::runtime::reactor::{Interest, Reactor};
use crate::shard::Shard;
use crate::shard::exchange::Exchange;
use crate::shard::owner::ShardId;
use crate::shard::survey::Surveys;
use crate::swarm::SweepReport;
use crate::sys::datagram::BATCH;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a shard sweeps a slice and looks at deadlines.
pub const TICK: Duration = Duration::from_millis(100);

/// Batches that one UDP socket may have in one turn before others get theirs.
const UDP_BATCHES: usize = 4;

/// Messages from the lanes that are handled in one turn.
const LANE_BATCH: usize = 256;

/// A stream of datagrams with less than this between two is brisk: the shard
/// lets them gather instead of waking for each.
const BRISK: Duration = Duration::from_micros(40);

/// With this many datagrams in a turn there is no need to let more gather.
const GATHERED: usize = BATCH / 2;

/// How long a stopping shard waits for answers that are still under way.
const STOP_PATIENCE: Duration = Duration::from_millis(700);

/// How often a stopping shard still serves each UDP socket: 16,384 datagrams.
/// More would hold up the end under a flood.
const STOP_TURNS: usize = 64;

/// Marks in the upper two bits of a reactor token.
const MARK_SHIFT: u32 = 62;
const UDP_MARK: u64 = 0;
const LISTENER_MARK: u64 = 1 << MARK_SHIFT;
const CONNECTION_MARK: u64 = 2 << MARK_SHIFT;

impl Lanes for Port<Box<Exchange>> {
    fn shards(&self) -> usize {
        Self::shards(self)
    }

    fn send(&mut self, to: ShardId, exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        Self::send(self, to, exchange)
    }

    fn receive(&mut self) -> Option<Box<Exchange>> {
        Self::receive(self)
    }
}

/// How the tracker is told to stop, shared by all shards and the control.
#[derive(Debug)]
pub struct Stop {
    stopping: AtomicBool,
    /// Shards that may still be waiting for another's answer.
    busy: AtomicUsize,
    bells: Vec<Arc<Bell>>,
}

impl Stop {
    /// For the shards of these bells.
    #[must_use]
    pub fn new(bells: Vec<Arc<Bell>>) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            busy: AtomicUsize::new(bells.len()),
            bells,
        }
    }

    /// Tells all shards to finish what they have and end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Says that one shard waits for nobody any more.
    fn done(&self) {
        if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.ring();
        }
    }

    fn all_done(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    fn ring(&self) {
        for bell in &self.bells {
            bell.ring();
        }
    }
}

/// Everything that one shard's loop works with.
pub struct Worker {
    /// The shard.
    pub shard: Shard,
    /// Its UDP sockets.
    pub udp: Option<UdpFrontend>,
    /// Its HTTP listeners and connections.
    pub http: Option<HttpFrontend>,
    /// Its end of the mesh.
    pub desk: Desk<Port<Box<Exchange>>, Client>,
    /// Walks over its swarms.
    pub surveys: Surveys,
    /// Where it waits.
    pub reactor: Reactor,
    /// The tracker's clock.
    pub clock: Clock,
    /// How it is told to stop.
    pub stop: Arc<Stop>,
    /// Where it finds what a reload changes.
    pub mailbox: Arc<Mailbox<ShardUpdate>>,
    /// Time that the sweep has taken since its last pass ended.
    pub pass_nanoseconds: u64,
}

impl Worker {
    /// Runs until [`Stop::stop`], then finishes what is under way.
    ///
    /// # Errors
    /// When the sockets cannot be watched or waiting fails; the shard cannot
    /// go on then.
    pub async fn run(mut self) -> io::Result<()> {
        self.watch_sockets()?;
        let start = self.clock.now();
        let (mut last_sweep, mut last_datagrams) = (start.elapsed, start.elapsed);
        let mut last_expiry = start.seconds;
        let mut stopping: Option<Stopping> = None;
        let mut streams = Streams::default();
        loop {
            let (desk, stop, mailbox) = (&mut self.desk, &self.stop, &self.mailbox);
            let (lanes, surveys) = (desk.lanes(), &self.surveys);
            let told = stopping.is_some();
            let woken = match streams.is_empty() {
                true => {
                    let http = self.http.as_ref();
                    let has_work = || {
                        lanes.waiting() > 0
                            || mailbox.is_full()
                            || surveys.has_work()
                            || http.is_some_and(HttpFrontend::has_postponed)
                            || match told {
                                false => stop.is_stopping(),
                                true => stop.all_done(),
                            }
                    };
                    self.reactor.wait(has_work).await?
                }
                false => self.reactor.look()?,
            };
            let now = self.clock.now();
            let datagrams = self.sockets(&now, &mut streams);
            let since = now.elapsed.saturating_sub(last_datagrams);
            let dense = since < BRISK * datagrams as u32;
            let brisk = dense && datagrams < GATHERED;
            if datagrams > 0 {
                last_datagrams = now.elapsed;
            }
            if dense {
                self.begin_streams(&mut streams);
            }
            self.lanes(&now);
            if self.mailbox.is_full() {
                self.take_updates();
            }
            // A little in each turn, so that nobody waits while much is swept.
            let unswept = now.elapsed.saturating_sub(last_sweep).as_millis() as u64;
            last_sweep += Duration::from_millis(unswept);
            if !woken.tick && unswept > 0 {
                self.swept(|shard| shard.sweep(now.seconds, unswept));
            }
            if woken.tick {
                self.tick(&now, unswept);
                if now.seconds != last_expiry {
                    last_expiry = now.seconds;
                    self.expire(&now);
                }
            }
            let surveying = self.surveys.has_work();
            if surveying {
                self.surveys.turn(&mut self.shard, now.seconds);
            }
            let rung = self.desk.lanes().ring();
            self.shard.stats().wakeups.add(rung as u64);
            if self.stop.is_stopping() && self.stopped(&now, &mut stopping) {
                return self.last_surveys().await;
            }
            // A survey's slice lets work gather as well.
            if brisk && !surveying && stopping.is_none() {
                self.reactor.pause();
            }
            executor::breathe().await;
        }
    }

    /// Does the surveys that were left for the end, when it serves no more.
    async fn last_surveys(mut self) -> io::Result<()> {
        self.mailbox.close();
        // Refused connections are better than silent ones.
        (self.udp, self.http) = (None, None);
        self.surveys.begin_last();
        while self.surveys.is_busy() {
            let surveys = &self.surveys;
            self.reactor.wait(|| surveys.has_work()).await?;
            let now_seconds = self.clock.now().seconds;
            self.surveys.turn(&mut self.shard, now_seconds);
            executor::breathe().await;
        }
        Ok(())
    }

    fn watch_sockets(&self) -> io::Result<()> {
        for endpoint in 0..self.udp.as_ref().map_or(0, UdpFrontend::endpoints) {
            self.watch_datagrams(endpoint)?;
        }
        if let Some(http) = &self.http {
            for (number, listener) in http.listeners().iter().enumerate() {
                let token = LISTENER_MARK | number as u64;
                self.reactor.add(listener.as_fd(), token, Interest::Read)?;
            }
        }
        Ok(())
    }

    /// Handles the streams, and the sockets that the last wait found ready;
    /// returns how many datagrams there were.
    fn sockets(&mut self, now: &Now, streams: &mut Streams) -> usize {
        let mut datagrams = 0;
        let mut http_ready = false;
        streams.candidates.clear();
        for at in (0..streams.endpoints.len()).rev() {
            let endpoint = streams.endpoints[at];
            let count = self.datagrams(endpoint, now);
            datagrams += count;
            // If the kernel has no room for the watch now, it stays a stream.
            if count == 0 && self.watch_datagrams(endpoint).is_ok() {
                streams.endpoints.swap_remove(at);
            }
        }
        for at in 0..self.reactor.ready().len() {
            let token = self.reactor.ready()[at];
            let number = token & !(3 << MARK_SHIFT);
            http_ready |= token >> MARK_SHIFT << MARK_SHIFT != UDP_MARK;
            match token >> MARK_SHIFT << MARK_SHIFT {
                UDP_MARK => {
                    let count = self.datagrams(number as usize, now);
                    datagrams += count;
                    if count > 1 {
                        streams.candidates.push(number as usize);
                    }
                }
                LISTENER_MARK => self.http(now, |http, turn| {
                    http.accept(number as usize, turn);
                }),
                _ => self.http(now, |http, turn| {
                    http.ready(ConnectionToken::from_bits(number), turn);
                }),
            }
        }
        if let Some(http) = &self.http {
            http_ready |= http.has_postponed();
        }
        self.http(now, HttpFrontend::greet);
        if http_ready && let Some(http) = &mut self.http {
            http.measure(self.clock.elapsed().saturating_sub(now.elapsed));
        }
        datagrams
    }

    /// Takes the sockets that may be streams out of the reactor.
    fn begin_streams(&self, streams: &mut Streams) {
        let Some(udp) = &self.udp else {
            return;
        };
        for endpoint in streams.candidates.drain(..) {
            if self.reactor.remove(udp.descriptor(endpoint)).is_ok() {
                streams.endpoints.push(endpoint);
            }
        }
    }

    fn watch_datagrams(&self, endpoint: usize) -> io::Result<()> {
        let Some(udp) = &self.udp else {
            return Ok(());
        };
        let token = UDP_MARK | endpoint as u64;
        self.reactor
            .add(udp.descriptor(endpoint), token, Interest::Read)
    }

    /// Serves one UDP socket; returns how many datagrams it had.
    fn datagrams(&mut self, endpoint: usize, now: &Now) -> usize {
        let Some(udp) = &mut self.udp else {
            return 0;
        };
        let mut datagrams = 0;
        for _ in 0..UDP_BATCHES {
            match udp.serve(endpoint, now, &mut self.shard, &mut self.desk) {
                Ok(0) => break,
                Ok(count) => {
                    udp.measure(endpoint, self.clock.elapsed().saturating_sub(now.elapsed));
                    datagrams += count;
                    if count < BATCH {
                        break;
                    }
                }
                Err(error) => {
                    // An error that an earlier send left on the socket, or
                    // memory pressure; the socket stays usable.
                    log::debug!("receiving datagrams: {error}");
                    break;
                }
            }
        }
        datagrams
    }

    fn http(
        &mut self,
        now: &Now,
        act: impl FnOnce(&mut HttpFrontend, &mut Turn<'_, Port<Box<Exchange>>>),
    ) {
        if let Some(http) = &mut self.http {
            let mut turn = Turn {
                now,
                shard: &mut self.shard,
                desk: &mut self.desk,
                reactor: &self.reactor,
                connection_mark: CONNECTION_MARK,
                listener_mark: LISTENER_MARK,
            };
            act(http, &mut turn);
        }
    }

    /// Handles what came from other shards.
    fn lanes(&mut self, now: &Now) {
        let depth = self.desk.lanes().waiting();
        self.shard.stats().lane_depth(depth as u64);
        if depth == 0 {
            return;
        }
        let (udp, http) = (&mut self.udp, &mut self.http);
        self.desk.drain(
            now.seconds,
            &mut self.shard,
            LANE_BATCH,
            |client, answer| {
                deliver(udp, http, client, answer);
            },
        );
        self.after_answers(now);
    }

    /// Gives up on answers that do not come.
    fn expire(&mut self, now: &Now) {
        let (udp, http) = (&mut self.udp, &mut self.http);
        let given_up = self.desk.expire(now.seconds, |client, answer| {
            deliver(udp, http, client, answer);
        });
        if given_up > 0 {
            self.after_answers(now);
        }
    }

    fn after_answers(&mut self, now: &Now) {
        if let Some(udp) = &mut self.udp {
            udp.flush_all();
            udp.measure_late(self.clock.elapsed());
        }
        self.http(now, HttpFrontend::resume);
        if let Some(http) = &mut self.http {
            let sent = self.clock.elapsed();
            http.measure_late(sent);
            http.measure(sent.saturating_sub(now.elapsed));
        }
    }

    /// Takes what a reload has left. Between the batches: no request sees the
    /// half of a change.
    #[cold]
    fn take_updates(&mut self) {
        let (shard, udp, http) = (&mut self.shard, &mut self.udp, &mut self.http);
        self.mailbox
            .look(|update| update.exchange(shard, udp.as_mut(), http.as_mut()));
    }

    fn tick(&mut self, now: &Now, unswept: u64) {
        self.shard.stats().ticked(now.elapsed);
        self.shard.tick_hooks(now.seconds, now.into());
        self.swept(|shard| shard.tick(now.seconds, unswept));
        if let Some(udp) = &mut self.udp {
            udp.tick();
        }
        self.http(now, HttpFrontend::tick);
    }

    /// Has the shard sweep, and measures that.
    fn swept(&mut self, sweep: impl FnOnce(&mut Shard) -> SweepReport) {
        let before = self.clock.elapsed();
        let report = sweep(&mut self.shard);
        let took = self.clock.elapsed().saturating_sub(before).as_nanos() as u64;
        let sweep = &self.shard.stats().sweep;
        sweep.slice(took, report.expired_peers);
        self.pass_nanoseconds += took;
        if report.wrapped {
            sweep.pass(std::mem::take(&mut self.pass_nanoseconds));
        }
    }

    /// One turn of a stopping shard; returns whether it may end.
    fn stopped(&mut self, now: &Now, stopping: &mut Option<Stopping>) -> bool {
        let state = match stopping {
            Some(state) => state,
            None => {
                // What has arrived is still answered.
                let endpoints = self.udp.as_ref().map_or(0, UdpFrontend::endpoints);
                for endpoint in 0..endpoints {
                    let mut turns = 0..STOP_TURNS;
                    while turns.next().is_some() && self.datagrams(endpoint, now) > 0 {}
                }
                self.http(now, HttpFrontend::stop);
                self.desk.lanes().ring();
                stopping.insert(Stopping {
                    deadline: now.elapsed + STOP_PATIENCE,
                    done: false,
                })
            }
        };
        let connections = self.http.as_ref().map_or(0, HttpFrontend::connections);
        let late = now.elapsed >= state.deadline;
        if !state.done && (late || (self.desk.waiting() == 0 && connections == 0)) {
            state.done = true;
            self.stop.done();
        }
        late || self.stop.all_done()
    }
}

/// UDP sockets on which datagrams come so densely that the shard looks at them
/// in each turn, instead of being told by the reactor.
///
/// An epoll has itself called back for each datagram that comes in on a socket
/// it watches, and again for each that has gone out: measured at 0.15 µs per
/// request. A socket on which nothing was found goes back to the reactor.
#[derive(Default)]
struct Streams {
    /// Those that are out of the reactor.
    endpoints: Vec<usize>,
    /// Those of this turn that may become so: more than one datagram lay there.
    candidates: Vec<usize>,
}

impl Streams {
    const fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

/// How far a shard has come in stopping.
struct Stopping {
    deadline: Duration,
    /// It has told the others that it waits for nobody.
    done: bool,
}

fn deliver(
    udp: &mut Option<UdpFrontend>,
    http: &mut Option<HttpFrontend>,
    client: Client,
    answer: Answer<'_>,
) {
    match client {
        Client::Udp(client) => {
            if let Some(udp) = udp {
                udp.answer(&client, &answer);
            }
        }
        Client::Http(token) => {
            if let Some(http) = http {
                http.answer(token, answer);
            }
        }
    }
}
