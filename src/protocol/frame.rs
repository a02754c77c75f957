//! Ethernet frames with a UDP datagram each: the headers of Ethernet, IPv4
//! (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768), read and verified as the
//! kernel's network stack does where that is passed by, and written for replies.
//!
//! Only plain frames are read: no VLAN tag, no IP options or extension headers,
//! no fragment. [`filter`] makes the program that picks them.

pub mod filter;

use super::is_impossible;
use super::udp::sure_packet_bytes;
use crate::bittorrent::AddressFamily;
use std::net::{IpAddr, SocketAddr};

/// Bytes of a frame in front of its IP packet.
pub const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;

/// Bytes of all headers before the payload of a datagram over IPv4.
pub const IPV4_HEADERS: usize = ETHERNET_BYTES + 20 + 8;

/// Bytes of all headers before the payload of a datagram over IPv6.
pub const IPV6_HEADERS: usize = ETHERNET_BYTES + 40 + 8;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Version 4 and a header of five words: no options.
const IPV4_PLAIN: u8 = 0x45;
const PROTOCOL_UDP: u8 = 17;
/// The bits of a fragment: more to come, and where it belongs.
const FRAGMENT: u16 = 0x3fff;
const DONT_FRAGMENT: u16 = 0x4000;
/// Routers that a reply may pass: what Linux gives.
const HOPS: u8 = 64;

/// Why a frame is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// It is no plain UDP datagram, or cut short.
    Malformed,
    /// A checksum says that it was damaged.
    Checksum,
    /// Nobody can have sent it: its sender cannot be answered.
    Source,
}

/// One datagram in its frame.
#[derive(Debug)]
pub struct FrameDatagram<'a> {
    /// The payload.
    pub payload: &'a [u8],
    /// Its sender.
    pub source: SocketAddr,
    /// The headers of a reply.
    pub reply: ReplyHeaders,
}

/// The headers of a reply: those of the request with sender and receiver
/// exchanged, without what depends on the payload.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHeaders {
    /// Those of IPv4 are shorter, and the end is not used.
    bytes: [u8; IPV6_HEADERS],
    family: AddressFamily,
    /// The sum of both IP addresses for the UDP checksum.
    addresses: u32,
}

/// Reads the datagram of a frame that the filter has let through.
///
/// A UDP checksum that covers only the pseudo header counts as right: so
/// virtual interfaces hand frames over that never were on a wire (the sender
/// leaves the rest to the hardware).
///
/// # Errors
/// Why it cannot be answered.
#[inline]
pub fn read(frame: &[u8]) -> Result<FrameDatagram<'_>, BadFrame> {
    match *frame {
        // A group cannot have sent it.
        [_, _, _, _, _, _, first, ..] if first & 1 == 1 => Err(BadFrame::Source),
        [_, _, _, _, _, _, _, _, _, _, _, _, a, b, ..] => match [a, b] {
            ETHERTYPE_IPV4 => read_ipv4(frame),
            ETHERTYPE_IPV6 => read_ipv6(frame),
            _ => Err(BadFrame::Malformed),
        },
        _ => Err(BadFrame::Malformed),
    }
}

#[inline]
fn read_ipv4(frame: &[u8]) -> Result<FrameDatagram<'_>, BadFrame> {
    let (head, rest) = frame
        .split_first_chunk::<IPV4_HEADERS>()
        .ok_or(BadFrame::Malformed)?;
    let fragment = u16::from_be_bytes([head[20], head[21]]) & FRAGMENT;
    if head[14] != IPV4_PLAIN || head[23] != PROTOCOL_UDP || fragment != 0 {
        return Err(BadFrame::Malformed);
    }
    if fold(sum(&head[14..34])) != u16::MAX {
        return Err(BadFrame::Checksum);
    }
    let mut bytes = [0; IPV6_HEADERS];
    exchange(&mut bytes[..12], &head[..12]);
    bytes[12..14].copy_from_slice(&ETHERTYPE_IPV4);
    bytes[14] = IPV4_PLAIN;
    bytes[20..22].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
    bytes[22] = HOPS;
    bytes[23] = PROTOCOL_UDP;
    exchange(&mut bytes[26..34], &head[26..34]);
    exchange(&mut bytes[34..38], &head[34..38]);
    let reply = ReplyHeaders {
        bytes,
        family: AddressFamily::V4,
        addresses: sum(&head[26..34]),
    };
    let segment = u16::from_be_bytes([head[16], head[17]]).checked_sub(IPV4_BYTES);
    let ip = |a, b, c, d| IpAddr::from([a, b, c, d]);
    let source = ip(head[26], head[27], head[28], head[29]);
    let target = ip(head[30], head[31], head[32], head[33]);
    read_udp(head, rest, segment, (source, target), reply)
}

#[inline]
fn read_ipv6(frame: &[u8]) -> Result<FrameDatagram<'_>, BadFrame> {
    let (head, rest) = frame
        .split_first_chunk::<IPV6_HEADERS>()
        .ok_or(BadFrame::Malformed)?;
    if head[14] >> 4 != 6 || head[20] != PROTOCOL_UDP {
        return Err(BadFrame::Malformed);
    }
    let mut bytes = [0; IPV6_HEADERS];
    exchange(&mut bytes[..12], &head[..12]);
    bytes[12..14].copy_from_slice(&ETHERTYPE_IPV6);
    bytes[14] = 6 << 4;
    bytes[20] = PROTOCOL_UDP;
    bytes[21] = HOPS;
    exchange(&mut bytes[22..54], &head[22..54]);
    exchange(&mut bytes[54..58], &head[54..58]);
    let reply = ReplyHeaders {
        bytes,
        family: AddressFamily::V6,
        addresses: sum(&head[22..54]),
    };
    let segment = u16::from_be_bytes([head[18], head[19]]);
    let ip = |bytes: &[u8]| {
        let mut octets = [0; 16];
        octets.copy_from_slice(bytes);
        IpAddr::from(octets)
    };
    let ends = (ip(&head[22..38]), ip(&head[38..54]));
    read_udp(head, rest, Some(segment), ends, reply)
}

/// Writes what stands in `from`, two fields of one length, the other way round.
#[inline]
fn exchange(to: &mut [u8], from: &[u8]) {
    let half = from.len() / 2;
    let (first, second) = from.split_at(half);
    let (to_first, to_second) = to.split_at_mut(half);
    to_first.copy_from_slice(second);
    to_second.copy_from_slice(first);
}

/// The datagram whose UDP header ends `head`, of an IP packet with so many bytes
/// behind its own header.
#[inline]
fn read_udp<'a>(
    head: &[u8],
    rest: &'a [u8],
    segment: Option<u16>,
    (source, target): (IpAddr, IpAddr),
    reply: ReplyHeaders,
) -> Result<FrameDatagram<'a>, BadFrame> {
    let udp = head.last_chunk().ok_or(BadFrame::Malformed)?;
    let payload = payload(segment, udp, rest, &reply)?;
    let port = u16::from_be_bytes([udp[0], udp[1]]);
    if port == 0 || source == target || is_unanswerable(source) {
        return Err(BadFrame::Source);
    }
    Ok(FrameDatagram {
        payload,
        source: SocketAddr::new(source, port),
        reply,
    })
}

/// The payload of a datagram: what follows its UDP header, as long as that says,
/// if the IP packet's `segment` bytes are there and hold it, and its checksum is
/// right.
#[inline]
fn payload<'a>(
    segment: Option<u16>,
    udp: &[u8; UDP_BYTES as usize],
    rest: &'a [u8],
    reply: &ReplyHeaders,
) -> Result<&'a [u8], BadFrame> {
    let length = u16::from_be_bytes([udp[4], udp[5]]);
    let holds = |segment: u16| usize::from(segment.saturating_sub(UDP_BYTES)) <= rest.len();
    let payload = length
        .checked_sub(UDP_BYTES)
        .filter(|_| segment.is_some_and(|segment| length <= segment && holds(segment)))
        .and_then(|bytes| rest.get(..usize::from(bytes)))
        .ok_or(BadFrame::Malformed)?;
    let pseudo = pseudo(reply.addresses, length);
    let is_right = match u16::from_be_bytes([udp[6], udp[7]]) {
        0 => reply.family == AddressFamily::V4,
        given => {
            let whole = pseudo.wrapping_add(sum(udp)).wrapping_add(sum(payload));
            fold(whole) == u16::MAX || given == fold(pseudo)
        }
    };
    match is_right {
        true => Ok(payload),
        false => Err(BadFrame::Checksum),
    }
}

/// The sum of the pseudo header (RFC 768; RFC 8200, 8.1).
#[inline]
fn pseudo(addresses: u32, udp_bytes: u16) -> u32 {
    let protocol_and_length = u32::from(PROTOCOL_UDP).wrapping_add(u32::from(udp_bytes));
    addresses.wrapping_add(protocol_and_length)
}

/// Whether the kernel would take a datagram from there for forged.
fn is_unanswerable(source: IpAddr) -> bool {
    is_impossible(source)
        || source.is_loopback()
        || matches!(source, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240)
        || matches!(source, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

impl ReplyHeaders {
    /// The family of the addresses.
    #[must_use]
    #[inline]
    pub const fn family(&self) -> AddressFamily {
        self.family
    }

    /// How many bytes of a frame they take; the payload follows.
    #[must_use]
    #[inline]
    pub const fn bytes(&self) -> usize {
        match self.family {
            AddressFamily::V4 => IPV4_HEADERS,
            AddressFamily::V6 => IPV6_HEADERS,
        }
    }

    /// Writes them to the beginning of a frame whose payload lies behind
    /// [`ReplyHeaders::bytes`] already, with lengths and checksums; returns the
    /// bytes of the frame. `None` if it has no room for that much.
    ///
    /// Routers may cut an IPv4 packet that some path may be too narrow for
    /// ([`sure_packet_bytes`]): nobody here hears of narrow paths.
    #[inline]
    pub fn write(&self, frame: &mut [u8], payload_bytes: usize) -> Option<usize> {
        let udp_bytes = u16::try_from(payload_bytes).ok()?.checked_add(UDP_BYTES)?;
        let pseudo = pseudo(self.addresses, udp_bytes);
        match self.family {
            AddressFamily::V4 => {
                let total = udp_bytes.checked_add(IPV4_BYTES)?;
                let (head, rest) = frame.split_first_chunk_mut::<IPV4_HEADERS>()?;
                head.copy_from_slice(&self.bytes[..IPV4_HEADERS]);
                head[16..18].copy_from_slice(&total.to_be_bytes());
                head[38..40].copy_from_slice(&udp_bytes.to_be_bytes());
                let payload = rest.get(..payload_bytes)?;
                let udp_sum = udp_checksum(pseudo, &head[34..42], payload);
                head[40..42].copy_from_slice(&udp_sum.to_be_bytes());
                if payload_bytes > sure_packet_bytes(AddressFamily::V4) {
                    // Fragments need an identification that two replies on
                    // their way to one client hardly share. The checksum is as
                    // good as drawn by lot: the client's transaction id is in it.
                    head[18..20].copy_from_slice(&udp_sum.to_be_bytes());
                    head[20..22].copy_from_slice(&[0, 0]);
                }
                let checksum = !fold(sum(&head[14..34]));
                head[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            AddressFamily::V6 => {
                let (head, rest) = frame.split_first_chunk_mut::<IPV6_HEADERS>()?;
                head.copy_from_slice(&self.bytes);
                head[18..20].copy_from_slice(&udp_bytes.to_be_bytes());
                head[58..60].copy_from_slice(&udp_bytes.to_be_bytes());
                let payload = rest.get(..payload_bytes)?;
                let checksum = udp_checksum(pseudo, &head[54..62], payload);
                head[60..62].copy_from_slice(&checksum.to_be_bytes());
            }
        }
        self.bytes().checked_add(payload_bytes)
    }
}

/// The checksum of a datagram to send; 0 is sent as its other form, as it would
/// mean that there is none.
#[inline]
fn udp_checksum(pseudo: u32, header: &[u8], payload: &[u8]) -> u16 {
    let whole = pseudo.wrapping_add(sum(header)).wrapping_add(sum(payload));
    match !fold(whole) {
        0 => u16::MAX,
        checksum => checksum,
    }
}

/// The sum of RFC 1071 over big-endian words, not yet folded to 16 bits; small
/// enough that several can be added.
#[inline]
fn sum(bytes: &[u8]) -> u32 {
    // Eight bytes at a time, in the host's order, and turned at the end: the sum
    // does not mind (RFC 1071, section 2). 64 KiB cannot overflow it.
    let mut total = 0u64;
    let (eights, rest) = bytes.as_chunks::<8>();
    for &eight in eights {
        let eight = u64::from_ne_bytes(eight);
        total = total.wrapping_add((eight & 0xffff_ffff).wrapping_add(eight >> 32));
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for &pair in pairs {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes(pair)));
    }
    if let &[last] = last {
        total = total.wrapping_add(u64::from(u16::from_ne_bytes([last, 0])));
    }
    while total > 0xffff {
        total = (total & 0xffff).wrapping_add(total >> 16);
    }
    u32::from(u16::from_be(total as u16))
}

/// A sum in the 16 bits of a checksum.
#[inline]
const fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests;
