//! The HTTP protocol (BEP 3, 7, 21, 23, 24, 48) over sockets, against a tracker
//! that runs: routes and answers. The manners of connections are in
//! `http_connections.rs`.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{Action, DropReason, Outcome, Protocol};
use std::net::{IpAddr, SocketAddr};
use support::{
    Announce, COMPLETED, Http, STOPPED, Server, Value, field, get, hash, percent, scrape_target,
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
