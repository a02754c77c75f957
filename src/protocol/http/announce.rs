//! The query of an announce over HTTP (BEP 3; `compact`: BEP 23; `ipv4` and
//! `ipv6`: BEP 7; `paused`: BEP 21), validated, and where its peer is found.

use super::percent::{self, InvalidEscape};
use super::query::{self, KeyBuffer};
use crate::bittorrent::{Announce, Event, InfoHash, PeerId};
use crate::protocol::is_impossible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How many peers a reply holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumWantLimits {
    /// When the client does not say (`default_numwant`).
    pub default: u32,
    /// At most (`max_numwant`).
    pub max: u32,
}

impl NumWantLimits {
    /// How many to answer with, given what the client asked for; a negative
    /// number stands for the default.
    #[must_use]
    #[inline]
    pub fn clamp(&self, asked: Option<i64>) -> u32 {
        let wanted = match asked {
            Some(asked) => {
                u32::try_from(asked).unwrap_or(if asked < 0 { self.default } else { self.max })
            }
            None => self.default,
        };
        wanted.min(self.max)
    }
}

/// The parameters of an announce. The `ip` parameters are still undecided:
/// see [`resolve_address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceQuery<'a> {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Where the peer listens, 1 to 65535.
    pub port: u16,
    /// Bytes still to download.
    pub left: u64,
    /// Bytes downloaded in this session, as the client says.
    pub downloaded: u64,
    /// Bytes uploaded in this session, as the client says.
    pub uploaded: u64,
    /// Why it announces.
    pub event: Event,
    /// How many peers to answer with, clamped.
    pub num_want: u32,
    /// Whether to answer in compact form: unless `compact=0` (BEP 23).
    pub compact: bool,
    /// Whether peer ids may be left out of the dictionary form (`no_peer_id`).
    pub no_peer_id: bool,
    /// The addresses that the client claims.
    pub claimed: ClaimedAddresses<'a>,
}

impl AnnounceQuery<'_> {
    /// The announce, once the address is known.
    #[must_use]
    #[inline]
    pub const fn to_announce(&self, ip: IpAddr) -> Announce {
        Announce {
            info_hash: self.info_hash,
            peer_id: self.peer_id,
            ip,
            port: self.port,
            event: self.event,
            left: self.left,
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            num_want: self.num_want,
        }
    }
}

/// What a client says about its own address: the values of its parameters,
/// still percent-encoded (with valid escapes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimedAddresses<'a> {
    /// `ip` (BEP 3).
    pub ip: Option<&'a [u8]>,
    /// `ipv4` (BEP 7).
    pub ipv4: Option<&'a [u8]>,
    /// `ipv6` (BEP 7).
    pub ipv6: Option<&'a [u8]>,
}

/// A parameter that must be a number, or must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the parameter of its name")]
pub enum Parameter {
    PeerId,
    Left,
    Downloaded,
    Uploaded,
    NumWant,
    Port,
}

/// Why a request is refused: the `failure reason`, with Chihaya's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A `%` without two hexadecimal digits, anywhere in the query.
    InvalidEscape,
    /// An `info_hash` that has not 20 bytes.
    InvalidInfoHash,
    /// `event` is none of those known.
    InvalidEvent,
    /// There is no `info_hash`.
    NoInfoHash,
    /// An announce has more than one `info_hash`.
    MultipleInfoHashes,
    /// The parameter is missing or not a number in its range.
    Unparsable(Parameter),
    /// `peer_id` has not 20 bytes.
    InvalidPeerId,
    /// `port` is 0.
    InvalidPort,
    /// The claimed or forwarded address is none.
    UnparsableIp,
    /// The address is one that no peer can have.
    InvalidIp,
    /// A proxy that is trusted to name its client does not.
    NoForwardedAddress,
}

impl Failure {
    /// The text sent to the client.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEscape => "invalid query escape",
            Self::InvalidInfoHash => "provided invalid infohash",
            Self::InvalidEvent => "failed to provide valid client event",
            Self::NoInfoHash => "no info_hash parameter supplied",
            Self::MultipleInfoHashes => "multiple info_hash parameters supplied",
            Self::Unparsable(Parameter::PeerId) => "failed to parse parameter: peer_id",
            Self::Unparsable(Parameter::Left) => "failed to parse parameter: left",
            Self::Unparsable(Parameter::Downloaded) => "failed to parse parameter: downloaded",
            Self::Unparsable(Parameter::Uploaded) => "failed to parse parameter: uploaded",
            Self::Unparsable(Parameter::NumWant) => "failed to parse parameter: numwant",
            Self::Unparsable(Parameter::Port) => "failed to parse parameter: port",
            Self::InvalidPeerId => "failed to provide valid peer_id",
            Self::InvalidPort => "invalid port",
            Self::UnparsableIp => "failed to parse peer IP address",
            Self::InvalidIp => "invalid IP",
            Self::NoForwardedAddress => "proxy did not name the client's address",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Failure {}

impl From<InvalidEscape> for Failure {
    fn from(InvalidEscape: InvalidEscape) -> Self {
        Self::InvalidEscape
    }
}

/// Reads the query of an announce.
///
/// Keys are case-insensitive, the last of several values counts. Unknown keys
/// are ignored (`key`, `trackerid`, `supportcrypto` and their like), but their
/// escapes have to be valid, as in Chihaya.
///
/// # Errors
///
/// The first [`Failure`] in Chihaya's order: escapes and info hashes as they
/// come; then event, number of info hashes, peer id, left, downloaded,
/// uploaded, numwant, port.
pub fn parse_announce(query: &[u8], limits: NumWantLimits) -> Result<AnnounceQuery<'_>, Failure> {
    let raw = RawParameters::collect(query)?;
    let event = match raw.event {
        Some(value) => event_from_value(value)?,
        None => Event::None,
    };
    let info_hash = match (raw.info_hash, raw.several_info_hashes) {
        (None, _) => return Err(Failure::NoInfoHash),
        (Some(_), true) => return Err(Failure::MultipleInfoHashes),
        (Some(info_hash), false) => info_hash,
    };
    let peer_id = raw
        .peer_id
        .ok_or(Failure::Unparsable(Parameter::PeerId))
        .and_then(|value| percent::decode_exact(value)?.ok_or(Failure::InvalidPeerId))?;
    let left = required_number(raw.left, Parameter::Left)?;
    let downloaded = required_number(raw.downloaded, Parameter::Downloaded)?;
    let uploaded = required_number(raw.uploaded, Parameter::Uploaded)?;
    let num_want = num_want(raw.num_want, limits)?;
    let port = required_number(raw.port, Parameter::Port)?;
    let port = u16::try_from(port).map_err(|_| Failure::Unparsable(Parameter::Port))?;
    if port == 0 {
        return Err(Failure::InvalidPort);
    }
    Ok(AnnounceQuery {
        info_hash,
        peer_id: PeerId(peer_id),
        port,
        left,
        downloaded,
        uploaded,
        event,
        num_want,
        compact: !raw.compact.is_some_and(is_zero),
        no_peer_id: raw.no_peer_id.is_some_and(|value| !is_zero(value)),
        claimed: raw.claimed,
    })
}

/// Where other peers shall find this one: the first there is of
///
/// 1. the parameters `ip`, `ipv4`, `ipv6`, if `allow_ip_spoofing`;
/// 2. the value of the configured `real_ip_header`, if the request has it;
/// 3. the other end of the connection.
///
/// An IPv4-mapped IPv6 address becomes IPv4. BEP 7 lets clients add a port to
/// `ipv4` and `ipv6`; it is ignored in favour of `port`. Who trusts the header
/// (all proxies, for now) is the caller's business: it passes `None` if not.
///
/// # Errors
///
/// [`Failure::UnparsableIp`] when the first there is is no address (BEP 3's
/// host names are not resolved), [`Failure::InvalidIp`] when it is unspecified,
/// multicast or broadcast.
pub fn resolve_address(
    claimed: &ClaimedAddresses<'_>,
    allow_ip_spoofing: bool,
    real_ip_header_value: Option<&[u8]>,
    socket_address: IpAddr,
) -> Result<IpAddr, Failure> {
    let parameter = claimed.ip.or(claimed.ipv4).or(claimed.ipv6);
    let address = match (parameter, real_ip_header_value) {
        (Some(raw), _) if allow_ip_spoofing => {
            // Room for the longest IPv6 address with zone and port.
            let mut buffer = [0; 64];
            percent::decode_into(raw, &mut buffer)?.and_then(|value| address_from_bytes(value))
        }
        (_, Some(value)) => address_from_bytes(value),
        _ => Some(socket_address),
    };
    let address = address.ok_or(Failure::UnparsableIp)?.to_canonical();
    if is_impossible(address) {
        Err(Failure::InvalidIp)
    } else {
        Ok(address)
    }
}

fn address_from_bytes(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
}

/// The values that count, before they are understood.
#[derive(Default)]
struct RawParameters<'a> {
    info_hash: Option<InfoHash>,
    several_info_hashes: bool,
    peer_id: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    left: Option<&'a [u8]>,
    downloaded: Option<&'a [u8]>,
    uploaded: Option<&'a [u8]>,
    event: Option<&'a [u8]>,
    num_want: Option<&'a [u8]>,
    compact: Option<&'a [u8]>,
    no_peer_id: Option<&'a [u8]>,
    claimed: ClaimedAddresses<'a>,
}

impl<'a> RawParameters<'a> {
    fn collect(query: &'a [u8]) -> Result<Self, Failure> {
        let mut raw = Self::default();
        let mut buffer = KeyBuffer::default();
        for (raw_key, value) in query::pairs(query) {
            let key = buffer.decode(raw_key)?.unwrap_or_default();
            if key == b"info_hash" {
                let info_hash = percent::decode_exact(value)?.ok_or(Failure::InvalidInfoHash)?;
                raw.several_info_hashes = raw.info_hash.is_some();
                raw.info_hash = Some(InfoHash(info_hash));
                continue;
            }
            percent::validate(value)?;
            let slot = match key {
                b"peer_id" => &mut raw.peer_id,
                b"port" => &mut raw.port,
                b"left" => &mut raw.left,
                b"downloaded" => &mut raw.downloaded,
                b"uploaded" => &mut raw.uploaded,
                b"event" => &mut raw.event,
                b"numwant" => &mut raw.num_want,
                b"compact" => &mut raw.compact,
                b"no_peer_id" => &mut raw.no_peer_id,
                b"ip" => &mut raw.claimed.ip,
                b"ipv4" => &mut raw.claimed.ipv4,
                b"ipv6" => &mut raw.claimed.ipv6,
                _ => continue,
            };
            *slot = Some(value);
        }
        Ok(raw)
    }
}

fn event_from_value(raw: &[u8]) -> Result<Event, Failure> {
    let mut buffer = KeyBuffer::default();
    match buffer.decode(raw)? {
        Some(b"" | b"none") => Ok(Event::None),
        Some(b"started") => Ok(Event::Started),
        Some(b"stopped") => Ok(Event::Stopped),
        Some(b"completed") => Ok(Event::Completed),
        Some(b"paused") => Ok(Event::Paused),
        _ => Err(Failure::InvalidEvent),
    }
}

fn num_want(raw: Option<&[u8]>, limits: NumWantLimits) -> Result<u32, Failure> {
    let unparsable = Failure::Unparsable(Parameter::NumWant);
    let Some(raw) = raw else {
        return Ok(limits.clamp(None));
    };
    let mut buffer = [0; 32];
    let digits = percent::decode_into(raw, &mut buffer)?.ok_or(unparsable)?;
    let (negative, digits) = match digits.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, &*digits),
    };
    match number(digits) {
        Err(NotANumber::Malformed) => Err(unparsable),
        // More than any limit, on either side.
        Ok(_) | Err(NotANumber::TooLarge) if negative => Ok(limits.clamp(Some(-1))),
        Err(NotANumber::TooLarge) => Ok(limits.clamp(Some(i64::MAX))),
        Ok(asked) => Ok(limits.clamp(Some(i64::try_from(asked).unwrap_or(i64::MAX)))),
    }
}

fn required_number(raw: Option<&[u8]>, parameter: Parameter) -> Result<u64, Failure> {
    let unparsable = Failure::Unparsable(parameter);
    let raw = raw.ok_or(unparsable)?;
    // 20 digits hold any u64; leading zeros beyond 32 are refused.
    let mut buffer = [0; 32];
    let digits = percent::decode_into(raw, &mut buffer)?.ok_or(unparsable)?;
    number(digits).map_err(|_| unparsable)
}

enum NotANumber {
    Malformed,
    TooLarge,
}

/// Decimal digits and nothing else: no sign, no space.
fn number(digits: &[u8]) -> Result<u64, NotANumber> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotANumber::Malformed);
    }
    digits
        .iter()
        .try_fold(0u64, |value, digit| {
            value
                .checked_mul(10)?
                .checked_add(u64::from(digit.wrapping_sub(b'0')))
        })
        .ok_or(NotANumber::TooLarge)
}

fn is_zero(raw: &[u8]) -> bool {
    percent::decode(raw).eq([Ok(b'0')])
}
