//! HTTP as opentracker 1.0 speaks it: what [`crate::protocol::Dialect`] hands
//! over.
//!
//! It is crude and lenient at once. A path is known by its first letters. A
//! query is scanned for the few keys that matter, compared in their exact
//! case; what it does not expect is a `400` with a page, and everything that
//! has no bearing on the answer is passed over: a missing `port`, `peer_id`,
//! `left`, `uploaded` or `downloaded`, an unknown event, any address that a
//! client claims. Only the last of several values counts, but a second
//! `info_hash` in an announce is an error.
//!
//! Numbers are read with room for all that exist, where it overflows.

use super::dialect::{Rejection, Route};
use super::reply::{self, AnnounceReply, OpenResponse, Status};
use super::{
    AnnounceQuery, ClaimedAddresses, Head, HeadError, HeadOptions, HeadStatus, NumWantLimits,
    percent,
};
use crate::bittorrent::{AddressFamily, Event, InfoHash, PeerId, ScrapeCounts};
use crate::protocol::Dialect;
use crate::protocol::bencode::Writer;

/// What opentracker answers to an announce without an info hash.
const NO_INFO_HASH: &str =
    "Your client forgot to send your torrent's info_hash. Please upgrade your client.";

const INVALID: Rejection = Rejection::Status(Status::BadRequest);

/// Reads a head that is no HTTP, of which opentracker looks at the first line
/// only: without a version, with a space before the `?`, with headers that are
/// none. The connection is not used again, since nobody knows what such a
/// client means by it.
pub(super) fn parse_head<'a>(
    buffer: &'a [u8],
    options: &HeadOptions<'_>,
) -> Result<HeadStatus<'a>, HeadError> {
    let Some(head_len) = head_len(buffer) else {
        return match buffer.len() < options.max_head_bytes {
            true => Ok(HeadStatus::Partial),
            false => Err(HeadError::TooLarge),
        };
    };
    if head_len > options.max_head_bytes {
        return Err(HeadError::TooLarge);
    }
    let line = buffer.split(|&byte| byte == b'\n').next();
    let target = line.and_then(|line| line.trim_ascii_end().strip_prefix(b"GET "));
    let target = target.and_then(|target| std::str::from_utf8(target).ok());
    let target = target.filter(|target| target.starts_with('/'));
    let target = target.ok_or(HeadError::Malformed)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let first_word = |text: &'a str| text.split(' ').next().unwrap_or_default();
    Ok(HeadStatus::Complete(Head {
        head_len,
        path: first_word(path),
        query: query.map_or("", first_word).as_bytes(),
        has_query: query.is_some(),
        ..Head::of_strangers()
    }))
}

/// Bytes up to behind the first empty line.
fn head_len(buffer: &[u8]) -> Option<usize> {
    let ends = |end: &[u8]| {
        let at = buffer.windows(end.len()).position(|part| part == end)?;
        Some(at.saturating_add(end.len()))
    };
    match (ends(b"\n\r\n"), ends(b"\n\n")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Where a path leads that no configured route names.
pub(super) fn route(path: &str, has_query: bool) -> Route {
    let path = path.trim_start_matches('/').as_bytes();
    if path.is_empty() && !has_query {
        return Route::Root;
    }
    if !path.iter().copied().all(is_plain) || percent::validate(path).is_err() {
        return Route::Unknown;
    }
    let mut letters = percent::decode(path).flatten();
    match (letters.next(), letters.next()) {
        (Some(b'a'), _) => Route::Announce,
        (Some(b's'), Some(b'c')) => scrape_route_of(path, has_query),
        _ => Route::Unknown,
    }
}

/// Which kind of scrape a path is that is one.
pub(super) fn scrape_route(path: &str, has_query: bool) -> Route {
    scrape_route_of(path.trim_start_matches('/').as_bytes(), has_query)
}

fn scrape_route_of(path: &[u8], has_query: bool) -> Route {
    match path {
        b"scrape" if !has_query => Route::FullScrape,
        _ => Route::Scrape,
    }
}

/// Reads the query of an announce.
pub(super) fn parse_announce<'a>(
    head: &Head<'a>,
    limits: NumWantLimits,
) -> Result<AnnounceQuery<'a>, Rejection> {
    let (mut info_hash, mut left) = (None, None);
    let mut announce = AnnounceQuery {
        info_hash: InfoHash([0; 20]),
        peer_id: PeerId([0; 20]),
        port: 0,
        left: 0,
        downloaded: 0,
        uploaded: 0,
        event: Event::None,
        num_want: limits.clamp(None),
        compact: true,
        no_peer_id: true,
        claimed: ClaimedAddresses::default(),
    };
    for_each_field(head, |key, value| {
        match key {
            b"info_hash" if info_hash.is_some() => return Err(INVALID),
            b"info_hash" => info_hash = Some(InfoHash(twenty_bytes(value)?)),
            b"peer_id" => announce.peer_id = PeerId(twenty_bytes(value)?),
            b"port" => {
                // Below 0 there is none, as without the parameter.
                let port = number(value)?.ok_or(INVALID)?.max(0);
                announce.port = u16::try_from(port).map_err(|_| INVALID)?;
            }
            b"left" => {
                // What is no number stands for nothing.
                let amount = number(value)?.unwrap_or(0).unsigned_abs();
                left = left.filter(|&left| left == 0).or(Some(amount));
            }
            b"downloaded" => announce.downloaded = amount(value),
            b"uploaded" => announce.uploaded = amount(value),
            b"event" => {
                let event = event(value)?;
                if weight(event) >= weight(announce.event) {
                    announce.event = event;
                }
            }
            b"numwant" => announce.num_want = limits.clamp(Some(number(value)?.ok_or(INVALID)?)),
            b"compact" | b"compact6" if number(value)?.is_none_or(|number| number == 0) => {
                return Err(INVALID);
            }
            b"ip" => announce.claimed.ip = percent::validate(value).ok().map(|()| value),
            _ => {}
        }
        Ok(())
    })?;
    announce.info_hash = info_hash.ok_or(Rejection::Failure(NO_INFO_HASH))?;
    // Not known is not nothing: a leecher.
    announce.left = left.unwrap_or(1);
    announce.event = Dialect::Opentracker.event(announce.event, announce.left);
    Ok(announce)
}

/// Reads the query of a scrape: calls `add` for the first `max` hashes and
/// returns how many those were.
pub(super) fn parse_scrape(
    head: &Head<'_>,
    max: usize,
    mut add: impl FnMut(InfoHash),
) -> Result<usize, Rejection> {
    let mut found: usize = 0;
    for_each_field(head, |key, value| {
        if key == b"info_hash" {
            let info_hash = twenty_bytes(value)?;
            if found < max {
                add(InfoHash(info_hash));
            }
            found = found.saturating_add(1);
        }
        Ok(())
    })?;
    match found {
        0 => Err(INVALID),
        _ => Ok(found.min(max)),
    }
}

/// Calls `field` for each key, decoded, with its value, still encoded. A key
/// longer than any known one is empty.
fn for_each_field<'a>(
    head: &Head<'a>,
    mut field: impl FnMut(&[u8], &'a [u8]) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    if !head.has_query {
        return Err(INVALID);
    }
    let mut buffer = [0; 16];
    for pair in head.query.split(|&byte| byte == b'&') {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let key = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        let is_valid = key.iter().all(|&byte| is_plain(byte) || byte == b'?')
            && !value.iter().copied().any(is_unwise);
        if !is_valid {
            return Err(INVALID);
        }
        let key = percent::decode_into(key, &mut buffer).map_err(|_| INVALID)?;
        field(key.map_or(&[], |key| &*key), value)?;
    }
    Ok(())
}

fn twenty_bytes(value: &[u8]) -> Result<[u8; 20], Rejection> {
    check(value)?;
    percent::decode_exact(value).ok().flatten().ok_or(INVALID)
}

/// The number that a value is; `None` when it is something else. The largest
/// ones stand for all that are larger.
fn number(value: &[u8]) -> Result<Option<i64>, Rejection> {
    check(value)?;
    if value.is_empty() {
        return Err(INVALID);
    }
    let (mut is_number, mut is_negative, mut number) = (true, false, 0i64);
    for (at, byte) in percent::decode(value).enumerate() {
        match byte.map_err(|_| INVALID)? {
            b'-' if at == 0 => is_negative = true,
            digit @ b'0'..=b'9' => {
                let digit = i64::from(digit.wrapping_sub(b'0'));
                number = number.saturating_mul(10).saturating_add(digit);
            }
            _ => is_number = false,
        }
    }
    let number = if is_negative {
        number.saturating_neg()
    } else {
        number
    };
    Ok(is_number.then_some(number))
}

/// A number that opentracker does not read.
fn amount(value: &[u8]) -> u64 {
    let number = number(value).ok().flatten().unwrap_or(0);
    u64::try_from(number).unwrap_or(0)
}

fn event(value: &[u8]) -> Result<Event, Rejection> {
    check(value)?;
    let mut buffer = [0; 16];
    let text = percent::decode_into(value, &mut buffer).map_err(|_| INVALID)?;
    Ok(match text.as_deref() {
        Some(b"started") => Event::Started,
        Some(b"stopped") => Event::Stopped,
        Some(b"completed") => Event::Completed,
        Some(b"paused") => Event::Paused,
        _ => Event::None,
    })
}

/// Of several events the weightiest counts.
const fn weight(event: Event) -> u8 {
    match event {
        Event::Stopped => 2,
        Event::Completed => 1,
        Event::None | Event::Started | Event::Paused => 0,
    }
}

/// Refuses a value with a byte that values cannot have.
fn check(value: &[u8]) -> Result<(), Rejection> {
    let is_valid = |&byte: &u8| is_plain(byte) || matches!(byte, b'?' | b'=' | b'@');
    match value.iter().all(is_valid) {
        true => Ok(()),
        false => Err(INVALID),
    }
}

/// Bytes that may stand everywhere. RFC 2396 calls the most of them unreserved.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'%'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'-'
                | b'.'
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'>'
                | b'_'
                | b'~'
        )
}

/// Bytes that may not even stand in a value that is passed over: those that
/// RFC 2396 excludes or calls unwise.
const fn is_unwise(byte: u8) -> bool {
    matches!(
        byte,
        b'"' | b'#' | b'$' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}'
    )
}

/// Appends the head of a response with status 200, which says nothing about
/// the connection.
#[inline]
pub(super) fn begin_response(out: &mut Vec<u8>) -> OpenResponse {
    reply::begin_response_ending(out, Status::Ok, b"\r\n\r\n")
}

/// Appends an error: a page that repeats the status.
pub(super) fn write_status(out: &mut Vec<u8>, status: Status) {
    let line = match status {
        Status::NotFound | Status::Found | Status::Ok => status.line(),
        Status::HeaderFieldsTooLarge | Status::InternalServerError | Status::ServiceUnavailable => {
            "500 Internal Server Error"
        }
        _ => "400 Invalid Request",
    };
    write_page(out, line);
}

/// Appends the page of a status of which number and phrase are given.
pub(super) fn write_page(out: &mut Vec<u8>, line: &str) {
    let phrase = line.get(4..).unwrap_or_default();
    let parts = ["<title>", phrase, "</title>\n"];
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    for part in [
        "HTTP/1.0 ",
        line,
        "\r\nContent-Type: text/html\r\nContent-Length: ",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    write_length(out, length);
    out.extend_from_slice(b"\r\n\r\n");
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends the answer to `GET /` where there is another page to go to.
pub(super) fn write_redirection(out: &mut Vec<u8>, url: &str) {
    out.extend_from_slice(b"HTTP/1.0 302 Found\r\nContent-Length: 0\r\nLocation: ");
    out.extend_from_slice(url.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the body of an announce reply. Neither kind of peers is there when
/// it is empty.
#[inline]
pub(super) fn write_announce(out: &mut Vec<u8>, reply: &AnnounceReply<'_>) {
    let mut writer = Writer::new(out);
    reply::write_announce_counts(&mut writer, reply);
    for (key, peers) in [(&b"peers"[..], reply.peers), (b"peers6", reply.peers6)] {
        if !peers.is_empty() {
            writer.key(key);
            writer.bytes(peers);
        }
    }
    writer.end();
}

/// Appends the body of the reply to `stopped`: nothing of downloads, and no
/// peers of the client's own family.
pub(super) fn write_stopped(out: &mut Vec<u8>, reply: &AnnounceReply<'_>, family: AddressFamily) {
    let mut writer = Writer::new(out);
    writer.begin_dictionary();
    for (key, number) in [
        (&b"complete"[..], reply.counts.complete),
        (b"incomplete", reply.counts.incomplete),
        (b"interval", reply.interval_seconds),
        (b"min interval", reply.min_interval_seconds),
    ] {
        writer.key(key);
        writer.unsigned(number.into());
    }
    writer.key(match family {
        AddressFamily::V4 => b"peers",
        AddressFamily::V6 => b"peers6",
    });
    writer.bytes(b"");
    writer.end();
}

/// Appends the body of a scrape reply: the torrents in the order in which they
/// were asked for, as often as they were, without those that are not known.
///
/// A store knows no torrent without peers and downloads, so that counts of
/// nothing mean that it is not known.
pub(super) fn write_scrape(out: &mut Vec<u8>, files: &[(InfoHash, ScrapeCounts)]) {
    let mut writer = Writer::new(out);
    writer.begin_dictionary();
    writer.key(b"files");
    writer.begin_dictionary();
    for (info_hash, counts) in files {
        if *counts == ScrapeCounts::default() {
            continue;
        }
        // Not `key`, which wants them sorted.
        writer.bytes(&info_hash.0);
        writer.begin_dictionary();
        for (key, count) in [
            (&b"complete"[..], counts.complete),
            (b"downloaded", counts.downloaded),
            (b"incomplete", counts.incomplete),
        ] {
            writer.key(key);
            writer.unsigned(count.into());
        }
        writer.end();
    }
    writer.end();
    writer.end();
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    let mut buffer = [0; crate::protocol::bencode::DECIMAL_DIGITS];
    out.extend_from_slice(crate::protocol::bencode::decimal(
        length as u64,
        &mut buffer,
    ));
}

#[cfg(test)]
mod tests;
