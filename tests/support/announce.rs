//! Requests as the BEPs write them, and the announce reply that both protocols
//! give: BEP 15 for datagrams, BEP 3 and 23 for HTTP.

use karuta::bittorrent::AddressFamily;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One announce over UDP (BEP 15), or over HTTP (BEP 3).
#[derive(Clone, Debug)]
pub struct Announce {
    pub hash: [u8; 20],
    pub peer_id: [u8; 20],
    pub left: u64,
    pub event: u32,
    pub ip: Ipv4Addr,
    pub num_want: i32,
    pub port: u16,
    /// What follows the fixed part (BEP 41).
    pub options: Vec<u8>,
}

pub const COMPLETED: u32 = 1;
pub const STARTED: u32 = 2;
pub const STOPPED: u32 = 3;

impl Announce {
    pub fn leecher(hash: [u8; 20], port: u16) -> Self {
        Self {
            hash,
            peer_id: *b"-KT0100-bbbbbbbbbbbb",
            left: 1000,
            event: 0,
            ip: Ipv4Addr::UNSPECIFIED,
            num_want: -1,
            port,
            options: Vec::new(),
        }
    }

    pub fn seeder(hash: [u8; 20], port: u16) -> Self {
        Self {
            left: 0,
            ..Self::leecher(hash, port)
        }
    }

    pub fn event(self, event: u32) -> Self {
        Self { event, ..self }
    }

    pub fn want(self, num_want: i32) -> Self {
        Self { num_want, ..self }
    }

    /// Action 1.
    pub fn packet(&self, connection_id: u64, transaction_id: u32) -> Vec<u8> {
        self.datagram(1, &self.ip.octets(), connection_id, transaction_id)
    }

    /// Action 4, with an address field of 16 bytes.
    pub fn packet4(&self, ip: Ipv6Addr, connection_id: u64, transaction_id: u32) -> Vec<u8> {
        self.datagram(4, &ip.octets(), connection_id, transaction_id)
    }

    fn datagram(&self, action: u32, ip: &[u8], connection_id: u64, tid: u32) -> Vec<u8> {
        let mut out = connection_id.to_be_bytes().to_vec();
        out.extend(action.to_be_bytes());
        out.extend(tid.to_be_bytes());
        out.extend(self.hash);
        out.extend(self.peer_id);
        out.extend(7u64.to_be_bytes());
        out.extend(self.left.to_be_bytes());
        out.extend(9u64.to_be_bytes());
        out.extend(self.event.to_be_bytes());
        out.extend(ip);
        out.extend(0x6b65_7900u32.to_be_bytes());
        out.extend(self.num_want.to_be_bytes());
        out.extend(self.port.to_be_bytes());
        out.extend(&self.options);
        out
    }

    /// The target of the same request over HTTP.
    pub fn target(&self) -> String {
        let event = ["", "completed", "started", "stopped"][self.event as usize];
        let mut target = format!(
            "/announce?info_hash={}&peer_id={}&port={}&uploaded=9&downloaded=7&left={}&event={event}",
            percent(&self.hash),
            percent(&self.peer_id),
            self.port,
            self.left,
        );
        if self.num_want >= 0 {
            target.push_str(&format!("&numwant={}", self.num_want));
        }
        target
    }
}

/// Every byte percent-encoded.
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

pub fn scrape_target(hashes: &[[u8; 20]]) -> String {
    let parts: Vec<String> = hashes
        .iter()
        .map(|hash| format!("info_hash={}", percent(hash)))
        .collect();
    format!("/scrape?{}", parts.join("&"))
}

pub fn scrape_packet(connection_id: u64, transaction_id: u32, hashes: &[[u8; 20]]) -> Vec<u8> {
    let mut packet = connection_id.to_be_bytes().to_vec();
    packet.extend(2u32.to_be_bytes());
    packet.extend(transaction_id.to_be_bytes());
    packet.extend(hashes.concat());
    packet
}

/// What an announce was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub interval: u32,
    pub leechers: u32,
    pub seeders: u32,
    /// In the order of the reply.
    pub peers: Vec<SocketAddr>,
}

impl Announced {
    pub fn read(reply: &[u8], action: u32, transaction_id: u32, family: AddressFamily) -> Self {
        assert!(reply.len() >= 20, "{reply:?}");
        assert_eq!(word(reply, 0), action, "{reply:?}");
        assert_eq!(word(reply, 4), transaction_id);
        Self {
            interval: word(reply, 8),
            leechers: word(reply, 12),
            seeders: word(reply, 16),
            peers: compact(&reply[20..], family),
        }
    }

    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.peers.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports
    }

    /// Seeders, leechers.
    pub fn counts(&self) -> (u32, u32) {
        (self.seeders, self.leechers)
    }
}

pub fn compact(bytes: &[u8], family: AddressFamily) -> Vec<SocketAddr> {
    let peer = |chunk: &[u8]| {
        let (ip, port) = chunk.split_at(chunk.len() - 2);
        let ip = match <[u8; 4]>::try_from(ip) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).expect("16 bytes")),
        };
        SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]]))
    };
    let stride = match family {
        AddressFamily::V4 => 6,
        AddressFamily::V6 => 18,
    };
    assert_eq!(bytes.len() % stride, 0, "whole peers");
    bytes.chunks(stride).map(peer).collect()
}

pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
