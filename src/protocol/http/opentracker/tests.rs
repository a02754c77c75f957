//! The dialect's codec, byte by byte.

use super::*;
use crate::bittorrent::AnnounceCounts;
use crate::protocol::http::parse_head as parse_any_head;

const LIMITS: NumWantLimits = NumWantLimits {
    default: 50,
    max: 200,
};

fn head(query: Option<&str>) -> Head<'_> {
    let options = HeadOptions {
        max_head_bytes: 64,
        real_ip_header: None,
    };
    let Ok(HeadStatus::Complete(head)) = parse_any_head(b"GET /a HTTP/1.1\r\n\r\n", &options)
    else {
        panic!("a request");
    };
    Head {
        query: query.unwrap_or_default().as_bytes(),
        has_query: query.is_some(),
        ..head
    }
}

fn announce(query: &str) -> Result<AnnounceQuery<'_>, Rejection> {
    parse_announce(&head(Some(query)), LIMITS)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn paths_are_known_by_their_first_letters() {
    for (path, has_query, expected) in [
        ("/announce", true, Route::Announce),
        ("/a", false, Route::Announce),
        ("//announce.php", true, Route::Announce),
        ("/%61", true, Route::Announce),
        ("/sc", true, Route::Scrape),
        ("/scrape", true, Route::Scrape),
        ("/scrape", false, Route::FullScrape),
        ("/scrape.php", false, Route::Scrape),
        ("/", false, Route::Root),
        ("//", false, Route::Root),
        ("/", true, Route::Unknown),
        ("/A", true, Route::Unknown),
        ("/s", true, Route::Unknown),
        ("/xa", true, Route::Unknown),
        ("/a=b", true, Route::Unknown),
        ("/a%", true, Route::Unknown),
        ("", false, Route::Root),
    ] {
        assert_eq!(route(path, has_query), expected, "{path} {has_query}");
    }
}

#[test]
fn heads_that_are_no_http() {
    let options = HeadOptions {
        max_head_bytes: 64,
        real_ip_header: None,
    };
    for (text, path, query) in [
        ("GET /a?b\r\n\r\n", "/a", Some("b")),
        (
            "GET /a?b HTTP/1.1\r\nno header\r\n\r\nmore",
            "/a",
            Some("b"),
        ),
        ("GET /a ?b=c HTTP/1.1\n\n", "/a", Some("b=c")),
        ("GET /a\n\r\n", "/a", None),
        ("GET /a HTTP/7.7\r\n\r\n", "/a", None),
        ("GET /\u{e9}? \n\n", "/\u{e9}", Some("")),
    ] {
        let Ok(HeadStatus::Complete(head)) = parse_head(text.as_bytes(), &options) else {
            panic!("{text:?}");
        };
        assert_eq!(head.path, path, "{text:?}");
        assert_eq!(head.query, query.unwrap_or("").as_bytes(), "{text:?}");
        assert_eq!(head.has_query, query.is_some(), "{text:?}");
        assert!(!head.keep_alive);
        let end = text.trim_end_matches("more").len();
        assert_eq!(head.head_len, end, "{text:?}");
        let partial = parse_head(&text.as_bytes()[..end - 1], &options);
        assert_eq!(partial, Ok(HeadStatus::Partial), "{text:?}");
    }
    for text in ["PUT /a\n\n", "GET a\n\n", "\n\n", "GET /a GET\r\r\n\n"] {
        let result = parse_head(text.as_bytes(), &options);
        let is_get = text.starts_with("GET /");
        assert_eq!(result.is_ok(), is_get, "{text:?}: {result:?}");
    }
    for length in [64, 70] {
        let text = "a".repeat(length) + "\n\n";
        let result = parse_head(text.as_bytes(), &options);
        assert_eq!(result, Err(HeadError::TooLarge));
        let result = parse_head(&text.as_bytes()[..length], &options);
        assert_eq!(result, Err(HeadError::TooLarge));
    }
}

#[test]
fn an_announce_needs_no_more_than_a_hash() {
    let expected = AnnounceQuery {
        info_hash: InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"),
        peer_id: PeerId([0; 20]),
        port: 0,
        left: 1,
        downloaded: 0,
        uploaded: 0,
        event: Event::None,
        num_want: 50,
        compact: true,
        no_peer_id: true,
        claimed: ClaimedAddresses::default(),
    };
    assert_eq!(announce("info_hash=aaaaaaaaaaaaaaaaaaaa"), Ok(expected));
    let all = "port=6881&left=0&event=completed&numwant=7&compact=1&peer_id=bbbbbbbbbbbbbbbbbbbb\
               &info_hash=%61aaaaaaaaaaaaaaaaaaa&uploaded=3&downloaded=4&ip=192.0.2.1";
    let expected = AnnounceQuery {
        peer_id: PeerId(*b"bbbbbbbbbbbbbbbbbbbb"),
        port: 6881,
        left: 0,
        downloaded: 4,
        uploaded: 3,
        event: Event::Completed,
        num_want: 7,
        claimed: ClaimedAddresses {
            ip: Some(b"192.0.2.1"),
            ..ClaimedAddresses::default()
        },
        ..expected
    };
    assert_eq!(announce(all), Ok(expected));
    for (more, left, event) in [
        (
            "left=0&left=5&event=completed&event=started",
            0,
            Event::Completed,
        ),
        ("left=5&left=0&event=started&event=", 0, Event::None),
        (
            "event=stopped&event=completed&left=3&left=4",
            4,
            Event::Stopped,
        ),
    ] {
        let query = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&{more}");
        let found = announce(&query).map(|query| (query.left, query.event));
        assert_eq!(found, Ok((left, event)), "{more}");
    }
    assert_eq!(announce(""), Err(Rejection::Failure(NO_INFO_HASH)));
    assert_eq!(parse_announce(&head(None), LIMITS), Err(INVALID));
}

#[test]
fn numbers_are_read_as_opentracker_does_without_its_overflows() {
    for (text, expected) in [
        ("0", Ok(Some(0))),
        ("007", Ok(Some(7))),
        ("-5", Ok(Some(-5))),
        ("-", Ok(Some(0))),
        ("%31", Ok(Some(1))),
        ("4294967296", Ok(Some(1 << 32))),
        ("99999999999999999999", Ok(Some(i64::MAX))),
        ("-99999999999999999999", Ok(Some(-i64::MAX))),
        ("1x", Ok(None)),
        ("x", Ok(None)),
        ("+1", Ok(None)),
        ("", Err(INVALID)),
        ("%3", Err(INVALID)),
        ("1 ", Err(INVALID)),
        ("1\u{e9}", Err(INVALID)),
    ] {
        assert_eq!(number(text.as_bytes()), expected, "{text}");
    }
    for (want, expected) in [("-1", 50), ("0", 0), ("200", 200), ("201", 200)] {
        let query = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&numwant={want}");
        assert_eq!(announce(&query).map(|query| query.num_want), Ok(expected));
    }
}

#[test]
fn answers_byte_by_byte() {
    let reply = AnnounceReply {
        counts: AnnounceCounts {
            complete: 1,
            incomplete: 2,
            downloaded: 3,
        },
        interval_seconds: 1700,
        min_interval_seconds: 850,
        peers: b"abcdef",
        peers6: b"abcdefghijklmnopqr",
        ..AnnounceReply::default()
    };
    let counts = "d8:completei1e10:downloadedi3e10:incompletei2e\
                  8:intervali1700e12:min intervali850e";
    for (peers, peers6, expected) in [
        (
            reply.peers,
            reply.peers6,
            "5:peers6:abcdef6:peers618:abcdefghijklmnopqre",
        ),
        (reply.peers, b"", "5:peers6:abcdefe"),
        (b"", reply.peers6, "6:peers618:abcdefghijklmnopqre"),
        (b"", b"", "e"),
    ] {
        let reply = AnnounceReply {
            peers,
            peers6,
            ..reply
        };
        let text = written(|out| write_announce(out, &reply));
        assert_eq!(text, format!("{counts}{expected}"));
    }
    for (family, expected) in [
        (AddressFamily::V4, "5:peers0:e"),
        (AddressFamily::V6, "6:peers60:e"),
    ] {
        let text = written(|out| write_stopped(out, &reply, family));
        let counts = "d8:completei1e10:incompletei2e8:intervali1700e12:min intervali850e";
        assert_eq!(text, format!("{counts}{expected}"));
    }
    for (status, expected) in [
        (
            Status::NotFound,
            "404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 25\r\n\r\n<title>Not Found</title>\n",
        ),
        (
            Status::MethodNotAllowed,
            "400 Invalid Request\r\nContent-Type: text/html\r\nContent-Length: 31\r\n\r\n<title>Invalid Request</title>\n",
        ),
        (
            Status::ServiceUnavailable,
            "500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 37\r\n\r\n<title>Internal Server Error</title>\n",
        ),
    ] {
        let text = written(|out| write_status(out, status));
        assert_eq!(text, format!("HTTP/1.0 {expected}"));
    }
    let counts = ScrapeCounts {
        complete: 4,
        incomplete: 5,
        downloaded: 6,
        downloaders: 1,
    };
    let [a, b, c] = [b'a', b'b', b'c'].map(|letter| InfoHash([letter; 20]));
    let none = ScrapeCounts::default();
    let files = [(b, counts), (c, none), (a, counts), (b, counts)];
    let entry = |letter: &str| {
        let hash = letter.repeat(20);
        format!("20:{hash}d8:completei4e10:downloadedi6e10:incompletei5ee")
    };
    assert_eq!(
        written(|out| write_scrape(out, &files)),
        format!("d5:filesd{}{}{}ee", entry("b"), entry("a"), entry("b"))
    );
}
