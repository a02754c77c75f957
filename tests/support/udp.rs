//! A client of the UDP protocol (BEP 15).

use super::{Announce, Announced, V4, V6, WATCHDOG, scrape_packet, uninterrupted, word};
use karuta::bittorrent::AddressFamily;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A client of UDP with a connection id.
pub struct Udp {
    pub socket: UdpSocket,
    pub id: u64,
    pub family: AddressFamily,
    transaction_id: u32,
}

impl Udp {
    /// Connects from any address of this host's loopback to the server.
    pub fn new(server: SocketAddr) -> Self {
        let local = if server.is_ipv4() { V4 } else { V6 };
        Self::from(local, server)
    }

    /// Connects from this address. Only datagrams from the very address of
    /// the server are received.
    pub fn from(local: IpAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).expect("bind");
        socket.connect(server).expect("connect");
        socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
        let mut client = Self {
            socket,
            id: 0,
            family: AddressFamily::of(&local),
            transaction_id: 0x0a0b_0c00,
        };
        client.id = client.connect();
        client
    }

    pub fn next_id(&mut self) -> u32 {
        self.transaction_id = self.transaction_id.wrapping_add(1);
        self.transaction_id
    }

    pub fn send(&self, packet: &[u8]) {
        assert_eq!(self.socket.send(packet).expect("send"), packet.len());
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let count = uninterrupted(|| self.socket.recv(&mut buffer)).expect("a reply");
        buffer.truncate(count);
        buffer
    }

    pub fn call(&self, packet: &[u8]) -> Vec<u8> {
        self.send(packet);
        self.receive()
    }

    /// Asks for a connection id.
    pub fn connect(&mut self) -> u64 {
        let tid = self.next_id();
        let mut packet = 0x0417_2710_1980u64.to_be_bytes().to_vec();
        packet.extend(0u32.to_be_bytes());
        packet.extend(tid.to_be_bytes());
        let reply = self.call(&packet);
        assert_eq!(reply.len(), 16, "{reply:?}");
        assert_eq!((word(&reply, 0), word(&reply, 4)), (0, tid));
        u64::from_be_bytes(reply[8..].try_into().expect("eight bytes"))
    }

    pub fn announce(&mut self, announce: &Announce) -> Announced {
        let tid = self.next_id();
        let reply = self.call(&announce.packet(self.id, tid));
        Announced::read(&reply, 1, tid, self.family)
    }

    /// Seeders, downloads and leechers of each hash.
    pub fn scrape(&mut self, hashes: &[[u8; 20]]) -> Vec<(u32, u32, u32)> {
        let tid = self.next_id();
        let reply = self.call(&scrape_packet(self.id, tid, hashes));
        assert_eq!((word(&reply, 0), word(&reply, 4)), (2, tid), "{reply:?}");
        assert_eq!(reply.len() % 12, 8);
        let counts = reply[8..].chunks(12);
        counts
            .map(|entry| (word(entry, 0), word(entry, 4), word(entry, 8)))
            .collect()
    }

    /// The text of the error that answers a packet.
    pub fn error(&self, packet: &[u8]) -> String {
        let reply = self.call(packet);
        assert_eq!(word(&reply, 0), 3, "{reply:?}");
        assert_eq!(word(&reply, 4), word(packet, 12));
        String::from_utf8(reply[8..].to_vec()).expect("text")
    }

    /// Sends a packet that gets no answer; the server has one shard. Two
    /// connects prove it: the second is handled when whatever came before
    /// has been answered.
    pub fn silence(&mut self, packet: &[u8]) {
        self.send(packet);
        self.connect();
        self.connect();
    }
}
