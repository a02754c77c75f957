//! The metrics endpoint: its text, and its manners over real sockets.

use karuta::bittorrent::{AddressFamily, PeerId};
use karuta::control::metrics;
use karuta::control::reloads::Reloads;
use karuta::control::report::Report;
use karuta::control::web::server::{Answer, MAX_CONNECTIONS, MAX_REQUEST_BYTES, Route, WebServer};
use karuta::shard::responses::FailureClass;
use karuta::shard::stats::{Action, DropReason, Handshake, Outcome, Protocol, ShardStats};
use karuta::state::StateStats;
use karuta::sys::process::ProcessReport;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const GOLDEN: &str = include_str!("data/metrics.txt");

/// Two shards without a count.
fn empty() -> Report {
    let udp = ["127.0.0.1:6969", "[::1]:6969"];
    let http = ["127.0.0.1:80"];
    let shard = || Arc::new(ShardStats::new(&udp, &http));
    Report {
        version: "1.2.3",
        uptime: Duration::from_millis(1500),
        shards: vec![shard(), shard()],
        process: Some(ProcessReport::default()),
        reloads: Arc::default(),
        state: Arc::default(),
    }
}

/// Two shards whose every value differs from every other.
fn filled() -> Report {
    let mut report = empty();
    report.reloads = reloads();
    report.state = state();
    report.shards[0].certificate_expiry.set(1_800_000_000);
    report.process = Some(ProcessReport {
        cpu_seconds: 2.5,
        resident_bytes: 40_960,
        virtual_bytes: 81_920,
        open_fds: 17,
        max_fds: Some(1024),
        threads: 5,
        start_unix_seconds: 1_700_000_000.25,
    });
    let mut next = 0;
    let mut number = || {
        next += 1;
        next
    };
    for stats in &report.shards {
        for protocol in Protocol::ALL {
            for action in Action::ALL {
                for family in AddressFamily::ALL {
                    stats.requests(protocol, action, family).add(number());
                    for outcome in Outcome::ALL {
                        stats
                            .replies(protocol, action, family, outcome)
                            .add(number());
                    }
                }
            }
            for reason in DropReason::ALL {
                stats.drops(protocol, reason).add(number());
            }
            stats.cross_shard_requests(protocol).add(number());
        }
        for family in AddressFamily::ALL {
            stats.family(family).swarms.set(number());
            stats.family(family).seeders.set(number());
            stats.family(family).leechers.set(number());
        }
        stats.peers_not_stored.add(number());
        stats.swarms_not_stored.add(number());
        stats.connections_accepted.add(number());
        stats.connections_open.set(number());
        stats.store_bytes.set(number());
        stats.max_peers.set(number());
        stats.max_swarms.set(u64::MAX);
        stats.clients().count(&PeerId(*b"-KT0100-aaaaaaaaaaaa"));
        stats.clients().count(&PeerId(*b"\"\\\n0100-aaaaaaaaaaaa"));
        stats.ticked(Duration::from_millis(number()));
        for protocol in Protocol::ALL {
            for family in AddressFamily::ALL {
                let class = FailureClass::TooManyRequests;
                stats.refused(protocol, Action::Announce, family, class);
                stats.answered(protocol, family, Duration::from_millis(number()));
            }
            for listener in stats.listeners(protocol) {
                listener.arrivals.add(number());
                listener.departures.add(number());
                listener.overflows.add(number());
                listener.requests.add(number());
                listener.bytes_in.add(number());
                listener.bytes_out.add(number());
            }
        }
        for datagrams in [1, 2, 3, 64] {
            stats.batch(datagrams);
        }
        stats.lane_depth(number() + 1000);
        stats.lane_depth(number());
        stats.wakeups.add(number());
        stats.sweep.slice(number() * 1_000_000, number());
        stats.sweep.slice(number() * 1_000_000, number());
        stats.sweep.pass(number() * 1_000_000);
        stats.sweep.pass(10_000_000_000);
        for handshake in Handshake::ALL {
            stats.handshakes(handshake).add(number());
        }
    }
    report
}

/// Two reloads that went well and one that did not.
fn reloads() -> Arc<Reloads> {
    let reloads = Reloads::started_at(1_700_000_000);
    reloads.failed();
    reloads.succeeded_at(1_700_000_001);
    reloads.succeeded_at(1_700_000_002);
    Arc::new(reloads)
}

fn state() -> Arc<StateStats> {
    let state = StateStats::default();
    state.saved(1_700_000_000, Duration::from_millis(2500));
    state.failed();
    Arc::new(state)
}

#[test]
fn the_text_is_as_it_was() {
    let text = metrics::encode(&filled());
    // After a change that is meant: run once with this set, and read the diff.
    if std::env::var_os("KARUTA_WRITE_GOLDEN").is_some() {
        std::fs::write("tests/data/metrics.txt", &text).expect("write");
    }
    for (line, (ours, golden)) in text.lines().zip(GOLDEN.lines()).enumerate() {
        assert_eq!(ours, golden, "line {}", line + 1);
    }
    assert_eq!(text.len(), GOLDEN.len());
}

#[test]
fn every_series_is_there_from_the_start() {
    let zero = metrics::encode(&empty());
    let series = |text: &str| -> Vec<String> {
        let names = text
            .lines()
            // Failures and clients are told of once there are any.
            .filter(|line| !line.contains("client=\"") && !line.contains("_tls_certificate_"))
            .filter(|line| !line.contains("error=\"") || line.contains("error=\"\""))
            .map(|line| line.rsplit_once(' ').expect("value").0);
        names.map(str::to_owned).collect()
    };
    assert_eq!(series(&zero), series(GOLDEN));
}

#[test]
fn no_series_is_there_twice_and_all_are_ours() {
    let mut series: Vec<&str> = GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').expect("value").0)
        .collect();
    let known = ["karuta_", "chihaya_", "process_"];
    let is_known = |name: &&str| known.iter().any(|prefix| name.starts_with(prefix));
    assert!(series.iter().all(is_known));
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count);
    assert!(GOLDEN.ends_with("\n# EOF\n"));
}

fn route(path: &'static str, render: fn() -> Answer) -> Route {
    Route {
        path,
        render: Arc::new(render),
    }
}

/// A server on a free port that answers with a fixed text.
fn start() -> (WebServer, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let routes = vec![route("/metrics", || {
        Answer::text(200, "karuta_test 1\n# EOF\n")
    })];
    let server = WebServer::start(listener, routes).expect("start");
    let address = server.local_addr().expect("address");
    (server, address)
}

/// Sends bytes and reads until the server closes.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(request).expect("send");
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("receive");
    reply
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    )
}

#[test]
fn metrics_are_served() {
    let listener = TcpListener::bind("[::1]:0").expect("bind");
    let report = filled();
    let routes = vec![Route {
        path: "/metrics",
        render: Arc::new(move || Answer {
            content_type: metrics::CONTENT_TYPE,
            ..Answer::text(200, metrics::encode(&report))
        }),
    }];
    let server = WebServer::start(listener, routes).expect("start");
    let reply = get(server.local_addr().expect("address"), "/metrics?format=any");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    assert!(body == GOLDEN, "what is served is what is encoded");
    let head: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    assert!(
        head.contains(&"Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let length = format!("Content-Length: {}", body.len());
    assert!(head.contains(&length.as_str()), "{head:?}");
}

#[test]
fn methods_and_paths_are_told_apart() {
    let (_server, address) = start();
    let status = |request: &str| {
        let reply = exchange(address, format!("{request}\r\nHost: x\r\n\r\n").as_bytes());
        reply[..12].to_owned()
    };
    assert_eq!(status("GET /metrics HTTP/1.1"), "HTTP/1.1 200");
    assert_eq!(status("GET /metrics HTTP/1.0"), "HTTP/1.1 200");
    assert_eq!(status("GET / HTTP/1.1"), "HTTP/1.1 404");
    assert_eq!(status("GET /metrics/ HTTP/1.1"), "HTTP/1.1 404");
    assert_eq!(status("POST /other HTTP/1.1"), "HTTP/1.1 404");
    assert_eq!(status("POST /metrics HTTP/1.1"), "HTTP/1.1 405");

    let reply = exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("Content-Length: 20\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\n"), "{reply}");
    let reply = exchange(address, b"DELETE /metrics HTTP/1.1\r\n\r\n");
    assert!(reply.contains("\r\nAllow: GET, HEAD\r\n"), "{reply}");
}

#[test]
fn more_routes_can_be_served() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let routes = vec![
        route("/a", || Answer::text(200, "1")),
        route("/b", || Answer {
            policy: Some("default-src 'none'".to_owned()),
            ..Answer::text(503, "2")
        }),
    ];
    let server = WebServer::start(listener, routes).expect("start");
    let address = server.local_addr().expect("address");
    assert!(get(address, "/a").ends_with("\r\n\r\n1"));
    let reply = get(address, "/b");
    assert!(reply.ends_with("\r\n\r\n2"), "{reply}");
    assert!(reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(reply.contains("\r\nContent-Security-Policy: default-src 'none'\r\n"));
    let reply = get(address, "/metrics");
    assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
    assert!(
        reply.ends_with("\n/a\n/b\n"),
        "the paths are listed: {reply}"
    );
}

#[test]
fn malformed_requests_are_answered_and_do_no_harm() {
    let (_server, address) = start();
    let oversized = [
        b"GET /metrics HTTP/1.1\r\nA: ".to_vec(),
        vec![b'a'; 4 * MAX_REQUEST_BYTES],
    ]
    .concat();
    let many_headers = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    for (request, status) in [
        (&b"nonsense\r\n\r\n"[..], "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        (&oversized, "431"),
        (many_headers.as_bytes(), "431"),
    ] {
        let reply = exchange(address, request);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(
            reply.starts_with(&expected),
            "{}: {reply}",
            request.escape_ascii()
        );
    }
    // A request that ends too soon.
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(b"GET /met").expect("send");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 400 "));
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_may_come_in_pieces() {
    let (_server, address) = start();
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("no delay");
    for byte in b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" {
        stream.write_all(&[*byte]).expect("send");
    }
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let (_server, address) = start();
    let mut silent: Vec<TcpStream> = (0..3 * MAX_CONNECTIONS)
        .map(|at| {
            let mut stream = TcpStream::connect(address).expect("connect");
            if at % 2 == 0 {
                stream.write_all(b"GET /metrics HT").expect("send");
            }
            stream
        })
        .collect();
    // Connections are accepted in order, so all of the above are before this.
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "));
    // The oldest were cut off, by an end or by a reset.
    let read = silent[0].read(&mut [0; 16]);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[test]
fn stopping_cuts_off_clients() {
    let (server, address) = start();
    let mut silent = TcpStream::connect(address).expect("connect");
    // Once this is answered, the connection before it was accepted.
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "));
    server.stop();
    let read = silent.read(&mut [0; 16]);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
