//! What opentracker's statistics show beyond what metrics have: published by
//! one shard, like [`super::stats`], whose rules hold here too (one writer,
//! relaxed, any number of readers).

use super::stats::{Counter, Gauge};

/// Places of the histogram of renewals: opentracker's peers live 45 minutes.
pub const RENEWAL_MINUTES: usize = 45;

/// The counters of one shard.
#[derive(Debug)]
pub struct OpentrackerCounters {
    renewals: [Counter; RENEWAL_MINUTES],
    http_errors: [Counter; HttpError::ALL.len()],
    /// Datagrams with a connection id that was not issued to their source.
    pub connection_id_mismatches: Counter,
    /// Downloads counted since the start.
    pub downloads: Gauge,
    /// Info hashes that have a swarm in both address families, as of the last
    /// count (see `super::overlap`).
    pub swarms_in_both_families: Gauge,
    /// Connections handed over to control threads.
    pub handed_over: Counter,
    /// Connections that were not, since there were too many.
    pub handover_refused: Counter,
}

impl Default for OpentrackerCounters {
    fn default() -> Self {
        Self {
            renewals: std::array::from_fn(|_| Counter::default()),
            http_errors: std::array::from_fn(|_| Counter::default()),
            connection_id_mismatches: Counter::default(),
            downloads: Gauge::default(),
            swarms_in_both_families: Gauge::default(),
            handed_over: Counter::default(),
            handover_refused: Counter::default(),
        }
    }
}

/// The HTTP errors that opentracker tells apart, in the order of its
/// `everything`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum HttpError {
    /// 302: `GET /` was sent elsewhere.
    Redirect,
    /// 400: no HTTP.
    Malformed,
    /// 400: a parameter is missing or wrong.
    Parameter,
    /// 400: `compact=0`.
    NotCompact,
    /// Too many full scrapes (opentracker: 402, here 429 and 503).
    NotModest,
    /// 402 for other reasons; never happens here.
    PaymentRequired,
    /// 403: the address may not.
    Denied,
    /// 404: nothing there.
    NotFound,
    /// 500, and 503.
    Server,
}

impl HttpError {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Redirect,
        Self::Malformed,
        Self::Parameter,
        Self::NotCompact,
        Self::NotModest,
        Self::PaymentRequired,
        Self::Denied,
        Self::NotFound,
        Self::Server,
    ];

    /// Which error a response begins with, if any. Of the kinds of 400 it
    /// knows only one, [`HttpError::Parameter`].
    #[must_use]
    pub fn of_response(response: &[u8]) -> Option<Self> {
        // `HTTP/1.1 404 Not Found`
        let status = response.get(9..12)?;
        match status {
            b"200" => None,
            b"301" | b"302" => Some(Self::Redirect),
            b"400" => Some(Self::Parameter),
            b"402" | b"429" => Some(Self::NotModest),
            b"403" => Some(Self::Denied),
            b"404" => Some(Self::NotFound),
            [b'5', ..] => Some(Self::Server),
            _ => Some(Self::Malformed),
        }
    }
}

impl OpentrackerCounters {
    /// Counts a peer that announced again after so many seconds.
    #[inline]
    pub fn renewed(&self, seconds: u32) {
        let minutes = (seconds / 60) as usize;
        self.renewals[minutes.min(RENEWAL_MINUTES - 1)].add(1);
    }

    /// Announces by the minutes since the same peer's last; the last place
    /// has those that came later, too.
    #[must_use]
    pub fn renewals(&self) -> [u64; RENEWAL_MINUTES] {
        std::array::from_fn(|minutes| self.renewals[minutes].get())
    }

    /// Counts one answer that was an error.
    pub fn http_error(&self, error: HttpError) {
        self.http_errors[error as usize].add(1);
    }

    /// Errors in the order of [`HttpError::ALL`].
    #[must_use]
    pub fn http_errors(&self) -> [u64; HttpError::ALL.len()] {
        std::array::from_fn(|error| self.http_errors[error].get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_fall_into_their_minute() {
        let counters = OpentrackerCounters::default();
        for seconds in [0, 59, 60, 44 * 60, 45 * 60, u32::MAX] {
            counters.renewed(seconds);
        }
        let renewals = counters.renewals();
        assert_eq!((renewals[0], renewals[1], renewals[44]), (2, 1, 3));
        assert_eq!(renewals.iter().sum::<u64>(), 6);
    }

    #[test]
    fn errors_are_told_by_their_status() {
        for (response, error) in [
            ("HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.0 302 Found\r\n", Some(HttpError::Redirect)),
            ("HTTP/1.1 400 Bad Request\r\n", Some(HttpError::Parameter)),
            (
                "HTTP/1.1 405 Method Not Allowed",
                Some(HttpError::Malformed),
            ),
            ("HTTP/1.1 403 Access Denied\r\n", Some(HttpError::Denied)),
            ("HTTP/1.0 404 Not Found\r\n", Some(HttpError::NotFound)),
            ("HTTP/1.1 429 Too Many Requests", Some(HttpError::NotModest)),
            ("HTTP/1.1 503 Service", Some(HttpError::Server)),
            ("", None),
        ] {
            assert_eq!(HttpError::of_response(response.as_bytes()), error);
        }
        assert!(
            HttpError::ALL
                .iter()
                .enumerate()
                .all(|(at, error)| *error as usize == at)
        );
    }
}
