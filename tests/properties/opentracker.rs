//! Properties of the dialect of opentracker over HTTP: it agrees with a naive
//! model, which decodes everything first.

use karuta::bittorrent::{Event, InfoHash};
use karuta::protocol::Dialect;
use karuta::protocol::http::{
    self, Head, HeadOptions, HeadStatus, NumWantLimits, Rejection, Route, Routes, Status,
};

const LIMITS: NumWantLimits = NumWantLimits {
    default: 50,
    max: 200,
};

const INVALID: Rejection = Rejection::Status(Status::BadRequest);

/// Any bytes, as a whole request and as a query.
pub fn any_request(bytes: &[u8]) {
    let options = HeadOptions {
        max_head_bytes: 1024,
        real_ip_header: None,
    };
    let parsed = Dialect::Opentracker.parse_head(bytes, &options);
    if let Ok(parsed) = http::parse_head(bytes, &options) {
        assert_eq!(Dialect::Opentracker.parse_head(bytes, &options), Ok(parsed));
    }
    if let Ok(HeadStatus::Complete(head)) = parsed {
        assert!(head.head_len <= bytes.len().min(options.max_head_bytes));
        assert!(head.path.starts_with('/'));
        let routes = Routes::compile(&["/announce"], &["/scrape"]).unwrap();
        let route = Dialect::Opentracker.route(&routes, &head);
        let path = head.path.trim_start_matches('/');
        assert!(!path.starts_with('x') || route == Route::Unknown);
        assert!(route != Route::FullScrape || (path == "scrape" && !head.has_query));
        assert!(route != Route::Root || (path.is_empty() && !head.has_query));
        any_query(head.query, head.has_query);
    }
    any_query(bytes, true);
}

fn any_query(query: &[u8], has_query: bool) {
    let options = HeadOptions {
        max_head_bytes: 64,
        real_ip_header: None,
    };
    let Ok(HeadStatus::Complete(head)) = http::parse_head(b"GET /a HTTP/1.1\r\n\r\n", &options)
    else {
        panic!("a request");
    };
    let head = Head {
        query,
        has_query,
        ..head
    };
    let announce = Dialect::Opentracker.parse_announce(&head, LIMITS);
    let mut hashes = Vec::new();
    let scrape = Dialect::Opentracker.parse_scrape(&head, 2, |hash| hashes.push(hash));
    let Some(pairs) = decode(query).filter(|_| has_query) else {
        assert_eq!(announce, Err(INVALID));
        assert_eq!(scrape, Err(INVALID));
        return;
    };
    let all = |key: &[u8]| -> Vec<Value> {
        let pairs = pairs.iter().filter(|(other, _)| other == key);
        pairs.map(|(_, value)| value.clone()).collect()
    };
    let found: Option<Vec<InfoHash>> = all(b"info_hash")
        .into_iter()
        .map(|value| Some(InfoHash(value?.try_into().ok()?)))
        .collect();
    match &found {
        None => assert_eq!(scrape, Err(INVALID)),
        Some(found) if found.is_empty() => assert_eq!(scrape, Err(INVALID)),
        Some(found) => {
            assert_eq!(scrape, Ok(found.len().min(2)));
            assert_eq!(hashes, found[..found.len().min(2)]);
        }
    }
    let numbers = |key: &[u8]| all(key).into_iter().map(number);
    let is_invalid = found.as_ref().is_none_or(|found| found.len() > 1)
        || all(b"peer_id")
            .iter()
            .any(|id| id.as_ref().is_none_or(|id| id.len() != 20))
        || all(b"event").iter().any(Option::is_none)
        || numbers(b"left").any(|number| number == Number::Invalid)
        || numbers(b"numwant").any(|number| !matches!(number, Number::Is(_)))
        || numbers(b"port").any(|port| !matches!(port, Number::Is(..=65535)))
        || [&b"compact"[..], b"compact6"]
            .into_iter()
            .flat_map(numbers)
            .any(|number| matches!(number, Number::Is(0) | Number::Invalid | Number::Not));
    if is_invalid {
        assert_eq!(announce, Err(INVALID));
        return;
    }
    let found = found.unwrap_or_default();
    let Some(info_hash) = found.first() else {
        assert!(matches!(announce, Err(Rejection::Failure(_))));
        return;
    };
    let announce = announce.unwrap();
    assert_eq!(announce.info_hash, *info_hash);
    let port = match numbers(b"port").next_back() {
        Some(Number::Is(port)) => port.max(0),
        _ => 0,
    };
    assert_eq!(i64::from(announce.port), port);
    let is_seeder = numbers(b"left").any(|left| matches!(left, Number::Is(0) | Number::Not));
    assert_eq!(announce.left == 0, is_seeder);
    let want = match numbers(b"numwant").next_back() {
        Some(Number::Is(want)) if want >= 0 => want.min(200) as u32,
        _ => 50,
    };
    assert_eq!(announce.num_want, want);
    let events: Vec<Vec<u8>> = all(b"event").into_iter().flatten().collect();
    let expected = match events.last().map_or(&b""[..], |last| last) {
        _ if events.iter().any(|event| event == b"stopped") => Event::Stopped,
        _ if events.iter().any(|event| event == b"completed") && is_seeder => Event::Completed,
        _ if events.iter().any(|event| event == b"completed") => Event::None,
        b"started" => Event::Started,
        b"paused" => Event::Paused,
        _ => Event::None,
    };
    assert_eq!(announce.event, expected);
}

/// A decoded value; `None` where it cannot be.
type Value = Option<Vec<u8>>;

/// The decoded pairs; `None` where opentracker gives up on the whole query.
fn decode(query: &[u8]) -> Option<Vec<(Vec<u8>, Value)>> {
    let pairs = query.split(|&byte| byte == b'&').map(|pair| {
        let end = pair.iter().position(|&byte| byte == b'=');
        let (key, value) = pair.split_at(end.unwrap_or(pair.len()));
        let value = value.get(1..).unwrap_or_default();
        if value.iter().any(|byte| b"\"#$[\\]^`{|}".contains(byte)) {
            return None;
        }
        Some((unescape(key, b"?")?, unescape(value, b"?=@")))
    });
    pairs.collect()
}

fn unescape(text: &[u8], more: &[u8]) -> Value {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let is_valid = byte.is_ascii_alphanumeric()
            || b"!%'()*+,-./:;<>_~".contains(&byte)
            || more.contains(&byte);
        if !is_valid {
            return None;
        }
        at += 1;
        if byte == b'%' {
            let digits = std::str::from_utf8(text.get(at..at + 2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 2;
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[derive(Debug, PartialEq)]
enum Number {
    /// There is none, or it cannot be decoded.
    Invalid,
    /// It is something else.
    Not,
    Is(i64),
}

fn number(value: Value) -> Number {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return Number::Invalid;
    };
    let Ok(text) = String::from_utf8(text) else {
        return Number::Not;
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Not;
    }
    let size = format!("0{digits}").parse::<i64>().unwrap_or(i64::MAX);
    Number::Is(if text.starts_with('-') { -size } else { size })
}
