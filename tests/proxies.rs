//! Behind proxies: whose request it is, by headers and by the PROXY protocol.
//! The tracker tells its clients' addresses ("external ip", BEP 24).

mod properties;
mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::HttpConfig;
use karuta::shard::stats::{Action, DropReason, Outcome, Protocol};
use proptest::prelude::*;
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use support::{Announce, Http, Response, Server, WATCHDOG, hash, request, scrape_target};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// What a request without an address that is needed is told.
const NOT_NAMED: &str = "proxy did not name the client's address";
const UNPARSABLE: &str = "failed to parse peer IP address";

fn server(change: impl FnOnce(&mut HttpConfig)) -> Server {
    Server::with(2, |_, http| {
        http.external_ip = true;
        http.enable_keepalive = true;
        change(http);
    })
}

fn prefixes(texts: &[&str]) -> Vec<karuta::config::Prefix> {
    let read = |text: &&str| text.parse().expect("a subnet");
    texts.iter().map(read).collect()
}

/// A connection from this address of the loopback network.
fn connect_from(local: &str, server: SocketAddr) -> Http {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("socket");
    let local: IpAddr = local.parse().expect("an address");
    socket
        .bind(&SocketAddr::new(local, 0).into())
        .expect("bind");
    socket.connect(&server.into()).expect("connect");
    socket.set_read_timeout(Some(WATCHDOG)).expect("timeout");
    Http::over(TcpStream::from(socket))
}

/// The client's address that an announce was filed under, or why not.
fn outcome(response: &Response) -> Result<IpAddr, String> {
    let dictionary = response.bencode().dictionary();
    let Some(ip) = dictionary.get(&b"external ip"[..]) else {
        return Err(response.failure());
    };
    let ip = ip.bytes();
    Ok(match <[u8; 4]>::try_from(&ip[..]) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&ip[..]).expect("16 bytes")),
    })
}

fn announce(client: &mut Http, headers: &str) -> Result<IpAddr, String> {
    let target = Announce::leecher(hash(1), 6881).target();
    client.send(format!("GET {target} HTTP/1.1\r\n{headers}\r\n"));
    outcome(&client.response())
}

/// Expected: an address, or a failure reason.
fn check(client: &mut Http, cases: &[(&str, &str)]) {
    for (headers, expected) in cases {
        let expected = expected.parse().map_err(|_| (*expected).to_owned());
        assert_eq!(announce(client, headers), expected, "{headers:?}");
    }
}

#[test]
fn lists_from_trusted_proxies() {
    let server = server(|http| {
        http.real_ip_header = "X-Forwarded-For".to_owned();
        http.trusted_proxies = prefixes(&["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"]);
    });
    let mut client = Http::connect(server.http(V4));
    check(
        &mut client,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            ("x-forwarded-for:192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For:  \t 192.0.2.1 \r\n", "192.0.2.1"),
            // What the client wrote itself stands left of what it is.
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 10.0.0.7, 192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: <script>,192.0.2.1\r\n", "192.0.2.1"),
            // Through a chain of proxies that are known.
            (
                "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.1.2.3 ,\t10.0.0.1\r\n",
                "192.0.2.1",
            ),
            (
                "X-Forwarded-For: 192.0.2.1, 2001:db8:ffff::1, ::ffff:10.0.0.1\r\n",
                "192.0.2.1",
            ),
            // Several headers are one list.
            (
                "X-Forwarded-For: 6.6.6.6\r\nHost: x\r\nX-FORWARDED-FOR: 192.0.2.1, 10.0.0.1\r\n",
                "192.0.2.1",
            ),
            ("X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
            ("X-Forwarded-For: [2001:db8::7]:443\r\n", "2001:db8::7"),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1"),
            // A client of our own network.
            ("X-Forwarded-For: 10.5.5.5, 10.0.0.1\r\n", "10.5.5.5"),
            ("", NOT_NAMED),
            ("X-Forwarded-For:\r\n", NOT_NAMED),
            ("X-Forwarded-For: , ,\r\n", NOT_NAMED),
            ("X-Real-IP: 192.0.2.1\r\n", NOT_NAMED),
            ("X-Forwarded-For: unknown\r\n", UNPARSABLE),
            ("X-Forwarded-For: 192.0.2.1, what\r\n", UNPARSABLE),
            ("X-Forwarded-For: 192.0.2.1 10.0.0.1\r\n", UNPARSABLE),
            ("X-Forwarded-For: \u{ff}\u{fe}\r\n", UNPARSABLE),
            ("X-Forwarded-For: 192.0.2.1, 0.0.0.0\r\n", "invalid IP"),
            ("X-Forwarded-For: 239.1.2.3\r\n", "invalid IP"),
        ],
    );
    let errors = server.replies(Protocol::Http, Action::Announce, V4, Outcome::Error);
    assert_eq!(errors, 10);
    // Other pages need nobody's address.
    assert_eq!(client.get("/").status, 200);

    // Who is no proxy may write what it likes, or nothing.
    let mut stranger = connect_from("127.0.0.2", server.http(V4));
    check(
        &mut stranger,
        &[
            ("X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.2"),
            ("X-Forwarded-For: garbage\r\n", "127.0.0.2"),
            ("", "127.0.0.2"),
        ],
    );
    let mut stranger = Http::connect(server.http(V6));
    check(&mut stranger, &[("X-Forwarded-For: 192.0.2.1\r\n", "::1")]);
}

#[test]
fn other_headers() {
    for (name, cases) in [
        (
            "Forwarded",
            &[
                (
                    "Forwarded: for=192.0.2.1;proto=https;by=10.0.0.1\r\n",
                    "192.0.2.1",
                ),
                ("Forwarded: For=\"[2001:db8::7]:4711\"\r\n", "2001:db8::7"),
                (
                    "Forwarded: for=6.6.6.6, for=192.0.2.1, for=10.0.0.1\r\n",
                    "192.0.2.1",
                ),
                (
                    "Forwarded: for=6.6.6.6\r\nForwarded: for=192.0.2.1\r\n",
                    "192.0.2.1",
                ),
                (
                    "Forwarded: for=6.6.6.6;x=\", for=\"[2001:db8::7]\"\r\n",
                    UNPARSABLE,
                ),
                ("Forwarded: proto=https\r\n", UNPARSABLE),
                ("Forwarded: for=_secret\r\n", UNPARSABLE),
                ("X-Forwarded-For: 192.0.2.1\r\n", NOT_NAMED),
            ][..],
        ),
        (
            "CF-Connecting-IP",
            &[
                ("CF-Connecting-IP: 192.0.2.1\r\n", "192.0.2.1"),
                ("cf-connecting-ip: 2001:db8::7\r\n", "2001:db8::7"),
                (
                    "CF-Connecting-IP: 6.6.6.6\r\nCF-Connecting-IP: 192.0.2.1\r\n",
                    "192.0.2.1",
                ),
                ("X-Forwarded-For: 192.0.2.1\r\n", NOT_NAMED),
            ],
        ),
    ] {
        let server = server(|http| {
            http.real_ip_header = name.to_owned();
            http.trusted_proxies = prefixes(&["127.0.0.0/8", "10.0.0.0/8"]);
        });
        check(&mut Http::connect(server.http(V4)), cases);
    }
}

#[test]
fn everybody_is_believed_without_a_list_of_proxies() {
    let server = server(|http| http.real_ip_header = "X-Forwarded-For".to_owned());
    check(
        &mut connect_from("127.0.0.9", server.http(V4)),
        &[
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"),
            ("", "127.0.0.9"),
            ("X-Forwarded-For: garbage\r\n", UNPARSABLE),
        ],
    );
}

#[test]
fn a_scrape_is_of_the_clients_family() {
    let server = server(|http| {
        http.real_ip_header = "X-Real-IP".to_owned();
        http.trusted_proxies = prefixes(&["127.0.0.0/8"]);
    });
    let mut client = Http::connect(server.http(V4));
    for number in 0..6 {
        let target = Announce::seeder(hash(number), 6881).target();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nX-Real-IP: 2001:db8::7\r\n\r\n"
        ));
        assert_eq!(client.response().status, 200);
        for (ip, seeders) in [("2001:db8::8", 1), ("192.0.2.1", 0)] {
            // Of one shard, and of all.
            for hashes in [vec![hash(number)], (0..=number).map(hash).collect()] {
                let target = scrape_target(&hashes);
                client.send(format!("GET {target} HTTP/1.1\r\nX-Real-IP: {ip}\r\n\r\n"));
                let scraped = client.response().scraped();
                assert_eq!(scraped.len(), hashes.len());
                assert!(scraped.values().all(|counts| *counts == (seeders, 0, 0)));
            }
        }
    }
    let failure = client.get(&scrape_target(&[hash(1)])).failure();
    assert_eq!(failure, NOT_NAMED);
    assert!(server.requests(Protocol::Http, Action::Scrape, V6) > 0);
    let errors = server.replies(Protocol::Http, Action::Scrape, V4, Outcome::Error);
    assert_eq!(errors, 1);
}

/// A header of version 2 with this command, family and rest.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[command, family],
        &length,
        rest,
    ]
    .concat()
}

/// The addresses of a header of version 2.
fn block(source: &str) -> Vec<u8> {
    let mut block = match source.parse().expect("an address") {
        IpAddr::V4(v4) => [v4.octets(), [198, 51, 100, 1]].concat(),
        IpAddr::V6(v6) => [v6.octets(), [1; 16]].concat(),
    };
    block.extend([0xdc, 4, 1, 0xbb]);
    block
}

#[test]
fn introductions_in_one_piece_and_in_many() {
    let server = server(|http| {
        http.proxy_protocol = true;
        http.trusted_proxies = prefixes(&["127.0.0.0/8"]);
    });
    let target = Announce::leecher(hash(1), 6881).target();
    let tlvs = [block("192.0.2.2"), vec![4, 0, 1, 0], vec![0x20; 40_000]].concat();
    for (introduction, expected) in [
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(),
            "192.0.2.1",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(0x21, 0x11, &block("192.0.2.1")), "192.0.2.1"),
        (version_2(0x21, 0x21, &block("2001:db8::7")), "2001:db8::7"),
        (
            version_2(0x21, 0x21, &block("::ffff:192.0.2.1")),
            "192.0.2.1",
        ),
        (version_2(0x21, 0x11, &tlvs), "192.0.2.2"),
        (version_2(0x20, 0x00, &[]), "127.0.0.1"),
        (version_2(0x20, 0x11, &block("192.0.2.1")), "127.0.0.1"),
        (version_2(0x21, 0x00, &[]), "127.0.0.1"),
        (version_2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        let expected: IpAddr = expected.parse().expect("an address");
        let whole = [&introduction[..], request(&target).as_bytes()].concat();
        for piece in [1, 3, 16, whole.len()] {
            if whole.len() / piece > 1000 {
                continue;
            }
            let mut client = Http::connect(server.http(V4));
            for part in whole.chunks(piece) {
                client.send(part);
            }
            let response = client.response();
            assert_eq!(outcome(&response), Ok(expected), "{piece}");
            // It counts for the whole connection.
            assert_eq!(announce(&mut client, ""), Ok(expected));
        }
    }
    assert_eq!(server.drops(Protocol::Http, DropReason::BadProxyHeader), 0);
}

#[test]
fn a_proxy_that_is_introduced_may_name_its_client() {
    let server = server(|http| {
        http.proxy_protocol = true;
        http.real_ip_header = "X-Forwarded-For".to_owned();
        http.trusted_proxies = prefixes(&["127.0.0.0/8", "10.0.0.0/8"]);
    });
    for (introduced, expected) in [
        ("10.0.0.5", Ok("192.0.2.1")),
        // A client that is introduced is not believed.
        ("198.51.100.9", Ok("198.51.100.9")),
    ] {
        let mut client = Http::connect(server.http(V4));
        client.send(format!("PROXY TCP4 {introduced} 127.0.0.1 1 2\r\n"));
        let expected = expected.map(|ip| ip.parse().expect("an address"));
        assert_eq!(
            announce(&mut client, "X-Forwarded-For: 192.0.2.1\r\n"),
            expected
        );
    }
}

#[test]
fn who_is_not_introduced_is_closed() {
    let server = Server::with(1, |_, http| {
        http.proxy_protocol = true;
        http.trusted_proxies = prefixes(&["127.0.0.1"]);
        http.read_timeout = Duration::from_millis(300);
    });
    let mut bad = 0;
    for bytes in [
        request("/").as_bytes(),
        b"PROXY TCP4 192.0.2.1\r\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.999 127.0.0.1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        b"\x16\x03\x01\0\x05hello",
        &[b'P'; 200],
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
    ] {
        let mut client = Http::connect(server.http(V4));
        client.send(bytes);
        assert!(client.gone());
        bad += 1;
        assert_eq!(
            server.drops(Protocol::Http, DropReason::BadProxyHeader),
            bad
        );
    }
    // One that ends within it; but to say nothing at all is a health check.
    for (part, more) in [("PROXY TCP4", 1), ("", 0)] {
        let mut client = Http::connect(server.http(V4));
        client.send(part);
        client.socket.shutdown(Shutdown::Write).expect("shutdown");
        assert!(client.gone());
        bad += more;
        assert_eq!(
            server.drops(Protocol::Http, DropReason::BadProxyHeader),
            bad
        );
    }
    // One that takes too long.
    let mut client = Http::connect(server.http(V4));
    client.send(b"PROXY ");
    assert!(client.gone());
    assert_eq!(server.drops(Protocol::Http, DropReason::Timeout), 1);
    // One from elsewhere, however well introduced.
    let mut client = connect_from("127.0.0.2", server.http(V4));
    assert!(client.gone());
    assert_eq!(server.drops(Protocol::Http, DropReason::UntrustedProxy), 1);
    // And the next one is served.
    let mut client = Http::connect(server.http(V4));
    client.send(format!("PROXY UNKNOWN\r\n{}", request("/")));
    assert_eq!(client.response().status, 200);
}

#[test]
fn everybody_may_introduce_without_a_list_of_proxies() {
    let server = server(|http| http.proxy_protocol = true);
    let mut client = connect_from("127.0.0.8", server.http(V4));
    client.send("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n");
    assert_eq!(
        announce(&mut client, ""),
        Ok("192.0.2.1".parse().expect("an address"))
    );
}

/// Texts in which everything that matters is likely.
fn texts(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

const LIST_WORDS: &[&str] = &[
    "192.0.2.1",
    "192.0.2.2",
    "10.0.0.4",
    "2001:db8::1",
    "[2001:db8::2]",
    "::ffff:192.0.2.7",
    ",",
    ", ",
    ";",
    "for=",
    "For=\"",
    "\"",
    "\\",
    ":80",
    ":",
    "\r\n",
    "X-Forwarded-For: ",
    "A: b",
    " ",
    "%1",
    "proto=x",
    "_",
];

const HEAD_WORDS: &[&str] = &[
    "X-Real-IP:",
    "x-real-ip: ",
    "192.0.2.1",
    "192.0.2.2",
    ", ",
    "\r\n",
    "A: b\r\n",
    "X-Real-IP:\r\n",
    "X-Real-IP: 192.0.2.4\r\n",
    "[::1]:1",
];

const LINE_WORDS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    " ",
    "192.0.2.1 ",
    "::1 ",
    "80 ",
    "65535",
    "\r\n",
    "\n",
    "x",
];

proptest! {
    #[test]
    fn any_list_is_read_from_the_right(text in texts(LIST_WORDS)) {
        properties::proxy::any_forwarded(&text);
    }

    #[test]
    fn any_head_keeps_every_line_of_a_header(text in texts(HEAD_WORDS)) {
        let head = [b"GET / HTTP/1.1\r\n", &text[..], b"\r\n\r\n"].concat();
        properties::proxy::any_head(&head);
    }

    #[test]
    fn any_line_of_version_1(text in texts(LINE_WORDS)) {
        properties::proxy::any_introduction(&text);
        properties::proxy::any_introduction(&[b"PROXY ", &text[..]].concat());
    }

    #[test]
    fn any_header_of_version_2(
        (command, family) in (
            prop_oneof![Just(0x20u8), Just(0x21), any::<u8>()],
            prop_oneof![Just(0x11u8), Just(0x21), Just(0), any::<u8>()],
        ),
        length in 0u16..300,
        rest in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0usize..400,
    ) {
        let mut bytes = version_2(command, family, &rest);
        bytes[14..16].copy_from_slice(&length.to_be_bytes());
        bytes.truncate(cut);
        properties::proxy::any_introduction(&bytes);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::proxy::any_introduction(&bytes);
        properties::proxy::any_forwarded(&bytes);
        properties::proxy::any_head(&bytes);
    }
}
