//! UDP tracker packets (BEP 15): prebuilt requests that are patched in place,
//! and a check of the replies.

use crate::workload::Event;

/// Length of a connect request in bytes.
pub const CONNECT_LEN: usize = 16;
/// Length of an announce request in bytes.
pub const ANNOUNCE_LEN: usize = 98;
/// Info hashes that fit one scrape (BEP 15: "up to about 74").
pub const MAX_SCRAPE_HASHES: usize = 74;
/// The id that a connect carries (BEP 15).
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// Length of a scrape request for `hashes` info hashes, in bytes.
pub const fn scrape_len(hashes: usize) -> usize {
    16 + 20 * hashes
}

/// The fields of an announce that change from packet to packet.
pub struct Announce {
    /// From the connect reply.
    pub connection_id: u64,
    /// Comes back in the reply.
    pub transaction_id: u32,
    /// The swarm.
    pub info_hash: [u8; 20],
    /// Makes the peer id distinct.
    pub peer: u64,
    /// Sent as `left` 0 instead of 1 GiB.
    pub seeder: bool,
    /// The event.
    pub event: Event,
    /// Port the peer listens on.
    pub port: u16,
}

/// Writes the parts of an announce that stay the same: action, client part of
/// the peer id, no ip, number of peers wanted (-1: the tracker's default).
pub fn prepare_announce(packet: &mut [u8; ANNOUNCE_LEN], numwant: i32) {
    packet.fill(0);
    packet[8..12].copy_from_slice(&1u32.to_be_bytes());
    packet[36..44].copy_from_slice(b"-KL0100-");
    packet[92..96].copy_from_slice(&numwant.to_be_bytes());
}

/// Patches a prepared announce.
pub fn patch_announce(packet: &mut [u8; ANNOUNCE_LEN], announce: &Announce) {
    packet[..8].copy_from_slice(&announce.connection_id.to_be_bytes());
    packet[12..16].copy_from_slice(&announce.transaction_id.to_be_bytes());
    packet[16..36].copy_from_slice(&announce.info_hash);
    packet[44..52].copy_from_slice(&announce.peer.to_be_bytes());
    let left: u64 = if announce.seeder { 0 } else { 1 << 30 };
    packet[64..72].copy_from_slice(&left.to_be_bytes());
    packet[80..84].copy_from_slice(&(announce.event as u32).to_be_bytes());
    packet[88..92].copy_from_slice(&packet_key(announce.peer).to_be_bytes());
    packet[96..98].copy_from_slice(&announce.port.to_be_bytes());
}

/// Writes a connect request.
pub fn write_connect(packet: &mut [u8; CONNECT_LEN], transaction_id: u32) {
    packet[..8].copy_from_slice(&PROTOCOL_ID.to_be_bytes());
    packet[8..12].fill(0);
    packet[12..].copy_from_slice(&transaction_id.to_be_bytes());
}

/// Writes a scrape request for as many hashes as fit `packet` exactly.
pub fn write_scrape(
    packet: &mut [u8],
    connection_id: u64,
    transaction_id: u32,
    mut hash: impl FnMut(usize) -> [u8; 20],
) {
    packet[..8].copy_from_slice(&connection_id.to_be_bytes());
    packet[8..12].copy_from_slice(&2u32.to_be_bytes());
    packet[12..16].copy_from_slice(&transaction_id.to_be_bytes());
    for (index, bytes) in packet[16..].chunks_exact_mut(20).enumerate() {
        bytes.copy_from_slice(&hash(index));
    }
}

/// A reply whose length fits its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Action 0.
    Connect {
        /// The id to use from now on.
        connection_id: u64,
    },
    /// Action 1.
    Announce {
        /// Peers handed out.
        peers: usize,
    },
    /// Action 2.
    Scrape {
        /// Swarms described.
        hashes: usize,
    },
    /// Action 3.
    Error {
        /// The tracker's words, not necessarily text.
        message: &'a [u8],
    },
}

/// Why a reply is not one of BEP 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than action and transaction id; nothing can be said of it.
    TooShort,
    /// The length does not fit the action.
    WrongLength {
        /// Transaction id of the reply.
        transaction_id: u32,
    },
    /// No such action.
    UnknownAction {
        /// Transaction id of the reply.
        transaction_id: u32,
    },
}

/// Reads a reply: its transaction id and what it says. `ipv6` tells the size
/// of a peer, 18 bytes instead of 6.
pub fn read_reply(bytes: &[u8], ipv6: bool) -> Result<(u32, Reply<'_>), Malformed> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (Some(action), Some(transaction_id)) = (word(0), word(4)) else {
        return Err(Malformed::TooShort);
    };
    let body = &bytes[8..];
    let peer_len = if ipv6 { 18 } else { 6 };
    let reply = match action {
        0 => <[u8; 8]>::try_from(body).ok().map(|id| Reply::Connect {
            connection_id: u64::from_be_bytes(id),
        }),
        1 => body
            .len()
            .checked_sub(12)
            .filter(|peers| peers % peer_len == 0)
            .map(|peers| Reply::Announce {
                peers: peers / peer_len,
            }),
        2 => body.len().is_multiple_of(12).then_some(Reply::Scrape {
            hashes: body.len() / 12,
        }),
        3 => Some(Reply::Error { message: body }),
        _ => return Err(Malformed::UnknownAction { transaction_id }),
    };
    match reply {
        Some(reply) => Ok((transaction_id, reply)),
        None => Err(Malformed::WrongLength { transaction_id }),
    }
}

fn packet_key(peer: u64) -> u32 {
    (peer ^ (peer >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_as_in_bep_15() {
        let mut packet = [0xff; CONNECT_LEN];
        write_connect(&mut packet, 0x0102_0304);
        assert_eq!(
            packet,
            *b"\x00\x00\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04"
        );
    }

    #[test]
    fn announce_is_as_in_bep_15() {
        let mut packet = [0xff; ANNOUNCE_LEN];
        prepare_announce(&mut packet, 30);
        let mut announce = Announce {
            connection_id: 0x1112_1314_1516_1718,
            transaction_id: 0x2122_2324,
            info_hash: *b"ABCDEFGHIJKLMNOPQRST",
            peer: 0x3132_3334_3536_3738,
            seeder: false,
            event: Event::Started,
            port: 6881,
        };
        patch_announce(&mut packet, &announce);
        let mut expected: Vec<u8> = Vec::new();
        expected.extend(b"\x11\x12\x13\x14\x15\x16\x17\x18"); // connection id
        expected.extend(b"\0\0\0\x01"); // action
        expected.extend(b"\x21\x22\x23\x24"); // transaction id
        expected.extend(b"ABCDEFGHIJKLMNOPQRST"); // info hash
        expected.extend(b"-KL0100-12345678\0\0\0\0"); // peer id
        expected.extend(b"\0\0\0\0\0\0\0\0"); // downloaded
        expected.extend(b"\0\0\0\0\x40\0\0\0"); // left
        expected.extend(b"\0\0\0\0\0\0\0\0"); // uploaded
        expected.extend(b"\0\0\0\x02"); // event
        expected.extend(b"\0\0\0\0"); // ip
        expected.extend(b"\x04\x04\x04\x0c"); // key
        expected.extend(b"\0\0\0\x1e"); // numwant
        expected.extend(b"\x1a\xe1"); // port
        assert_eq!(packet[..], expected[..]);

        announce.seeder = true;
        announce.event = Event::None;
        patch_announce(&mut packet, &announce);
        assert_eq!(packet[64..72], [0; 8]);
        assert_eq!(packet[80..84], [0; 4]);
    }

    #[test]
    fn scrape_is_as_in_bep_15() {
        let mut packet = [0; scrape_len(2)];
        write_scrape(&mut packet, 1, 2, |n| [b'a' + n as u8; 20]);
        let expected =
            b"\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x02aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb";
        assert_eq!(packet, *expected);
    }

    #[test]
    fn replies_are_read() {
        let tid = b"\0\0\0\x07";
        let reply = |action: u8, body: &[u8]| [&[0, 0, 0, action], &tid[..], body].concat();
        let read = |bytes: &[u8], ipv6| read_reply(bytes, ipv6).map(|r| format!("{r:?}"));
        let ok = |text: &str| Ok(format!("(7, {text})"));
        assert_eq!(
            read(&reply(0, &[0, 0, 0, 0, 0, 0, 1, 0]), false),
            ok("Connect { connection_id: 256 }")
        );
        assert_eq!(
            read(&reply(1, &[0; 12 + 18]), false),
            ok("Announce { peers: 3 }")
        );
        assert_eq!(
            read(&reply(1, &[0; 12 + 18]), true),
            ok("Announce { peers: 1 }")
        );
        assert_eq!(read(&reply(2, &[0; 24]), true), ok("Scrape { hashes: 2 }"));
        assert_eq!(
            read(&reply(3, b"no"), true),
            ok("Error { message: [110, 111] }")
        );
    }

    #[test]
    fn malformed_replies_are_told_apart() {
        let wrong = Err(Malformed::WrongLength { transaction_id: 7 });
        let reply =
            |action: u8, body: usize| [vec![0, 0, 0, action, 0, 0, 0, 7], vec![0; body]].concat();
        assert_eq!(read_reply(&reply(0, 7), false), wrong);
        assert_eq!(read_reply(&reply(0, 9), false), wrong);
        assert_eq!(read_reply(&reply(1, 0), false), wrong);
        assert_eq!(read_reply(&reply(1, 12 + 7), false), wrong);
        assert_eq!(read_reply(&reply(1, 12 + 6), true), wrong);
        assert_eq!(read_reply(&reply(2, 13), false), wrong);
        assert_eq!(
            read_reply(&reply(4, 0), false),
            Err(Malformed::UnknownAction { transaction_id: 7 })
        );
        for len in 0..8 {
            assert_eq!(read_reply(&[0; 8][..len], false), Err(Malformed::TooShort));
        }
    }
}
