//! The UDP tracker protocol: BEP 15, with the URL data of BEP 41.
//!
//! The way of a datagram, and who decides what:
//!
//! ```text
//! parse(packet) -> Ok(Connect)          answer with ConnectionIds::issue
//!               -> Ok(Announce|Scrape)  verify the connection id, then serve
//!               -> Err(Answer)          verify the connection id, then answer
//!               -> Err(Drop)            say nothing, count the reason
//! ```
//!
//! Until its connection id is verified, a datagram may carry a forged source
//! address. Therefore every error that could be answered carries the id, and
//! the only answer to a wrong id is [`write_bad_connection_id`], which never
//! writes more bytes than were received: karuta cannot be used to amplify.
//!
//! In opentracker's dialect [`parse_leniently`] has a second look at what would
//! be answered with an error; its texts are those of [`super::Dialect`].
//!
//! All numbers on the wire are big-endian. This module does not know whether
//! a client may name its own address: see [`resolve_address`].

mod connection_id;
mod options;
mod reply;
mod request;

pub use connection_id::{CONNECTION_ID_LIFE_SECONDS, ConnectionIds, MAX_CLOCK_SKEW_LIMIT_SECONDS};
pub use options::{UrlData, UrlDataParts};
pub use reply::{
    ANNOUNCE_HEADER_BYTES, BufferTooSmall, CONNECT_REPLY_BYTES, ERROR_HEADER_BYTES,
    MAX_PACKET_BYTES_V4, MAX_PACKET_BYTES_V6, SCRAPE_ENTRY_BYTES, SCRAPE_HEADER_BYTES,
    max_peers_for, sure_packet_bytes, write_announce_header, write_bad_connection_id,
    write_connect, write_error, write_scrape,
};
pub use request::{
    AnnounceAction, AnnounceFields, DropReason, ErrorText, MAX_SCRAPE_HASHES, PROTOCOL_ID,
    ParseError, Request, ScrapeHashes, parse, parse_leniently, resolve_address,
};
