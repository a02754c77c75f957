//! One HTTP request: from its head to its answer, or to another shard.

use super::connection::{Phase, ReplyForm};
use super::{HttpFrontend, HttpSettings, Turn};
use crate::bittorrent::{AddressFamily, Announce, AnnounceCounts, Event};
use crate::frontend::desk::{Answer, Asked, Lanes};
use crate::frontend::{Client, dialect};
use crate::hook::{self, Context, Effects, Transport, Url};
use crate::protocol::http::{
    self as wire, AnnounceQuery, AnnounceReply, ClaimedAddresses, Failure, Head, Method, Rejection,
    RetryIn, Route, RouteMatch, Status,
};
use crate::shard::exchange::{PeerList, Question};
use crate::shard::families::{Families, Peers};
use crate::shard::responses::FailureClass;
use crate::shard::stats::{Action, DropReason, Outcome, Protocol};
use std::net::IpAddr;

/// The failure reason when another shard has too much to do.
pub(super) const OVERLOADED: &str = "tracker overloaded";

/// What `GET /` says.
const WELCOME: &str = concat!(
    "This is karuta ",
    env!("CARGO_PKG_VERSION"),
    ", a BitTorrent tracker. Add its announce URL to a torrent; there is nothing to browse here.\n"
);

impl HttpFrontend {
    /// Answers a request into `self.out`, or leaves its connection waiting.
    pub(super) fn request<L: Lanes>(&mut self, at: usize, head: &Head<'_>, turn: &mut Turn<'_, L>) {
        let peer = self.connections[at].peer;
        let dialect = self.settings.dialect;
        let may_keep = self.settings.enable_keepalive && !self.stopping;
        let keep_alive = may_keep && dialect.keeps_alive(head);
        self.connections[at].body_follows |= head.has_body;
        let route = dialect.route(&self.settings.routes, head);
        if self.settings.handover.is_on() && self.take_errand(at, head, route) {
            return;
        }
        let action = match route {
            _ if head.method != Method::Get => Action::Other,
            Route::Announce => Action::Announce,
            Route::Scrape => Action::Scrape,
            Route::FullScrape | Route::Root | Route::Unknown => Action::Other,
        };
        let client = match action {
            Action::Other => Ok(peer),
            _ => self.client(head, peer),
        };
        let family = AddressFamily::of(client.as_ref().unwrap_or(&peer));
        self.connections[at].form = ReplyForm {
            action,
            keep_alive,
            compact: true,
            peer_ids: false,
            family,
            client_family: family,
            event: Event::None,
            external_ip: None,
            effects: Effects::default(),
            arrived: turn.now.elapsed,
        };
        self.stats.request(Protocol::Http, action, family);
        let result = match (action, client) {
            (_, Err(failure)) => Err(Denied::because_of(failure)),
            (Action::Announce, Ok(client)) => self.announce(at, head, client, turn),
            (Action::Scrape, Ok(client)) => self.scrape(at, head, client, turn),
            _ => {
                self.other(at, head, route, keep_alive);
                return;
            }
        };
        match result {
            Ok(Handled::Answered) => {
                self.stats
                    .reply(Protocol::Http, action, family, Outcome::Ok);
                self.answered(at, keep_alive);
            }
            Ok(Handled::Waiting) => self.connections[at].phase = Phase::Waiting,
            Err(Denied::Silently) => {
                self.stats.dropped(Protocol::Http, DropReason::Hook);
                self.answered(at, false);
            }
            Err(Denied::With(status)) => {
                let kept = dialect.write_status(&mut self.out, status, keep_alive, false);
                self.stats
                    .reply(Protocol::Http, action, family, Outcome::Error);
                self.answered(at, kept);
            }
            Err(Denied::Because(failure)) => {
                let response = dialect.begin_response(&mut self.out, keep_alive);
                let retry_in = failure.interval_seconds.map(RetryIn::Seconds);
                wire::write_failure(&mut self.out, failure.reason, retry_in);
                response.finish(&mut self.out);
                let class = FailureClass::of(failure.reason);
                self.stats.refused(Protocol::Http, action, family, class);
                self.answered(at, keep_alive);
            }
        }
    }

    fn answered(&mut self, at: usize, keep_alive: bool) {
        let connection = &mut self.connections[at];
        connection.served = true;
        connection.last |= !keep_alive;
    }

    /// Anything that is neither announce nor scrape.
    fn other(&mut self, at: usize, head: &Head<'_>, route: Route, keep_alive: bool) {
        let (dialect, out) = (self.settings.dialect, &mut self.out);
        let is_head = head.method == Method::Head;
        let (status, kept) = match (head.method, route) {
            (Method::Get, Route::Root) => {
                dialect.write_root(out, &self.settings.redirect_url, WELCOME, keep_alive)
            }
            (method, route) => {
                let status = match (method, route) {
                    // As from an opentracker that was built without it.
                    (Method::Get, Route::FullScrape) => Status::BadRequest,
                    (Method::Get, _) => Status::NotFound,
                    _ => Status::MethodNotAllowed,
                };
                (
                    status,
                    dialect.write_status(out, status, keep_alive, is_head),
                )
            }
        };
        let outcome = match status {
            Status::Ok | Status::Found => Outcome::Ok,
            _ => Outcome::Error,
        };
        let family = self.connections[at].form.family;
        self.stats
            .reply(Protocol::Http, Action::Other, family, outcome);
        self.answered(at, kept);
    }

    fn announce<L: Lanes>(
        &mut self,
        at: usize,
        head: &Head<'_>,
        client: IpAddr,
        turn: &mut Turn<'_, L>,
    ) -> Result<Handled, Denied> {
        let dialect = self.settings.dialect;
        let query = dialect.parse_announce(head, self.settings.num_want)?;
        let ip = wire::resolve_address(
            &query.claimed,
            self.settings.allow_ip_spoofing,
            None,
            client,
        )
        .map_err(Denied::because_of)?;
        let mut announce = query.to_announce(ip);
        let mut effects = Effects::default();
        let hooks = turn.shard.hooks();
        let (judges, notes) = (hooks.judges(), hooks.notes());
        if judges || notes {
            let route = self.settings.routes.find(head.path);
            let context = context(head, client, route.as_ref());
            let now = turn.now.into();
            if judges {
                let judgement = turn.shard.before_announce(now, &mut announce, &context);
                effects = dialect::accept(dialect, judgement, &announce)?;
            }
            if notes {
                turn.shard.after_announce(now, &announce, &context);
            }
        }
        if self.settings.interval_spread_seconds > 0 {
            let more = turn
                .shard
                .random_up_to(self.settings.interval_spread_seconds);
            let extra = &mut effects.extra_interval_seconds;
            *extra = extra.saturating_add(more);
        }
        let form = self.form(at, &query, &announce, effects);
        let owner = turn.shard.owners().owner(&announce.info_hash);
        if owner == turn.shard.id() {
            let (shard, peers) = (&mut *turn.shard, &mut self.peers);
            peers.clear();
            let counts = match dialect.combines_families() {
                false => shard.announce(turn.now.seconds, &announce, peers),
                true => shard.announce_both(turn.now.seconds, &announce, peers),
            };
            let response = dialect.begin_response(&mut self.out, form.keep_alive);
            write_announce(&mut self.out, &self.settings, &form, counts, &self.peers);
            response.finish(&mut self.out);
            return Ok(Handled::Answered);
        }
        self.stats.cross_shard_request(Protocol::Http);
        let waiting = Client::Http(self.token(at));
        let question = match dialect.combines_families() {
            false => Question::Announce(announce),
            true => Question::AnnounceBoth(announce, Peers::Both),
        };
        match turn
            .desk
            .ask_one(turn.now.seconds, owner, question, waiting)
        {
            Asked::Waiting => Ok(Handled::Waiting),
            Asked::Refused => {
                self.stats.dropped(Protocol::Http, DropReason::LaneFull);
                Err(Denied::for_reason(OVERLOADED))
            }
        }
    }

    fn scrape<L: Lanes>(
        &mut self,
        at: usize,
        head: &Head<'_>,
        client: IpAddr,
        turn: &mut Turn<'_, L>,
    ) -> Result<Handled, Denied> {
        let dialect = self.settings.dialect;
        let families = match dialect.combines_families() {
            false => Families::One(AddressFamily::of(&client)),
            true => Families::Both,
        };
        self.hashes.clear();
        let hashes = &mut self.hashes;
        dialect.parse_scrape(head, self.settings.max_scrape_hashes, |hash| {
            hashes.push(hash);
        })?;
        if turn.shard.hooks().judges() {
            let route = self.settings.routes.find(head.path);
            let context = context(head, client, route.as_ref());
            let now = turn.now.into();
            let judgement = turn.shard.before_scrape(now, &self.hashes, &context);
            judgement.map_err(|refused| dialect::word(dialect, refused))?;
        }
        let (id, owners) = (turn.shard.id(), *turn.shard.owners());
        if self.hashes.iter().any(|hash| owners.owner(hash) != id) {
            self.stats.cross_shard_request(Protocol::Http);
        }
        let waiting = Client::Http(self.token(at));
        let keep_alive = self.connections[at].form.keep_alive;
        let (out, files, stats) = (&mut self.out, &mut self.files, &self.stats);
        let mut result = Ok(Handled::Waiting);
        turn.desk.scrape(
            turn.now.seconds,
            turn.shard,
            families,
            self.hashes.iter().copied(),
            waiting,
            |_, answer| {
                if let Answer::Scrape(hashes, counts) = answer {
                    files.clear();
                    files.extend(hashes.iter().copied().zip(counts.iter().copied()));
                    let response = dialect.begin_response(out, keep_alive);
                    dialect.write_scrape(out, files);
                    response.finish(out);
                    result = Ok(Handled::Answered);
                } else {
                    stats.dropped(Protocol::Http, DropReason::LaneFull);
                    result = Err(Denied::for_reason(OVERLOADED));
                }
            },
        );
        result
    }

    /// Remembers how the announce in hand is to be answered.
    fn form(
        &mut self,
        at: usize,
        query: &AnnounceQuery<'_>,
        announce: &Announce,
        effects: Effects,
    ) -> ReplyForm {
        let form = &mut self.connections[at].form;
        form.compact = query.compact;
        form.peer_ids = !query.no_peer_id;
        form.family = announce.family();
        form.event = announce.event;
        form.external_ip = self.settings.external_ip.then_some(announce.ip);
        form.effects = effects;
        *form
    }

    /// Who sent a request: the other end of the connection or, when that is a
    /// proxy that is believed, whom it names. Not what the client claims.
    pub(super) fn client(&self, head: &Head<'_>, peer: IpAddr) -> Result<IpAddr, Failure> {
        let Some(name) = &self.settings.real_ip_header else {
            return Ok(peer);
        };
        let trusted = &self.settings.trusted_proxies;
        let named = match head.real_ip {
            _ if !trusted.admit(&peer) => return Ok(peer),
            // Any proxy is believed: this may be none, as in Chihaya.
            None if trusted.is_everybody() => return Ok(peer),
            None => return Err(Failure::NoForwardedAddress),
            Some(lines) => wire::forwarded_client(name, lines, |ip| trusted.contains(ip))?,
        };
        wire::resolve_address(&ClaimedAddresses::default(), false, None, named)
    }
}

/// What hooks are told of a request.
fn context<'a>(
    head: &Head<'a>,
    source: IpAddr,
    route: Option<&'a RouteMatch<'a, 'a>>,
) -> Context<'a> {
    Context {
        transport: Transport::Http,
        source,
        url: Url::Query(head.query),
        route: route.map(|route| &route.parameters),
        authorization: head.authorization,
    }
}

/// How a request is not served.
pub(super) enum Denied {
    /// Without any answer.
    Silently,
    /// With a failure reason.
    Because(hook::Failure),
    /// With a status.
    With(Status),
}

impl Denied {
    const fn for_reason(reason: &'static str) -> Self {
        Self::Because(hook::Failure {
            reason,
            interval_seconds: None,
        })
    }

    const fn because_of(failure: Failure) -> Self {
        Self::for_reason(failure.as_str())
    }
}

impl From<hook::Refused> for Denied {
    fn from(refused: hook::Refused) -> Self {
        refused.failure.map_or(Self::Silently, Self::Because)
    }
}

impl From<Rejection> for Denied {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Failure(reason) => Self::for_reason(reason),
            Rejection::Status(status) => Self::With(status),
        }
    }
}

/// Whether a request has its answer.
pub(super) enum Handled {
    /// It is in `out`.
    Answered,
    /// It comes from another shard.
    Waiting,
}

/// Appends the body of an announce reply.
pub(super) fn write_announce(
    out: &mut Vec<u8>,
    settings: &HttpSettings,
    form: &ReplyForm,
    counts: AnnounceCounts,
    peers: &PeerList,
) {
    let ids: &[u8] = if form.peer_ids { &peers.ids } else { &[] };
    let effects = &form.effects;
    let interval_seconds = settings
        .interval_seconds
        .saturating_add(effects.extra_interval_seconds);
    let min_interval_seconds = settings
        .min_interval_seconds
        .saturating_add(effects.extra_min_interval_seconds);
    let dialect = settings.dialect;
    let mut reply = AnnounceReply {
        counts,
        interval_seconds,
        min_interval_seconds: dialect.min_interval(interval_seconds, min_interval_seconds),
        external_ip: form.external_ip,
        ..AnnounceReply::default()
    };
    let (own, others) = (&peers.compact, &peers.other_family);
    match form.family {
        AddressFamily::V4 => {
            (reply.peers, reply.peer_ids, reply.peers6) = (own, ids, others);
        }
        AddressFamily::V6 => {
            (reply.peers6, reply.peer_ids6, reply.peers) = (own, ids, others);
        }
    }
    dialect.write_announce(out, &reply, form.compact, (form.event, form.family));
}
