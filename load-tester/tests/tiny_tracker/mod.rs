//! A tiny tracker in this process that can be told to misbehave, and runs
//! against it.

#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use karuta_load_tester::config::{Pace, RunConfig, Target};
use karuta_load_tester::report::Report;
use karuta_load_tester::run::run;
use karuta_load_tester::skew::Skew;
use karuta_load_tester::workload::Workload;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Runs, and checks that every request sent ended in exactly one way.
pub fn checked(config: &RunConfig) -> Report {
    let report = run(config, false).unwrap();
    let ended = report.answered.total() + report.error_replies + report.bad_replies + report.lost;
    assert_eq!(report.sent.total(), ended, "{report:?}");
    report
}

pub fn config(address: SocketAddr, pace: Pace) -> RunConfig {
    RunConfig {
        target: Target::Udp(address),
        sources: match address.is_ipv4() {
            true => (2..5).map(|n| Some([127, 0, 0, n].into())).collect(),
            false => vec![None; 3],
        },
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

pub fn http_config(address: SocketAddr, keep_alive: bool) -> RunConfig {
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
pub enum Fault {
    None,
    DropEveryThird,
    WrongTransactionId,
    Error,
    Malformed,
    WrongAction,
    TooManyPeers,
    /// Announces are answered with a thousand peers.
    ThousandPeers,
    /// Scrapes are answered with one swarm.
    FewSwarms,
    /// Announces are answered until the twentieth, and then no more.
    Die,
    /// After a hundred requests, connection ids given before are refused.
    Restart,
    /// The n-th announce, and every n-th, is answered twice.
    Repeat(u64),
    /// The 11th to the 110th announce are answered together with the 111th.
    WithholdAHundred,
}

/// What identifies a peer: info hash, source address, announced port.
pub type Peer = (Vec<u8>, IpAddr, u16);

/// A tracker that answers everything with two peers, on threads of its own.
pub struct Tracker {
    pub address: SocketAddr,
    seen: Arc<Mutex<HashSet<Peer>>>,
    announces: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Tracker {
    pub fn udp(fault: Fault) -> Tracker {
        Tracker::udp_at(V4, fault)
    }

    pub fn udp_at(ip: IpAddr, fault: Fault) -> Tracker {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        // Only so that the thread sees the end of the test.
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let tracker = Tracker::new(socket.local_addr().unwrap());
        let (seen, announces) = (tracker.seen.clone(), tracker.announces.clone());
        let stop = tracker.stop.clone();
        thread::spawn(move || {
            let mut request = [0; 2048];
            let mut withheld = Vec::new();
            let mut requests = 0;
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut request) else {
                    continue;
                };
                let request = &request[..len];
                requests += 1;
                let connection_id = match fault {
                    Fault::Restart if requests > 100 => b"restarts",
                    _ => b"tinyconn",
                };
                let reply = udp_reply(request, from, fault, connection_id);
                if request[11] == 1 && request[..8] == *connection_id {
                    let number = 1 + announces.fetch_add(1, Ordering::Relaxed);
                    if fault == Fault::DropEveryThird && number.is_multiple_of(3) {
                        continue;
                    }
                    if fault == Fault::Die && number > 20 {
                        continue;
                    }
                    let port = u16::from_be_bytes([request[96], request[97]]);
                    seen.lock()
                        .unwrap()
                        .insert((request[16..36].to_vec(), from.ip(), port));
                    if let Fault::Repeat(n) = fault
                        && number.is_multiple_of(n)
                    {
                        let _ = socket.send_to(&reply, from);
                    }
                    if fault == Fault::WithholdAHundred && (11..=110).contains(&number) {
                        withheld.push((reply, from));
                        continue;
                    }
                }
                for (reply, from) in withheld.drain(..).chain([(reply, from)]) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        tracker
    }

    pub fn http(fault: Fault) -> Tracker {
        Tracker::http_at(V4, fault)
    }

    pub fn http_at(ip: IpAddr, fault: Fault) -> Tracker {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let tracker = Tracker::new(listener.local_addr().unwrap());
        let (seen, announces) = (tracker.seen.clone(), tracker.announces.clone());
        let stop = tracker.stop.clone();
        thread::spawn(move || {
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
            announces: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Announces with a valid connection id, answered or not.
    pub fn announces(&self) -> u64 {
        self.announces.load(Ordering::Relaxed)
    }

    pub fn seen(&self) -> HashSet<Peer> {
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

fn udp_reply(request: &[u8], from: SocketAddr, fault: Fault, connection_id: &[u8; 8]) -> Vec<u8> {
    let mut id: [u8; 4] = request[12..16].try_into().unwrap();
    let is_connect = request[..8] == 0x0417_2710_1980u64.to_be_bytes();
    let action = if is_connect { 0 } else { request[11] };
    if action == 0 {
        return [&[0, 0, 0, 0], &id[..], connection_id].concat();
    }
    if fault == Fault::Restart && request[..8] != *connection_id {
        return [&[0, 0, 0, 3], &id[..], b"bad connection ID"].concat();
    }
    assert_eq!(
        request[..8],
        *connection_id,
        "the connection id must come back"
    );
    if action == 2 && fault == Fault::FewSwarms {
        return [&[0, 0, 0, 2], &id[..], &[0; 12]].concat();
    }
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
    let peer = if from.is_ipv4() { 6 } else { 18 };
    let body = vec![7; 12 + 2 * peer];
    match fault {
        Fault::Error => [&[0, 0, 0, 3], &id[..], b"not today"].concat(),
        Fault::Malformed => [&[0, 0, 0, 1], &id[..], &body[..15]].concat(),
        Fault::WrongAction => [&[0, 0, 0, 2], &id[..], &body[..]].concat(),
        Fault::ThousandPeers => [&[0, 0, 0, 1], &id[..], &vec![7; 12 + 1000 * peer]].concat(),
        Fault::TooManyPeers => [&[0, 0, 0, 1], &id[..], &vec![7; 12 + 6 * peer]].concat(),
        _ => [&[0, 0, 0, 1], &id[..], &body].concat(),
    }
}

/// Answers one connection until it ends.
fn serve(
    mut stream: std::net::TcpStream,
    from: SocketAddr,
    fault: Fault,
    seen: &Mutex<HashSet<Peer>>,
    announces: &AtomicU64,
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
        let count = 1 + announces.fetch_add(1, Ordering::Relaxed);
        if fault == Fault::DropEveryThird && count.is_multiple_of(3) {
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
            _ if from.is_ipv6() => {
                "d8:intervali1800e5:peers0:6:peers636:aaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbe"
            }
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
