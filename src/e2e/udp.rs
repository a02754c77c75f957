//! The check over UDP (BEP 15), with the URL's path and query as BEP 41 has it.

use super::{PeerRequest, Reply, compact_ports};
use crate::bittorrent::Event;
use crate::protocol::udp::{
    ANNOUNCE_HEADER_BYTES, CONNECT_REPLY_BYTES, ERROR_HEADER_BYTES, PROTOCOL_ID,
};
use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How often a request is sent before the tracker counts as silent: datagrams
/// get lost.
const TRIES: u32 = 3;

/// Datagrams that answer something else and are passed over, for each try.
const STRANGERS: usize = 16;

/// The port without one in the URL.
const DEFAULT_PORT: u16 = 6969;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const ERROR: u32 = 3;

/// The kind of a BEP 41 option that carries a part of the URL.
const URL_DATA: u8 = 2;

/// `udp://host[:port][/path][?query]`.
#[derive(Clone, Debug)]
pub(super) struct Url {
    text: String,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Url {
    /// Reads a URL; Chihaya also takes `host:port`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no URL like {}", super::DEFAULT_UDP);
        let rest = match text.split_once("://") {
            Some(("udp", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => text,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address are inside its brackets.
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (authority, Some(DEFAULT_PORT)),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        match port {
            Some(port) if port != 0 && !host.is_empty() => Ok(Self {
                text: text.to_owned(),
                host: host.to_owned(),
                port,
                target: target.to_owned(),
            }),
            _ => Err(wrong()),
        }
    }
}

/// A tracker that has given out a connection id.
pub(super) struct Client {
    socket: UdpSocket,
    timeout: Duration,
    transaction_id: u32,
    connection_id: u64,
    target: String,
    stride: usize,
}

impl Client {
    /// Asks each address of the host for a connection id until one answers.
    pub(super) fn connect(
        url: &Url,
        timeout: Duration,
        transaction_id: u32,
    ) -> Result<Self, String> {
        let addresses = (url.host.as_str(), url.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("the name is not known: {error}"))?;
        let mut errors = Vec::new();
        for address in addresses {
            match Self::connect_to(address, url, timeout, transaction_id) {
                Ok(client) => return Ok(client),
                Err(error) => errors.push(format!("connect to {address}: {error}")),
            }
        }
        match errors.is_empty() {
            true => Err("the name has no address".to_owned()),
            false => Err(errors.join("; ")),
        }
    }

    fn connect_to(
        address: SocketAddr,
        url: &Url,
        timeout: Duration,
        transaction_id: u32,
    ) -> Result<Self, String> {
        let (local, stride): (SocketAddr, _) = match address {
            SocketAddr::V4(_) => ((Ipv4Addr::UNSPECIFIED, 0).into(), 6),
            SocketAddr::V6(_) => ((Ipv6Addr::UNSPECIFIED, 0).into(), 18),
        };
        let socket = UdpSocket::bind(local).map_err(|error| error.to_string())?;
        socket.connect(address).map_err(|error| error.to_string())?;
        let mut client = Self {
            socket,
            timeout,
            transaction_id,
            connection_id: 0,
            target: url.target.clone(),
            stride,
        };
        let mut request = PROTOCOL_ID.to_be_bytes().to_vec();
        let reply = client.exchange(&mut request, CONNECT, &[])?;
        let id = reply
            .get(8..CONNECT_REPLY_BYTES)
            .and_then(|id| id.try_into().ok());
        let id = id.ok_or_else(|| format!("the reply has only {} bytes", reply.len()))?;
        client.connection_id = u64::from_be_bytes(id);
        Ok(client)
    }

    /// Sends `start`, the action, a new transaction id and `rest`; returns the
    /// reply, of 8 bytes at least, which is known to answer it.
    fn exchange(
        &mut self,
        start: &mut Vec<u8>,
        action: u32,
        rest: &[u8],
    ) -> Result<Vec<u8>, String> {
        self.transaction_id = self.transaction_id.wrapping_add(1);
        let transaction_id = self.transaction_id.to_be_bytes();
        start.extend(action.to_be_bytes());
        start.extend(transaction_id);
        start.extend(rest);
        let patience = (self.timeout / TRIES).max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(patience))
            .map_err(|error| error.to_string())?;
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..TRIES {
            self.socket.send(start).map_err(|error| unsent(&error))?;
            for _ in 0..STRANGERS {
                let count = match self.socket.recv(&mut buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                    {
                        break;
                    }
                    Err(error) => return Err(unsent(&error)),
                };
                let reply = buffer.get(..count).unwrap_or_default();
                // Anything else is late, or forged.
                if reply.get(4..ERROR_HEADER_BYTES) == Some(&transaction_id) {
                    return is_about(reply, action).map(<[u8]>::to_vec);
                }
            }
        }
        Err(format!(
            "no answer within {:?}; is a tracker running there, and do firewalls let UDP pass both \
             ways?",
            self.timeout
        ))
    }
}

/// The reply, if it is one to this action.
fn is_about(reply: &[u8], action: u32) -> Result<&[u8], String> {
    match word(reply, 0) {
        Some(found) if found == action => Ok(reply),
        Some(ERROR) => {
            let text = reply.get(ERROR_HEADER_BYTES..).unwrap_or_default();
            Err(format!(
                "the tracker refuses it: {:?}",
                String::from_utf8_lossy(text)
            ))
        }
        found => Err(format!(
            "the reply is to action {}, not to {action}",
            found.unwrap_or_default()
        )),
    }
}

fn unsent(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("{error}: no program listens on this UDP port")
        }
        _ => error.to_string(),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(word))
}

impl super::Client for Client {
    fn announce(&mut self, peer: &PeerRequest) -> Result<Reply, String> {
        let mut request = self.connection_id.to_be_bytes().to_vec();
        let mut rest = Vec::with_capacity(128);
        rest.extend(peer.info_hash.0);
        rest.extend(peer.peer_id.0);
        rest.extend(PeerRequest::DOWNLOADED.to_be_bytes());
        rest.extend(PeerRequest::LEFT.to_be_bytes());
        rest.extend(PeerRequest::UPLOADED.to_be_bytes());
        let event: u32 = match peer.event {
            Event::Completed => 1,
            Event::Started => 2,
            Event::Stopped => 3,
            _ => 0,
        };
        rest.extend(event.to_be_bytes());
        // The address: that of the sender. Then a key that nobody checks.
        rest.extend([0; 4]);
        rest.extend(self.transaction_id.to_be_bytes());
        rest.extend(PeerRequest::NUM_WANT.to_be_bytes());
        rest.extend(peer.port.to_be_bytes());
        for part in self.target.as_bytes().chunks(255) {
            rest.extend([URL_DATA, part.len() as u8]);
            rest.extend(part);
        }
        let reply = self.exchange(&mut request, ANNOUNCE, &rest)?;
        read_announce(&reply, self.stride)
    }
}

fn read_announce(reply: &[u8], stride: usize) -> Result<Reply, String> {
    let Some((_, peers)) = reply.split_at_checked(ANNOUNCE_HEADER_BYTES) else {
        return Err(format!(
            "the reply has {} bytes, fewer than {ANNOUNCE_HEADER_BYTES}",
            reply.len()
        ));
    };
    match word(reply, 8) {
        Some(interval) if interval > 0 => Ok(Reply {
            interval,
            ports: compact_ports(peers, stride)?,
        }),
        _ => Err("the reply has an interval of 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let read = |text| {
            let url = Url::parse(text).expect("a URL");
            (url.host, url.port, url.target)
        };
        let parts = |host: &str, port, target: &str| (host.to_owned(), port, target.to_owned());
        assert_eq!(
            read("udp://a.example:80/x?y=z"),
            parts("a.example", 80, "/x?y=z")
        );
        assert_eq!(read("udp://[::1]:6969"), parts("::1", 6969, ""));
        assert_eq!(read("udp://[::1]"), parts("::1", 6969, ""));
        assert_eq!(read("127.0.0.1:7"), parts("127.0.0.1", 7, ""));
        assert_eq!(read("udp://h?k=v"), parts("h", 6969, "?k=v"));
        for text in [
            "",
            "udp://",
            "udp://:1",
            "udp://h:0",
            "udp://h:x",
            "http://h:1",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn replies_are_read_with_distrust() {
        let mut reply = [0, 0, 0, 1, 9, 9, 9, 9].to_vec();
        reply.extend([0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(
            read_announce(&reply, 6).map(|reply| reply.interval),
            Ok(1800)
        );
        reply.extend([127, 0, 0, 1, 0x27, 0x11]);
        assert_eq!(
            read_announce(&reply, 6).map(|reply| reply.ports),
            Ok(vec![10001])
        );
        assert!(read_announce(&reply, 18).is_err());
        assert!(read_announce(&reply[..19], 6).is_err());
        reply[8..12].fill(0);
        assert!(read_announce(&reply, 6).is_err());

        let error = is_about(b"\0\0\0\x03\x09\x09\x09\x09unapproved torrent", 1);
        assert!(
            error
                .expect_err("refused")
                .contains("\"unapproved torrent\"")
        );
        assert!(is_about(&[0, 0, 0, 2, 9, 9, 9, 9], 1).is_err());
    }
}
