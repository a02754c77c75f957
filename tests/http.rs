//! The HTTP protocol (BEP 3, 7, 21, 23, 24, 48) over sockets, against a tracker
//! that runs: routes, answers and the manners of connections.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{Action, DropReason, Outcome, Protocol};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use support::{
    Announce, COMPLETED, Http, STOPPED, Server, Value, field, get, hash, percent, request,
    scrape_target,
};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// A tracker that keeps connections.
fn keeping(shards: usize) -> Server {
    Server::with(shards, |_, http| http.enable_keepalive = true)
}

#[test]
fn an_announce_and_a_scrape_byte_by_byte() {
    let server = Server::start(&support::config(2));
    let announce = Announce::leecher(*b"aaaaaaaaaaaaaaaaaaaa", 6881);
    for (family, peers) in [
        (V4, &b"5:peers6:\x7f\0\0\x01\x1a\xe1"[..]),
        (
            V6,
            b"5:peers0:6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1",
        ),
    ] {
        let response = get(server.http(family), &announce.target());
        let counts = b"d8:completei0e10:downloadedi0e10:incompletei1e\
                       8:intervali1800e12:min intervali900e";
        assert_eq!(response.body, [&counts[..], peers, b"e"].concat());
        assert_eq!(
            response.head,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                response.body.len()
            )
        );
        let response = get(
            server.http(family),
            "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa",
        );
        let entry = &b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei0e10:downloadedi0e"[..];
        assert!(response.body.starts_with(entry), "{:?}", response.body);
        assert_eq!(response.scraped()[&b"aaaaaaaaaaaaaaaaaaaa"[..]], (0, 0, 1));
    }
}

#[test]
fn every_byte_of_a_hash_survives_its_encoding() {
    let server = Server::start(&support::config(1));
    for first in (0..=255u8).step_by(20) {
        let hash: [u8; 20] = std::array::from_fn(|at| first.wrapping_add(at as u8));
        let reply = get(server.http(V4), &Announce::leecher(hash, 6881).target());
        assert_eq!(reply.announced(V4).counts(), (0, 1));
        let scraped = get(server.http(V4), &scrape_target(&[hash])).scraped();
        assert_eq!(scraped[&hash[..]], (0, 0, 1));
        // Lower case, and what needs no escape plain.
        let plain: String = hash
            .iter()
            .map(|&byte| match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
                _ => format!("%{byte:02x}"),
            })
            .collect();
        let target = format!("/scrape?info_hash={plain}");
        assert_eq!(get(server.http(V4), &target).scraped(), scraped);
    }
}

#[test]
fn routes_with_parameters() {
    let server = Server::with(1, |_, http| {
        http.announce_routes = ["/announce", "/:passkey/announce", "/a/*rest"]
            .map(str::to_owned)
            .into();
        http.scrape_routes = vec!["/:passkey/scrape".to_owned()];
    });
    let (announce, scrape) = (
        Announce::leecher(hash(1), 1).target(),
        scrape_target(&[hash(1)]),
    );
    let query = |target: &str| target.split_once('?').expect("a query").1.to_owned();
    for (path, status) in [
        ("/announce", 200),
        ("/0123abcd/announce", 200),
        ("/a/", 200),
        ("/a/b/c/d", 200),
        ("/announce/", 404),
        ("//announce", 404),
        ("/x/y/announce", 404),
        ("/Announce", 404),
        ("/nothing", 404),
    ] {
        let target = format!("{path}?{}", query(&announce));
        let response = get(server.http(V4), &target);
        assert_eq!(response.status, status, "{path}");
        if status == 200 {
            assert_eq!(response.announced(V4).counts(), (0, 1), "{path}");
        }
    }
    let response = get(server.http(V4), &format!("/key/scrape?{}", query(&scrape)));
    assert_eq!(response.scraped()[&hash(1)[..]], (0, 0, 1));
    assert_eq!(get(server.http(V4), &scrape).status, 404);
}

#[test]
fn the_page_and_other_methods() {
    let server = keeping(1);
    let mut client = Http::connect(server.http(V4));
    let page = client.get("/");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with(b"This is karuta "));
    assert_eq!(field(&page.head, "Connection"), Some("keep-alive"));
    for method in ["HEAD", "POST", "PUT", "OPTIONS", "get"] {
        for target in ["/", "/announce", "/nothing"] {
            client.send(format!("{method} {target} HTTP/1.1\r\n\r\n"));
            let response = client.response_to(method == "HEAD");
            assert_eq!(response.status, 405, "{method} {target}");
            assert_eq!(field(&response.head, "Allow"), Some("GET"));
        }
    }
    assert_eq!(client.get("/").status, 200, "nothing was left over");
}

#[test]
fn versions_and_the_word_on_the_connection() {
    for keep in [false, true] {
        let server = Server::with(1, |_, http| http.enable_keepalive = keep);
        for (version, connection, kept) in [
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.0", "Connection: close\r\n", false),
            ("1.1", "", true),
            ("1.1", "Connection: Keep-Alive\r\n", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "connection: CLOSE\r\n", false),
        ] {
            let mut client = Http::connect(server.http(V4));
            client.send(format!("GET / HTTP/{version}\r\n{connection}\r\n"));
            let response = client.response();
            assert_eq!(response.status, 200);
            let kept = kept && keep;
            let said = field(&response.head, "Connection");
            assert_eq!(said, Some(if kept { "keep-alive" } else { "close" }));
            if kept {
                assert_eq!(client.get("/").status, 200);
            } else {
                client.closed();
            }
        }
    }
}

#[test]
fn the_dictionary_form() {
    for ids in [false, true] {
        let mut config = support::config(2);
        config.storage.config.peer_ids = ids;
        let server = Server::start(&config);
        for (family, ip) in [(V4, "127.0.0.1"), (V6, "::1")] {
            let seeder = Announce::seeder(hash(1), 6881);
            get(server.http(family), &seeder.target());
            let target = Announce::leecher(hash(1), 6882).target();
            for (more, with_id) in [("&compact=0", ids), ("&compact=0&no_peer_id=1", false)] {
                let reply = get(server.http(family), &format!("{target}{more}")).bencode();
                let peers = reply.dictionary()[&b"peers"[..]].list();
                let mut expected = vec![
                    (b"ip".to_vec(), Value::Bytes(ip.into())),
                    (b"port".to_vec(), Value::Number(6881)),
                ];
                if with_id {
                    let id = Value::Bytes(seeder.peer_id.to_vec());
                    expected.push((b"peer id".to_vec(), id));
                }
                assert_eq!(
                    peers,
                    [Value::Dictionary(expected.into_iter().collect())],
                    "{more}"
                );
            }
            let reply = get(server.http(family), &format!("{target}&compact=1"));
            assert_eq!(reply.announced(family).ports(), [6881]);
        }
    }
}

#[test]
fn peers_is_there_even_if_empty() {
    let server = Server::start(&support::config(1));
    for family in AddressFamily::ALL {
        for announce in [
            Announce::leecher(hash(1), 1).want(0),
            Announce::leecher(hash(1), 1).event(STOPPED),
        ] {
            let reply = get(server.http(family), &announce.target()).bencode();
            assert_eq!(reply.dictionary()[&b"peers"[..]], Value::Bytes(Vec::new()));
        }
    }
}

#[test]
fn swarms_are_the_same_over_both_protocols() {
    let server = Server::start(&support::config(3));
    for family in AddressFamily::ALL {
        let mut udp = support::Udp::new(server.udp(family));
        for number in 0..12 {
            let hash = hash(number);
            udp.announce(&Announce::leecher(hash, 1));
            let completed = Announce::seeder(hash, 2).event(COMPLETED);
            let reply = get(server.http(family), &completed.target()).announced(family);
            assert_eq!((reply.counts(), reply.ports()), ((1, 1), vec![1]));
            let reply = udp.announce(&Announce::leecher(hash, 3));
            assert_eq!((reply.counts(), reply.ports()), ((1, 2), vec![1, 2]));
            let scraped = get(server.http(family), &scrape_target(&[hash])).scraped();
            assert_eq!(scraped[&hash[..]], udp.scrape(&[hash])[0]);
            assert_eq!(scraped[&hash[..]], (1, 1, 2));
        }
    }
    assert!(server.crossed(Protocol::Http) > 0);
}

#[test]
fn failure_reasons_come_with_status_200() {
    let server = Server::start(&support::config(1));
    let good = Announce::leecher(hash(1), 1).target();
    for (target, reason) in [
        ("/announce".to_owned(), "no info_hash parameter supplied"),
        ("/scrape".to_owned(), "no info_hash parameter supplied"),
        (
            format!("{good}&info_hash={}", percent(&hash(2))),
            "multiple info_hash parameters supplied",
        ),
        (
            "/announce?info_hash=short".to_owned(),
            "provided invalid infohash",
        ),
        (
            format!("{good}&event=x"),
            "failed to provide valid client event",
        ),
        (format!("{good}&port=0"), "invalid port"),
        (format!("{good}&left=x"), "failed to parse parameter: left"),
        (
            format!("{good}&peer_id=x"),
            "failed to provide valid peer_id",
        ),
        (format!("{good}&x=%4"), "invalid query escape"),
    ] {
        assert_eq!(get(server.http(V4), &target).failure(), reason, "{target}");
    }
    let scraped = get(server.http(V4), &scrape_target(&[hash(1)])).scraped();
    assert_eq!(scraped[&hash(1)[..]], (0, 0, 0), "none of them was stored");
}

/// The address under which a request with these extras is filed.
fn filed(server: &Server, query: &str, header: &str) -> SocketAddr {
    let target = format!("{}{query}", Announce::leecher(hash(1), 6881).target());
    let mut client = Http::connect(server.http(V4));
    client.send(format!("GET {target} HTTP/1.1\r\n{header}\r\n"));
    let dictionary = client.response().bencode().dictionary();
    let mut peers = support::compact(&dictionary[&b"peers"[..]].bytes(), V4);
    if let Some(peers6) = dictionary.get(&b"peers6"[..]) {
        peers.extend(support::compact(&peers6.bytes(), V6));
    }
    // Alone, it is given itself; it leaves, so that the next is alone too.
    let stopped = format!("{target}&event=stopped");
    let mut client = Http::connect(server.http(V4));
    client.send(format!("GET {stopped} HTTP/1.1\r\n{header}\r\n"));
    client.response();
    assert_eq!(peers.len(), 1);
    peers[0]
}

#[test]
fn where_a_peer_is() {
    let server = |spoofing: bool, header: &str| {
        let header = header.to_owned();
        Server::with(1, move |_, http| {
            http.allow_ip_spoofing = spoofing;
            http.real_ip_header = header;
        })
    };
    let own: IpAddr = support::V4;
    let claimed: IpAddr = "192.0.2.7".parse().expect("address");
    let proxied: IpAddr = "198.51.100.3".parse().expect("address");
    let six: IpAddr = "2001:db8::7".parse().expect("address");
    let real = "x-real-ip: 198.51.100.3\r\n";
    for (spoofing, name, query, header, expected) in [
        (false, "", "&ip=192.0.2.7", real, own),
        (true, "", "&ip=192.0.2.7", real, claimed),
        (true, "", "&ipv4=192.0.2.7", "", claimed),
        (true, "", "&ipv6=2001:db8::7", "", six),
        (true, "", "&ip=%3A%3Affff%3A192.0.2.7", "", claimed),
        (false, "X-Real-IP", "&ip=192.0.2.7", real, proxied),
        (true, "X-Real-IP", "&ip=192.0.2.7", real, claimed),
        (false, "X-Real-IP", "", "", own),
        (false, "X-Real-IP", "", "X-Real-IP: 2001:db8::7\r\n", six),
    ] {
        let server = server(spoofing, name);
        let peer = filed(&server, query, header);
        let expected = SocketAddr::new(expected, 6881);
        assert_eq!(peer, expected, "{spoofing} {name:?} {query} {header}");
    }
}

#[test]
fn the_clients_own_address_is_told_if_set() {
    let server = Server::with(1, |_, http| http.external_ip = true);
    let target = Announce::leecher(hash(1), 1).target();
    for (family, ip) in [
        (V4, vec![127, 0, 0, 1]),
        (V6, [vec![0; 15], vec![1]].concat()),
    ] {
        let reply = get(server.http(family), &target).bencode().dictionary();
        assert_eq!(reply[&b"external ip"[..]], Value::Bytes(ip));
    }
}

type Check = Box<dyn Fn(&support::Response)>;

/// 100 requests whose answers tell them apart, and a check for each.
fn mixed(port: u16) -> Vec<(String, Check)> {
    let mut requests: Vec<(String, Check)> = Vec::new();
    for number in 0..100u32 {
        let hash = hash(number / 5 * 5 + 1000 * u32::from(port));
        requests.push(match number % 5 {
            0 => {
                let announce = Announce::leecher(hash, number as u16 + 1);
                let check = move |response: &support::Response| {
                    let reply = response.announced(V4);
                    assert_eq!(reply.ports(), [number as u16 + 1]);
                };
                (announce.target(), Box::new(check))
            }
            1 => {
                let check = move |response: &support::Response| {
                    assert_eq!(response.scraped()[&hash[..]], (0, 0, 1));
                };
                (scrape_target(&[hash]), Box::new(check))
            }
            2 => {
                let target = format!("/announce?info_hash=short{number}");
                let check = |response: &support::Response| {
                    assert_eq!(response.failure(), "provided invalid infohash");
                };
                (target, Box::new(check))
            }
            3 => {
                // Hashes of all shards, and the one that is known.
                let mut hashes: Vec<_> = (0..9).map(|more| support::hash(50_000 + more)).collect();
                hashes.push(hash);
                let target = scrape_target(&hashes);
                let check = move |response: &support::Response| {
                    let files = response.scraped();
                    assert_eq!((files.len(), files[&hash[..]]), (10, (0, 0, 1)));
                };
                (target, Box::new(check))
            }
            _ => (
                format!("/nothing/{number}"),
                Box::new(|response: &support::Response| assert_eq!(response.status, 404)),
            ),
        });
    }
    requests
}

#[test]
fn pipelined_requests_are_answered_in_order_and_none_is_lost() {
    for shards in [1, 4] {
        let server = keeping(shards);
        let mut clients: Vec<_> = (1..=4)
            .map(|number| (Http::connect(server.http(V4)), mixed(number)))
            .collect();
        for (number, (client, requests)) in clients.iter_mut().enumerate() {
            let bytes: String = requests.iter().map(|(target, _)| request(target)).collect();
            // In one piece, and in pieces that end anywhere.
            let piece = [usize::MAX, 1000, 97, 4096][number].min(bytes.len());
            for piece in bytes.as_bytes().chunks(piece) {
                client.send(piece);
            }
            if number % 2 == 1 {
                // A client that has said all it will still gets its answers.
                client.end();
            }
        }
        for (number, (client, requests)) in clients.iter_mut().enumerate() {
            for (_, check) in requests {
                check(&client.response());
            }
            if number % 2 == 1 {
                client.closed();
            } else {
                assert_eq!(client.get("/").status, 200);
            }
        }
        assert_eq!(server.crossed(Protocol::Http) > 0, shards > 1);
    }
}

#[test]
fn without_keepalive_the_first_request_is_answered_and_no_other() {
    let server = Server::start(&support::config(3));
    for number in 0..20 {
        let mut client = Http::connect(server.http(V4));
        let target = Announce::leecher(hash(number), 7).target();
        client.send(request(&target).repeat(3));
        assert_eq!(client.response().announced(V4).counts(), (0, 1));
        client.end();
        client.closed();
    }
    assert_eq!(server.requests(Protocol::Http, Action::Announce, V4), 20);
}

#[test]
fn requests_may_come_byte_by_byte() {
    let server = keeping(2);
    let mut client = Http::connect(server.http(V4));
    for number in 0..3 {
        for byte in request(&Announce::leecher(hash(number), 5).target()).bytes() {
            client.send([byte]);
        }
        assert_eq!(client.response().announced(V4).ports(), [5]);
    }
}

#[test]
fn a_body_is_not_read_and_does_not_destroy_the_answer() {
    let server = keeping(1);
    for head in [
        "POST /announce HTTP/1.1\r\nContent-Length: 100000\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        for body_first in [false, true] {
            let mut client = Http::connect(server.http(V4));
            client.send(head);
            let body = vec![b'x'; 100_000];
            if body_first {
                client.send(&body);
            }
            let response = client.response();
            assert_eq!(field(&response.head, "Connection"), Some("close"));
            // What still comes is taken, so that nothing is reset.
            if !body_first {
                client.send(&body);
            }
            client.end();
            client.closed();
        }
    }
    // No byte of a body was taken for a request.
    assert_eq!(server.requests(Protocol::Http, Action::Other, V4), 6);
}

#[test]
fn heads_have_a_greatest_length() {
    let server = Server::with(1, |_, http| {
        http.max_request_bytes = 1024;
        http.enable_keepalive = true;
    });
    for (length, status) in [(1024, 200), (1025, 431), (20_000, 431)] {
        let mut text = "GET / HTTP/1.1\r\nX: ".to_owned();
        text.push_str(&"x".repeat(length - text.len() - 4));
        text.push_str("\r\n\r\n");
        let mut client = Http::connect(server.http(V4));
        client.send(&text);
        assert_eq!(client.response().status, status, "{length}");
    }
    // Without its end, too.
    let mut client = Http::connect(server.http(V4));
    client.send("GET / HTTP/1.1\r\nX: ");
    client.send("x".repeat(1024));
    assert_eq!(client.response().status, 431);
    client.end();
    client.closed();
}

#[test]
fn more_connections_than_allowed_are_closed() {
    let server = Server::with(1, |_, http| {
        http.max_connections = 5;
        http.enable_keepalive = true;
    });
    let mut clients: Vec<Http> = (0..5).map(|_| Http::connect(server.http(V4))).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(Http::connect(server.http(V4)).gone());
    assert!(Http::connect(server.http(V6)).gone());
    let limit = server.drops(Protocol::Http, DropReason::ConnectionLimit);
    assert_eq!(limit, 2);
    // One that ends makes room.
    let last = clients.pop().expect("five");
    last.end();
    let mut last = last;
    last.closed();
    clients.push(Http::connect(server.http(V4)));
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn time_runs_out() {
    let server = Server::with(1, |_, http| {
        http.enable_keepalive = true;
        http.read_timeout = Duration::from_millis(50);
        http.idle_timeout = Duration::from_millis(50);
    });
    // Half a request: told so, then closed.
    let mut half = Http::connect(server.http(V4));
    half.send("GET / HTTP/1.1\r\n");
    assert_eq!(half.response().status, 408);
    half.closed();
    // Nothing at all: closed without a word.
    let mut silent = Http::connect(server.http(V4));
    silent.closed();
    // Silence after a request: idle, which is nobody's fault.
    let mut idle = Http::connect(server.http(V4));
    assert_eq!(idle.get("/").status, 200);
    idle.closed();
    assert_eq!(server.drops(Protocol::Http, DropReason::Timeout), 2);
}

#[test]
fn a_busy_connection_does_not_run_out_of_time() {
    let server = Server::with(1, |_, http| {
        http.enable_keepalive = true;
        http.read_timeout = Duration::from_millis(50);
    });
    let text = request("/");
    let (first, second) = text.split_at(20);
    let mut client = Http::connect(server.http(V4));
    client.send(first);
    // Each of these lives as long as a request may take, one after the other.
    for _ in 0..4 {
        let silent = Http::connect(server.http(V4));
        silent.socket.set_nonblocking(true).expect("nonblocking");
        while silent.socket.peek(&mut [0]).is_err() {
            // The end of one request and the beginning of the next: each is
            // in time, though the tracker always has half a request.
            client.send([second, first].concat());
            assert_eq!(client.response().status, 200);
        }
    }
}

#[test]
fn clients_that_vanish_leave_the_others_alone() {
    let server = keeping(4);
    for number in 0..200u32 {
        let client = Http::connect(server.http(V4));
        let bytes = request(&Announce::leecher(hash(number), 7).target()).repeat(3);
        let _ = (&client.socket).write_all(&bytes.as_bytes()[..bytes.len() - number as usize]);
        // Unread answers make this a reset, at any moment of the work.
        drop(client);
    }
    let seen: BTreeSet<u16> = (0..40)
        .map(|number| get(server.http(V4), &scrape_target(&[hash(number)])).status)
        .collect();
    assert_eq!(seen, BTreeSet::from([200]));
}

#[test]
fn a_client_that_reads_nothing_is_not_read_either() {
    let server = Server::with(2, |_, http| {
        http.enable_keepalive = true;
        http.max_scrape_infohashes = 1000;
        http.max_request_bytes = 65_536;
    });
    // Answers of about 80 bytes a hash to requests of 70.
    let hashes: Vec<_> = (0..500).map(hash).collect();
    let bytes = request(&scrape_target(&hashes));
    let mut client = Http::connect(server.http(V4));
    client.socket.set_nonblocking(true).expect("nonblocking");
    // Send until nothing more is taken for a while: answers by the loop
    // in between show that the tracker has had its turns.
    let (mut sent, mut stuck) = (0usize, 0);
    let mut other = Http::connect(server.http(V4));
    while stuck < 200 {
        match client.socket.write(&bytes.as_bytes()[sent % bytes.len()..]) {
            Ok(count) => (sent, stuck) = (sent + count, 0),
            Err(_) => {
                stuck += 1;
                assert_eq!(other.get("/").status, 200);
            }
        }
        assert!(sent < 64 << 20, "it takes requests without end");
    }
    client.socket.set_nonblocking(false).expect("blocking");
    // Once it reads, every whole request is answered.
    let whole = sent / bytes.len();
    assert!(whole > 10, "{whole}");
    client.end();
    for _ in 0..whole {
        assert_eq!(client.response().scraped().len(), 500);
    }
    client.closed();
}

#[test]
fn requests_and_replies_are_counted_as_they_were_sent() {
    let server = keeping(3);
    for (family, times) in [(V4, 1u32), (V6, 3)] {
        let mut client = Http::connect(server.http(family));
        for number in 0..10 * times {
            client.get(&Announce::leecher(hash(number), 1).target());
        }
        for number in 0..6 * times {
            client.get(&scrape_target(&[hash(number), hash(number + 1)]));
        }
        for _ in 0..4 * times {
            client.get("/announce");
            client.get("/nothing");
            client.get("/");
        }
        let times = u64::from(times);
        for (action, ok, errors) in [
            (Action::Announce, 10 * times, 4 * times),
            (Action::Scrape, 6 * times, 0),
            (Action::Other, 4 * times, 4 * times),
        ] {
            let http = Protocol::Http;
            assert_eq!(server.requests(http, action, family), ok + errors);
            assert_eq!(server.replies(http, action, family, Outcome::Ok), ok);
            assert_eq!(server.replies(http, action, family, Outcome::Error), errors);
        }
    }
    for reason in DropReason::ALL {
        assert_eq!(server.drops(Protocol::Http, reason), 0, "{reason:?}");
    }
}
