//! Tells a site of accepted announces: batches of JSON, by POST to a URL.
//!
//! ```json
//! {"events": [{"time": 1700000000, "event": "started", "info_hash": "…40 digits…",
//!   "peer_id": "…40 digits…", "ip": "192.0.2.1", "port": 6881, "left": 0,
//!   "downloaded": 0, "uploaded": 0, "transport": "udp"}]}
//! ```
//!
//! Each shard puts its events into a lane of its own that never waits; one
//! thread empties the lanes and delivers, at most every `batch_delay`. What
//! finds a full lane, or cannot be delivered in two tries, is lost and counted
//! (`karuta_hook_events_lost`). When the tracker stops, what waits is still
//! delivered, for as long as a second.
//!
//! Options: `url` (http or https), `events` (default `[started, completed,
//! stopped]`; also `none` for regular announces, `paused`, or `all`),
//! `batch_size` (500), `batch_delay` (1s), `queue_length` (16384 events for
//! each shard), `timeout` (5s), `authorization_file` (its content is sent as
//! the header `Authorization`).

use super::background::{Services, Task};
use super::{Context, Hook, Moment, ShardSetup, Transport};
use crate::bittorrent::{Announce, Event};
use crate::config::url::{check_url, public_url};
use crate::config::{Section, Whole};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a batch is sent before it is lost.
const TRIES: usize = 2;

/// The hook.
#[derive(Clone, Debug)]
pub struct Webhook {
    options: Options,
    /// A lane for each shard, until it enters one.
    lanes: Vec<Sender<Noted>>,
    lane: Option<Sender<Noted>>,
    lost: u64,
    /// Events that could not be delivered; told by the first shard.
    undelivered: Arc<AtomicU64>,
    is_first: bool,
}

#[derive(Clone, Debug)]
struct Options {
    url: String,
    events: Vec<Event>,
    batch_size: usize,
    batch_delay: Duration,
    queue_length: usize,
    timeout: Duration,
    authorization_file: Option<PathBuf>,
}

/// An event under way.
#[derive(Clone, Copy, Debug)]
struct Noted {
    unix_seconds: u64,
    transport: Transport,
    announce: Announce,
}

impl Hook for Webhook {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = Options {
            url: String::new(),
            events: vec![Event::Started, Event::Completed, Event::Stopped],
            batch_size: 500,
            batch_delay: Duration::from_secs(1),
            queue_length: 16_384,
            timeout: Duration::from_secs(5),
            authorization_file: None,
        };
        match options.text("url") {
            Some(url) => match check_url(url) {
                Ok(()) => read.url = url.to_owned(),
                Err(message) => {
                    options.refuse("url", &message);
                }
            },
            None if options.has("url") => {}
            None => {
                options.refuse_all("wants a url");
            }
        }
        if let Some(words) = options.texts("events") {
            read.events.clear();
            for (path, word) in words {
                match events(word) {
                    Some(events) => read.events.extend(events),
                    None => {
                        let message = format!(
                            "{word:?} is not one of: started, completed, stopped, paused, none, all"
                        );
                        options.refuse_at(path, &message);
                    }
                }
            }
        }
        options.integer("batch_size", 1..=100_000, &mut read.batch_size);
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        options.duration(
            "batch_delay",
            least..=most,
            Whole::Any,
            &mut read.batch_delay,
        );
        options.integer("queue_length", 1..=10_000_000, &mut read.queue_length);
        options.duration("timeout", least..=most, Whole::Any, &mut read.timeout);
        read.authorization_file = options.paths("authorization_file").into_iter().next();
        Self {
            options: read,
            lanes: Vec::new(),
            lane: None,
            lost: 0,
            undelivered: Arc::default(),
            is_first: false,
        }
    }

    fn start(&mut self, services: &mut Services) -> Result<(), String> {
        let authorization = match &self.options.authorization_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let lanes = (0..services.shards).map(|_| bounded(self.options.queue_length));
        let (lanes, ends): (Vec<_>, Vec<_>) = lanes.unzip();
        self.lanes = lanes;
        let mut courier = Courier {
            agent: super::http_agent(self.options.timeout),
            options: self.options.clone(),
            authorization,
            lanes: ends,
            first: 0,
            undelivered: self.undelivered.clone(),
        };
        services.tasks.push(Task {
            name: "webhook",
            run: Box::new(move |now| courier.run(now)),
        });
        Ok(())
    }

    fn enter(&mut self, shard: &ShardSetup) {
        self.lane = self.lanes.get(shard.id).cloned();
        self.lanes = Vec::new();
        self.is_first = shard.id == 0;
    }

    fn announced(&mut self, now: Moment, announce: &Announce, context: &Context<'_>) {
        if !self.options.events.contains(&announce.event) {
            return;
        }
        let noted = Noted {
            unix_seconds: now.unix_seconds,
            transport: context.transport,
            announce: *announce,
        };
        let sent = self
            .lane
            .as_ref()
            .is_some_and(|lane| lane.try_send(noted).is_ok());
        self.lost += u64::from(!sent);
    }

    fn lost(&self) -> u64 {
        match self.is_first {
            true => self.lost + self.undelivered.load(Ordering::Relaxed),
            false => self.lost,
        }
    }
}

/// The events that a word in the options means.
fn events(word: &str) -> Option<Vec<Event>> {
    const ALL: [Event; 5] = [
        Event::None,
        Event::Started,
        Event::Completed,
        Event::Stopped,
        Event::Paused,
    ];
    if word == "all" {
        return Some(ALL.into());
    }
    let event = ALL.into_iter().find(|event| name(*event) == word)?;
    Some(vec![event])
}

/// The word for an event, as on the wire.
const fn name(event: Event) -> &'static str {
    match event {
        Event::None => "none",
        Event::Started => "started",
        Event::Completed => "completed",
        Event::Stopped => "stopped",
        Event::Paused => "paused",
    }
}

/// Delivers, on a thread of its own.
struct Courier {
    agent: ureq::Agent,
    options: Options,
    authorization: Option<String>,
    lanes: Vec<Receiver<Noted>>,
    /// The lane that comes first in the next batch.
    first: usize,
    undelivered: Arc<AtomicU64>,
}

impl Courier {
    fn run(&mut self, now: &Receiver<()>) {
        loop {
            let asked = now.recv_timeout(self.options.batch_delay);
            while let Some(batch) = self.collect() {
                self.deliver(&batch);
            }
            if asked == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// What waits, up to a batch; `None` if nothing does. Lanes take turns, so
    /// that to a slow site each shard loses its part only.
    fn collect(&mut self) -> Option<Vec<Noted>> {
        let (last, first) = self.lanes.split_at(self.first);
        let lanes = first.iter().chain(last);
        let waiting = lanes.flat_map(Receiver::try_iter);
        let batch: Vec<Noted> = waiting.take(self.options.batch_size).collect();
        self.first += 1;
        if self.first >= self.lanes.len() {
            self.first = 0;
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn deliver(&self, batch: &[Noted]) {
        let events = batch.iter().map(Report::from).collect();
        let body = match serde_json::to_vec(&Body { events }) {
            Ok(body) => body,
            // Plain values can be written.
            Err(error) => return log::error!("webhook: {error}"),
        };
        let url = &self.options.url;
        let shown = public_url(url);
        for left in (0..TRIES).rev() {
            let mut request = self
                .agent
                .post(url)
                .header("Content-Type", "application/json");
            if let Some(authorization) = &self.authorization {
                request = request.header("Authorization", authorization);
            }
            match request.send(&body[..]) {
                Ok(_) => return,
                Err(error) if left == 0 => {
                    log::warn!("webhook: {} events are lost: {shown}: {error}", batch.len());
                }
                Err(error) => log::debug!("webhook: {shown}: {error}; trying again"),
            }
        }
        self.undelivered
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// What is delivered.
#[derive(Serialize)]
struct Body {
    events: Vec<Report>,
}

/// One event, as the site reads it.
#[derive(Serialize)]
struct Report {
    time: u64,
    event: &'static str,
    #[serde(serialize_with = "hexadecimal")]
    info_hash: [u8; 20],
    #[serde(serialize_with = "hexadecimal")]
    peer_id: [u8; 20],
    ip: IpAddr,
    port: u16,
    left: u64,
    downloaded: u64,
    uploaded: u64,
    transport: &'static str,
}

impl From<&Noted> for Report {
    fn from(noted: &Noted) -> Self {
        let announce = &noted.announce;
        Self {
            time: noted.unix_seconds,
            event: name(announce.event),
            info_hash: announce.info_hash.0,
            peer_id: announce.peer_id.0,
            ip: announce.ip,
            port: announce.port,
            left: announce.left,
            downloaded: announce.downloaded,
            uploaded: announce.uploaded,
            transport: match noted.transport {
                Transport::Udp => "udp",
                Transport::Http => "http",
            },
        }
    }
}

fn hexadecimal<S: Serializer>(bytes: &[u8; 20], to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&crate::bittorrent::InfoHash(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, problems, read, start};
    use super::*;

    fn note(hook: &mut Webhook, event: Event) {
        let announce = Announce {
            event,
            ..announce()
        };
        let context = Context::bare(Transport::Udp, announce.ip);
        let now = Moment {
            milliseconds: 0,
            unix_seconds: 5,
        };
        hook.announced(now, &announce, &context);
    }

    fn enter(hook: &mut Webhook) {
        hook.enter(&ShardSetup {
            id: 0,
            shards: 1,
            seed: 1,
        });
    }

    #[test]
    fn only_the_wanted_events_are_noted_and_a_full_lane_loses_them() {
        let mut hook: Webhook = read("{url: 'http://x/', events: stopped, queue_length: 2}");
        let services = start(&mut hook).expect("starts");
        enter(&mut hook);
        note(&mut hook, Event::Started);
        note(&mut hook, Event::None);
        for _ in 0..5 {
            note(&mut hook, Event::Stopped);
        }
        assert_eq!(hook.lost(), 3);
        drop(services);
    }

    /// A site that is slower than the events come must not hear of one shard only.
    #[test]
    fn a_lane_that_is_always_full_does_not_hide_the_others() {
        let hook: Webhook = read("{url: 'http://x/', batch_size: 2}");
        let (lanes, ends): (Vec<_>, Vec<_>) = (0..3).map(|_| bounded(8)).unzip();
        let mut courier = Courier {
            agent: super::super::http_agent(Duration::from_secs(1)),
            options: hook.options,
            authorization: None,
            lanes: ends,
            first: 0,
            undelivered: Arc::default(),
        };
        let fill = |lane: usize| {
            let noted = |_| Noted {
                unix_seconds: lane as u64,
                transport: Transport::Udp,
                announce: announce(),
            };
            while lanes[lane].try_send(noted(())).is_ok() {}
        };
        let mut heard = [0; 3];
        for _ in 0..6 {
            (0..3).for_each(fill);
            for noted in courier.collect().expect("something waits") {
                heard[noted.unix_seconds as usize] += 1;
            }
        }
        assert_eq!(heard, [4; 3]);
    }

    #[test]
    fn a_report_says_it_all() {
        let noted = Noted {
            unix_seconds: 5,
            transport: Transport::Udp,
            announce: announce(),
        };
        let text = serde_json::to_string(&Report::from(&noted)).expect("plain values");
        assert_eq!(
            text,
            concat!(
                r#"{"time":5,"event":"none","info_hash":"0707070707070707070707070707070707070707","#,
                r#""peer_id":"2d5452323832302d6162636465666768696a6b6c","ip":"198.51.100.7","#,
                r#""port":6881,"left":1,"downloaded":0,"uploaded":0,"transport":"udp"}"#,
            )
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("{}", "wants a url"),
            ("url: x", "url: \"x\" is not a URL"),
            (
                "{url: 'http://x/', events: [start]}",
                "events[0]: \"start\" is not one of",
            ),
            ("{url: 'http://x/', authorization_file: /nonexistent}", ""),
        ] {
            let found = problems::<Webhook>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
        let mut hook: Webhook = read("{url: 'http://x/', authorization_file: /nonexistent}");
        let error = start(&mut hook).err().expect("no such file");
        assert!(error.contains("/nonexistent: cannot be read"), "{error}");
    }
}
