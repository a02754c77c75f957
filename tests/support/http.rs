//! A client of the HTTP protocol (BEP 3, 23, 48), over any stream.

use super::{Announced, Value, WATCHDOG, compact, uninterrupted};
use karuta::bittorrent::AddressFamily;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// One connection over HTTP, or over HTTPS.
pub struct Http<S = TcpStream> {
    pub socket: S,
    unread: Vec<u8>,
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

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
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
