//! HTTPS over sockets, against a tracker that runs: versions, resumption, and
//! clients that misbehave. Certificates and their files are in
//! `certificates.rs`.

mod support;
mod tls_client;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{DropReason, Handshake, Protocol};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use support::{Announce, Http, Server, WATCHDOG, hash, request};
use tls_client::{Files, client, connect, forgetful, issue, session};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

#[test]
fn announces_over_both_versions() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let server = files.server(2, true);
    for (version, name) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = client(&issued, &[version]);
        for family in [V4, V6] {
            let address = server.https[family.index()];
            // Other swarms than those of the other version.
            let number = u32::from(name == ProtocolVersion::TLSv1_2) * 100;
            let mut client = connect(address, &config);
            for port in 1..=20 {
                let target = Announce::leecher(hash(number + port % 3), port as u16).target();
                let reply = client.get(&target).announced(family);
                assert_eq!(reply.counts(), (0, port.div_ceil(3)), "{port}");
            }
            assert_eq!(client.socket.conn.protocol_version(), Some(name));
            assert_eq!(client.socket.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
            assert_eq!(client.response().status, 200);
            // With close_notify: rustls would call anything else an error.
            client.closed();
        }
    }
    // Plain HTTP is there as well, and shares the swarms.
    let reply = support::get(server.http(V4), &Announce::leecher(hash(1), 99).target());
    assert_eq!(reply.announced(V4).counts(), (0, 8));
    assert!(
        server
            .announce_urls()
            .iter()
            .any(|url| url.starts_with("https://127.0.0.1:"))
    );
}

#[test]
fn statistics_and_full_scrapes_leave_the_shard_with_their_session() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    let http = config.http.as_mut().expect("on");
    http.stats_path = "stats".to_owned();
    http.full_scrape = true;
    let server = Server::start(&config);
    let tls = client(&issued, &[&TLS13, &TLS12]);
    let mut client = connect(server.https[0], &tls);
    let version = client.get("/stats?mode=version");
    assert_eq!(
        version.body,
        format!("karuta {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );
    // With close_notify, for what came of unknown length, too.
    client.closed();
    let mut client = connect(server.https[0], &tls);
    client.send("GET /scrape HTTP/1.0\r\n\r\n");
    let mut text = Vec::new();
    client
        .socket
        .read_to_end(&mut text)
        .expect("a whole answer");
    assert!(text.ends_with(b"\r\n\r\nd5:filesdee"), "{text:?}");
}

#[test]
fn without_plain_http() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    config.udp = None;
    config.http.as_mut().expect("on").addr.clear();
    let server = Server::start(&config);
    assert!(server.http.is_empty());
    let config = client(&issued, &[&TLS13]);
    for port in 1..=4 {
        let mut client = connect(server.https[0], &config);
        let target = Announce::seeder(hash(1), port).target();
        let reply = client.get(&target);
        assert_eq!(reply.announced(V4).counts(), (u32::from(port), 0));
        assert_eq!(support::field(&reply.head, "Connection"), Some("close"));
        client.closed();
    }
}

#[test]
fn sessions_are_resumed_at_any_shard() {
    const CONNECTIONS: u64 = 24;
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    for version in [&TLS12, &TLS13] {
        let server = files.server(4, false);
        let config = client(&issued, &[version]);
        for number in 0..CONNECTIONS {
            let mut client = connect(server.https[0], &config);
            let target = Announce::leecher(hash(number as u32), 6881).target();
            assert_eq!(client.get(&target).announced(V4).counts(), (0, 1));
            let expected = match number {
                0 => HandshakeKind::Full,
                _ => HandshakeKind::Resumed,
            };
            assert_eq!(
                client.socket.conn.handshake_kind(),
                Some(expected),
                "{number}"
            );
            client.closed();
        }
        assert_eq!(server.handshakes(Handshake::Full), 1);
        assert_eq!(server.handshakes(Handshake::Resumed), CONNECTIONS - 1);
        assert_eq!(server.handshakes(Handshake::Failed), 0);
        let resumed = |stats: &Arc<karuta::shard::stats::ShardStats>| {
            u64::from(stats.handshakes(Handshake::Resumed).get() > 0)
        };
        let shards: u64 = server.stats.iter().map(resumed).sum();
        assert!(shards > 1, "all connections reached one shard");
    }
}

#[test]
fn a_proxy_is_introduced_before_tls() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(2);
    let http = config.http.as_mut().expect("on");
    (http.proxy_protocol, http.external_ip) = (true, true);
    http.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    let server = Server::start(&config);
    let config = client(&issued, &[&TLS13, &TLS12]);
    let target = Announce::leecher(hash(1), 6881).target();
    for together in [false, true] {
        let mut client = connect(server.https[0], &config);
        let mut opening = b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec();
        if together {
            let session = &mut client.socket.conn;
            session.write_tls(&mut opening).expect("into memory");
        }
        for byte in opening.chunks(if together { opening.len() } else { 1 }) {
            client.socket.sock.write_all(byte).expect("send");
        }
        let dictionary = client.get(&target).bencode().dictionary();
        let ip = dictionary[&b"external ip"[..]].bytes();
        assert_eq!(ip, [192, 0, 2, 1]);
    }
    // Without it there is no handshake.
    let mut client = connect(server.https[0], &config);
    let result = client.socket.conn.complete_io(&mut client.socket.sock);
    result.expect_err("closed");
    assert_eq!(server.drops(Protocol::Http, DropReason::BadProxyHeader), 1);
    assert_eq!(server.handshakes(Handshake::Failed), 0);
}

#[test]
fn what_is_no_tls_is_closed() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(1, true);
    let mut failed = 0;
    for bytes in [
        request("/announce").as_bytes(),
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x15\x03\x01\x00\x02\x02\x00",
        &[0xff; 70_000],
    ] {
        let mut client = Http::connect(server.https[0]);
        // It may be closed before all is sent.
        let _ = client.socket.write_all(bytes);
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer);
        // An alert at most.
        assert!(answer.len() <= 7 && !answer.starts_with(b"H"), "{answer:?}");
        failed += 1;
        assert_eq!(server.handshakes(Handshake::Failed), failed, "{bytes:?}");
    }
    // A client that cannot agree: no version in common, a name it distrusts.
    let stranger = issue(|_| ());
    let mut client = connect(server.https[0], &forgetful(&stranger));
    let result = client.socket.conn.complete_io(&mut client.socket.sock);
    result.expect_err("not trusted");
    drop(client);
    // One that only looks whether the port is open has not failed.
    drop(Http::connect(server.https[0]));
    let mut client = connect(server.https[0], &forgetful(&issued));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(server.handshakes(Handshake::Failed), failed + 1);
    assert_eq!(server.handshakes(Handshake::Full), 1);
}

#[test]
fn slow_handshakes_time_out() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(1);
    config.http.as_mut().expect("on").read_timeout = Duration::from_millis(400);
    let server = Server::start(&config);
    let mut hello = Vec::new();
    session(&client(&issued, &[&TLS13]))
        .write_tls(&mut hello)
        .expect("into memory");
    for (sent, failed) in [(0, 0), (5, 1), (hello.len() - 1, 2), (hello.len(), 3)] {
        let mut client = Http::connect(server.https[0]);
        client.send(&hello[..sent]);
        let mut answer = Vec::new();
        let _ = client.socket.read_to_end(&mut answer);
        assert_eq!(answer.is_empty(), sent < hello.len(), "{sent}");
        assert_eq!(server.handshakes(Handshake::Failed), failed);
    }
    assert_eq!(server.drops(Protocol::Http, DropReason::Timeout), 4);
}

#[test]
fn requests_in_any_number_of_records() {
    const REQUESTS: u16 = 2000;
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(3);
    let http = config.http.as_mut().expect("on");
    (http.enable_keepalive, http.max_request_bytes) = (true, 65_536);
    let server = Server::start(&config);
    let config = client(&issued, &[&TLS13, &TLS12]);

    // Pipelined: many requests in one record, many records at once, and more
    // answers than anything buffers.
    let mut text = Vec::new();
    for port in 1..=REQUESTS {
        let announce = Announce::leecher(hash(u32::from(port) % 7), port).want(100);
        text.extend(request(&announce.target()).into_bytes());
    }
    let mut client = connect(server.https[0], &config);
    client.socket.conn.set_buffer_limit(None);
    assert_eq!(client.get("/").status, 200);
    client
        .socket
        .conn
        .writer()
        .write_all(&text)
        .expect("into memory");
    let mut bytes = Vec::new();
    while client.socket.conn.wants_write() {
        client
            .socket
            .conn
            .write_tls(&mut bytes)
            .expect("into memory");
    }
    let mut socket = client.socket.sock.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || socket.write_all(&bytes));
    for port in 1..=REQUESTS {
        let (_, leechers) = client.response().announced(V4).counts();
        assert_eq!(leechers, u32::from(port).div_ceil(7), "{port}");
    }
    writer.join().expect("joined").expect("written");

    // A request byte by byte, each in a record of its own.
    for byte in request("/").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response().status, 200);

    // A request as large as allowed, over several records.
    let padding = "x".repeat(65_000);
    client.send(format!("GET / HTTP/1.1\r\nX: {padding}\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    client.send(format!("GET / HTTP/1.1\r\nX: {padding}{padding}\r\n\r\n"));
    assert_eq!(client.response().status, 431);
}

#[test]
fn a_client_that_says_goodbye_first_gets_its_answers() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(3, true);
    for version in [&TLS12, &TLS13] {
        let config = client(&issued, &[version]);
        for number in 0..8 {
            let mut client = connect(server.https[0], &config);
            assert_eq!(client.get("/").status, 200);
            let target = Announce::leecher(hash(number), 1).target();
            let writer = &mut client.socket.conn.writer();
            writer
                .write_all(request(&target).as_bytes())
                .expect("into memory");
            client.socket.conn.send_close_notify();
            assert_eq!(client.response().status, 200);
            client.closed();
        }
    }
}

#[test]
fn connections_are_limited() {
    let issued = issue(|_| ());
    let files = Files::with(&issued);
    let mut config = files.config(1);
    let http = config.http.as_mut().expect("on");
    (http.enable_keepalive, http.max_connections) = (true, 2);
    let server = Server::start(&config);
    let config = forgetful(&issued);
    let mut one = connect(server.https[0], &config);
    assert_eq!(one.get("/").status, 200);
    let mut two = Http::connect(server.http(V4));
    assert_eq!(two.get("/").status, 200);
    assert!(Http::connect(server.https[0]).gone());
    assert_eq!(server.drops(Protocol::Http, DropReason::ConnectionLimit), 1);
    assert_eq!(one.get("/").status, 200);
    assert_eq!(two.get("/").status, 200);
}

#[test]
fn a_stopping_tracker_says_goodbye() {
    let issued = issue(|_| ());
    let server = Files::with(&issued).server(1, true);
    let mut idle = connect(server.https[0], &forgetful(&issued));
    assert_eq!(idle.get("/").status, 200);
    idle.socket
        .sock
        .set_read_timeout(Some(WATCHDOG))
        .expect("timeout");
    drop(server);
    idle.closed();
}
