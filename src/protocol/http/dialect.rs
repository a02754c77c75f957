//! HTTP where [`Dialect`]s differ: each method does it our way or hands over
//! to `opentracker.rs`.

use super::opentracker;
use super::{
    AnnounceQuery, AnnounceReply, Failure, Head, HeadError, HeadOptions, HeadStatus, NumWantLimits,
    OpenResponse, RouteKind, Routes, Status, announce, head, reply, scrape,
};
use crate::bittorrent::{AddressFamily, Event, InfoHash, ScrapeCounts};
use crate::protocol::Dialect;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An announce.
    Announce,
    /// A scrape of the torrents in its query.
    Scrape,
    /// opentracker's scrape of all torrents: `/scrape` without a query.
    FullScrape,
    /// `/`
    Root,
    /// None of these.
    Unknown,
}

/// Why a query is not served, and how its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// With status 200 and a failure reason.
    Failure(&'static str),
    /// With a status.
    Status(Status),
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure.as_str())
    }
}

impl Dialect {
    /// Reads the head of the first request in `buffer`; see
    /// [`super::parse_head`].
    ///
    /// # Errors
    /// See [`HeadError`]. The connection cannot be used any more.
    #[inline]
    pub fn parse_head<'a>(
        self,
        buffer: &'a [u8],
        options: &HeadOptions<'_>,
    ) -> Result<HeadStatus<'a>, HeadError> {
        match head::parse_head(buffer, options) {
            Err(HeadError::Malformed) if self == Self::Opentracker => {
                opentracker::parse_head(buffer, options)
            }
            result => result,
        }
    }

    /// Whether the client of a request takes a connection for one that is used
    /// again. A client of opentracker expects it to be closed, and may wait for
    /// that, unless it asked for something else.
    #[must_use]
    #[inline]
    pub const fn keeps_alive(self, head: &Head<'_>) -> bool {
        match self {
            Self::Karuta => head.keep_alive,
            Self::Opentracker => head.keep_alive && head.asks_keep_alive,
        }
    }

    /// Where a request leads. The configured routes always count first.
    #[must_use]
    pub fn route(self, routes: &Routes, head: &Head<'_>) -> Route {
        match (routes.find(head.path).map(|route| route.kind), self) {
            (Some(RouteKind::Announce), _) => Route::Announce,
            // `/scrape` is in the routes as a rule.
            (Some(RouteKind::Scrape), Self::Opentracker) => {
                opentracker::scrape_route(head.path, head.has_query)
            }
            (Some(RouteKind::Scrape), Self::Karuta) => Route::Scrape,
            (None, Self::Opentracker) => opentracker::route(head.path, head.has_query),
            (None, Self::Karuta) if head.path == "/" => Route::Root,
            (None, Self::Karuta) => Route::Unknown,
        }
    }

    /// Reads the query of an announce.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn parse_announce<'a>(
        self,
        head: &Head<'a>,
        limits: NumWantLimits,
    ) -> Result<AnnounceQuery<'a>, Rejection> {
        match self {
            Self::Karuta => Ok(announce::parse_announce(head.query, limits)?),
            Self::Opentracker => opentracker::parse_announce(head, limits),
        }
    }

    /// Reads the query of a scrape; see [`super::parse_scrape`].
    ///
    /// # Errors
    /// What to answer instead.
    pub fn parse_scrape(
        self,
        head: &Head<'_>,
        max: usize,
        add: impl FnMut(InfoHash),
    ) -> Result<usize, Rejection> {
        match self {
            Self::Karuta => Ok(scrape::parse_scrape(head.query, max, add)?),
            Self::Opentracker => opentracker::parse_scrape(head, max, add),
        }
    }

    /// Appends the head of a response with status 200.
    #[inline]
    pub fn begin_response(self, out: &mut Vec<u8>, keep_alive: bool) -> OpenResponse {
        match self {
            Self::Karuta => reply::begin_response(out, Status::Ok, keep_alive),
            Self::Opentracker => opentracker::begin_response(out),
        }
    }

    /// Appends the body of an announce reply. `compact` is whether the client
    /// takes the compact form, `family` is its own.
    #[inline]
    pub fn write_announce(
        self,
        out: &mut Vec<u8>,
        reply: &AnnounceReply<'_>,
        compact: bool,
        (event, family): (Event, AddressFamily),
    ) {
        match self {
            Self::Karuta if compact => reply::write_announce_compact(out, reply),
            Self::Karuta => reply::write_announce_dictionary(out, reply),
            Self::Opentracker if event == Event::Stopped => {
                opentracker::write_stopped(out, reply, family);
            }
            Self::Opentracker => opentracker::write_announce(out, reply),
        }
    }

    /// The `min interval` beside this `interval`, where `own` is ours.
    #[must_use]
    #[inline]
    pub const fn min_interval(self, interval_seconds: u32, own: u32) -> u32 {
        match self {
            Self::Karuta => own,
            Self::Opentracker => interval_seconds / 2,
        }
    }

    /// Appends the body of a scrape reply; see [`super::write_scrape`].
    pub fn write_scrape(self, out: &mut Vec<u8>, files: &mut [(InfoHash, ScrapeCounts)]) {
        match self {
            Self::Karuta => reply::write_scrape(out, files),
            Self::Opentracker => opentracker::write_scrape(out, files),
        }
    }

    /// Appends a response that says no more than its status. Returns whether
    /// the connection may be used again.
    pub fn write_status(
        self,
        out: &mut Vec<u8>,
        status: Status,
        keep_alive: bool,
        is_head: bool,
    ) -> bool {
        match self {
            Self::Karuta => reply::write_status(out, status, keep_alive, is_head),
            Self::Opentracker => opentracker::write_status(out, status),
        }
        keep_alive && self == Self::Karuta
    }

    /// Appends the response to `GET /`: a redirection, or a page of ours where
    /// `redirect_url` is empty. Returns its status and whether the connection
    /// may be used again.
    pub fn write_root(
        self,
        out: &mut Vec<u8>,
        redirect_url: &str,
        page: &str,
        keep_alive: bool,
    ) -> (Status, bool) {
        match self {
            Self::Opentracker if redirect_url.is_empty() => {
                opentracker::write_status(out, Status::NotFound);
                (Status::NotFound, false)
            }
            Self::Opentracker => {
                opentracker::write_redirection(out, redirect_url);
                (Status::Found, false)
            }
            Self::Karuta if redirect_url.is_empty() => {
                reply::write_text(out, Status::Ok, keep_alive, false, page);
                (Status::Ok, keep_alive)
            }
            Self::Karuta => {
                reply::write_redirection(out, redirect_url, keep_alive);
                (Status::Found, keep_alive)
            }
        }
    }
}
