//! Requests that no shard answers: opentracker's statistics and full scrapes.
//!
//! Their connection leaves the shard with the request and goes over a bounded
//! channel to control threads, which answer it with blocking calls and close
//! it. What can be told at once is told here: who may not ask, and what makes
//! no sense; so a client that takes the path of the statistics for that of
//! announces occupies no control thread. A full channel is answered 503.
//!
//! Left to others: what is served (`control::opentracker_stats`).

use super::stream::Stream;
use super::{Connection, HttpFrontend, HttpSettings, Turn};
use crate::bittorrent::AddressFamily;
use crate::frontend::desk::Lanes;
use crate::hook::prefix_table::Networks;
use crate::protocol::Dialect;
use crate::protocol::http::{Head, Method, Route, percent, query};
use crate::shard::opentracker_counters::HttpError;
use crate::shard::stats::{Action, DropReason, Outcome, Protocol};
use crossbeam_channel::{Sender, TrySendError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

/// What is handed over, to whom, and for whom.
#[derive(Clone, Debug)]
pub struct HandoverSettings {
    /// The path of the statistics without slashes before it, if served.
    pub stats_path: Option<String>,
    /// Who may read them.
    pub stats_networks: Networks,
    /// Whether full scrapes are served.
    pub full_scrape: bool,
    /// Who may ask for them.
    pub full_scrape_networks: Networks,
    /// How long an address waits between two lists of every swarm.
    pub full_scrape_pause: Duration,
    /// The way to the control threads.
    pub lane: Sender<HandedOver>,
}

/// What a connection is handed over for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// opentracker's statistics; the query says which.
    Stats,
    /// The counts of every swarm.
    FullScrape,
}

/// A connection that has left its shard, with its request.
#[derive(Debug)]
pub struct HandedOver {
    /// The connection, non-blocking.
    pub stream: Stream,
    /// Whose request it is.
    pub client: IpAddr,
    /// What it asks for.
    pub errand: Errand,
    /// Its query, percent-encoded.
    pub query: Box<[u8]>,
    /// Its header `Accept-Encoding`; may be empty.
    pub accept_encoding: Box<[u8]>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// How long the client has to wait since its last list of every swarm.
    pub full_scrape_pause: Duration,
    /// Answers to earlier requests of the connection, to be written first.
    pub before: Vec<u8>,
    /// Whether there are bytes behind the request: they are not looked at,
    /// but closing over them would destroy the answer on its way.
    pub more_follows: bool,
}

/// What a request that is to be handed over leaves behind until its turn ends.
#[derive(Debug)]
pub(super) struct Leaving {
    errand: Errand,
    client: IpAddr,
    query: Box<[u8]>,
    accept_encoding: Box<[u8]>,
    version_minor: u8,
}

/// The answer when too many connections wait for control threads.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 5\r\nRetry-After: 2\r\nConnection: close\r\n\r\nbusy\n";

/// opentracker's answers to who may not and to what it does not understand.
const DENIED: &[u8] = b"HTTP/1.0 403 Access Denied\r\nContent-Type: text/html\r\n\
    Content-Length: 29\r\n\r\n<title>Access Denied</title>\n";
const INVALID: &[u8] = b"HTTP/1.0 400 Invalid Request\r\nContent-Type: text/html\r\n\
    Content-Length: 31\r\n\r\n<title>Invalid Request</title>\n";

impl HttpFrontend {
    /// Takes a request if it is one to hand over; returns whether it was.
    pub(super) fn take_errand(&mut self, at: usize, head: &Head<'_>, route: Route) -> bool {
        let Some((errand, networks)) = self.settings.errand(head, route) else {
            return false;
        };
        let peer = self.connections[at].peer;
        let family = AddressFamily::of(&peer);
        self.stats.request(Protocol::Http, Action::Other, family);
        let client = self.client(head, peer).ok();
        let admitted = client.filter(|client| networks.admit(client));
        let refusal = match admitted {
            None => Some(DENIED),
            Some(_) if errand == Errand::Stats && names_info_hash(head.query) => Some(INVALID),
            Some(_) if self.settings.handover.lane.is_full() => {
                self.stats.opentracker.handover_refused.add(1);
                Some(BUSY)
            }
            Some(_) => None,
        };
        if let Some(answer) = refusal {
            self.out.extend_from_slice(answer);
            self.stats
                .reply(Protocol::Http, Action::Other, family, Outcome::Error);
            let connection = &mut self.connections[at];
            connection.served = true;
            connection.last = true;
            return true;
        }
        self.leaving = admitted.map(|client| Leaving {
            errand,
            client,
            query: head.query.into(),
            accept_encoding: head.accept_encoding.unwrap_or_default().into(),
            version_minor: head.version_minor,
        });
        true
    }

    /// Counts the answer that begins here if it is an HTTP error. `query` is the
    /// request's, if it was HTTP.
    pub(super) fn count_error(&self, answer_at: usize, query: Option<&[u8]>) {
        let Some(error) = HttpError::of_response(&self.out[answer_at..]) else {
            return;
        };
        let error = match (error, query) {
            (HttpError::Parameter, None) => HttpError::Malformed,
            (HttpError::Parameter, Some(query)) if refuses_compact(query) => HttpError::NotCompact,
            (error, _) => error,
        };
        self.stats.opentracker.http_error(error);
    }

    /// Hands a connection over, after the answers that are in `self.out`.
    pub(super) fn hand_over<L: Lanes>(
        &mut self,
        at: usize,
        leaving: Leaving,
        more_follows: bool,
        turn: &Turn<'_, L>,
    ) {
        let settings = &self.settings.handover;
        let connection = self.connections.remove(at);
        if connection.interest.is_some() {
            // Its descriptor stays open, so nothing else takes it out.
            let _ = turn.reactor.remove(connection.stream.socket());
        }
        let family = AddressFamily::of(&connection.peer);
        let Connection {
            stream,
            body_follows,
            ..
        } = connection;
        let handed_over = HandedOver {
            stream,
            client: leaving.client,
            errand: leaving.errand,
            query: leaving.query,
            accept_encoding: leaving.accept_encoding,
            version_minor: leaving.version_minor,
            full_scrape_pause: settings.full_scrape_pause,
            before: self.out.as_slice().into(),
            more_follows: more_follows || body_follows,
        };
        let counters = &self.stats.opentracker;
        match settings.lane.try_send(handed_over) {
            Ok(()) => {
                counters.handed_over.add(1);
                // As far as this shard will know.
                self.stats
                    .reply(Protocol::Http, Action::Other, family, Outcome::Ok);
            }
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => {
                counters.handover_refused.add(1);
                counters.http_error(HttpError::Server);
                self.stats
                    .reply(Protocol::Http, Action::Other, family, Outcome::Error);
                if refuse(refused).is_err() {
                    self.stats
                        .dropped(Protocol::Http, DropReason::ConnectionFailed);
                }
            }
        }
    }
}

impl HandoverSettings {
    /// Whether anything is handed over at all.
    pub(super) const fn is_on(&self) -> bool {
        self.full_scrape || self.stats_path.is_some()
    }

    /// Like opentracker's: any number of slashes before it.
    fn is_stats_path(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.stats_path.as_deref() == Some(path)
    }
}

impl HttpSettings {
    /// What a request is to be handed over for, and who may ask for it.
    fn errand(&self, head: &Head<'_>, route: Route) -> Option<(Errand, &Networks)> {
        let handover = &self.handover;
        if head.method != Method::Get {
            return None;
        }
        let is_full_scrape = match route {
            Route::FullScrape => true,
            Route::Scrape => self.dialect == Dialect::Karuta && !head.has_query,
            Route::Unknown if handover.is_stats_path(head.path) => {
                return Some((Errand::Stats, &handover.stats_networks));
            }
            _ => false,
        };
        (is_full_scrape && handover.full_scrape)
            .then_some((Errand::FullScrape, &handover.full_scrape_networks))
    }
}

/// Whether a client mistook the path for that of announces.
fn names_info_hash(raw: &[u8]) -> bool {
    let is_info_hash = |(key, _): (&[u8], &[u8])| {
        percent::decode(key).eq(b"info_hash".iter().map(|&byte| Ok(byte)))
    };
    query::pairs(raw).any(is_info_hash)
}

/// Whether a client asks for peers in dictionaries.
fn refuses_compact(raw: &[u8]) -> bool {
    query::find(raw, b"compact")
        .is_some_and(|value| !value.is_empty() && value.iter().all(|&digit| digit == b'0'))
}

/// For when the last place was taken at the same moment. Writes what fits into
/// the socket; a few hundred bytes always do.
fn refuse(refused: HandedOver) -> io::Result<()> {
    let mut stream = refused.stream;
    stream.write_all(&refused.before)?;
    stream.write_all(BUSY)?;
    stream.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn finds_an_info_hash_however_it_is_written() {
        for (query, found) in [
            ("info_hash=a", true),
            ("mode=peer&info%5Fhash=", true),
            ("info_hash", true),
            ("Info_hash=a", false),
            ("info_has=a&x=info_hash", false),
            ("", false),
        ] {
            assert_eq!(names_info_hash(query.as_bytes()), found, "{query}");
        }
    }

    #[test]
    fn answers_have_the_length_they_say() {
        for answer in [BUSY, DENIED, INVALID] {
            let text = std::str::from_utf8(answer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let length = format!("Content-Length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{text}");
        }
    }

    #[test]
    fn who_is_too_many_gets_what_came_before_and_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).expect("connect");
        let (stream, _) = listener.accept().expect("accept");
        let handed_over = HandedOver {
            stream: Stream::Plain(stream),
            client: address.ip(),
            errand: Errand::Stats,
            query: Box::default(),
            accept_encoding: Box::default(),
            version_minor: 1,
            full_scrape_pause: Duration::ZERO,
            before: b"before".to_vec(),
            more_follows: false,
        };
        let (lane, waiting) = crossbeam_channel::bounded(0);
        let error = lane.try_send(handed_over).expect_err("nobody waits");
        refuse(error.into_inner()).expect("room");
        drop(waiting);
        let mut text = Vec::new();
        client.read_to_end(&mut text).expect("text");
        assert_eq!(text, [b"before", BUSY].concat());
    }
}
