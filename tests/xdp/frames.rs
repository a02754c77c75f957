//! Frames byte by byte: which are answered past the stack, which are left to it,
//! and which are dropped.

use super::network::{CLIENT_V4, CLIENT_V6, Network, SERVER_V4, SERVER_V6};
use super::tracker::{Tracker, usual};
use super::wire::{Datagram, IP, UDP_V4, UDP_V6, Wire};
use crate::support::{Announce, Udp, hash, scrape_packet};
use std::net::{IpAddr, SocketAddr};

/// A request for a connection id, from a client to the tracker.
fn connect(from: IpAddr, number: u32) -> Datagram {
    let to = if from.is_ipv4() { SERVER_V4 } else { SERVER_V6 };
    let mut payload = 0x0417_2710_1980u64.to_be_bytes().to_vec();
    payload.extend(0u32.to_be_bytes());
    payload.extend(number.to_be_bytes());
    let source = SocketAddr::new(from, 2000);
    Datagram::new(source, SocketAddr::new(to, 6969), payload)
}

/// Hosts that are on the cable, but at no Ethernet address that a kernel knows.
/// Nobody answers for them to the replies, either.
fn strangers() -> [IpAddr; 2] {
    ["10.203.0.77", "fd00:6b61::77"].map(|ip| ip.parse().expect("an address"))
}

/// What is done to the bytes of a frame.
type Change = (&'static str, fn(&mut Vec<u8>));

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn replies_go_back_where_the_frame_came_from() {
    const V4: &[Change] = &[
        ("a whole checksum", |_| {}),
        ("no checksum", |frame| frame[UDP_V4 + 6..][..2].fill(0)),
        ("a frame of at least 60 bytes", |frame| {
            frame.resize(60, 0xaa);
        }),
        ("bytes behind the datagram", |frame| {
            frame.extend([0xaa; 13])
        }),
    ];
    const V6: &[Change] = &[
        ("a whole checksum", |_| {}),
        ("bytes behind the datagram", |frame| {
            frame.extend([0xaa; 13])
        }),
    ];
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        let mut wire = Wire::new(&network.client);
        let mut number = 0;
        for (ip, changes) in strangers().into_iter().zip([V4, V6]) {
            for (what, change) in changes {
                number += 1;
                let mut request = connect(ip, number);
                request.mac = [2, 0, 0, 0, 0x77, number as u8];
                request.source.set_port(2000 + number as u16);
                let mut frame = request.frame();
                change(&mut frame);
                println!("{mode}: {what}");
                wire.is_answered(&request, &frame);
            }
            // As from a host on the same machine: its interface would add the
            // rest.
            number += 1;
            let request = connect(ip, number);
            let mut frame = request.frame();
            let at = if ip.is_ipv4() { UDP_V4 } else { UDP_V6 } + 6;
            frame[at..at + 2].copy_from_slice(&request.pseudo_sum());
            wire.is_answered(&request, &frame);
        }
        tracker.counted("xs0", number.into());
        tracker.sockets_are_idle();
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn bad_frames_are_dropped_and_counted() {
    const V4: &[Change] = &[
        ("a wrong checksum of the IP header", |frame| {
            frame[IP + 10] ^= 1;
        }),
        ("a damaged IP header", |frame| frame[IP + 5] ^= 0x40),
        ("a wrong UDP checksum", |frame| frame[UDP_V4 + 7] ^= 1),
        ("a damaged payload", |frame| frame[UDP_V4 + 8] ^= 0x80),
        ("a damaged source port", |frame| frame[UDP_V4] ^= 4),
        ("more bytes than there are", |frame| frame[UDP_V4 + 5] += 1),
        ("fewer bytes than a header has", |frame| {
            frame[UDP_V4 + 5] = 7;
        }),
    ];
    const V6: &[Change] = &[
        ("a wrong UDP checksum", |frame| frame[UDP_V6 + 7] ^= 1),
        ("a damaged payload", |frame| frame[UDP_V6 + 8] ^= 0x80),
        ("a damaged address", |frame| frame[IP + 8 + 9] ^= 1),
        ("no checksum", |frame| frame[UDP_V6 + 6..][..2].fill(0)),
        ("more bytes than there are", |frame| frame[UDP_V6 + 5] += 1),
    ];
    const FORGED: [&str; 13] = [
        "0.0.0.0",
        "127.0.0.1",
        "127.255.3.4",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.203.0.2",
        "::ffff:192.0.2.1",
        "ff02::1",
        "ff05::2",
        "ff0e::77",
    ];
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        let mut wire = Wire::new(&network.client);
        let mut count = 0;
        let mut drop = |wire: &mut Wire, what: &str, frame: &[u8]| {
            wire.send(frame);
            count += 1;
            let what = format!("{mode}: {what}");
            tracker.reaches(&what, count, |metrics| metrics.drops("bad_frame"));
        };
        for (ip, changes) in strangers().into_iter().zip([V4, V6]) {
            for (what, change) in changes {
                let mut frame = connect(ip, 1).frame();
                change(&mut frame);
                drop(&mut wire, what, &frame);
            }
            let mut request = connect(ip, 1);
            request.source.set_port(0);
            drop(&mut wire, "from port 0", &request.frame());
        }
        for ip in FORGED {
            let request = connect(ip.parse().expect("an address"), 1);
            drop(&mut wire, ip, &request.frame());
        }
        // None of them was answered: this is the first answer that comes. And
        // what they were received into is used again.
        let [v4, v6] = strangers();
        let mut bad = connect(v4, 1).frame();
        bad[UDP_V4 + 7] ^= 1;
        for round in 0..50 {
            let request = connect(if round % 2 == 0 { v4 } else { v6 }, 1000 + round);
            wire.is_answered(&request, &request.frame());
            for _ in 0..120 {
                wire.send(&bad);
            }
        }
        count += 50 * 120;
        tracker.reaches("frames", count, |metrics| metrics.drops("bad_frame"));
        tracker.sockets_are_idle();
    }
}

/// A frame as from a client's own socket.
fn from_socket(client: &Udp, payload: Vec<u8>) -> Datagram {
    let address = |result: std::io::Result<SocketAddr>| result.expect("an address");
    let source = address(client.socket.local_addr());
    Datagram::new(source, address(client.socket.peer_addr()), payload)
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn what_is_not_plain_is_left_to_the_stack() {
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        let mut wire = Wire::new(&network.client);
        let [v4, v6] = [(CLIENT_V4, SERVER_V4), (CLIENT_V6, SERVER_V6)]
            .map(|(from, to)| tracker.client(from, SocketAddr::new(to, 6969)));
        for (client, options) in [
            // Four options that do nothing.
            (&v4, vec![1; 4]),
            // UDP follows; no further eight bytes; an option that pads four.
            (&v6, vec![17, 0, 1, 4, 0, 0, 0, 0]),
        ] {
            let packet = scrape_packet(client.id, 1, &[hash(1)]);
            let mut request = from_socket(client, packet);
            // A priority, but no network of its own (IEEE 802.1Q).
            let mut tagged = request.frame();
            tagged.splice(12..12, [0x81, 0x00, 0x60, 0x00]);
            wire.send(&tagged);
            assert_eq!(client.receive().len(), 20);
            request.options = options;
            wire.send(&request.frame());
            assert_eq!(client.receive().len(), 20);
        }
        tracker.counted("10.203.0.1:6969", 2);
        tracker.counted("[fd00:6b61::1]:6969", 2);
        // The connection ids.
        tracker.counted("xs0", 2);
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn fragments_are_left_to_the_stack() {
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        for (from, to) in [(CLIENT_V4, SERVER_V4), (CLIENT_V6, SERVER_V6)] {
            let to = SocketAddr::new(to, 6969);
            let mut client = tracker.client(from, to);
            // A long path and query of the URL, in pieces (BEP 41): more than
            // one frame holds.
            let mut announce = Announce::seeder(hash(1), 1);
            for _ in 0..7 {
                announce.options.extend([2, 255]);
                announce.options.extend([b'a'; 255]);
            }
            assert_eq!(client.announce(&announce).counts(), (1, 0));
            tracker.counted(&to.to_string(), 1);
            // The rest is answered past the stack as before.
            let reply = client.announce(&Announce::leecher(hash(1), 2));
            assert_eq!(reply.peers, [SocketAddr::new(from, 1)]);
        }
        tracker.counted("xs0", 4);
    }
}
