//! opentracker's statistics, served by a tracker that runs; with them its full
//! scrapes ([`full_scrapes`]).

#[path = "opentracker_stats/full_scrapes.rs"]
mod full_scrapes;
mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::HttpConfig;
use karuta::protocol::Dialect;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use support::{
    Announce, COMPLETED, Server, Udp, WATCHDOG, field, get, hash, percent, uninterrupted,
};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// Ends a wait for an answer that does not come: some seconds of requests.
const MOST_TRIES: usize = 20_000;

/// A tracker with all of it on.
fn serving(shards: usize, change: impl FnOnce(&mut HttpConfig)) -> Server {
    Server::with(shards, |_, http| {
        http.stats_path = "stats".to_owned();
        http.full_scrape = true;
        http.full_scrape_pause = Duration::ZERO;
        change(http);
    })
}

/// An answer read up to the end of the connection, which the server closes.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// The body without the framing of its chunks.
    fn unchunked(&self) -> Vec<u8> {
        assert_eq!(field(&self.head, "Transfer-Encoding"), Some("chunked"));
        assert_eq!(field(&self.head, "Content-Length"), None);
        let (mut rest, mut body) = (self.body.as_slice(), Vec::new());
        loop {
            let end = rest.windows(2).position(|part| part == b"\r\n");
            let (size, after) = rest.split_at(end.expect("a size"));
            let size = std::str::from_utf8(size).expect("digits");
            let size = usize::from_str_radix(size, 16).expect("hexadecimal");
            let (chunk, after) = after[2..].split_at(size);
            body.extend_from_slice(chunk);
            rest = after.strip_prefix(b"\r\n").expect("the end of a chunk");
            if size == 0 {
                assert!(rest.is_empty(), "nothing behind the last chunk");
                return body;
            }
        }
    }
}

fn connect_from(local: IpAddr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(local, 0).into())
        .expect("bind");
    socket.connect(&server.into()).expect("connect");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(WATCHDOG)).expect("timeout");
    stream
}

fn exchange(mut stream: TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("send");
    let mut bytes = Vec::new();
    uninterrupted(|| stream.read_to_end(&mut bytes)).expect("an answer and its end");
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a head") + 4);
    Answer {
        head: String::from_utf8(bytes).expect("text"),
        body,
    }
}

fn ask_with(server: &Server, target: &str, version: &str, fields: &str) -> Answer {
    let stream = connect_from(support::V4, server.http(V4));
    let request = format!("GET {target} HTTP/{version}\r\nHost: x\r\n{fields}\r\n");
    exchange(stream, &request)
}

fn ask(server: &Server, target: &str) -> Answer {
    ask_with(server, target, "1.1", "")
}

/// The text of a mode, with its head looked at.
fn stats(server: &Server, mode: &str) -> String {
    let answer = ask(server, &format!("/stats?mode={mode}"));
    let length = answer.body.len();
    assert_eq!(
        answer.head,
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
    );
    answer.text()
}

/// Asks until the answer is good: totals are published ten times a second.
fn until<T>(mut ask: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let mut answer = ask();
    for _ in 0..MOST_TRIES {
        if good(&answer) {
            break;
        }
        answer = ask();
    }
    answer
}

type Counts = BTreeMap<[u8; 20], (u32, u32, u32)>;

/// Announces this many torrents, every fifth over IPv6 too, and returns the
/// seeders, leechers and downloads of each.
fn fill(server: &Server, torrents: u32) -> Counts {
    let mut clients = [Udp::new(server.udp(V4)), Udp::new(server.udp(V6))];
    let mut counts = Counts::new();
    for number in 0..torrents {
        let hash = hash(number);
        let entry = counts.entry(hash).or_default();
        let [v4, v6] = &mut clients;
        v4.announce(&Announce::leecher(hash, 1000));
        entry.1 += 1;
        if number % 3 == 0 {
            v4.announce(&Announce::seeder(hash, 1001).event(COMPLETED));
            entry.0 += 1;
            entry.2 += 1;
        }
        if number % 5 == 0 {
            v6.announce(&Announce::seeder(hash, 1002));
            entry.0 += 1;
        }
    }
    // Over IPv6 alone.
    let lonely = hash(torrents);
    clients[1].announce(&Announce::leecher(lonely, 1003));
    counts.insert(lonely, (0, 1, 0));
    counts
}

#[test]
fn the_counts_of_all_shards_and_both_families() {
    let server = serving(3, |_| {});
    let counts = fill(&server, 100);
    let seeds: u32 = counts.values().map(|counts| counts.0).sum();
    let leeches: u32 = counts.values().map(|counts| counts.1).sum();
    let completed: u32 = counts.values().map(|counts| counts.2).sum();
    let expected = format!(
        "{}\n{seeds}\nopentracker serving 101 torrents\nopentracker",
        seeds + leeches
    );
    let text = until(|| stats(&server, "peer"), |text| *text == expected);
    assert_eq!(text, expected);
    assert_eq!(ask(&server, "/stats").text(), expected, "the default");
    assert_eq!(ask(&server, "//stats?x=y").text(), expected);
    assert_eq!(
        stats(&server, "torr"),
        "101\n0\nopentracker serving 101 torrents\nopentracker"
    );
    let lines =
        |mode: &str| -> Vec<String> { stats(&server, mode).lines().map(str::to_owned).collect() };
    assert_eq!(lines("completed")[0], completed.to_string());
    // Two clients have connected.
    let announces = seeds + leeches;
    assert_eq!(
        lines("udp4")[..2],
        [(announces + 2).to_string(), (announces + 2).to_string()]
    );
    for mode in ["conn", "tcp4", "scrp", "syncs", "fscr"] {
        let lines = lines(mode);
        assert_eq!(lines.len(), 4, "{mode}: {lines:?}");
        assert!(
            lines[2].ends_with(" seconds (0 hours)"),
            "{mode}: {lines:?}"
        );
    }
    assert_eq!(
        lines("version"),
        [format!("karuta {}", env!("CARGO_PKG_VERSION"))]
    );
    let xml = stats(&server, "everything");
    assert!(xml.contains("<count_mutex>101</count_mutex>"), "{xml}");
    let networks = stats(&server, "s24s");
    let v4 = counts.len() as u32 - 1 + completed;
    let line = format!("{v4:08}: 127.0.0.0\n");
    assert_eq!(
        networks,
        format!("Networks, limit /28:\n{line}\nNetworks, limit /24:\n{line}\n")
    );
}

#[test]
fn the_torrents_with_most_peers() {
    let server = serving(2, |_| {});
    let mut client = Udp::new(server.udp(V4));
    for (number, peers) in [(1, 3u16), (2, 5), (3, 1)] {
        for port in 1..=peers {
            client.announce(&Announce::leecher(hash(number), port));
        }
    }
    client.announce(&Announce::seeder(hash(3), 1));
    let hex = |number| -> String {
        hash(number)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    };
    let expected = format!(
        "Top 10 torrents by peers:\n\t5\t{}\n\t3\t{}\n\t1\t{}\n\
         Top 10 torrents by seeds:\n\t1\t{}\n",
        hex(2),
        hex(1),
        hex(3),
        hex(3)
    );
    assert_eq!(stats(&server, "top10"), expected);
    assert_eq!(
        stats(&server, "top100"),
        expected.replace("Top 10 ", "Top 100 ")
    );
}

#[test]
fn renewals_and_errors_are_counted() {
    let server = serving(1, |http| {
        http.full_scrape_networks = vec!["192.0.2.0/24".parse().expect("a prefix")];
    });
    let mut client = Udp::new(server.udp(V4));
    for _ in 0..3 {
        client.announce(&Announce::leecher(hash(1), 1000));
    }
    client.send(&Announce::leecher(hash(1), 1000).packet(client.id ^ 1, 5));
    client.receive();
    assert!(stats(&server, "renew").starts_with("00 2\n01 0\n"));
    let xml = stats(&server, "everything");
    assert!(xml.contains("<missmatch>1</missmatch>"), "{xml}");
    // Not found, not understood, not allowed, and two that name a hash.
    assert_eq!(get(server.http(V4), "/nothing").status, 404);
    assert!(
        ask(&server, "/scrape")
            .head
            .starts_with("HTTP/1.0 403 Access Denied\r\n")
    );
    let broken = exchange(connect_from(support::V4, server.http(V4)), "GET\r\n\r\n");
    assert!(broken.head.starts_with("HTTP/1.1 400 "));
    for target in [
        "/stats?info_hash=x",
        "/stats?mode=peer&info%5fhash=aaaaaaaaaaaaaaaaaaaa",
    ] {
        let answer = ask(&server, target);
        assert!(
            answer.head.starts_with("HTTP/1.0 400 Invalid Request\r\n"),
            "{}",
            answer.head
        );
        assert_eq!(answer.text(), "<title>Invalid Request</title>\n");
    }
    assert!(
        ask(&server, "/stats?mode=nonsense")
            .head
            .starts_with("HTTP/1.0 400 ")
    );
    assert_eq!(
        stats(&server, "herr"),
        "302 RED 0\n400 ... 1\n400 PAR 3\n400 COM 0\n403 IP  1\n404 INV 1\n500 SRV 0\n"
    );
}

#[test]
fn in_the_dialect_of_opentracker() {
    let mut config = support::config(2);
    config.dialect = Dialect::Opentracker;
    let http = config.http.as_mut().expect("on");
    http.stats_path = "stats".to_owned();
    http.full_scrape = true;
    http.redirect_url = "http://example.org/".to_owned();
    let server = Server::start(&config);
    let hash = percent(&hash(1));
    let status = |target: &str| ask(&server, target).head[9..12].to_owned();
    for (target, expected) in [
        ("/", "302"),
        ("/scrape?", "400"),
        ("/scraper", "400"),
        ("/nothing", "404"),
        (&format!("/a?info_hash={hash}&compact=0"), "400"),
        (&format!("/a?info_hash={hash}&info_hash={hash}"), "400"),
        (&format!("/a?info_hash={hash}&port=1&left=0"), "200"),
    ] {
        assert_eq!(status(target), expected, "{target}");
    }
    let broken = exchange(connect_from(support::V4, server.http(V4)), "GET\r\n\r\n");
    assert!(broken.head.starts_with("HTTP/1.0 400 "), "{}", broken.head);
    assert_eq!(
        stats(&server, "herr"),
        "302 RED 1\n400 ... 1\n400 PAR 3\n400 COM 1\n403 IP  0\n404 INV 1\n500 SRV 0\n"
    );
    let scrape = ask(&server, "//scrape").unchunked();
    assert!(scrape.starts_with(b"d5:filesd20:"), "{scrape:?}");
    assert!(scrape.ends_with(b"d8:completei1e10:downloadedi0e10:incompletei0eeee"));
}

#[test]
fn off_by_default_and_for_others() {
    let server = Server::start(&support::config(1));
    assert_eq!(get(server.http(V4), "/stats").status, 404);
    assert_eq!(
        get(server.http(V4), "/scrape").failure(),
        get(server.http(V4), "/scrape?x=y").failure()
    );
    drop(server);
    let server = serving(1, |http| {
        http.stats_networks = vec!["127.0.0.7".parse().expect("a prefix")];
    });
    let denied = ask(&server, "/stats");
    assert_eq!(
        denied.head,
        "HTTP/1.0 403 Access Denied\r\nContent-Type: text/html\r\nContent-Length: 29\r\n\r\n"
    );
    assert_eq!(denied.text(), "<title>Access Denied</title>\n");
    let friend = connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7)), server.http(V4));
    let answer = exchange(friend, "GET /stats HTTP/1.1\r\n\r\n");
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"));
    // Other methods are not opentracker's.
    let head = exchange(
        connect_from(support::V4, server.http(V4)),
        "POST /stats HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert!(head.head.starts_with("HTTP/1.1 405 "), "{}", head.head);
}

#[test]
fn answers_keep_their_order_on_a_connection() {
    let server = serving(2, |http| http.enable_keepalive = true);
    let announce = support::request(&Announce::leecher(hash(1), 1000).target());
    let stats = support::request("/stats?mode=version");
    // What follows the request for statistics is not answered.
    let answer = exchange(
        connect_from(support::V4, server.http(V4)),
        &format!("{announce}{announce}{stats}{announce}"),
    );
    let whole = [answer.head.into_bytes(), answer.body].concat();
    let text = String::from_utf8_lossy(&whole);
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{text}");
    let version = format!("karuta {}\n", env!("CARGO_PKG_VERSION"));
    assert!(text.ends_with(&version), "{text}");
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let mut config = support::config(2);
    let server = Server::start(&config);
    let fill = |port| {
        let mut client = Udp::new(server.udp(V4));
        client.announce(&Announce::leecher(hash(1), port));
        client.announce(&Announce::leecher(hash(1), port));
    };
    fill(1);
    assert_eq!(get(server.http(V4), "/numbers").status, 404);
    let http = config.http.as_mut().expect("on");
    http.stats_path = "numbers".to_owned();
    http.full_scrape = true;
    server.reload(&config).expect("a reload");
    fill(2);
    let renewals = ask(&server, "/numbers?mode=renew").text();
    assert!(
        renewals.starts_with("00 1\n"),
        "counted from now on: {renewals}"
    );
    assert!(
        ask(&server, "/scrape")
            .unchunked()
            .starts_with(b"d5:filesd20:")
    );
    let http = config.http.as_mut().expect("on");
    http.stats_path.clear();
    http.full_scrape = false;
    server.reload(&config).expect("a reload");
    assert_eq!(get(server.http(V4), "/numbers").status, 404);
    let refused = get(server.http(V4), "/scrape").failure();
    assert!(refused.contains("info_hash"), "{refused}");
}

#[test]
fn a_mistaken_announce_url_is_told_so() {
    let server = serving(2, |_| {});
    let target = Announce::leecher(hash(1), 1)
        .target()
        .replace("/announce", "/stats");
    assert!(target.contains(&percent(&hash(1))));
    let answer = ask(&server, &target);
    assert!(answer.head.starts_with("HTTP/1.0 400 "), "{}", answer.head);
    // No control thread was asked.
    let handed: u64 = server
        .stats
        .iter()
        .map(|stats| stats.opentracker.handed_over.get())
        .sum();
    assert_eq!(handed, 0);
}
