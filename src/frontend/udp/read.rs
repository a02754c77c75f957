//! The first step for each datagram of a batch: read it, verify it, then answer
//! it if no swarm is needed, ask the owner if that is another shard, or prepare
//! it for the steps that follow.

use super::link::{Back as _, Departures};
use super::{Prepared, UdpClient, UdpSettings, write_scrape};
use crate::bittorrent::{AddressFamily, InfoHash};
use crate::frontend::desk::{Answer, Asked, Desk, Lanes};
use crate::frontend::{Client, dialect};
use crate::hook::{Context, Refused, Transport, Url};
use crate::protocol::Dialect;
use crate::protocol::udp::{
    self, AnnounceAction, AnnounceFields, ErrorText, ParseError, Request, ScrapeHashes,
};
use crate::runtime::clock::Now;
use crate::shard::Shard;
use crate::shard::exchange::Question;
use crate::shard::families::{Families, Peers};
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, DropReason, Outcome, Protocol, ShardStats};
use crate::sys::datagram::Datagram;
use std::net::IpAddr;

/// What the first step works with, lent by the frontend for one batch.
pub(super) struct Reader<'a, L, O> {
    pub settings: &'a UdpSettings,
    /// The number of the socket.
    pub endpoint: usize,
    pub outbox: &'a mut O,
    pub prepared: &'a mut Vec<Prepared>,
    /// The hashes of a scrape, for hooks.
    pub scraped: &'a mut Vec<InfoHash>,
    pub stats: &'a ShardStats,
    pub now: &'a Now,
    pub shard: &'a mut Shard,
    pub desk: &'a mut Desk<L, Client>,
}

/// One datagram and what every answer to it needs.
struct Asker<'a, B> {
    datagram: &'a Datagram<'a, B>,
    source: IpAddr,
    family: AddressFamily,
    transaction_id: u32,
}

impl<L: Lanes, O: Departures> Reader<'_, L, O> {
    /// Reads the datagram that is number `at` of the batch.
    #[inline]
    pub fn read(&mut self, at: usize, family: AddressFamily, datagram: &Datagram<'_, O::Back>) {
        let mut asker = Asker {
            datagram,
            source: datagram.from.ip(),
            family,
            transaction_id: 0,
        };
        let request = match udp::parse(datagram.bytes) {
            Ok(request) => request,
            Err(error) => match self.read_again(&asker, error) {
                Ok(request) => request,
                Err(error) => return self.unreadable(&mut asker, &error),
            },
        };
        asker.transaction_id = request.transaction_id();
        let action = match request {
            Request::Connect { .. } => Action::Connect,
            Request::Announce { .. } => Action::Announce,
            Request::Scrape { .. } => Action::Scrape,
        };
        self.stats.request(Protocol::Udp, action, asker.family);
        if request
            .connection_id()
            .is_some_and(|id| !self.accepts(&asker, id))
        {
            return self.refuse_connection_id(&asker, action);
        }
        match request {
            Request::Connect { .. } => self.connect(&asker),
            Request::Announce { announce, .. } => self.announce(at, &asker, &announce),
            Request::Scrape { info_hashes, .. } => self.scrape(&asker, info_hashes),
        }
    }

    #[inline]
    fn accepts(&self, asker: &Asker<'_, O::Back>, id: u64) -> bool {
        let ids = &self.settings.connection_ids;
        ids.accepts(self.now.unix_seconds, asker.source, id)
    }

    /// What opentracker makes of a datagram that is not as BEP 15 has it.
    fn read_again<'d>(
        &self,
        asker: &Asker<'d, O::Back>,
        error: ParseError,
    ) -> Result<Request<'d>, ParseError> {
        match error {
            ParseError::Answer {
                connection_id,
                error: text,
                ..
            } if self.settings.dialect == Dialect::Opentracker
                && (text == ErrorText::UnknownAction || self.accepts(asker, connection_id)) =>
            {
                udp::parse_leniently(asker.datagram.bytes)
            }
            error => Err(error),
        }
    }

    /// Answers what cannot be read, if it is to have an answer.
    #[cold]
    fn unreadable(&mut self, asker: &mut Asker<'_, O::Back>, error: &ParseError) {
        self.stats
            .request(Protocol::Udp, Action::Other, asker.family);
        match *error {
            ParseError::Drop(reason) => self.stats.dropped(Protocol::Udp, drop_reason(reason)),
            ParseError::Answer {
                connection_id,
                transaction_id,
                error,
            } => {
                asker.transaction_id = transaction_id;
                if self.accepts(asker, connection_id) {
                    self.fail(asker, Action::Other, error.as_str());
                } else if error == ErrorText::UnknownAction {
                    // An error of another tracker looks like this: where the
                    // action stands it has text.
                    self.stats
                        .dropped(Protocol::Udp, DropReason::BadConnectionId);
                } else {
                    self.refuse_connection_id(asker, Action::Other);
                }
            }
        }
    }

    fn connect(&mut self, asker: &Asker<'_, O::Back>) {
        let ids = &self.settings.connection_ids;
        let id = ids.issue(self.now.unix_seconds, asker.source);
        let Datagram { from, to, .. } = *asker.datagram;
        self.outbox.push(from, to, |buffer| {
            udp::write_connect(buffer, asker.transaction_id, id).ok()
        });
        self.stats
            .reply(Protocol::Udp, Action::Connect, asker.family, Outcome::Ok);
    }

    #[inline]
    fn announce(&mut self, at: usize, asker: &Asker<'_, O::Back>, fields: &AnnounceFields<'_>) {
        let (settings, family) = (self.settings, asker.family);
        let mut announce = match settings.announce(fields, asker.source, family) {
            Ok(announce) => announce,
            Err(error) => return self.fail(asker, Action::Announce, error.as_str()),
        };
        let mut interval_seconds = settings.interval_seconds;
        if settings.varies() {
            settings.vary(self.shard, &mut announce, &mut interval_seconds);
        }
        let context = Context {
            url: Url::Data(fields.url_data),
            ..Context::bare(Transport::Udp, asker.source)
        };
        if self.shard.hooks().judges() {
            let now = self.now.into();
            let judgement = self.shard.before_announce(now, &mut announce, &context);
            match dialect::accept(settings.dialect, judgement, &announce) {
                Ok(effects) => {
                    interval_seconds =
                        interval_seconds.saturating_add(effects.extra_interval_seconds);
                }
                Err(refused) => return self.refuse(asker, Action::Announce, &refused),
            }
        }
        if self.shard.hooks().notes() {
            self.shard
                .after_announce(self.now.into(), &announce, &context);
        }
        let owner = self.shard.owners().owner(&announce.info_hash);
        if owner == self.shard.id() {
            let lookup = self.shard.lookup(family, &announce.info_hash);
            self.prepared.push(Prepared {
                announce,
                lookup,
                transaction_id: asker.transaction_id,
                action: fields.action,
                interval_seconds,
                at,
            });
            return;
        }
        self.stats.cross_shard_request(Protocol::Udp);
        let client = UdpClient {
            action: fields.action,
            interval_seconds,
            ..self.client(asker)
        };
        let question = match settings.dialect.combines_families() {
            false => Question::Announce(announce),
            true => Question::AnnounceBoth(announce, Peers::Own),
        };
        let now_seconds = self.now.seconds;
        let asked = self
            .desk
            .ask_one(now_seconds, owner, question, Client::Udp(client));
        if asked == Asked::Refused {
            self.stats.dropped(Protocol::Udp, DropReason::LaneFull);
        }
    }

    fn scrape(&mut self, asker: &Asker<'_, O::Back>, hashes: ScrapeHashes<'_>) {
        let Self {
            settings,
            stats,
            now,
            ..
        } = *self;
        let family = asker.family;
        let hashes = hashes.truncated(settings.scrape_limit(family));
        if self.shard.hooks().judges() {
            self.scraped.clear();
            if self.shard.hooks().wants().scrapes {
                self.scraped.extend(hashes.iter());
            }
            let context = Context::bare(Transport::Udp, asker.source);
            let judgement = self.shard.before_scrape(now.into(), self.scraped, &context);
            if let Err(refused) = judgement {
                let refused = dialect::word(settings.dialect, refused);
                return self.refuse(asker, Action::Scrape, &refused);
            }
        }
        let families = match settings.dialect.combines_families() {
            false => Families::One(family),
            true => Families::Both,
        };
        let (id, owners) = (self.shard.id(), *self.shard.owners());
        if hashes.iter().any(|hash| owners.owner(&hash) != id) {
            stats.cross_shard_request(Protocol::Udp);
        }
        let client = self.client(asker);
        let outbox = &mut *self.outbox;
        self.desk.scrape(
            now.seconds,
            self.shard,
            families,
            hashes.iter(),
            Client::Udp(client),
            |_, answer| match answer {
                Answer::Scrape(_, counts) => {
                    outbox.push(asker.datagram.from, asker.datagram.to, |buffer| {
                        write_scrape(buffer, &client, counts)
                    });
                    stats.reply(Protocol::Udp, Action::Scrape, family, Outcome::Ok);
                }
                _ => stats.dropped(Protocol::Udp, DropReason::LaneFull),
            },
        );
    }

    /// What is needed to answer when another shard has.
    fn client(&self, asker: &Asker<'_, O::Back>) -> UdpClient {
        UdpClient {
            endpoint: self.endpoint,
            to: *asker.datagram.from,
            back: asker.datagram.to.keep(),
            transaction_id: asker.transaction_id,
            action: AnnounceAction::Standard,
            interval_seconds: self.settings.interval_seconds,
            arrived: self.now.elapsed,
        }
    }

    /// Answers with an error.
    #[cold]
    fn fail(&mut self, asker: &Asker<'_, O::Back>, action: Action, text: &str) {
        let Datagram { from, to, .. } = *asker.datagram;
        self.outbox.push(from, to, |buffer| {
            udp::write_error(buffer, asker.transaction_id, text).ok()
        });
        let class = FailureClass::of(text);
        self.stats
            .refused(Protocol::Udp, action, asker.family, class);
    }

    /// Answers a request that a hook refused, if it is to have an answer.
    fn refuse(&mut self, asker: &Asker<'_, O::Back>, action: Action, refused: &Refused) {
        match refused.failure {
            Some(failure) => self.fail(asker, action, failure.reason),
            None => self.stats.dropped(Protocol::Udp, DropReason::Hook),
        }
    }

    /// Answers a connection id that was not accepted, unless the answer would
    /// be longer than the request.
    #[cold]
    fn refuse_connection_id(&mut self, asker: &Asker<'_, O::Back>, action: Action) {
        let stats = self.stats;
        stats.opentracker.connection_id_mismatches.add(1);
        let before = self.outbox.len();
        let Datagram { from, to, bytes } = *asker.datagram;
        self.outbox.push(from, to, |buffer| {
            let text = self.settings.dialect.bad_connection_id();
            udp::write_bad_connection_id(buffer, bytes.len(), asker.transaction_id, text)
        });
        if self.outbox.len() == before {
            stats.dropped(Protocol::Udp, DropReason::BadConnectionId);
        } else {
            let class = FailureClass::BadConnectionId;
            stats.refused(Protocol::Udp, action, asker.family, class);
        }
    }
}

const fn drop_reason(reason: udp::DropReason) -> DropReason {
    match reason {
        udp::DropReason::TooShort => DropReason::TooShort,
        udp::DropReason::WrongProtocolId => DropReason::BadMagic,
        udp::DropReason::Malformed => DropReason::Malformed,
    }
}
