//! Whole runs against a tiny tracker in this process that can be told to
//! misbehave. Nothing here asserts a time.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use karuta_load_tester::config::{Pace, RunConfig, Target};
use karuta_load_tester::report::Report;
use karuta_load_tester::run::{RunError, run};
use karuta_load_tester::skew::Skew;
use karuta_load_tester::workload::{FillShape, Workload};

#[test]
fn a_closed_loop_counts_every_reply() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Window(16));
    config.workload.connects = 1.0;
    config.workload.scrapes = 1.0;
    config.scrape_hashes = 3;
    config.threads = 2;
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    let answered = report.answered;
    assert!(
        answered.announces > 0 && answered.connects > 0 && answered.scrapes > 0,
        "{report:?}"
    );
    assert_eq!(report.peers_per_reply, 2.0);
    assert_eq!(report.latency.count, answered.total());
}

#[test]
fn a_fixed_rate_sends_every_request_that_is_due() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Rate(1000.0));
    config.warm_up = Duration::ZERO;
    let report = checked(&config);
    assert_eq!(
        report.sent.total() + report.unsent,
        200,
        "1000/s for 0.2 s: {report:?}"
    );
    assert!(report.is_valid(), "{report:?}");
}

#[test]
fn packets_leave_the_same_with_and_without_segmentation() {
    for segmentation in [true, false] {
        let tracker = Tracker::udp(Fault::None);
        let config = RunConfig {
            segmentation,
            fill: Some(FillShape::OneEach),
            ..config(tracker.address, Pace::Window(200))
        };
        let report = checked(&config);
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(tracker.seen().len() as u64, config.workload.peers);
    }
}

#[test]
fn a_fill_announces_every_peer_although_packets_are_lost() {
    let tracker = Tracker::udp(Fault::DropEveryThird);
    let config = RunConfig {
        fill: Some(FillShape::Drawn(Skew::Cubic)),
        threads: 2,
        timeout: Duration::from_millis(20),
        ..config(tracker.address, Pace::Window(64))
    };
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    assert_eq!(report.answered.announces, config.workload.peers);
    assert!(report.retransmitted > 0 && report.lost > 0, "{report:?}");
    assert_eq!(tracker.seen().len() as u64, config.workload.peers);
}

#[test]
fn loss_in_a_closed_loop_is_reported_and_makes_the_run_invalid() {
    let tracker = Tracker::udp(Fault::DropEveryThird);
    let config = RunConfig {
        timeout: Duration::from_millis(10),
        ..config(tracker.address, Pace::Window(8))
    };
    let report = checked(&config);
    assert!(report.lost > 0 && report.answered.total() > 0, "{report:?}");
    assert!(!report.is_valid());
}

#[test]
fn wrong_transaction_ids_are_found() {
    let tracker = Tracker::udp(Fault::WrongTransactionId);
    let config = RunConfig {
        timeout: Duration::from_millis(20),
        ..config(tracker.address, Pace::Window(8))
    };
    let report = checked(&config);
    assert_eq!(report.answered.total(), 0);
    assert!(report.unknown_ids > 0 && !report.is_valid(), "{report:?}");
}

#[test]
fn error_replies_are_counted_with_their_text() {
    let tracker = Tracker::udp(Fault::Error);
    let report = checked(&config(tracker.address, Pace::Window(8)));
    assert_eq!(
        report.texts,
        [("not today".to_string(), report.error_replies)]
    );
    assert!(report.error_replies > 0 && !report.is_valid(), "{report:?}");
}

#[test]
fn malformed_replies_are_counted_as_invalid() {
    for (fault, text) in [
        (
            Fault::Malformed,
            "(malformed reply: length does not fit its action)",
        ),
        (Fault::WrongAction, "(reply to another kind of request)"),
        (Fault::TooManyPeers, "(more peers than asked for)"),
    ] {
        let tracker = Tracker::udp(fault);
        let report = checked(&config(tracker.address, Pace::Window(8)));
        assert_eq!(report.texts, [(text.to_string(), report.bad_replies)]);
        assert!(report.bad_replies > 0 && !report.is_valid(), "{report:?}");
    }
}

#[test]
fn refused_peers_of_a_fill_are_given_up() {
    let tracker = Tracker::udp(Fault::Error);
    let config = RunConfig {
        fill: Some(FillShape::OneEach),
        ..config(tracker.address, Pace::Window(32))
    };
    let report = checked(&config);
    assert_eq!(report.rejected, config.workload.peers);
    assert!(!report.is_valid());
}

#[test]
fn where_nothing_listens_the_error_says_so() {
    let udp = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = run(&config(udp, Pace::Window(1)), false).unwrap_err();
    assert!(
        matches!(error, RunError::Connect(_)) && error.to_string().contains("nothing listens"),
        "{error}"
    );
    let tcp = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = run(&http_config(tcp, true), false).unwrap_err();
    assert!(
        matches!(error, RunError::Connect(_)) && error.to_string().contains("nothing listens"),
        "{error}"
    );
}

#[test]
fn http_connections_are_kept_or_not() {
    for keep_alive in [true, false] {
        let tracker = Tracker::http(Fault::None);
        let report = checked(&http_config(tracker.address, keep_alive));
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(report.peers_per_reply, 2.0);
    }
}

#[test]
fn http_at_a_fixed_rate_sends_every_request_that_is_due() {
    let tracker = Tracker::http(Fault::None);
    let mut config = http_config(tracker.address, true);
    config.pace = Pace::Rate(500.0);
    config.warm_up = Duration::ZERO;
    let report = checked(&config);
    assert_eq!(
        report.sent.total() + report.unsent,
        100,
        "500/s for 0.2 s: {report:?}"
    );
}

#[test]
fn an_http_fill_announces_every_peer_although_connections_break() {
    for keep_alive in [true, false] {
        let tracker = Tracker::http(Fault::DropEveryThird);
        let mut config = http_config(tracker.address, keep_alive);
        config.fill = Some(FillShape::Drawn(Skew::Uniform));
        config.workload.peers = 60;
        let report = checked(&config);
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(report.answered.announces, 60);
        assert!(report.broken_connections > 0, "{report:?}");
        assert_eq!(tracker.seen().len(), 60);
    }
}

#[test]
fn http_failures_are_counted_with_their_text() {
    let tracker = Tracker::http(Fault::Error);
    let report = checked(&http_config(tracker.address, true));
    assert_eq!(
        report.texts,
        [("not today".to_string(), report.error_replies)]
    );
    let tracker = Tracker::http(Fault::Malformed);
    let report = checked(&http_config(tracker.address, true));
    assert_eq!(
        report.texts,
        [(
            "(body is no bencoded dictionary)".to_string(),
            report.bad_replies
        )]
    );
    assert!(report.bad_replies > 0 && !report.is_valid(), "{report:?}");
}

/// Runs, and checks that every request sent ended in exactly one way.
fn checked(config: &RunConfig) -> Report {
    let report = run(config, false).unwrap();
    let ended = report.answered.total() + report.error_replies + report.bad_replies + report.lost;
    assert_eq!(report.sent.total(), ended, "{report:?}");
    report
}

fn config(address: SocketAddr, pace: Pace) -> RunConfig {
    RunConfig {
        target: Target::Udp(address),
        sources: (2..5)
            .map(|n| Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, n))))
            .collect(),
        threads: 1,
        cpus: Vec::new(),
        pace,
        workload: Workload {
            seed: 1,
            swarms: 100,
            peers: 1000,
            skew: Skew::Uniform,
            sources: 3,
            connects: 0.0,
            announces: 1.0,
            scrapes: 0.0,
            seeders: 0.5,
            started: 0.1,
            completed: 0.1,
            stopped: 0.1,
            reannounce: false,
        },
        fill: None,
        numwant: 5,
        scrape_hashes: 1,
        warm_up: Duration::from_millis(20),
        duration: Duration::from_millis(200),
        timeout: Duration::from_secs(5),
        connections: 6,
        keep_alive: true,
        segmentation: true,
        cpu_of: None,
        rss_of: None,
        max_loss: 0.01,
    }
}

fn http_config(address: SocketAddr, keep_alive: bool) -> RunConfig {
    let target = Target::Http {
        address,
        host: address.to_string(),
        path: "/announce".into(),
    };
    RunConfig {
        target,
        keep_alive,
        ..config(address, Pace::Window(1))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    DropEveryThird,
    WrongTransactionId,
    Error,
    Malformed,
    WrongAction,
    TooManyPeers,
}

/// What identifies a peer: info hash, source address, announced port.
type Peer = (Vec<u8>, IpAddr, u16);

/// A tracker that answers everything with two peers, on threads of its own.
struct Tracker {
    address: SocketAddr,
    seen: Arc<Mutex<HashSet<Peer>>>,
    stop: Arc<AtomicBool>,
}

impl Tracker {
    fn udp(fault: Fault) -> Tracker {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Only so that the thread sees the end of the test.
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let tracker = Tracker::new(socket.local_addr().unwrap());
        let (seen, stop) = (tracker.seen.clone(), tracker.stop.clone());
        thread::spawn(move || {
            let mut announces = 0;
            let mut request = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut request) else {
                    continue;
                };
                let request = &request[..len];
                if request[11] == 1 && request[..8] == *b"tinyconn" {
                    announces += 1;
                    if fault == Fault::DropEveryThird && announces % 3 == 0 {
                        continue;
                    }
                    let port = u16::from_be_bytes([request[96], request[97]]);
                    seen.lock()
                        .unwrap()
                        .insert((request[16..36].to_vec(), from.ip(), port));
                }
                let _ = socket.send_to(&udp_reply(request, fault), from);
            }
        });
        tracker
    }

    fn http(fault: Fault) -> Tracker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tracker = Tracker::new(listener.local_addr().unwrap());
        let (seen, stop) = (tracker.seen.clone(), tracker.stop.clone());
        thread::spawn(move || {
            let announces = Arc::new(Mutex::new(0));
            while let Ok((stream, from)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, announces) = (seen.clone(), announces.clone());
                thread::spawn(move || serve(stream, from, fault, &seen, &announces));
            }
        });
        tracker
    }

    fn new(address: SocketAddr) -> Tracker {
        Tracker {
            address,
            seen: Arc::default(),
            stop: Arc::default(),
        }
    }

    fn seen(&self) -> HashSet<Peer> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread of an HTTP tracker.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn udp_reply(request: &[u8], fault: Fault) -> Vec<u8> {
    let mut id: [u8; 4] = request[12..16].try_into().unwrap();
    let is_connect = request[..8] == 0x0417_2710_1980u64.to_be_bytes();
    let action = if is_connect { 0 } else { request[11] };
    if action == 0 {
        return [&[0, 0, 0, 0], &id[..], b"tinyconn"].concat();
    }
    assert_eq!(
        request[..8],
        *b"tinyconn",
        "the connection id must come back"
    );
    if action == 2 {
        return [
            &[0, 0, 0, 2],
            &id[..],
            &vec![0; (request.len() - 16) / 20 * 12],
        ]
        .concat();
    }
    assert_eq!(request.len(), 98);
    if fault == Fault::WrongTransactionId {
        id[0] ^= 0x80;
    }
    let body = [7; 12 + 2 * 6];
    match fault {
        Fault::Error => [&[0, 0, 0, 3], &id[..], b"not today"].concat(),
        Fault::Malformed => [&[0, 0, 0, 1], &id[..], &body[..15]].concat(),
        Fault::WrongAction => [&[0, 0, 0, 2], &id[..], &body[..]].concat(),
        Fault::TooManyPeers => [&[0, 0, 0, 1], &id[..], &[7; 12 + 6 * 6]].concat(),
        _ => [&[0, 0, 0, 1], &id[..], &body].concat(),
    }
}

/// Answers one connection until it ends.
fn serve(
    mut stream: std::net::TcpStream,
    from: SocketAddr,
    fault: Fault,
    seen: &Mutex<HashSet<Peer>>,
    announces: &Mutex<u32>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(len) if len > 0 => request.extend(&buffer[..len]),
                _ => return,
            }
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let parameter = |name: &str| {
            text.split(['?', '&', ' '])
                .find_map(|p| p.strip_prefix(name))
                .unwrap()
        };
        let count = {
            let mut announces = announces.lock().unwrap();
            *announces += 1;
            *announces
        };
        if fault == Fault::DropEveryThird && count % 3 == 0 {
            return;
        }
        let peer = (
            parameter("info_hash=").as_bytes().to_vec(),
            from.ip(),
            parameter("port=").parse().unwrap(),
        );
        seen.lock().unwrap().insert(peer);
        let body: &str = match fault {
            Fault::Error => "d14:failure reason9:not todaye",
            Fault::Malformed => "<html>",
            _ => "d8:intervali1800e5:peers12:aaaaaabbbbbbe",
        };
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(reply.as_bytes()).is_err() || text.contains("Connection: close") {
            return;
        }
    }
}
