//! Requests of the UDP tracker protocol (BEP 15, with BEP 41 options).

use super::options::UrlData;
use crate::bittorrent::{Event, InfoHash, PeerId};
use crate::protocol::is_impossible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a connect request carries in place of a connection id (BEP 15,
/// "connect request").
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// How many hashes one scrape may ask for (BEP 15, "scrape request": "up to
/// about 74 torrents can be scraped at once").
pub const MAX_SCRAPE_HASHES: usize = 74;

const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_SCRAPE: u32 = 2;
const ACTION_ANNOUNCE_OLD_IPV6: u32 = 4;

const INFO_HASH_BYTES: usize = 20;

/// One well-formed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Asks for a connection id.
    Connect {
        /// Chosen by the client, repeated in the answer.
        transaction_id: u32,
    },
    /// Announces a peer.
    Announce {
        /// To be verified before anything else is done.
        connection_id: u64,
        /// Chosen by the client, repeated in the answer.
        transaction_id: u32,
        /// What is announced.
        announce: AnnounceFields<'a>,
    },
    /// Asks for the counts of some swarms.
    Scrape {
        /// To be verified before anything else is done.
        connection_id: u64,
        /// Chosen by the client, repeated in the answer.
        transaction_id: u32,
        /// At least one hash, except from [`parse_leniently`].
        info_hashes: ScrapeHashes<'a>,
    },
}

impl Request<'_> {
    /// The connection id to verify; a connect request has none.
    #[must_use]
    #[inline]
    pub const fn connection_id(&self) -> Option<u64> {
        match self {
            Self::Connect { .. } => None,
            Self::Announce { connection_id, .. } | Self::Scrape { connection_id, .. } => {
                Some(*connection_id)
            }
        }
    }

    /// The number that the answer has to repeat.
    #[must_use]
    #[inline]
    pub const fn transaction_id(&self) -> u32 {
        match self {
            Self::Connect { transaction_id }
            | Self::Announce { transaction_id, .. }
            | Self::Scrape { transaction_id, .. } => *transaction_id,
        }
    }
}

/// The action number of an announce, repeated in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceAction {
    /// Action 1 (BEP 15).
    Standard,
    /// Action 4: how opentracker once carried IPv6, with a 16-byte address
    /// field. Chihaya still answers it.
    OldIpv6,
}

impl AnnounceAction {
    /// The number on the wire.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u32 {
        match self {
            Self::Standard => ACTION_ANNOUNCE,
            Self::OldIpv6 => ACTION_ANNOUNCE_OLD_IPV6,
        }
    }
}

/// The fields of an announce (BEP 15, "IPv4 announce request").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceFields<'a> {
    /// Which of the two forms it came in.
    pub action: AnnounceAction,
    /// Which torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Bytes downloaded in this session, as the client says.
    pub downloaded: u64,
    /// Bytes still to download.
    pub left: u64,
    /// Bytes uploaded in this session, as the client says.
    pub uploaded: u64,
    /// Why it announces.
    pub event: Event,
    /// The address that the client claims; `None` when the field is zero,
    /// which means "use the source of the packet". Never IPv4-mapped IPv6.
    pub claimed_ip: Option<IpAddr>,
    /// A random number of the client's that outlives a change of address.
    pub key: u32,
    /// How many peers are wanted; negative means the tracker's default.
    pub num_want: i32,
    /// Where the peer listens, 1 to 65535; from [`parse_leniently`] also 0.
    pub port: u16,
    /// Path and query of the tracker's URL (BEP 41).
    pub url_data: UrlData<'a>,
}

/// The info hashes of a scrape, borrowed from the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeHashes<'a> {
    hashes: &'a [[u8; INFO_HASH_BYTES]],
}

impl<'a> ScrapeHashes<'a> {
    /// How many there are.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none; so only from [`parse_leniently`].
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The first `max` of them: what is answered when a client asks for more
    /// than the configuration allows.
    #[must_use]
    pub fn truncated(self, max: usize) -> Self {
        Self {
            hashes: self.hashes.get(..max).unwrap_or(self.hashes),
        }
    }

    /// The hashes, in the order of the request.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = InfoHash> + Clone + use<'a> {
        self.hashes.iter().map(|bytes| InfoHash(*bytes))
    }
}

/// Why a datagram is not a request, and whether it may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not worth an answer.
    Drop(DropReason),
    /// May be answered with an error, but only after the connection id was
    /// verified: until then its source address may be forged.
    Answer {
        /// To be verified first.
        connection_id: u64,
        /// Repeated in the answer.
        transaction_id: u32,
        /// What to answer.
        error: ErrorText,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop(reason) => write!(f, "dropped: {reason}"),
            Self::Answer { error, .. } => f.write_str(error.as_str()),
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Under 16 bytes: no request is that short.
    TooShort,
    /// A connect request whose first eight bytes are not [`PROTOCOL_ID`].
    WrongProtocolId,
    /// Too short for its action, or an unknown action ([`parse_leniently`]).
    Malformed,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "shorter than 16 bytes",
            Self::WrongProtocolId => "connect request with a wrong protocol id",
            Self::Malformed => "malformed",
        })
    }
}

/// The texts of error replies, as Chihaya writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorText {
    /// The packet is too short for its action.
    MalformedPacket,
    /// The address of the peer cannot be one.
    MalformedIp,
    /// The event is none of those known.
    MalformedEvent,
    /// The action is none of those known.
    UnknownAction,
    /// The connection id was not issued to this address, or too long ago.
    BadConnectionId,
    /// The port is 0.
    InvalidPort,
}

impl ErrorText {
    /// The text sent to the client.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedPacket => "malformed packet",
            Self::MalformedIp => "malformed IP address",
            Self::MalformedEvent => "malformed event ID",
            Self::UnknownAction => "unknown action ID",
            Self::BadConnectionId => "bad connection ID",
            Self::InvalidPort => "invalid port",
        }
    }
}

/// Reads one datagram.
///
/// Decides in this order: length of the header, action, protocol id of a
/// connect, length for the action, event, port.
///
/// # Errors
///
/// See [`ParseError`]: it says whether an answer is allowed.
#[inline(always)]
pub fn parse(packet: &[u8]) -> Result<Request<'_>, ParseError> {
    let mut fields = Fields(packet);
    let header = (|| Some((fields.u64()?, fields.u32()?, fields.u32()?)))();
    let Some((connection_id, action, transaction_id)) = header else {
        return Err(ParseError::Drop(DropReason::TooShort));
    };
    let answer = |error| ParseError::Answer {
        connection_id,
        transaction_id,
        error,
    };
    let announced = |form| match parse_announce(fields, form) {
        Ok(announce) => Ok(Request::Announce {
            connection_id,
            transaction_id,
            announce,
        }),
        Err(error) => Err(answer(error)),
    };
    match action {
        ACTION_CONNECT if connection_id == PROTOCOL_ID => Ok(Request::Connect { transaction_id }),
        ACTION_CONNECT => Err(ParseError::Drop(DropReason::WrongProtocolId)),
        ACTION_ANNOUNCE => announced(AnnounceAction::Standard),
        ACTION_ANNOUNCE_OLD_IPV6 => announced(AnnounceAction::OldIpv6),
        ACTION_SCRAPE => {
            // A tail that is no whole hash is ignored: some clients pad.
            let (hashes, _tail) = fields.0.as_chunks::<INFO_HASH_BYTES>();
            if hashes.is_empty() {
                return Err(answer(ErrorText::MalformedPacket));
            }
            Ok(Request::Scrape {
                connection_id,
                transaction_id,
                info_hashes: ScrapeHashes { hashes },
            })
        }
        _ => Err(answer(ErrorText::UnknownAction)),
    }
}

/// Reads a datagram to which [`parse`] would answer with an error, as
/// opentracker does: a strange event is none, a port of 0 is one (the tracker
/// then keeps it to itself), a scrape may be of nothing, and what is too short
/// or has an unknown action gets no answer.
///
/// # Errors
///
/// Always [`ParseError::Drop`].
#[cold]
pub fn parse_leniently(packet: &[u8]) -> Result<Request<'_>, ParseError> {
    let mut fields = Fields(packet);
    let header = (|| Some((fields.u64()?, fields.u32()?, fields.u32()?)))();
    let Some((connection_id, action, transaction_id)) = header else {
        return Err(ParseError::Drop(DropReason::TooShort));
    };
    let form = match action {
        ACTION_ANNOUNCE => AnnounceAction::Standard,
        ACTION_ANNOUNCE_OLD_IPV6 => AnnounceAction::OldIpv6,
        ACTION_SCRAPE => {
            return Ok(Request::Scrape {
                connection_id,
                transaction_id,
                info_hashes: ScrapeHashes { hashes: &[] },
            });
        }
        _ => return Err(ParseError::Drop(DropReason::Malformed)),
    };
    let (announce, event) =
        read_announce(fields, form).ok_or(ParseError::Drop(DropReason::Malformed))?;
    Ok(Request::Announce {
        connection_id,
        transaction_id,
        announce: AnnounceFields {
            event: event_from_number(event).unwrap_or_default(),
            ..announce
        },
    })
}

/// Reads what follows the 16-byte header of an announce.
#[inline]
fn parse_announce(
    fields: Fields<'_>,
    action: AnnounceAction,
) -> Result<AnnounceFields<'_>, ErrorText> {
    let (announce, event) = read_announce(fields, action).ok_or(ErrorText::MalformedPacket)?;
    let event = event_from_number(event).ok_or(ErrorText::MalformedEvent)?;
    if announce.port == 0 {
        return Err(ErrorText::InvalidPort);
    }
    Ok(AnnounceFields { event, ..announce })
}

/// The fields as they come, with the number of the event, which is still to be
/// understood.
#[inline]
fn read_announce(
    mut fields: Fields<'_>,
    action: AnnounceAction,
) -> Option<(AnnounceFields<'_>, u32)> {
    let info_hash = InfoHash(*fields.array()?);
    let peer_id = PeerId(*fields.array()?);
    let downloaded = fields.u64()?;
    let left = fields.u64()?;
    let uploaded = fields.u64()?;
    let event = fields.u32()?;
    let claimed_ip: IpAddr = match action {
        AnnounceAction::Standard => Ipv4Addr::from(*fields.array::<4>()?).into(),
        AnnounceAction::OldIpv6 => {
            IpAddr::from(Ipv6Addr::from(*fields.array::<16>()?)).to_canonical()
        }
    };
    let key = fields.u32()?;
    let num_want = fields.u32()?.cast_signed();
    let port = u16::from_be_bytes(*fields.array()?);
    let announce = AnnounceFields {
        action,
        info_hash,
        peer_id,
        downloaded,
        left,
        uploaded,
        event: Event::None,
        claimed_ip: (!claimed_ip.is_unspecified()).then_some(claimed_ip),
        key,
        num_want,
        port,
        url_data: UrlData::new(fields.0),
    };
    Some((announce, event))
}

/// BEP 15 numbers the events 0 to 3. It knows no number for `paused` (BEP 21);
/// libtorrent-rasterbar, which most clients are built on, lists `paused` after
/// `stopped` in the enumeration that it writes to the wire, so 4 is what a
/// partial seed sends.
const fn event_from_number(number: u32) -> Option<Event> {
    Some(match number {
        0 => Event::None,
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        4 => Event::Paused,
        _ => return None,
    })
}

/// Where other peers shall find this one (BEP 15: an address field of 0 means
/// the source of the packet).
///
/// A claimed address counts only when `allow_ip_spoofing` is set and it is of
/// the source's family: BEP 15 ties the form of the reply to the family of the
/// packet, so a peer filed in the other family could not read its answer.
///
/// # Errors
///
/// [`ErrorText::MalformedIp`] when the address is one that no peer can have:
/// unspecified, multicast or broadcast.
#[inline]
pub fn resolve_address(
    claimed: Option<IpAddr>,
    allow_ip_spoofing: bool,
    source: IpAddr,
) -> Result<IpAddr, ErrorText> {
    // Each family by itself: an address then stays in a register.
    let address = match source.to_canonical() {
        IpAddr::V4(source) => IpAddr::V4(match claimed {
            Some(IpAddr::V4(claimed)) if allow_ip_spoofing => claimed,
            _ => source,
        }),
        IpAddr::V6(source) => IpAddr::V6(match claimed {
            Some(IpAddr::V6(claimed)) if allow_ip_spoofing => claimed,
            _ => source,
        }),
    };
    if is_impossible(address) {
        Err(ErrorText::MalformedIp)
    } else {
        Ok(address)
    }
}

/// What is left of a packet; each read takes from its front.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    #[inline]
    fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    #[inline]
    fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }
}
