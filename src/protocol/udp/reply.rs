//! Replies of the UDP tracker protocol (BEP 15), written straight into the
//! buffer that will be sent.

use super::request::AnnounceAction;
use crate::bittorrent::{AddressFamily, ScrapeCounts};
use std::fmt;

/// The largest reply over IPv4, in bytes. An Ethernet frame carries 1500; the
/// IPv4 and UDP headers take 28, and 20 more are left for PPPoE (8) and the
/// tunnels in front of home connections, since a fragmented reply is often
/// lost whole. This is also what IPv6 headers would leave of 1500.
pub const MAX_PACKET_BYTES_V4: usize = 1452;

/// The largest reply over IPv6, in bytes: routers do not fragment IPv6, so
/// only its minimum MTU of 1280 (RFC 8200, section 5) is sure to pass, less 40
/// for the IPv6 header and 8 for UDP.
pub const MAX_PACKET_BYTES_V6: usize = 1232;

/// The largest datagram that every path carries in one piece, in bytes without
/// headers. Over IPv4 that is what every host must take (576, RFC 791) less 28
/// for the headers: a router could be narrower, but none is. Over IPv6 it is
/// [`MAX_PACKET_BYTES_V6`].
#[must_use]
pub const fn sure_packet_bytes(family: AddressFamily) -> usize {
    match family {
        AddressFamily::V4 => 548,
        AddressFamily::V6 => MAX_PACKET_BYTES_V6,
    }
}

/// Bytes of a connect reply.
pub const CONNECT_REPLY_BYTES: usize = 16;
/// Bytes of an announce reply before its peers.
pub const ANNOUNCE_HEADER_BYTES: usize = 20;
/// Bytes of a scrape reply before its entries.
pub const SCRAPE_HEADER_BYTES: usize = 8;
/// Bytes of a scrape reply per info hash.
pub const SCRAPE_ENTRY_BYTES: usize = 12;
/// Bytes of an error reply before its text.
pub const ERROR_HEADER_BYTES: usize = 8;

const ACTION_CONNECT: u32 = 0;
const ACTION_SCRAPE: u32 = 2;
const ACTION_ERROR: u32 = 3;

/// The reply does not fit into the buffer that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferTooSmall;

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply does not fit into the buffer")
    }
}

impl std::error::Error for BufferTooSmall {}

/// How many peers an announce reply of at most `packet_bytes` can hold.
#[must_use]
#[inline]
pub const fn max_peers_for(packet_bytes: usize, family: AddressFamily) -> usize {
    let room = packet_bytes.saturating_sub(ANNOUNCE_HEADER_BYTES);
    match room.checked_div(family.compact_peer_bytes()) {
        Some(peers) => peers,
        None => 0,
    }
}

/// Writes a connect reply (BEP 15, "connect response"); returns its length.
///
/// # Errors
///
/// When `buffer` is shorter than [`CONNECT_REPLY_BYTES`].
#[inline]
pub fn write_connect(
    buffer: &mut [u8],
    transaction_id: u32,
    connection_id: u64,
) -> Result<usize, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.put(&ACTION_CONNECT.to_be_bytes())?;
    writer.put(&transaction_id.to_be_bytes())?;
    writer.put(&connection_id.to_be_bytes())?;
    Ok(writer.written())
}

/// Writes the part of an announce reply that precedes the peers (BEP 15, "IPv4
/// announce response"); returns its length, [`ANNOUNCE_HEADER_BYTES`]. The
/// caller writes the compact peers after it. The interval is in seconds.
///
/// # Errors
///
/// When `buffer` is shorter than [`ANNOUNCE_HEADER_BYTES`].
#[inline]
pub fn write_announce_header(
    buffer: &mut [u8],
    action: AnnounceAction,
    transaction_id: u32,
    interval_seconds: u32,
    leechers: u32,
    seeders: u32,
) -> Result<usize, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.put(&action.number().to_be_bytes())?;
    writer.put(&transaction_id.to_be_bytes())?;
    writer.put(&interval_seconds.to_be_bytes())?;
    writer.put(&leechers.to_be_bytes())?;
    writer.put(&seeders.to_be_bytes())?;
    Ok(writer.written())
}

/// Writes a scrape reply (BEP 15, "scrape response"): per hash the seeders,
/// the completed downloads and the leechers. Returns its length.
///
/// # Errors
///
/// When `buffer` is shorter than [`SCRAPE_HEADER_BYTES`] and
/// [`SCRAPE_ENTRY_BYTES`] per count.
#[inline]
pub fn write_scrape(
    buffer: &mut [u8],
    transaction_id: u32,
    counts: impl IntoIterator<Item = ScrapeCounts>,
) -> Result<usize, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.put(&ACTION_SCRAPE.to_be_bytes())?;
    writer.put(&transaction_id.to_be_bytes())?;
    for count in counts {
        writer.put(&count.complete.to_be_bytes())?;
        writer.put(&count.downloaded.to_be_bytes())?;
        writer.put(&count.incomplete.to_be_bytes())?;
    }
    Ok(writer.written())
}

/// Writes an error reply (BEP 15, "error response"); returns its length. The
/// text is an [`super::ErrorText`] or what a hook has to say.
///
/// # Errors
///
/// When `buffer` is shorter than [`ERROR_HEADER_BYTES`] and the text.
#[inline]
pub fn write_error(
    buffer: &mut [u8],
    transaction_id: u32,
    text: &str,
) -> Result<usize, BufferTooSmall> {
    let mut writer = Writer::new(buffer);
    writer.put(&ACTION_ERROR.to_be_bytes())?;
    writer.put(&transaction_id.to_be_bytes())?;
    writer.put(text.as_bytes())?;
    Ok(writer.written())
}

/// Writes the answer to a connection id that was not accepted, for a request
/// of `request_bytes`; returns its length, or `None` when nothing must be sent.
/// `text` is that of the dialect.
///
/// The sender is unverified, so its address may be a victim's. Clients need
/// the error to know that they must connect again, and an announce or a scrape
/// (36 bytes at least) is longer than the error (25 bytes; opentracker's has
/// 33). Anything shorter gets silence, so no packet is ever answered with a larger one.
#[inline]
pub fn write_bad_connection_id(
    buffer: &mut [u8],
    request_bytes: usize,
    transaction_id: u32,
    text: &str,
) -> Option<usize> {
    let written = write_error(buffer, transaction_id, text).ok()?;
    (written <= request_bytes).then_some(written)
}

/// Fills a buffer from its front.
struct Writer<'a> {
    room: &'a mut [u8],
    capacity: usize,
}

impl<'a> Writer<'a> {
    #[inline]
    const fn new(buffer: &'a mut [u8]) -> Self {
        let capacity = buffer.len();
        Self {
            room: buffer,
            capacity,
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), BufferTooSmall> {
        let room = std::mem::take(&mut self.room);
        let (head, tail) = room
            .split_at_mut_checked(bytes.len())
            .ok_or(BufferTooSmall)?;
        head.copy_from_slice(bytes);
        self.room = tail;
        Ok(())
    }

    #[inline]
    const fn written(&self) -> usize {
        self.capacity.saturating_sub(self.room.len())
    }
}
