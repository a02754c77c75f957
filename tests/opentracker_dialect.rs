//! The dialect of opentracker, byte by byte, against a tracker that runs. What
//! is expected here is what opentracker 1.0 sends, but where a comment says
//! why not.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::Config;
use karuta::protocol::Dialect;
use karuta::shard::stats::{DropReason, Protocol};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use support::{
    Announce, COMPLETED, Http, STOPPED, Server, Udp, compact, hash, percent, scrape_packet, word,
};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;
const A: &str = "aaaaaaaaaaaaaaaaaaaa";
const NOT_AUTHORIZED: &str = "Requested download is not authorized for use with this tracker.";
const INVALID: &str = "HTTP/1.0 400 Invalid Request\r\nContent-Type: text/html\r\n\
                       Content-Length: 31\r\n\r\n<title>Invalid Request</title>\n";
const NOT_FOUND: &str = "HTTP/1.0 404 Not Found\r\nContent-Type: text/html\r\n\
                         Content-Length: 25\r\n\r\n<title>Not Found</title>\n";

fn config(shards: usize) -> Config {
    let text = "{dialect: opentracker, http: {}, udp: {}}";
    let limits = Config::parse(text, "f").expect("valid");
    let mut config = support::config(shards);
    config.dialect = Dialect::Opentracker;
    let (http, udp) = (limits.http.expect("on"), limits.udp.expect("on"));
    let (own_http, own_udp) = (config.http.as_mut(), config.udp.as_mut());
    let (own_http, own_udp) = (own_http.expect("on"), own_udp.expect("on"));
    own_http.max_numwant = http.max_numwant;
    own_http.max_scrape_infohashes = http.max_scrape_infohashes;
    own_udp.max_numwant = udp.max_numwant;
    own_udp.max_scrape_infohashes = udp.max_scrape_infohashes;
    config
}

/// All that a server sends to this, up to where it closes.
fn exchange(server: SocketAddr, request: &str) -> String {
    let mut http = Http::connect(server);
    http.send(request);
    let mut bytes = Vec::new();
    http.socket.read_to_end(&mut bytes).expect("an end");
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn get(server: SocketAddr, target: &str) -> String {
    exchange(server, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// A whole successful response, each character a byte.
fn ok(body: &str) -> String {
    let length = body.chars().count();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn failure(reason: &str) -> String {
    ok(&format!("d14:failure reason{}:{reason}e", reason.len()))
}

/// An announce reply of the default interval.
fn announced(complete: u32, downloaded: u32, incomplete: u32, peers: &str) -> String {
    ok(&format!(
        "d8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}e\
         8:intervali1800e12:min intervali900e{peers}e"
    ))
}

#[test]
fn announces_over_both_families_byte_by_byte() {
    for shards in [1, 2] {
        let server = Server::start(&config(shards));
        let (v4, v6) = (server.http(V4), server.http(V6));
        let alone = "5:peers6:\x7f\0\0\x01\x1a\u{e1}";
        let target = format!("/announce?info_hash={A}&port=6881&left=0");
        assert_eq!(get(v4, &target), announced(1, 0, 0, alone));
        // The same torrent: the leecher of the other family sees the seeder.
        let target = format!("/a?info_hash={A}&port=6882&left=5&peer_id={A}");
        assert_eq!(get(v6, &target), announced(1, 0, 1, alone));
        // A leecher sees both, seeders and leechers of its family before.
        let target = format!("/announce.php?info_hash={A}&port=6883&left=5");
        let six = "6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\u{e2}";
        let both = format!("{alone}{six}");
        assert_eq!(get(v4, &target), announced(1, 0, 2, &both));
        // The only one of its family to give is of the other.
        let target = format!("//a%6e?info_hash={A}&port=6884&left=5&numwant=1");
        let reply = get(v6, &target);
        let peers = reply.split_once("900e").expect("peers").1;
        let some = [format!("{alone}e"), format!("{six}e")];
        assert!(some.iter().any(|some| some == peers), "{peers:?}");
        // No peers wanted: no key.
        let target = format!("/a?info_hash={A}&port=6884&left=5&numwant=0");
        assert_eq!(get(v6, &target), announced(1, 0, 3, ""));
        // Stopped: nothing of downloads, no peers of its own family.
        for (server, port, key, leechers) in [(v6, 6884, "peers6", 2), (v4, 6883, "peers", 1)] {
            let target = format!("/a?info_hash={A}&port={port}&event=stopped");
            let body = format!(
                "d8:completei1e10:incompletei{leechers}e8:intervali1800e12:min intervali900e\
                 {}:{key}0:e",
                key.len()
            );
            assert_eq!(get(server, &target), ok(&body));
        }
        // A download counts for both.
        let target = format!("/a?info_hash={A}&port=6882&left=0&event=completed&numwant=0");
        assert_eq!(get(v6, &target), announced(2, 1, 0, ""));
        let scrape = format!("d5:filesd20:{A}d8:completei2e10:downloadedi1e10:incompletei0eeee");
        for (server, target) in [(v4, "/scrape?"), (v6, "/sc?"), (v4, "/scr%61pe.php?x=1&")] {
            let target = format!("{target}info_hash={A}");
            assert_eq!(get(server, &target), ok(&scrape), "{target}");
        }
    }
}

#[test]
fn what_opentracker_passes_over() {
    let server = Server::start(&config(1));
    let v4 = server.http(V4);
    let mut number = 0;
    for (query, seeders) in [
        // Without `left`, a leecher; `left` that is no number is 0.
        ("", 0),
        ("&left=0", 1),
        ("&left=000", 1),
        ("&left=abc", 1),
        ("&left=12%33", 0),
        ("&left=4294967296", 0),
        ("&left=99999999999999999999999", 0),
        ("&left=-1", 0),
        ("&left=5&left=0", 1),
        ("&left=0&left=5", 1),
        ("&port=-1&port=6881", 0),
        ("&LEFT=0", 0),
        ("&%6ceft=0", 1),
        ("&event=finished", 0),
        ("&event=", 0),
        ("&event", 0),
        // Completed with something left is not.
        ("&event=completed&left=7", 0),
        ("&peer_id=bbbbbbbbbbbbbbbbbbbb&&=&x&key=%zz&ip=nonsense", 0),
        ("&ip=192.0.2.1", 0),
        ("&compact=1&compact6=1&no_peer_id=1", 0),
        ("&uploaded=x&downloaded=", 0),
        ("&a?b=c@d=e", 0),
    ] {
        number += 1;
        let hash = percent(&hash(number));
        let reply = get(v4, &format!("/announce?info_hash={hash}&port=6881{query}"));
        let peers = "5:peers6:\x7f\0\0\x01\x1a\u{e1}";
        assert_eq!(reply, announced(seeders, 0, 1 - seeders, peers), "{query}");
    }
    for request in [
        "GET /announce ?info_hash=HASH HTTP/1.1\r\n\r\n",
        "GET /announce?info_hash=HASH\r\n\r\n",
        "GET /announce?info_hash=HASH HTTP/1.1\r\nno header\r\n\r\n",
        "GET /announce?info_hash=HASH HTTP/1.1\n\n",
    ] {
        let reply = exchange(v4, &request.replace("HASH", A));
        assert_eq!(reply, announced(0, 0, 0, ""), "{request}");
    }
}

#[test]
fn what_opentracker_refuses() {
    let mut config = config(1);
    config.http.as_mut().expect("on").max_request_bytes = 1024;
    let server = Server::start(&config);
    let v4 = server.http(V4);
    for path in [
        "/announce",
        "/a",
        "/scrape?",
        "/scrape.php",
        "/sc?x=1",
        "/announce?%zz=1",
    ] {
        assert_eq!(get(v4, path), INVALID, "{path}");
    }
    for query in [
        "&port=",
        "&port=65536",
        "&port=x",
        "&port=1x",
        "&port",
        "&numwant=",
        "&numwant=x",
        "&numwant=1%zz",
        "&left=",
        "&left",
        "&event=%",
        "&compact=0",
        "&compact=",
        "&compact=x",
        "&compact6=0",
        "&info_hash=aaaaaaaaaaaaaaaaaaaa",
        "&info_hash=short",
        "&peer_id=short",
        "&peer_id=bbbbbbbbbbbbbbbbbbbbb",
        "&x={y}",
        "&x=a[1]",
        "&p@rt=1",
    ] {
        assert_eq!(
            get(v4, &format!("/announce?info_hash={A}{query}")),
            INVALID,
            "{query}"
        );
    }
    assert_eq!(get(v4, "/scrape?info_hash=a"), INVALID);
    for path in [
        "/",
        "/?info_hash=a",
        "/x",
        "/s",
        "/A?",
        "/%zz",
        "/stats",
        "//",
    ] {
        assert_eq!(get(v4, path), NOT_FOUND, "{path}");
    }
    for method in ["HEAD", "POST", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\n\r\n");
        assert_eq!(exchange(v4, &request), INVALID, "{method}");
    }
    assert_eq!(exchange(v4, "nonsense\r\n\r\n"), INVALID);
    let error = "HTTP/1.0 500 Internal Server Error\r\nContent-Type: text/html\r\n\
                 Content-Length: 37\r\n\r\n<title>Internal Server Error</title>\n";
    assert_eq!(get(v4, &format!("/{}", "a".repeat(2000))), error);
    let forgot = "Your client forgot to send your torrent's info_hash. Please upgrade your client.";
    for target in ["/announce?", "/a?port=1&compact=1"] {
        assert_eq!(get(v4, target), failure(forgot), "{target}");
    }
}

#[test]
fn the_root_leads_elsewhere_if_so_configured() {
    let mut config = config(1);
    config.http.as_mut().expect("on").redirect_url = "https://example.org/x".to_owned();
    let server = Server::start(&config);
    let expected = "HTTP/1.0 302 Found\r\nContent-Length: 0\r\n\
                    Location: https://example.org/x\r\n\r\n";
    for path in ["/", "//"] {
        assert_eq!(get(server.http(V4), path), expected);
    }
    assert_eq!(get(server.http(V4), "/?"), NOT_FOUND);
    // Our own way of it.
    config.dialect = Dialect::Karuta;
    let server = Server::start(&config);
    let expected = "HTTP/1.1 302 Found\r\nLocation: https://example.org/x\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(get(server.http(V6), "/"), expected);
}

#[test]
fn a_connection_is_kept_only_for_those_who_ask() {
    let mut config = config(1);
    config.http.as_mut().expect("on").enable_keepalive = true;
    let server = Server::start(&config);
    let target = format!("/scrape?info_hash={A}");
    assert_eq!(get(server.http(V4), &target), ok("d5:filesdee"));
    let mut http = Http::connect(server.http(V4));
    for _ in 0..2 {
        http.send(format!(
            "GET {target} HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"
        ));
        assert_eq!(http.response().body, b"d5:filesdee");
    }
    // Not after an error.
    http.send("GET /x HTTP/1.1\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(http.response().status, 404);
    http.closed();
}

#[test]
fn configured_routes_count_first() {
    let mut config = config(1);
    let http = config.http.as_mut().expect("on");
    http.scrape_routes = vec!["/announces".to_owned()];
    http.announce_routes = vec!["/:passkey/x".to_owned()];
    let server = Server::start(&config);
    let target = format!("/announces?info_hash={A}");
    assert_eq!(get(server.http(V4), &target), ok("d5:filesdee"));
    let target = format!("/key/x?info_hash={A}&numwant=0");
    assert_eq!(get(server.http(V4), &target), announced(0, 0, 0, ""));
}

#[test]
fn a_scrape_keeps_the_order_and_omits_what_is_unknown() {
    for shards in [1, 3] {
        let server = Server::start(&config(shards));
        let hashes: Vec<String> = (0..70).map(|at| format!("{at:0>20}")).collect();
        for (at, hash) in hashes.iter().enumerate() {
            if at % 7 != 3 {
                let family = if at % 2 == 0 { V4 } else { V6 };
                get(
                    server.http(family),
                    &format!("/a?info_hash={hash}&port=1&left=0"),
                );
            }
        }
        let entry =
            |hash: &String| format!("20:{hash}d8:completei1e10:downloadedi0e10:incompletei0ee");
        let mut order: Vec<&String> = hashes.iter().rev().take(63).collect();
        order.push(&hashes[69]);
        order.push(&hashes[68]);
        let query: Vec<String> = order
            .iter()
            .map(|hash| format!("info_hash={hash}"))
            .collect();
        let known = |hash: &&&String| hash.parse::<usize>().expect("a number") % 7 != 3;
        // 64 and no more.
        let entries: String = order[..64]
            .iter()
            .filter(known)
            .map(|hash| entry(hash))
            .collect();
        let reply = get(server.http(V4), &format!("/scrape?{}", query.join("&")));
        assert_eq!(reply, ok(&format!("d5:filesd{entries}ee")));
        let reply = get(server.http(V4), &format!("/scrape?info_hash={}", hashes[3]));
        assert_eq!(reply, ok("d5:filesdee"));
    }
}

/// Ports of the peers of both keys.
fn peers(reply: &str) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let bytes: Vec<u8> = reply.chars().map(|c| c as u8).collect();
    let at = reply.find("\r\n\r\n").expect("a body") + 4;
    let dictionary = support::Value::read(&bytes[at..]).dictionary();
    let of = |key: &[u8], family| match dictionary.get(key) {
        Some(value) => compact(&value.bytes(), family),
        None => Vec::new(),
    };
    (of(b"peers", V4), of(b"peers6", V6))
}

/// Fills a swarm with leechers of both families.
fn fill(server: &Server, hash: [u8; 20], v4: u16, v6: u16) {
    for (family, count) in [(V4, v4), (V6, v6)] {
        let mut udp = Udp::new(server.udp(family));
        for port in 0..count {
            udp.announce(&Announce::leecher(hash, 1000 + port).want(0));
        }
    }
}

#[test]
fn a_reply_has_a_quarter_of_each_family_at_least() {
    for shards in [1, 2] {
        let server = Server::start(&config(shards));
        let cases = [
            // Of IPv4, of IPv6, wanted (-1: not said), given of each.
            (300, 300, -1, 25, 25),
            (300, 20, -1, 37, 13),
            (20, 300, 50, 13, 37),
            (300, 5, -1, 45, 5),
            (0, 300, 200, 0, 200),
            (300, 0, 1000, 200, 0),
            (10, 10, 200, 10, 10),
            (3, 3, 1, 0, 1),
        ];
        for (number, (v4, v6, want, four, six)) in cases.into_iter().enumerate() {
            let hash = hash(number as u32);
            fill(&server, hash, v4, v6);
            for family in [V4, V6] {
                let mut target = format!("/a?info_hash={}&port=7&left=1", percent(&hash));
                if want >= 0 {
                    target.push_str(&format!("&numwant={want}"));
                }
                let reply = get(server.http(family), &target);
                let (peers4, peers6) = peers(&reply);
                let case = format!("{v4} {v6} {want} {family:?} {}", peers4.len());
                let (given4, given6) = (peers4.len(), peers6.len());
                // Where parts are rounded, the announcer's family has less.
                assert_eq!(given4 + given6, four + six, "{case}");
                assert!(given4.abs_diff(four) <= 1, "{case}");
                let unique: BTreeSet<_> = peers4.iter().chain(&peers6).collect();
                assert_eq!(unique.len(), four + six, "{case}");
                assert!(
                    unique.iter().all(|peer| peer.port() != 7),
                    "not itself: {case}"
                );
                let stop = format!("/a?info_hash={}&port=7&event=stopped", percent(&hash));
                get(server.http(family), &stop);
            }
        }
        // A negative number is none.
        let target = format!("/a?info_hash={}&port=7&numwant=-5", percent(&hash(0)));
        let (peers4, peers6) = peers(&get(server.http(V4), &target));
        assert_eq!(peers4.len() + peers6.len(), 50);
    }
}

/// opentracker gives seeders to seeders, which neither has a use for.
#[test]
fn a_seeder_is_given_leechers_of_both_families() {
    let server = Server::start(&config(1));
    for family in [V4, V6] {
        for (port, left) in [(1, 0), (2, 0), (3, 9)] {
            get(
                server.http(family),
                &format!("/a?info_hash={A}&port={port}&left={left}"),
            );
        }
    }
    for family in [V4, V6] {
        let target = format!("/a?info_hash={A}&port=1&left=0");
        let (peers4, peers6) = peers(&get(server.http(family), &target));
        let ports: Vec<u16> = peers4.iter().chain(&peers6).map(SocketAddr::port).collect();
        assert_eq!(ports, [3, 3]);
    }
}

/// opentracker stores and hands out peers with port 0.
#[test]
fn a_peer_without_a_port_is_answered_but_not_kept() {
    for shards in [1, 2] {
        let server = Server::start(&config(shards));
        let v4 = server.http(V4);
        for query in ["", "&port=0", "&port=-1", "&port=0&event=stopped"] {
            let reply = get(v4, &format!("/a?info_hash={A}&left=0{query}"));
            assert!(reply.contains("8:completei0e"), "{reply:?}");
            assert!(!reply.contains("\x7f\0\0\x01"), "{reply:?}");
        }
        get(v4, &format!("/a?info_hash={A}&left=0&port=5"));
        get(server.http(V6), &format!("/a?info_hash={A}&left=0&port=6"));
        let reply = get(v4, &format!("/a?info_hash={A}&left=1"));
        let loopback = |ip: IpAddr, port| vec![SocketAddr::new(ip, port)];
        let expected = (loopback(support::V4, 5), loopback(support::V6, 6));
        assert_eq!(peers(&reply), expected);
        let mut udp = Udp::new(server.udp(V4));
        let reply = udp.announce(&Announce::leecher(A.as_bytes().try_into().expect("20"), 0));
        assert_eq!((reply.counts(), reply.ports()), ((2, 0), vec![5]));
        assert_eq!(server.peers_not_stored(), 0);
    }
}

#[test]
fn the_interval_is_random_and_its_least_half_of_it() {
    let mut config = config(2);
    config.announce_interval = Duration::from_secs(1620);
    config.announce_interval_spread = Duration::from_secs(359);
    let number = |reply: &str, key: &str| -> u32 {
        let at = reply.find(key).expect("a key") + key.len();
        reply[at..]
            .split('e')
            .next()
            .expect("e")
            .parse()
            .expect("a number")
    };
    let server = Server::start(&config);
    let mut seen = BTreeSet::new();
    let mut udp = Udp::new(server.udp(V6));
    for at in 0..200u32 {
        let event = if at % 4 == 0 { "&event=stopped" } else { "" };
        let target = format!("/a?info_hash={}&port=1{event}", percent(&hash(at)));
        let reply = get(server.http(V4), &target);
        let interval = number(&reply, "8:intervali");
        assert_eq!(number(&reply, "12:min intervali"), interval / 2);
        seen.insert(interval);
        seen.insert(udp.announce(&Announce::leecher(hash(at), 6881)).interval);
    }
    assert!(seen.len() > 100, "{seen:?}");
    let (least, most) = (*seen.first().expect("one"), *seen.last().expect("one"));
    assert!((1620..1660).contains(&least) && (1940..=1979).contains(&most));
    // Our own dialect has a spread too, but a least interval of its own.
    config.dialect = Dialect::Karuta;
    let server = Server::start(&config);
    let replies: BTreeSet<u32> = (0..50)
        .map(|at| {
            let reply = support::get(server.http(V4), &Announce::leecher(hash(at), 1).target());
            assert!(
                reply
                    .body
                    .windows(20)
                    .any(|part| part == b"12:min intervali900e")
            );
            reply.announced(V4).interval
        })
        .collect();
    assert!(replies.len() > 10, "{replies:?}");
    assert!(
        replies
            .iter()
            .all(|interval| (1620..=1979).contains(interval))
    );
}

#[test]
fn a_torrent_that_is_not_on_the_list() {
    let mut config = config(2);
    let text = format!(
        "http: {{}}\nprehooks: [{{name: torrent approval, options: {{whitelist: ['{}']}}}}]",
        "61".repeat(20)
    );
    config.prehooks = Config::parse(&text, "f").expect("valid").prehooks;
    let server = Server::start(&config);
    let other = "bbbbbbbbbbbbbbbbbbbb";
    let bytes: [u8; 20] = other.as_bytes().try_into().expect("20");
    for family in [V4, V6] {
        let target = format!("/a?info_hash={other}&port=6881");
        assert_eq!(get(server.http(family), &target), failure(NOT_AUTHORIZED));
        // A peer that stops needs no permission.
        let stopped = get(server.http(family), &format!("{target}&event=stopped"));
        assert!(
            stopped.contains("\r\n\r\nd8:completei0e10:incompletei0e8:"),
            "{stopped}"
        );
        let target = format!("/a?info_hash={A}&port=6881&left=1");
        assert!(get(server.http(family), &target).contains("8:complete"));
        // opentracker's reply here ends after the transaction id.
        let mut udp = Udp::new(server.udp(family));
        let packet = Announce::leecher(bytes, 6881).packet(udp.id, 0x0102_0304);
        let expected = [&[0, 0, 0, 3, 1, 2, 3, 4], NOT_AUTHORIZED.as_bytes()].concat();
        assert_eq!(udp.call(&packet), expected);
        let stopped = udp.announce(&Announce::leecher(bytes, 6881).event(STOPPED));
        assert_eq!(stopped.counts(), (0, 0));
    }
}

#[test]
fn a_wrong_connection_id_over_udp() {
    let server = Server::start(&config(1));
    let mut udp = Udp::new(server.udp(V4));
    let wrong = udp.id ^ 1;
    // With the byte that ends the text in C, as clients know it.
    let expected = b"\0\0\0\x03\0\0\0\x07Connection ID missmatch.\0";
    let announce = Announce::leecher(hash(1), 6881);
    for packet in [
        announce.packet(wrong, 7),
        scrape_packet(wrong, 7, &[hash(1)]),
        Announce::leecher(hash(1), 0).packet(wrong, 7),
        announce.packet(wrong, 7)[..60].to_vec(),
    ] {
        assert_eq!(udp.call(&packet), expected);
        assert!(packet.len() >= expected.len());
    }
    // Nobody gets more bytes than were sent in his name.
    let mut drops = 0;
    for length in [16, 20, 32] {
        let packet = &scrape_packet(wrong, 7, &[hash(1)])[..length];
        udp.silence(packet);
        drops += 1;
        assert_eq!(
            server.drops(Protocol::Udp, DropReason::BadConnectionId),
            drops
        );
    }
}

#[test]
fn what_opentracker_passes_over_in_datagrams() {
    let server = Server::start(&config(1));
    let mut udp = Udp::new(server.udp(V4));
    let announce = Announce::leecher(hash(1), 6881);
    let short = &announce.packet(udp.id, 7)[..97];
    let mut unknown = announce.packet(udp.id, 7);
    unknown[8..12].copy_from_slice(&[0, 0, 0, 3]);
    for packet in [short, &unknown] {
        udp.silence(packet);
    }
    assert_eq!(server.drops(Protocol::Udp, DropReason::Malformed), 2);
    let mut strange = announce.packet(udp.id, 7);
    strange[80..84].copy_from_slice(&[9, 9, 9, 9]);
    let expected = b"\0\0\0\x01\0\0\0\x07\0\0\x07\x08\0\0\0\x01\0\0\0\0\x7f\0\0\x01\x1a\xe1";
    assert_eq!(udp.call(&strange), expected);
    // Completed with something left is not.
    let reply = udp.announce(&announce.clone().event(COMPLETED));
    assert_eq!(reply.counts(), (0, 1));
    assert_eq!(udp.scrape(&[hash(1)]), [(0, 0, 1)]);
    assert_eq!(
        udp.call(&scrape_packet(udp.id, 7, &[])),
        b"\0\0\0\x02\0\0\0\x07"
    );
}

#[test]
fn udp_counts_both_families_and_gives_its_own() {
    for shards in [1, 3] {
        let server = Server::start(&config(shards));
        for number in 0..8 {
            let hash = hash(number);
            fill(&server, hash, 3, 2);
            for (family, others) in [(V4, 3), (V6, 2)] {
                let mut udp = Udp::new(server.udp(family));
                let reply = udp.announce(&Announce::seeder(hash, 1).event(COMPLETED));
                assert_eq!(reply.peers.len(), others);
            }
            let mut udp = Udp::new(server.udp(V4));
            let reply = udp.announce(&Announce::leecher(hash, 1000));
            assert_eq!(reply.counts(), (2, 5));
            assert_eq!(udp.scrape(&[hash, self::hash(99)]), [(2, 2, 5), (0, 0, 0)]);
            let reply = udp.announce(&Announce::seeder(hash, 1).event(STOPPED));
            assert_eq!((reply.counts(), reply.peers.len()), ((1, 5), 0));
        }
    }
}

#[test]
fn the_limits_of_udp() {
    let server = Server::start(&config(1));
    let hash = hash(1);
    fill(&server, hash, 300, 300);
    for (family, most) in [(V4, 200), (V6, 66)] {
        let mut udp = Udp::new(server.udp(family));
        for (want, expected) in [(-1, most), (i32::MAX, most), (0, 0), (7, 7)] {
            let announce = Announce::leecher(hash, 1).want(want);
            assert_eq!(
                udp.announce(&announce).peers.len(),
                expected,
                "{family:?} {want}"
            );
        }
        let hashes: Vec<[u8; 20]> = (0..80).map(support::hash).collect();
        assert_eq!(udp.scrape(&hashes).len(), 75);
        let reply = udp.call(&scrape_packet(udp.id, 9, &hashes));
        assert_eq!((reply.len(), word(&reply, 0)), (8 + 75 * 12, 2));
    }
}
