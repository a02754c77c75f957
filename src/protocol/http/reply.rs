//! HTTP responses and their bencoded bodies (BEP 3, 7, 21, 23, 24, 31, 48),
//! appended to a buffer that the caller keeps warm.
//!
//! Refused requests get status 200 with a `failure reason`: clients show that
//! text to their users, while of an error status they only show the number.

use crate::bittorrent::{AnnounceCounts, InfoHash, ScrapeCounts};
use crate::protocol::bencode::{self, Writer};
use std::io::Write as _;
use std::net::IpAddr;

/// The statuses that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the status of its name in RFC 9110")]
pub enum Status {
    Ok,
    Found,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    HeaderFieldsTooLarge,
    InternalServerError,
    ServiceUnavailable,
}

impl Status {
    /// The number, for metrics.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Found => 302,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::HeaderFieldsTooLarge => 431,
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
        }
    }

    /// Number and phrase, as in the status line (RFC 9110, section 15; 431:
    /// RFC 6585).
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::Found => "302 Found",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }
}

/// A response whose body is being written. Begun by [`begin_response`], ended
/// by [`OpenResponse::finish`]; what is appended in between is the body.
#[derive(Debug)]
#[must_use = "the response has no length until it is finished"]
pub struct OpenResponse {
    /// Where the digits of the length go: room is left for the longest.
    length_at: usize,
    body_at: usize,
}

/// Appends the head of a response, with its length still open.
#[inline]
pub fn begin_response(out: &mut Vec<u8>, status: Status, keep_alive: bool) -> OpenResponse {
    let connection: &[u8] = match keep_alive {
        true => b"\r\nConnection: keep-alive\r\n\r\n",
        false => b"\r\nConnection: close\r\n\r\n",
    };
    begin_response_ending(out, status, connection)
}

/// [`begin_response`] with other words between the length and the body.
#[inline]
pub(super) fn begin_response_ending(
    out: &mut Vec<u8>,
    status: Status,
    ending: &[u8],
) -> OpenResponse {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.line().as_bytes());
    if status == Status::MethodNotAllowed {
        out.extend_from_slice(b"\r\nAllow: GET");
    }
    out.extend_from_slice(b"\r\nContent-Type: text/plain\r\nContent-Length: ");
    let length_at = out.len();
    out.extend_from_slice(&[b' '; bencode::DECIMAL_DIGITS]);
    out.extend_from_slice(ending);
    OpenResponse {
        length_at,
        body_at: out.len(),
    }
}

impl OpenResponse {
    /// Fills in the length of the body that was appended. What follows is moved
    /// over the digits that were not needed, a few nanoseconds, so that the
    /// head is in its plain form: crude clients exist.
    #[inline]
    pub fn finish(self, out: &mut Vec<u8>) {
        let mut buffer = [0; bencode::DECIMAL_DIGITS];
        let body_len = out.len().saturating_sub(self.body_at);
        let digits = bencode::decimal(body_len as u64, &mut buffer);
        let digits_end = self.length_at.saturating_add(digits.len());
        let room_end = self.length_at.saturating_add(bencode::DECIMAL_DIGITS);
        if let Some(slot) = out.get_mut(self.length_at..digits_end) {
            slot.copy_from_slice(digits);
        }
        let unused = room_end.saturating_sub(digits_end);
        if room_end <= out.len() {
            out.copy_within(room_end.., digits_end);
            out.truncate(out.len().saturating_sub(unused));
        }
    }
}

/// Appends a whole plain-text response: an error status, or a page such as
/// that of `GET /`. A response to `HEAD` announces the body but has none.
pub fn write_text(out: &mut Vec<u8>, status: Status, keep_alive: bool, is_head: bool, text: &str) {
    let response = begin_response(out, status, keep_alive);
    out.extend_from_slice(text.as_bytes());
    response.finish(out);
    if is_head {
        out.truncate(out.len().saturating_sub(text.len()));
    }
}

/// Appends a response that says no more than its status.
pub fn write_status(out: &mut Vec<u8>, status: Status, keep_alive: bool, is_head: bool) {
    let response = begin_response(out, status, keep_alive);
    let body_at = out.len();
    out.extend_from_slice(status.line().as_bytes());
    out.push(b'\n');
    let body_len = out.len().saturating_sub(body_at);
    response.finish(out);
    if is_head {
        out.truncate(out.len().saturating_sub(body_len));
    }
}

/// Appends a response that sends its reader to another page (RFC 9110, section
/// 15.4.3).
pub fn write_redirection(out: &mut Vec<u8>, url: &str, keep_alive: bool) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    for part in [
        "HTTP/1.1 302 Found\r\nLocation: ",
        url,
        "\r\nContent-Length: 0\r\nConnection: ",
        connection,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What an announce reply says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply<'a> {
    /// The swarm's counts, the announcer included.
    pub counts: AnnounceCounts,
    /// When to announce again, in seconds.
    pub interval_seconds: u32,
    /// How long to wait at least, in seconds.
    pub min_interval_seconds: u32,
    /// IPv4 peers, 6 bytes each (BEP 23).
    pub peers: &'a [u8],
    /// IPv6 peers, 18 bytes each (BEP 7).
    pub peers6: &'a [u8],
    /// The ids of `peers`, 20 bytes each, in their order; empty when they are
    /// not stored or not wanted. Only the dictionary form shows them.
    pub peer_ids: &'a [u8],
    /// The ids of `peers6`, likewise.
    pub peer_ids6: &'a [u8],
    /// The announcer's address as the tracker sees it (BEP 24), if wanted.
    pub external_ip: Option<IpAddr>,
}

/// Appends the body of an announce reply in compact form (BEP 23, BEP 7).
/// `peers` is there even when empty, since some clients fail without it;
/// `peers6` only when it is not. opentracker, too, sends `downloaded`.
pub fn write_announce_compact(out: &mut Vec<u8>, reply: &AnnounceReply<'_>) {
    let mut writer = Writer::new(out);
    write_announce_counts(&mut writer, reply);
    writer.key(b"peers");
    writer.bytes(reply.peers);
    if !reply.peers6.is_empty() {
        writer.key(b"peers6");
        writer.bytes(reply.peers6);
    }
    writer.end();
}

/// Appends the body of an announce reply with a list of dictionaries (BEP 3),
/// for `compact=0`. Peers of both families are in one list, IPv4 first.
pub fn write_announce_dictionary(out: &mut Vec<u8>, reply: &AnnounceReply<'_>) {
    let mut writer = Writer::new(out);
    write_announce_counts(&mut writer, reply);
    writer.key(b"peers");
    writer.begin_list();
    let mut ids = reply.peer_ids.as_chunks().0.iter();
    for &[a, b, c, d, high, low] in reply.peers.as_chunks().0 {
        let address = IpAddr::from([a, b, c, d]);
        let port = u16::from_be_bytes([high, low]);
        write_peer(&mut writer, address, ids.next(), port);
    }
    let mut ids = reply.peer_ids6.as_chunks().0.iter();
    for peer in reply.peers6.as_chunks::<18>().0 {
        let (address, port) = peer.split_at(16);
        let (Ok(address), Ok(port)) = (<[u8; 16]>::try_from(address), port.try_into()) else {
            continue;
        };
        let port = u16::from_be_bytes(port);
        write_peer(&mut writer, IpAddr::from(address), ids.next(), port);
    }
    writer.end();
    writer.end();
}

/// What both forms begin with: opens the dictionary, up to before `peers`.
#[inline]
pub(super) fn write_announce_counts(writer: &mut Writer<'_>, reply: &AnnounceReply<'_>) {
    writer.begin_dictionary();
    writer.key(b"complete");
    writer.unsigned(reply.counts.complete.into());
    writer.key(b"downloaded");
    writer.unsigned(reply.counts.downloaded.into());
    match reply.external_ip {
        Some(IpAddr::V4(v4)) => {
            writer.key(b"external ip");
            writer.bytes(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            writer.key(b"external ip");
            writer.bytes(&v6.octets());
        }
        None => {}
    }
    writer.key(b"incomplete");
    writer.unsigned(reply.counts.incomplete.into());
    writer.key(b"interval");
    writer.unsigned(reply.interval_seconds.into());
    writer.key(b"min interval");
    writer.unsigned(reply.min_interval_seconds.into());
}

/// One peer of the dictionary form.
fn write_peer(writer: &mut Writer<'_>, address: IpAddr, id: Option<&[u8; 20]>, port: u16) {
    // The longest IPv6 address has 45 characters.
    let mut text = [0; 48];
    let mut room = &mut text[..];
    let written = write!(room, "{address}");
    debug_assert!(written.is_ok(), "an address has at most 45 characters");
    let text_len = 48usize.saturating_sub(room.len());
    writer.begin_dictionary();
    writer.key(b"ip");
    writer.bytes(text.get(..text_len).unwrap_or_default());
    if let Some(id) = id {
        writer.key(b"peer id");
        writer.bytes(id);
    }
    writer.key(b"port");
    writer.unsigned(port.into());
    writer.end();
}

/// When a refused client may try again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryIn {
    /// After so many minutes.
    Minutes(u32),
    /// After so many seconds: as the interval of the reply too, which is what
    /// clients that do not know BEP 31 go by.
    Seconds(u32),
    /// Never: the tracker will not serve this torrent.
    Never,
}

/// Appends the body that refuses a request (BEP 3), with BEP 31's `retry in`
/// if there is something to say about that.
pub fn write_failure(out: &mut Vec<u8>, reason: &str, retry_in: Option<RetryIn>) {
    let mut writer = Writer::new(out);
    writer.begin_dictionary();
    writer.key(b"failure reason");
    writer.bytes(reason.as_bytes());
    if let Some(retry_in) = retry_in {
        if let RetryIn::Seconds(seconds) = retry_in {
            writer.key(b"interval");
            writer.unsigned(seconds.into());
            writer.key(b"min interval");
            writer.unsigned(seconds.into());
        }
        writer.key(b"retry in");
        match retry_in {
            RetryIn::Seconds(seconds) => writer.unsigned(seconds.div_ceil(60).into()),
            RetryIn::Minutes(minutes) => writer.unsigned(minutes.into()),
            RetryIn::Never => writer.bytes(b"never"),
        }
    }
    writer.end();
}

/// Appends the body of a scrape reply (BEP 48).
///
/// Sorts `files` in place, since keys have to be sorted, and writes a hash that
/// was asked for twice once. `downloaders` (BEP 21) is written only when it
/// differs from `incomplete`: clients that know it take `incomplete` for it
/// when it is missing, and almost no swarm has partial seeds.
pub fn write_scrape(out: &mut Vec<u8>, files: &mut [(InfoHash, ScrapeCounts)]) {
    files.sort_unstable_by_key(|(info_hash, _)| *info_hash);
    let mut writer = Writer::new(out);
    writer.begin_dictionary();
    writer.key(b"files");
    writer.begin_dictionary();
    let mut last = None;
    for (info_hash, counts) in files {
        if last == Some(*info_hash) {
            continue;
        }
        last = Some(*info_hash);
        writer.key(&info_hash.0);
        writer.begin_dictionary();
        writer.key(b"complete");
        writer.unsigned(counts.complete.into());
        writer.key(b"downloaded");
        writer.unsigned(counts.downloaded.into());
        if counts.downloaders != counts.incomplete {
            writer.key(b"downloaders");
            writer.unsigned(counts.downloaders.into());
        }
        writer.key(b"incomplete");
        writer.unsigned(counts.incomplete.into());
        writer.end();
    }
    writer.end();
    writer.end();
}
