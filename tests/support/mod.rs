//! A small client of both protocols, shared by the tests that run a tracker.
//!
//! Written apart from the tracker's own codec: what is compared here was put
//! together from the BEPs. Sockets have a read timeout of some seconds, which
//! only turns a hang into a failure; no test passes or fails by speed.

#![allow(dead_code, reason = "each test uses its own part")]

pub mod program;

use karuta::bittorrent::AddressFamily;
use karuta::config::{Config, HttpConfig, UdpConfig};
use karuta::protocol::bencode;
use karuta::server::Tracker;
use karuta::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::ops::Deref;
use std::time::Duration;

/// Ends a wait for something that will not come.
pub const WATCHDOG: Duration = Duration::from_secs(20);

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Both frontends on 127.0.0.1 and ::1, on ports that the system chooses.
pub fn config(shards: usize) -> Config {
    let addr = vec![SocketAddr::new(V4, 0), SocketAddr::new(V6, 0)];
    let mut config = Config::default();
    config.shards = shards;
    config.metrics_addr.clear();
    config.udp = Some(UdpConfig {
        addr: addr.clone(),
        ..UdpConfig::default()
    });
    config.http = Some(HttpConfig {
        addr,
        ..HttpConfig::default()
    });
    config
}

/// A tracker that stops at the end of the test.
pub struct Server(Option<Tracker>);

impl Server {
    pub fn start(config: &Config) -> Self {
        Self(Some(Tracker::start(config).expect("the tracker starts")))
    }

    /// The defaults but for one change.
    pub fn with(shards: usize, change: impl FnOnce(&mut UdpConfig, &mut HttpConfig)) -> Self {
        let mut config = config(shards);
        let (udp, http) = (&mut config.udp, &mut config.http);
        change(udp.as_mut().expect("udp"), http.as_mut().expect("http"));
        Self::start(&config)
    }

    pub fn udp(&self, family: AddressFamily) -> SocketAddr {
        self.udp[family.index()]
    }

    pub fn http(&self, family: AddressFamily) -> SocketAddr {
        self.http[family.index()]
    }

    fn sum(&self, value: impl Fn(&karuta::shard::stats::ShardStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| value(stats)).sum()
    }

    pub fn requests(&self, protocol: Protocol, action: Action, family: AddressFamily) -> u64 {
        self.sum(|stats| stats.requests(protocol, action, family).get())
    }

    pub fn replies(
        &self,
        protocol: Protocol,
        action: Action,
        family: AddressFamily,
        outcome: Outcome,
    ) -> u64 {
        self.sum(|stats| stats.replies(protocol, action, family, outcome).get())
    }

    pub fn drops(&self, protocol: Protocol, reason: DropReason) -> u64 {
        self.sum(|stats| stats.drops(protocol, reason).get())
    }

    pub fn crossed(&self, protocol: Protocol) -> u64 {
        self.sum(|stats| stats.cross_shard_requests(protocol).get())
    }

    pub fn peers_not_stored(&self) -> u64 {
        self.sum(|stats| stats.peers_not_stored.get())
    }

    pub fn swarms_not_stored(&self) -> u64 {
        self.sum(|stats| stats.swarms_not_stored.get())
    }

    pub fn handshakes(&self, result: Handshake) -> u64 {
        self.sum(|stats| stats.handshakes(result).get())
    }

    pub fn connections_open(&self) -> u64 {
        self.sum(|stats| stats.connections_open.get())
    }
}

impl Deref for Server {
    type Target = Tracker;
    fn deref(&self) -> &Tracker {
        self.0.as_ref().expect("it runs until dropped")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let result = self.0.take().map(Tracker::stop);
        if !std::thread::panicking() {
            result.expect("it ran").expect("it stops cleanly");
        }
    }
}

/// The info hash of this number: looks random, always the same.
pub fn hash(number: u32) -> [u8; 20] {
    let mut state = u64::from(number) + 1;
    let mut bytes = [0; 20];
    for byte in &mut bytes {
        *byte = (mix(&mut state) >> 56) as u8;
    }
    bytes
}

/// The next of a sequence of numbers that look random (SplitMix64).
pub fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

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

/// Calls again when a signal of the executors hit this thread.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub fn scrape_packet(connection_id: u64, transaction_id: u32, hashes: &[[u8; 20]]) -> Vec<u8> {
    let mut packet = connection_id.to_be_bytes().to_vec();
    packet.extend(2u32.to_be_bytes());
    packet.extend(transaction_id.to_be_bytes());
    packet.extend(hashes.concat());
    packet
}

/// One connection over HTTP, or over HTTPS.
pub struct Http<S = TcpStream> {
    pub socket: S,
    unread: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
}

impl Http {
    pub fn connect(server: SocketAddr) -> Self {
        let socket = TcpStream::connect(server).expect("connect");
        socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
        socket.set_write_timeout(Some(WATCHDOG)).expect("timeout");
        socket.set_nodelay(true).expect("nodelay");
        Self::over(socket)
    }

    /// No more requests; answers are still read.
    pub fn end(&self) {
        self.socket.shutdown(Shutdown::Write).expect("shutdown");
    }
}

impl<S: Read + Write> Http<S> {
    pub fn over(socket: S) -> Self {
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("send");
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.send(request(target));
        self.response()
    }

    /// The next response, its body by Content-Length.
    pub fn response(&mut self) -> Response {
        self.response_to(false)
    }

    pub fn response_to(&mut self, is_head: bool) -> Response {
        let end = loop {
            let found = self.unread.windows(4).position(|part| part == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            assert!(
                self.fill(),
                "closed within a head: {:?}",
                text(&self.unread)
            );
        };
        let head = text(&self.unread[..end]).to_owned();
        let status = head[9..12].parse().expect("a status");
        let length = field(&head, "Content-Length").expect("a length");
        let length: usize = if is_head {
            0
        } else {
            length.parse().expect("a number")
        };
        while self.unread.len() < end + length {
            assert!(self.fill(), "closed within a body");
        }
        let rest = self.unread.split_off(end + length);
        let body = self.unread.split_off(end);
        self.unread = rest;
        Response { status, head, body }
    }

    /// Asserts that the server closes, in order, and sends nothing more.
    pub fn closed(&mut self) {
        assert!(self.unread.is_empty(), "{:?}", text(&self.unread));
        assert!(!self.fill(), "{:?}", text(&self.unread));
    }

    /// Whether the server has ended the connection, in whatever way.
    pub fn gone(&mut self) -> bool {
        match uninterrupted(|| self.socket.read(&mut [0; 64])) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16384];
        let count = uninterrupted(|| self.socket.read(&mut buffer)).expect("read");
        self.unread.extend_from_slice(&buffer[..count]);
        count > 0
    }
}

/// A request without a word on the connection: HTTP/1.1 keeps it.
pub fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: tracker\r\n\r\n")
}

/// One request on a connection of its own.
pub fn get(server: SocketAddr, target: &str) -> Response {
    Http::connect(server).get(target)
}

/// The value of a header field.
pub fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

impl Response {
    pub fn bencode(&self) -> Value {
        Value::read(&self.body)
    }

    /// The failure reason, with status 200 and nothing else.
    pub fn failure(&self) -> String {
        assert_eq!(self.status, 200);
        let dictionary = self.bencode().dictionary();
        assert_eq!(dictionary.len(), 1, "{dictionary:?}");
        let reason = &dictionary[&b"failure reason"[..]];
        String::from_utf8(reason.bytes()).expect("text")
    }

    /// The announce reply in compact form.
    pub fn announced(&self, family: AddressFamily) -> Announced {
        assert_eq!(self.status, 200, "{}", self.head);
        let dictionary = self.bencode().dictionary();
        let number = |key: &str| dictionary[key.as_bytes()].number() as u32;
        let mut peers = compact(&dictionary[&b"peers"[..]].bytes(), AddressFamily::V4);
        if let Some(peers6) = dictionary.get(&b"peers6"[..]) {
            peers.extend(compact(&peers6.bytes(), AddressFamily::V6));
        }
        assert!(
            peers
                .iter()
                .all(|peer| AddressFamily::of(&peer.ip()) == family),
            "{peers:?}"
        );
        Announced {
            interval: number("interval"),
            leechers: number("incomplete"),
            seeders: number("complete"),
            peers,
        }
    }

    /// Seeders, downloads and leechers of each hash.
    pub fn scraped(&self) -> BTreeMap<Vec<u8>, (u32, u32, u32)> {
        let files = self.bencode().dictionary()[&b"files"[..]].clone();
        let entries = files.dictionary().into_iter();
        entries
            .map(|(hash, counts)| {
                let counts = counts.dictionary();
                let number = |key: &str| counts[key.as_bytes()].number() as u32;
                let counts = (
                    number("complete"),
                    number("downloaded"),
                    number("incomplete"),
                );
                (hash, counts)
            })
            .collect()
    }
}

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Number(i64),
    List(Vec<Self>),
    Dictionary(BTreeMap<Vec<u8>, Self>),
}

impl Value {
    /// Reads a text whose dictionaries must be sorted.
    pub fn read(input: &[u8]) -> Self {
        let mut events = bencode::Reader::new(input, bencode::Limits::default())
            .map(|event| event.unwrap_or_else(|error| panic!("{error}: {input:?}")));
        let first = events.next().expect("a value");
        let value = Self::build(first, &mut events);
        assert!(events.next().is_none());
        value
    }

    fn build<'a>(
        event: bencode::Event<'a>,
        rest: &mut impl Iterator<Item = bencode::Event<'a>>,
    ) -> Self {
        match event {
            bencode::Event::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            bencode::Event::Integer(number) => Self::Number(number),
            bencode::Event::List => {
                let mut list = Vec::new();
                loop {
                    match rest.next().expect("an end") {
                        bencode::Event::End => return Self::List(list),
                        event => list.push(Self::build(event, rest)),
                    }
                }
            }
            bencode::Event::Dictionary => {
                let mut dictionary = BTreeMap::new();
                while let bencode::Event::Key(key) = rest.next().expect("an end") {
                    let event = rest.next().expect("a value");
                    dictionary.insert(key.to_vec(), Self::build(event, rest));
                }
                Self::Dictionary(dictionary)
            }
            bencode::Event::End | bencode::Event::Key(_) => panic!("no value"),
        }
    }

    pub fn dictionary(&self) -> BTreeMap<Vec<u8>, Self> {
        match self {
            Self::Dictionary(dictionary) => dictionary.clone(),
            other => panic!("not a dictionary: {other:?}"),
        }
    }

    pub fn list(&self) -> Vec<Self> {
        match self {
            Self::List(list) => list.clone(),
            other => panic!("not a list: {other:?}"),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            other => panic!("not bytes: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }
}
