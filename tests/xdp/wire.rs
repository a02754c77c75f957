//! Frames on the client's end of the cable, byte by byte, past its kernel's
//! stack.

use super::network::{CLIENT_MAC, Host, SERVER_MAC};
use crate::support::{WATCHDOG, word};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Where the IP header of a frame begins.
pub const IP: usize = 14;
/// Where the UDP header begins if nothing stands between the two.
pub const UDP_V4: usize = IP + 20;
pub const UDP_V6: usize = IP + 40;

const UDP: u8 = 17;
const DESTINATION_OPTIONS: u8 = 60;

/// A UDP datagram to put into a frame.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The Ethernet address of its sender.
    pub mac: [u8; 6],
    pub source: SocketAddr,
    pub target: SocketAddr,
    /// Between the IP header and the UDP header: options of IPv4, or the header
    /// of destination options of IPv6. Whole words of four or eight bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Datagram {
    pub fn new(source: SocketAddr, target: SocketAddr, payload: Vec<u8>) -> Self {
        Self {
            mac: CLIENT_MAC,
            source,
            target,
            options: Vec::new(),
            payload,
        }
    }

    /// The frame, with right lengths and whole checksums.
    pub fn frame(&self) -> Vec<u8> {
        let mut udp = self.source.port().to_be_bytes().to_vec();
        udp.extend(self.target.port().to_be_bytes());
        udp.extend((self.payload.len() as u16 + 8).to_be_bytes());
        udp.extend([0; 2]);
        udp.extend(&self.payload);
        let sum = checksum(&[&pseudo(self.source.ip(), self.target.ip(), udp.len()), &udp]);
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [SERVER_MAC, self.mac].concat();
        let rest = (self.options.len() + udp.len()) as u16;
        match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let mut ip = vec![0x45 + (self.options.len() / 4) as u8, 0];
                ip.extend((20 + rest).to_be_bytes());
                ip.extend([0x12, 0x34, 0, 0, 61, UDP, 0, 0]);
                ip.extend(source.octets());
                ip.extend(target.octets());
                ip.extend(&self.options);
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(ip);
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(rest.to_be_bytes());
                let plain = self.options.is_empty();
                frame.extend([if plain { UDP } else { DESTINATION_OPTIONS }, 61]);
                frame.extend(source.octets());
                frame.extend(target.octets());
                frame.extend(&self.options);
            }
            _ => panic!("both of one family"),
        }
        frame.extend(udp);
        frame
    }

    /// The sum of the pseudo header, as a host leaves it for its interface to
    /// add the rest.
    pub fn pseudo_sum(&self) -> [u8; 2] {
        let length = self.payload.len() + 8;
        let sum = checksum(&[&pseudo(self.source.ip(), self.target.ip(), length)]);
        (!sum).to_be_bytes()
    }
}

/// The header that only the UDP checksum sees.
fn pseudo(source: IpAddr, target: IpAddr, udp_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ip in [source, target] {
        match ip {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend((udp_bytes as u32).to_be_bytes());
    bytes.extend([0, 0, 0, UDP]);
    bytes
}

/// The checksum of RFC 1071 over parts, of which only the last may be odd: 0
/// over what has its own checksum in it.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let each = words.map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let mut sum: u64 = each.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Reads the frame of a UDP datagram and asserts that its checksums are right;
/// `None` if it is something else. The Ethernet address is that to which it
/// goes.
fn read(frame: &[u8]) -> Option<Datagram> {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let ip = |at: usize, bytes: usize| match bytes {
        4 => IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).expect("four")),
        _ => IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("sixteen")),
    };
    let (udp, source, target) = match [frame[12], frame[13]] {
        [0x08, 0x00] if frame[IP + 9] == UDP => {
            assert_eq!(frame[IP], 0x45, "no options");
            assert_eq!(checksum(&[&frame[IP..UDP_V4]]), 0, "of the IP header");
            assert_eq!(usize::from(port(IP + 2)), frame.len() - IP);
            (UDP_V4, ip(IP + 12, 4), ip(IP + 16, 4))
        }
        [0x86, 0xdd] if frame[IP + 6] == UDP => {
            assert_eq!(usize::from(port(IP + 4)), frame.len() - UDP_V6);
            (UDP_V6, ip(IP + 8, 16), ip(IP + 24, 16))
        }
        _ => return None,
    };
    let length = frame.len() - udp;
    assert_eq!(usize::from(port(udp + 4)), length);
    assert_ne!(port(udp + 6), 0, "it has a checksum");
    let sum = checksum(&[&pseudo(source, target, length), &frame[udp..]]);
    assert_eq!(sum, 0, "of the datagram");
    assert_eq!(frame[6..12], SERVER_MAC);
    Some(Datagram {
        mac: frame[..6].try_into().expect("six"),
        source: SocketAddr::new(source, port(udp)),
        target: SocketAddr::new(target, port(udp + 2)),
        options: Vec::new(),
        payload: frame[udp + 8..].to_vec(),
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

/// The end of the cable `xc0`, in the hands of a script.
pub struct Wire {
    script: Child,
    stdin: ChildStdin,
    frames: Receiver<Vec<u8>>,
}

impl Wire {
    pub fn new(host: &Host) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xdp/wire.py");
        let mut script = host
            .command(["python3"])
            .arg(script)
            .arg("xc0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let stdin = script.stdin.take().expect("stdin");
        let lines = BufReader::new(script.stdout.take().expect("stdout")).lines();
        let (sender, frames) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let frame = match line.as_str() {
                    "ready" => Vec::new(),
                    hex => bytes(hex),
                };
                if sender.send(frame).is_err() {
                    break;
                }
            }
        });
        let ready = frames.recv_timeout(WATCHDOG).expect("it is ready");
        assert!(ready.is_empty());
        Self {
            script,
            stdin,
            frames,
        }
    }

    pub fn send(&mut self, frame: &[u8]) {
        let mut line: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).expect("it reads");
    }

    /// The next datagram that comes in.
    pub fn receive(&self) -> Datagram {
        loop {
            let frame = self.frames.recv_timeout(WATCHDOG).expect("a reply");
            if let Some(datagram) = read(&frame) {
                return datagram;
            }
        }
    }

    /// Sends the frame of a datagram that asks for a connection id, as it is or
    /// changed. The next datagram that comes in must be its answer.
    pub fn is_answered(&mut self, request: &Datagram, frame: &[u8]) {
        self.send(frame);
        let reply = self.receive();
        assert_eq!(reply.mac, request.mac);
        assert_eq!(
            (reply.source, reply.target),
            (request.target, request.source)
        );
        assert_eq!((word(&reply.payload, 0), reply.payload.len()), (0, 16));
        assert_eq!(word(&reply.payload, 4), word(&request.payload, 12));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
