//! Serves what opentracker's tools read: its statistics in all their modes,
//! and every torrent in all its formats.
//!
//! Connections come from the shards over a bounded lane
//! ([`crate::frontend::http::handover`]) to a few threads, which may wait:
//!
//! ```text
//! request    mode and format of the query
//! snapshot   counters of all shards -> render, everything     (no shard is asked)
//! walk       every torrent, in slices on the shards -> tops, networks, dump
//! limits     one dump at a time, a pause for each address
//! answer     heads, chunks, deadlines      encoding   gzip, zstd
//! ```
//!
//! The threads have the lowest priority, since shards share their cores. All
//! memory is bounded: see [`walk`], [`dump::SORTED_AT_MOST`], [`networks`].

pub mod answer;
pub mod dump;
pub mod encoding;
pub mod everything;
pub mod limits;
pub mod networks;
pub mod render;
pub mod request;
pub mod snapshot;
pub mod tops;
pub mod walk;

use crate::frontend::http::handover::{Errand, HandedOver};
use crate::runtime::clock::Clock;
use crate::shard::opentracker_counters::HttpError;
use crate::shard::stats::ShardStats;
use crate::shard::survey::SurveyDesk;
use answer::{Body, Client, DUMP_TIMEOUT, TEXT_TIMEOUT};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use dump::Dump;
use encoding::{Encoder, Encoding};
use limits::{Limits, Wait};
use networks::BusyNetworks;
use request::{Format, Mode};
use snapshot::{OwnCounters, Snapshot};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tops::Tops;
use walk::{Aged, Entry, Torrent, Walk};

/// Threads that serve. One of them may be busy with a dump for long.
const THREADS: usize = 4;

/// Connections that wait for a thread, in the whole tracker.
pub const WAITING: usize = 64;

/// When to come back if a walk is under way.
const WALK_PAUSE: Duration = Duration::from_secs(2);

/// For how many times as long as it took a walk's result is served again.
const WALK_REUSE: u32 = 10;

/// The lowest priority that a thread can give itself.
const NICENESS: i32 = 19;

/// What the threads work with.
pub struct Sources {
    /// The counters of each shard.
    pub shards: Vec<Arc<ShardStats>>,
    /// The way to every torrent.
    pub surveys: SurveyDesk,
    /// The tracker's clock.
    pub clock: Clock,
    /// Tells this run from others.
    pub tracker_id: u32,
}

/// The running threads. Dropping it ends them.
pub struct OpentrackerStats {
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// The lane to the threads: its sending end goes to the shards.
#[must_use]
pub fn lane() -> (Sender<HandedOver>, Receiver<HandedOver>) {
    bounded(WAITING)
}

impl OpentrackerStats {
    /// Starts the threads.
    ///
    /// # Errors
    /// When there are no more threads to be had.
    pub fn start(lane: &Receiver<HandedOver>, sources: Sources) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limits: Limits::default(),
            sources,
            own: OwnCounters::default(),
            walking: Mutex::new(()),
            top_10: Mutex::default(),
            top_100: Mutex::default(),
            networks: Mutex::default(),
            open: Mutex::default(),
            next_connection: AtomicU64::new(0),
        });
        let (stop, stopped) = bounded(0);
        let mut running = Self {
            shared,
            stop: Some(stop),
            threads: Vec::with_capacity(THREADS),
        };
        for number in 0..THREADS {
            let (shared, lane, stopped) = (running.shared.clone(), lane.clone(), stopped.clone());
            let thread = thread::Builder::new()
                .name(format!("statistics-{number}"))
                .spawn(move || shared.serve_until_stopped(&lane, &stopped))?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

impl Drop for OpentrackerStats {
    fn drop(&mut self) {
        // Closed, it is ready for all threads.
        self.stop = None;
        self.shared.cut_off();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Shared {
    sources: Sources,
    limits: Limits,
    own: OwnCounters,
    /// One walk for statistics at a time.
    walking: Mutex<()>,
    top_10: Mutex<Option<Walked>>,
    top_100: Mutex<Option<Walked>>,
    networks: Mutex<Option<Walked>>,
    /// The connections that are being served, to cut them off; `None` when
    /// there are to be no more.
    open: Mutex<Open>,
    next_connection: AtomicU64,
}

#[derive(Default)]
struct Open {
    is_ended: bool,
    streams: HashMap<u64, TcpStream>,
}

/// How every torrent is sent.
#[derive(Clone, Copy)]
struct Form {
    format: Format,
    encoding: Encoding,
    version_minor: u8,
}

/// The result of a walk.
#[derive(Clone)]
struct Walked {
    text: String,
    /// When, and how long it took.
    at: Duration,
    took: Duration,
}

impl Shared {
    fn serve_until_stopped(&self, lane: &Receiver<HandedOver>, stopped: &Receiver<()>) {
        // Of this thread alone, whatever the name says: a shard must not wait
        // for its core while something is compressed.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        loop {
            let handed_over = select! {
                recv(stopped) -> _ => return,
                recv(lane) -> handed_over => handed_over,
            };
            let Ok(mut handed_over) = handed_over else {
                return;
            };
            let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
            if !self.open(number, handed_over.stream.socket()) {
                return;
            }
            if let Err(error) = self.serve(&mut handed_over) {
                log::debug!("statistics for {}: {error}", handed_over.client);
            }
            self.close(number);
        }
    }

    /// Remembers a connection; false when there are to be no more.
    fn open(&self, number: u64, stream: &TcpStream) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.is_ended
            && let Ok(stream) = stream.try_clone()
        {
            open.streams.insert(number, stream);
        }
        !open.is_ended
    }

    fn close(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.streams.remove(&number);
    }

    fn cut_off(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.is_ended = true;
        for stream in open.streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// One request, to the end of its connection.
    fn serve(&self, handed_over: &mut HandedOver) -> io::Result<()> {
        let HandedOver {
            stream,
            client: ip,
            errand,
            query,
            accept_encoding,
            version_minor,
            full_scrape_pause,
            before,
            more_follows,
        } = handed_over;
        let mut client = Client::new(stream)?;
        client.write_all(before)?;
        let mode = match errand {
            Errand::FullScrape => Ok(Mode::Dump(Format::Bencode)),
            Errand::Stats => request::parse(query),
        };
        match mode {
            Err(request::Invalid) => {
                self.own.http_error(HttpError::Parameter);
                client.send_error("400 Invalid Request", None)?;
            }
            Ok(Mode::Dump(format)) => {
                let form = Form {
                    format,
                    encoding: Encoding::negotiate(accept_encoding),
                    version_minor: *version_minor,
                };
                self.dump(&mut client, *ip, *full_scrape_pause, form)?;
            }
            Ok(mode) => match self.text(mode) {
                Some(text) => {
                    // The walk is not the client's fault.
                    client.allow(TEXT_TIMEOUT);
                    client.send_text(&text)?;
                }
                None => {
                    self.own.http_error(HttpError::Server);
                    client.send_error("503 Service Unavailable", Some(WALK_PAUSE))?;
                }
            },
        }
        client.close(*more_follows)
    }

    /// The text of a mode; `None` if that takes a walk and there is one
    /// already.
    fn text(&self, mode: Mode) -> Option<String> {
        let render = match mode {
            Mode::Peers => render::peers,
            Mode::Torrents => render::torrents,
            Mode::Connections => render::connections,
            Mode::Tcp => render::tcp,
            Mode::Udp => render::udp,
            Mode::Scrapes => render::scrapes,
            Mode::Completed => render::completed,
            Mode::Syncs => render::syncs,
            Mode::FullScrapes => render::full_scrapes,
            Mode::HttpErrors => render::http_errors,
            Mode::Renewals => render::renewals,
            Mode::Version => render::version,
            Mode::Everything => everything::everything,
            Mode::Top(amount) => {
                let last = match amount {
                    10 => &self.top_10,
                    _ => &self.top_100,
                };
                return self.walked(last, || {
                    let mut tops = Tops::new(amount);
                    self.walk(|torrent: Torrent| tops.add(&torrent))?;
                    Some(tops.render())
                });
            }
            Mode::Networks => {
                return self.walked(&self.networks, || {
                    let mut networks = BusyNetworks::default();
                    self.walk(|ip: Ipv4Addr| networks.add(ip))?;
                    Some(networks.render())
                });
            }
            // Answered elsewhere.
            Mode::Dump(_) => return None,
        };
        let mut taken = Snapshot::take(&self.sources.shards, &self.own);
        taken.tracker_id = self.sources.tracker_id;
        taken.version = format!("karuta {}", env!("CARGO_PKG_VERSION"));
        taken.uptime_seconds = self.sources.clock.elapsed().as_secs();
        Some(render(&taken))
    }

    /// The result of a walk: the last one while it is good, or while another
    /// walk is under way; else a new one.
    fn walked(
        &self,
        last: &Mutex<Option<Walked>>,
        make: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.sources.clock.elapsed();
        let is_good = |known: &Walked| now.saturating_sub(known.at) < known.took * WALK_REUSE;
        if known.as_ref().is_some_and(is_good) {
            return known.map(|known| known.text);
        }
        let _walking = match self.walking.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return known.map(|known| known.text),
        };
        let text = make()?;
        let at = self.sources.clock.elapsed();
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Walked {
            text: text.clone(),
            at,
            took: at.saturating_sub(now),
        });
        Some(text)
    }

    /// Looks at every entry; `None` if the walk was cut short.
    fn walk<T: Entry>(&self, mut look: impl FnMut(T)) -> Option<()> {
        let mut walk = Walk::begin(&self.sources.surveys).ok()?;
        while let Some(mut batch) = walk.next() {
            batch.drain(..).for_each(&mut look);
            walk.give_back(batch);
        }
        walk.is_complete().then_some(())
    }

    /// Every torrent.
    fn dump(
        &self,
        client: &mut Client<'_>,
        ip: IpAddr,
        pause: Duration,
        form: Form,
    ) -> io::Result<()> {
        let now = self.sources.clock.elapsed();
        let permit = match self.limits.permit(now, ip, pause) {
            Ok(permit) => permit,
            Err(wait) => {
                self.own.http_error(HttpError::NotModest);
                let (phrase, after) = match wait {
                    Wait::TooSoon(after) => ("429 Too Many Requests", after),
                    Wait::Busy(after) => ("503 Service Unavailable", after),
                };
                return client.send_error(phrase, Some(after));
            }
        };
        client.allow(DUMP_TIMEOUT);
        let before = client.taken_bytes;
        let result = match form.format {
            Format::State => self.stream(client, form, |Aged(torrent)| torrent),
            _ => self.stream(client, form, |torrent: Torrent| torrent),
        };
        let bytes = client.taken_bytes - before;
        self.own.full_scrape(result.is_ok(), bytes);
        drop(permit);
        result
    }

    fn stream<T: Entry>(
        &self,
        client: &mut Client<'_>,
        form: Form,
        torrent: impl Fn(T) -> Torrent,
    ) -> io::Result<()> {
        let Ok(mut walk) = Walk::begin(&self.sources.surveys) else {
            self.own.http_error(HttpError::Server);
            return client.send_error("503 Service Unavailable", Some(WALK_PAUSE));
        };
        let body = Body::begin(client, form.version_minor, form.encoding)?;
        let encoder = Encoder::new(form.encoding, body)?;
        let unix_seconds = self.sources.clock.now().unix_seconds;
        let mut dump = Dump::begin(encoder, form.format, unix_seconds)?;
        while let Some(mut batch) = walk.next() {
            for entry in batch.drain(..) {
                dump.add(torrent(entry))?;
            }
            walk.give_back(batch);
        }
        if !walk.is_complete() {
            // No end is written: the client shall know.
            return Err(io::Error::other("the tracker stops"));
        }
        dump.finish()?.finish()?.finish()
    }
}
