//! Golden bytes of the HTTP tracker protocol, written down from the BEPs by
//! hand, and the rules for parameters and addresses.

use karuta::bittorrent::{AnnounceCounts, Event, InfoHash, PeerId, ScrapeCounts};
use karuta::protocol::bencode::{Limits, Reader};
use karuta::protocol::http::{
    self, AnnounceQuery, AnnounceReply, ClaimedAddresses, Failure, HeadOptions, HeadStatus, Method,
    NumWantLimits, Parameter, RetryIn, Status,
};
use std::net::IpAddr;

const LIMITS: NumWantLimits = NumWantLimits {
    default: 50,
    max: 100,
};

/// BEP 3, "Trackers": every parameter that it names, as uTorrent sends them.
const QUERY: &str = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
    &peer_id=-UT3550-%01%02%03%04%05%06%07%08%09%0A%0b%0c\
    &port=6881&uploaded=1&downloaded=2&left=3&corrupt=0&key=ABCD0123\
    &event=started&numwant=30&compact=1&no_peer_id=1";

const INFO_HASH: InfoHash = InfoHash([
    0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x12,
    0x34, 0x56, 0x78, 0x9a,
]);

fn parse(query: &str) -> Result<AnnounceQuery<'_>, Failure> {
    http::parse_announce(query.as_bytes(), LIMITS)
}

/// The query with parameters added behind, where they win.
fn with(more: &str) -> String {
    format!("{QUERY}&{more}")
}

/// What a body is inside: bencode in its only form.
fn assert_bencode(body: &[u8]) {
    let events = Reader::new(body, Limits::default()).collect::<Result<Vec<_>, _>>();
    assert!(events.is_ok(), "{events:?}: {}", body.escape_ascii());
}

#[test]
fn announce_request_bep_3() {
    let request = format!("GET /announce?{QUERY} HTTP/1.1\r\nHost: t\r\n\r\n");
    let options = HeadOptions {
        max_head_bytes: 4096,
        real_ip_header: None,
    };
    let Ok(HeadStatus::Complete(head)) = http::parse_head(request.as_bytes(), &options) else {
        panic!("not a head");
    };
    assert_eq!(head.head_len, request.len());
    assert_eq!((head.method, head.path), (Method::Get, "/announce"));
    let expected = AnnounceQuery {
        info_hash: INFO_HASH,
        peer_id: PeerId(*b"-UT3550-\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"),
        port: 6881,
        left: 3,
        downloaded: 2,
        uploaded: 1,
        event: Event::Started,
        num_want: 30,
        compact: true,
        no_peer_id: true,
        claimed: ClaimedAddresses::default(),
    };
    assert_eq!(http::parse_announce(head.query, LIMITS), Ok(expected));
    let ip: IpAddr = "192.0.2.1".parse().expect("an address");
    let announce = expected.to_announce(ip);
    assert_eq!((announce.ip, announce.port, announce.left), (ip, 6881, 3));
    assert_eq!(announce.num_want, 30);
}

#[test]
fn parameters_are_read_as_chihaya_reads_them() {
    // Separators, case of the keys, escapes in keys and values.
    let query = QUERY.replace('&', ";").replace("port", "PoRt");
    assert_eq!(parse(&query), parse(QUERY));
    let query = QUERY.replace("left=3", "%6ceft=%33");
    assert_eq!(parse(&query), parse(QUERY));
    // The last of several counts; what is unknown or empty does not.
    let query = with("left=4&&a&=b&left=5");
    assert_eq!(parse(&query).map(|announce| announce.left), Ok(5));
    // A plus is a plus, not a space.
    let query = with("peer_id=aaaaaaaaaaaaaaaaaa+%2B");
    let peer_id = parse(&query).map(|announce| announce.peer_id);
    assert_eq!(peer_id, Ok(PeerId(*b"aaaaaaaaaaaaaaaaaa++")));
}

#[test]
fn optional_parameters() {
    for (more, event) in [
        ("event=", Event::None),
        ("event=None", Event::None),
        ("event=STARTED", Event::Started),
        ("event=stopped", Event::Stopped),
        ("event=Completed", Event::Completed),
        // BEP 21
        ("event=paused", Event::Paused),
        ("event=%70aused", Event::Paused),
    ] {
        let query = with(more);
        assert_eq!(
            parse(&query).map(|announce| announce.event),
            Ok(event),
            "{more}"
        );
    }
    for (more, num_want) in [
        ("numwant=0", 0),
        ("numwant=100", 100),
        ("numwant=101", 100),
        ("numwant=4294967297", 100),
        ("numwant=99999999999999999999999", 100),
        ("numwant=-1", 50),
        ("numwant=-99999999999999999999999", 50),
    ] {
        let query = with(more);
        assert_eq!(
            parse(&query).map(|announce| announce.num_want),
            Ok(num_want),
            "{more}"
        );
    }
    // BEP 23: compact unless the client refuses it.
    for (more, compact) in [
        ("compact=0", false),
        ("compact=%30", false),
        ("compact=1", true),
        ("compact=", true),
        ("compact=00", true),
    ] {
        let query = with(more);
        assert_eq!(
            parse(&query).map(|announce| announce.compact),
            Ok(compact),
            "{more}"
        );
    }
    let bare: Vec<_> = QUERY.split('&').take(6).collect();
    let bare = parse(&bare.join("&")).map(|announce| {
        let AnnounceQuery {
            event,
            num_want,
            compact,
            no_peer_id,
            ..
        } = announce;
        (event, num_want, compact, no_peer_id)
    });
    assert_eq!(bare, Ok((Event::None, 50, true, false)));
    let small = NumWantLimits {
        default: 50,
        max: 10,
    };
    assert_eq!(small.clamp(None), 10);
}

#[test]
fn required_parameters() {
    for (name, failure) in [
        ("info_hash", Failure::NoInfoHash),
        ("peer_id", Failure::Unparsable(Parameter::PeerId)),
        ("port", Failure::Unparsable(Parameter::Port)),
        ("left", Failure::Unparsable(Parameter::Left)),
        ("downloaded", Failure::Unparsable(Parameter::Downloaded)),
        ("uploaded", Failure::Unparsable(Parameter::Uploaded)),
    ] {
        let query = QUERY.replace(&format!("{name}="), "x=");
        assert_eq!(parse(&query), Err(failure), "{name}");
    }
    for (more, value) in [("left=0", 0), ("left=18446744073709551615", u64::MAX)] {
        let query = with(more);
        assert_eq!(parse(&query).map(|announce| announce.left), Ok(value));
    }
}

#[test]
fn peers_are_found_where_they_may_be() {
    let socket: IpAddr = "192.0.2.9".parse().expect("an address");
    let ip = |text: &str| Ok(text.parse::<IpAddr>().expect("an address"));
    let unparsable = Err(Failure::UnparsableIp);
    let invalid = Err(Failure::InvalidIp);
    for (more, spoofing, header, expected) in [
        ("", false, None, ip("192.0.2.9")),
        ("", true, None, ip("192.0.2.9")),
        ("", true, Some("192.0.2.1"), ip("192.0.2.1")),
        ("ip=192.0.2.2", true, Some("192.0.2.1"), ip("192.0.2.2")),
        ("ip=192.0.2.2", false, Some("192.0.2.1"), ip("192.0.2.1")),
        ("ip=192.0.2.2", false, None, ip("192.0.2.9")),
        (
            "ipv6=2001:db8::1&ipv4=192.0.2.3",
            true,
            None,
            ip("192.0.2.3"),
        ),
        ("ipv6=2001%3adb8%3A%3A1", true, None, ip("2001:db8::1")),
        // BEP 7: an address, or an address and a port.
        ("ipv6=%5B2001:db8::1%5D:6881", true, None, ip("2001:db8::1")),
        ("ipv4=192.0.2.3:6881", true, None, ip("192.0.2.3")),
        ("ip=::ffff:192.0.2.3", true, None, ip("192.0.2.3")),
        ("ip=", true, None, unparsable),
        ("ip=host.example", true, Some("192.0.2.1"), unparsable),
        ("ip=192.0.2.256", true, None, unparsable),
        ("", false, Some(" 192.0.2.1\t"), ip("192.0.2.1")),
        ("", false, Some(""), unparsable),
        ("", false, Some("192.0.2.1, 192.0.2.2"), unparsable),
        ("", false, Some("\u{e9}"), unparsable),
        ("ip=0.0.0.0", true, None, invalid),
        ("ip=255.255.255.255", true, None, invalid),
        ("ip=224.0.0.1", true, None, invalid),
        ("ip=::", true, None, invalid),
        ("ip=ff02::1", true, None, invalid),
    ] {
        let query = with(more);
        let claimed = parse(&query).expect("an announce").claimed;
        let header = header.map(str::as_bytes);
        let found = http::resolve_address(&claimed, spoofing, header, socket);
        assert_eq!(found, expected, "{more} {spoofing} {header:?}");
    }
    let long = "1".repeat(500);
    let query = with(&format!("ip={long}"));
    let claimed = parse(&query).expect("an announce").claimed;
    assert_eq!(
        http::resolve_address(&claimed, true, None, socket),
        unparsable
    );
}

#[test]
fn scrape_request_bep_48() {
    let query = b"info_hash=aaaaaaaaaaaaaaaaaaaa&x=y&INFO_HASH=%62bbbbbbbbbbbbbbbbbbb\
        &info_hash=cccccccccccccccccccc";
    let mut hashes = Vec::new();
    let found = http::parse_scrape(query, 2, |hash| hashes.push(hash));
    assert_eq!(found, Ok(2));
    assert_eq!(hashes, [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])]);
    for (query, failure) in [
        (&b""[..], Failure::NoInfoHash),
        (b"left=1", Failure::NoInfoHash),
        (b"info_hash=a", Failure::InvalidInfoHash),
        (
            b"info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=",
            Failure::InvalidInfoHash,
        ),
        (
            b"info_hash=aaaaaaaaaaaaaaaaaaaa&x=%",
            Failure::InvalidEscape,
        ),
    ] {
        assert_eq!(
            http::parse_scrape(query, 1, |_| {}),
            Err(failure),
            "{query:?}"
        );
    }
}

fn counts() -> AnnounceCounts {
    AnnounceCounts {
        complete: 1,
        incomplete: 22,
        downloaded: 333,
    }
}

#[test]
fn announce_response_bep_23_and_bep_7() {
    let reply = AnnounceReply {
        counts: counts(),
        interval_seconds: 1800,
        min_interval_seconds: 900,
        ..AnnounceReply::default()
    };
    let mut body = Vec::new();
    http::write_announce_compact(&mut body, &reply);
    let head = "d8:completei1e10:downloadedi333e10:incompletei22e8:intervali1800e\
        12:min intervali900e";
    assert_eq!(body, format!("{head}5:peers0:e").into_bytes());

    body.clear();
    let reply = AnnounceReply {
        peers: b"\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x1a\xe2",
        peers6: b" \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1",
        ..reply
    };
    http::write_announce_compact(&mut body, &reply);
    let peers = b"5:peers12:\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x1a\xe2";
    let peers6 = b"6:peers618: \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e";
    assert_eq!(body, [head.as_bytes(), peers, peers6].concat());
    assert_bencode(&body);
}

#[test]
fn announce_response_bep_24() {
    let mut body = Vec::new();
    let mut reply = AnnounceReply {
        counts: counts(),
        external_ip: Some("192.0.2.1".parse().expect("an address")),
        ..AnnounceReply::default()
    };
    http::write_announce_compact(&mut body, &reply);
    let expected = b"d8:completei1e10:downloadedi333e11:external ip4:\xc0\x00\x02\x01\
        10:incompletei22e8:intervali0e12:min intervali0e5:peers0:e";
    assert_eq!(body, expected);
    body.clear();
    reply.external_ip = Some("2001:db8::1".parse().expect("an address"));
    http::write_announce_compact(&mut body, &reply);
    let expected = b"11:external ip16: \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
    assert!(
        body.windows(expected.len())
            .any(|window| window == expected)
    );
    assert_bencode(&body);
}

#[test]
fn announce_response_bep_3() {
    let reply = AnnounceReply {
        counts: counts(),
        interval_seconds: 1800,
        min_interval_seconds: 900,
        peers: b"\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x00\x50",
        peers6: b" \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xff",
        ..AnnounceReply::default()
    };
    let head = "d8:completei1e10:downloadedi333e10:incompletei22e8:intervali1800e\
        12:min intervali900e5:peersl";
    let mut body = Vec::new();
    http::write_announce_dictionary(&mut body, &reply);
    let peers = "d2:ip9:192.0.2.14:porti6881eed2:ip9:192.0.2.24:porti80ee\
        d2:ip11:2001:db8::14:porti65535eeee";
    assert_eq!(body, format!("{head}{peers}").into_bytes());
    assert_bencode(&body);

    body.clear();
    let reply = AnnounceReply {
        peer_ids: b"aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbb",
        peer_ids6: b"cccccccccccccccccccc",
        ..reply
    };
    http::write_announce_dictionary(&mut body, &reply);
    let peers = "d2:ip9:192.0.2.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
        d2:ip9:192.0.2.27:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti80ee\
        d2:ip11:2001:db8::17:peer id20:cccccccccccccccccccc4:porti65535eeee";
    assert_eq!(body, format!("{head}{peers}").into_bytes());
    assert_bencode(&body);
}

#[test]
fn failures_bep_3_and_bep_31() {
    for (retry_in, expected) in [
        (None, "d14:failure reason12:invalid porte"),
        (
            Some(RetryIn::Minutes(5)),
            "d14:failure reason12:invalid port8:retry ini5ee",
        ),
        (
            Some(RetryIn::Never),
            "d14:failure reason12:invalid port8:retry in5:nevere",
        ),
    ] {
        let mut body = Vec::new();
        http::write_failure(&mut body, Failure::InvalidPort.as_str(), retry_in);
        assert_eq!(body, expected.as_bytes());
        assert_bencode(&body);
    }
}

#[test]
fn scrape_response_bep_48_and_bep_21() {
    let counts = |complete, incomplete, downloaded, downloaders| ScrapeCounts {
        complete,
        incomplete,
        downloaded,
        downloaders,
    };
    let mut files = [
        (InfoHash([b'b'; 20]), counts(5, 10, 50, 10)),
        (InfoHash([b'a'; 20]), counts(1, 4, 2, 3)),
        (InfoHash([0xff; 20]), ScrapeCounts::default()),
        (InfoHash([b'b'; 20]), counts(5, 10, 50, 10)),
    ];
    let mut body = Vec::new();
    http::write_scrape(&mut body, &mut files);
    let expected = b"d5:filesd\
        20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e11:downloadersi3e10:incompletei4ee\
        20:bbbbbbbbbbbbbbbbbbbbd8:completei5e10:downloadedi50e10:incompletei10ee\
        20:\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
        d8:completei0e10:downloadedi0e10:incompletei0eeee";
    assert_eq!(
        body.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    assert_bencode(&body);
    body.clear();
    http::write_scrape(&mut body, &mut []);
    assert_eq!(body, b"d5:filesdee");
}

#[test]
fn response_heads() {
    for body_len in [0, 9, 10, 12_345] {
        // What is in the buffer already stays: responses are pipelined.
        let mut out = b"before".to_vec();
        let response = http::begin_response(&mut out, Status::Ok, false);
        out.extend(std::iter::repeat_n(b'x', body_len));
        response.finish(&mut out);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ";
        let body = "x".repeat(body_len);
        let expected = format!("before{head}{body_len}\r\nConnection: close\r\n\r\n{body}");
        assert_eq!(out, expected.as_bytes());
    }
    let mut out = Vec::new();
    http::write_text(&mut out, Status::Ok, true, false, "karuta\n");
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\
        Connection: keep-alive\r\n\r\nkaruta\n";
    assert_eq!(out, expected.as_bytes());
}

#[test]
fn statuses() {
    let mut out = Vec::new();
    http::write_status(&mut out, Status::MethodNotAllowed, false, true);
    let expected = "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Type: text/plain\r\n\
        Content-Length: 23\r\nConnection: close\r\n\r\n";
    assert_eq!(out, expected.as_bytes());
    for status in [
        Status::Ok,
        Status::BadRequest,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::HeaderFieldsTooLarge,
        Status::InternalServerError,
        Status::ServiceUnavailable,
    ] {
        assert!(status.line().starts_with(&format!("{} ", status.code())));
        out.clear();
        http::write_status(&mut out, status, false, false);
        let end = format!("\r\n\r\n{}\n", status.line());
        assert!(out.ends_with(end.as_bytes()));
    }
}
