//! Requests past the kernel's network stack (AF_XDP), seen from outside: the
//! program on one host, its clients on another, and a cable between the two.
//!
//! The hosts are network namespaces, so this needs root; runs in `.ci/run`.
//! Frames that no host sends are in [`xdp::frames`], starts and ends in
//! [`xdp::lifecycle`].

mod support;
mod xdp {
    pub mod frames;
    pub mod lifecycle;
    pub mod network;
    pub mod tracker;
    pub mod wire;
}

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use support::{Announce, Announced, COMPLETED, Udp, WATCHDOG, get, hash, word};
use xdp::network::{CLIENT_V4, CLIENT_V6, Network, SERVER_V4, SERVER_V6};
use xdp::tracker::{Tracker, config, usual};

/// Requests on their way at once: no more than the queue of a virtual interface
/// holds.
const WINDOW: usize = 128;

/// Requests of a burst: more than there are frames to receive into.
const BURST: u32 = 20_000;

/// A client's address and the server's, of each family, and the server's other
/// port.
fn routes() -> [(IpAddr, SocketAddr); 3] {
    [
        (CLIENT_V4, SocketAddr::new(SERVER_V4, 6969)),
        (CLIENT_V4, SocketAddr::new(SERVER_V4, 6970)),
        (CLIENT_V6, SocketAddr::new(SERVER_V6, 6969)),
    ]
}

/// Two clients meet, and the second asks how many there are: five requests.
fn meet(tracker: &Tracker, (from, to): (IpAddr, SocketAddr), number: u32) {
    let mut first = tracker.client(from, to);
    let mut second = tracker.client(from, to);
    let seeder = Announce::seeder(hash(number), 1001).event(COMPLETED);
    assert_eq!(first.announce(&seeder).counts(), (1, 0));
    let reply = second.announce(&Announce::leecher(hash(number), 1002));
    assert_eq!(reply.counts(), (1, 1));
    assert_eq!(reply.peers, [SocketAddr::new(from, 1001)]);
    let scraped = second.scrape(&[hash(number), hash(u32::MAX)]);
    assert_eq!(scraped, [(1, 1, 1), (0, 0, 0)]);
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn each_mode_answers_at_every_address() {
    let network = Network::new();
    for (mode, attached) in [
        ("driver", "xdp"),
        ("generic", "xdpgeneric"),
        ("auto", "xdp"),
    ] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        assert_eq!(network.server.attached("xs0").as_deref(), Some(attached));
        for (number, route) in (1..).zip(routes()) {
            meet(&tracker, route, number);
        }
        tracker.counted("xs0", 15);
        tracker.sockets_are_idle();
        tracker.end("TERM");
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn the_greatest_replies_arrive() {
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let udp = "addr: ['10.203.0.1:6969', '[fd00:6b61::1]:6969']\nmax_numwant: 2000";
        let udp = format!("{udp}\nxdp_interfaces: xs0\nxdp_mode: {mode}");
        let tracker = Tracker::start(&network, &config(1, &udp));
        // What fits into 1452 bytes over IPv4, and into 1232 over IPv6.
        let [v4, _, v6] = routes();
        for ((from, to), fits) in [(v4, 238), (v6, 67)] {
            let mut client = tracker.client(from, to);
            for port in 1..=fits + 2 {
                client.announce(&Announce::leecher(hash(1), port));
            }
            let asking = Announce::leecher(hash(1), 1);
            for want in [100.min(fits), fits - 1, fits, fits + 1] {
                let reply = client.announce(&asking.clone().want(want.into()));
                assert_eq!(reply.peers.len(), usize::from(want.min(fits)));
            }
        }
        tracker.sockets_are_idle();
    }
}

/// A path that nothing is known of carries a reply that is too long for it: the
/// first one, which is asked for once.
#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn replies_pass_a_narrow_path() {
    for more in ["", "xdp_interfaces: xs0"] {
        let network = Network::new();
        let far = network.behind_client(576);
        let udp = format!("addr: '10.203.0.1:6969'\nmax_numwant: 200\n{more}");
        let tracker = Tracker::start(&network, &config(1, &udp));
        let [(from, to), ..] = routes();
        let mut near = tracker.client(from, to);
        for port in 1..=200 {
            near.announce(&Announce::leecher(hash(1), port));
        }
        let far_ip = IpAddr::from([10, 205, 0, 2]);
        let mut client = far.run(|| Udp::from(far_ip, to));
        // By turns of one width and the other, in IP packets of 576, 582 and
        // 1248 bytes.
        for want in [88, 89, 200, 88, 200] {
            let asking = Announce::leecher(hash(1), 1000).want(want);
            assert_eq!(
                client.announce(&asking).peers.len(),
                want as usize,
                "{more}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn other_traffic_passes() {
    let network = Network::new();
    network.server_address("10.203.0.11/24");
    for mode in ["driver", "generic"] {
        let tracker = Tracker::start(&network, &usual(1, mode));
        // Another port, and the tracker's port at another address.
        for address in ["10.203.0.1:7000", "[fd00:6b61::1]:7000", "10.203.0.11:6969"] {
            echo(&network, address.parse().expect("an address"));
        }
        network.client.run(|| {
            ping(Ipv4Addr::new(10, 203, 0, 1));
            let target = Announce::leecher(hash(1), 1).target();
            let reply = get(tracker.program.http, &target);
            assert_eq!(reply.status, 200);
        });
        assert_eq!(tracker.metrics().listener("xs0"), (0, 0));
        tracker.sockets_are_idle();
    }
}

/// Another server's datagrams go both ways.
fn echo(network: &Network, address: SocketAddr) {
    let [server, client] = [(&network.server, address), (&network.client, any(address))];
    let [server, client] = [server, client].map(|(host, address)| {
        let socket = host.run(|| UdpSocket::bind(address)).expect("bind");
        socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
        socket
    });
    client.connect(address).expect("connect");
    for number in 0..10 {
        client.send(&[number; 100]).expect("send");
        let mut buffer = [0; 200];
        let (count, from) = server.recv_from(&mut buffer).expect("a datagram");
        server.send_to(&buffer[..count], from).expect("send");
        assert_eq!(client.recv(&mut buffer).expect("a reply"), 100);
        assert_eq!(buffer[..100], [number; 100]);
    }
}

/// Any address of the same family.
fn any(address: SocketAddr) -> SocketAddr {
    let ip = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    SocketAddr::new(ip.parse().expect("an address"), 0)
}

/// Asks by ICMP whether a host is there.
fn ping(host: Ipv4Addr) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let mut socket = socket.expect("only root may");
    socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
    let address = SocketAddr::new(host.into(), 0);
    socket.connect(&address.into()).expect("connect");
    // An echo request: type, code, checksum, identifier, number.
    socket
        .write_all(&[8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1])
        .expect("send");
    let mut reply = [0; 64];
    let count = socket.read(&mut reply).expect("a reply");
    // Behind an IP header of 20 bytes.
    assert_eq!(reply[20..count], [0, 0, 0xed, 0xca, 0x12, 0x34, 0, 1]);
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn hashes_of_both_shards_are_answered_on_one_queue() {
    const HASHES: u32 = 200;
    let network = Network::new();
    let tracker = Tracker::start(&network, &usual(2, "driver"));
    let [v4, _, v6] = routes();
    let mut requests = 0;
    for (from, to) in [v4, v6] {
        let mut client = tracker.client(from, to);
        for number in 0..HASHES {
            client.announce(&Announce::seeder(hash(number), 1).event(COMPLETED));
            let reply = client.announce(&Announce::leecher(hash(number), 2));
            assert_eq!(reply.counts(), (1, 1));
            assert_eq!(reply.peers, [SocketAddr::new(from, 1)]);
        }
        let hashes: Vec<_> = (0..HASHES).map(hash).collect();
        for hashes in hashes.chunks(50) {
            assert_eq!(client.scrape(hashes), [(1, 1, 1); 50]);
        }
        requests += u64::from(1 + 2 * HASHES + HASHES / 50);
    }
    tracker.counted("xs0", requests);
    tracker.sockets_are_idle();
    // About half of the announces, and every scrape.
    let crossed = tracker.metrics().crossed();
    assert!(
        (requests / 3..requests * 2 / 3).contains(&crossed),
        "{crossed}"
    );
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn every_queue_is_served() {
    let network = Network::with_queues(2);
    for shards in [1, 2, 3] {
        let tracker = Tracker::start(&network, &usual(shards, "driver"));
        // The client's kernel chooses a queue for each of its sockets.
        for number in 0..32 {
            for route in routes() {
                let mut client = tracker.client(route.0, route.1);
                let reply = client.announce(&Announce::seeder(hash(number), 1));
                assert_eq!(reply.counts(), (1, 0));
            }
        }
        tracker.counted("xs0", 32 * 3 * 2);
        tracker.sockets_are_idle();
    }
}

/// Announces in a window, one for each of many hashes, all of them answered.
fn burst(client: &mut Udp) {
    let numbers: Vec<u32> = (0..BURST).collect();
    for window in numbers.chunks(WINDOW) {
        for &number in window {
            client.send(&Announce::leecher(hash(number), 1).packet(client.id, number));
        }
        let mut left: Vec<u32> = window.to_vec();
        for _ in window {
            let reply = client.receive();
            let number = word(&reply, 4);
            let at = left.iter().position(|other| *other == number);
            left.swap_remove(at.expect("a request that was not answered"));
            // Whoever is alone is told of itself.
            let reply = Announced::read(&reply, 1, number, client.family);
            assert_eq!((reply.counts(), reply.peers.len()), ((0, 1), 1));
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn no_frame_is_lost_in_bursts() {
    let network = Network::new();
    for (shards, mode) in [(1, "driver"), (2, "generic")] {
        let tracker = Tracker::start(&network, &usual(shards, mode));
        let mut requests = 0;
        let [v4, _, v6] = routes();
        for (from, to) in [v4, v6, v4] {
            let mut client = tracker.client(from, to);
            // The system's own limit may be less than a window needs.
            set_socket_recv_buffer_size_force(&client.socket, 4 << 20).expect("only root may");
            burst(&mut client);
            requests += 1 + u64::from(BURST);
            // Frames of datagrams that get no answer come back, too.
            for _ in 0..100 {
                for _ in 0..WINDOW - 1 {
                    client.send(b"too short");
                }
                client.connect();
            }
            requests += 100;
        }
        let unanswered = 3 * 100 * (WINDOW as u64 - 1);
        tracker.reaches("drops", unanswered, |metrics| metrics.drops("too_short"));
        let both = (requests + unanswered, requests);
        tracker.reaches("xs0", both, |metrics| metrics.listener("xs0"));
        tracker.sockets_are_idle();
    }
}

/// A tracker that is held up takes what its frames hold, and tells how much more
/// there was; then it goes on.
#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn what_finds_no_frame_is_counted() {
    const FRAMES: u64 = 4096;
    let network = Network::new();
    let tracker = Tracker::start(&network, &usual(1, "driver"));
    let [(from, to), ..] = routes();
    // It connects.
    let mut client = tracker.client(from, to);
    tracker.reaches("xs0", (1, 1), |metrics| metrics.listener("xs0"));
    tracker.program.signal("STOP");
    for _ in 0..FRAMES + 1000 {
        client.send(b"too short");
    }
    tracker.program.signal("CONT");
    // That of the connect is given back when there is something to read.
    let room = FRAMES - 1;
    tracker.reaches("drops", room, |metrics| metrics.drops("too_short"));
    tracker.reaches("a count", true, |metrics| {
        (1..=1001).contains(&metrics.overflows("xs0"))
    });
    client.connect();
    let in_all = (room + 2, 2);
    tracker.reaches("xs0", in_all, |metrics| metrics.listener("xs0"));
}

/// Two clients meet at the first port of this address of the server, and are
/// counted by this listener.
fn meets_at(tracker: &Tracker, address: &str, listener: &str) {
    let to: IpAddr = address.parse().expect("an address");
    let from = match to {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            Ipv4Addr::new(a, b, 0, 2).into()
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 2).into()
        }
    };
    let (before, _) = tracker.metrics().listener(listener);
    // Another torrent each time.
    let number = tracker.metrics().announces() as u32;
    meet(tracker, (from, SocketAddr::new(to, 6969)), number);
    tracker.counted(listener, before + 5);
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn wildcards_stand_for_the_addresses_at_the_start() {
    let network = Network::new();
    network.second_cable();
    network.server_address("10.203.0.11/24");
    network.server_address("fd00:6b61::11/64");
    let wildcard = |interfaces| {
        // The last one, so that it says an address.
        let udp = "addr: ['0.0.0.0:6969', '[::]:6969', '10.203.0.1:6970']\nxdp_interfaces: ";
        Tracker::start(&network, &config(2, &format!("{udp}{interfaces}")))
    };
    let tracker = wildcard("xs0");
    for address in ["10.203.0.1", "fd00:6b61::1", "10.203.0.11", "fd00:6b61::11"] {
        meets_at(&tracker, address, "xs0");
    }
    tracker.sockets_are_idle();
    // Another interface, and addresses of which the program does not know.
    network.server_address("10.203.0.12/24");
    network.server_address("fd00:6b61::12/64");
    for (address, listener) in [
        ("10.204.0.1", "0.0.0.0:6969"),
        ("fd00:6b62::1", "[::]:6969"),
        ("10.203.0.12", "0.0.0.0:6969"),
        ("fd00:6b61::12", "[::]:6969"),
        ("10.203.0.1", "xs0"),
    ] {
        meets_at(&tracker, address, listener);
    }
    tracker.end("TERM");

    let tracker = wildcard("[xs0, xs1]");
    for (address, listener) in [
        ("10.203.0.12", "xs0"),
        ("fd00:6b61::12", "xs0"),
        ("10.204.0.1", "xs1"),
        ("fd00:6b62::1", "xs1"),
    ] {
        meets_at(&tracker, address, listener);
    }
    tracker.sockets_are_idle();
}
