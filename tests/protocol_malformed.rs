//! The tables of malformed requests (`tests/malformed/`) against the codec.
//!
//! The two `answer_` functions below put the codec together as a frontend has
//! to; they are what a running server is compared with.

#[path = "malformed/table.rs"]
mod table;

use karuta::protocol::http::{
    self, HeadOptions, HeadStatus, Method, NumWantLimits, RouteKind, Routes, Status,
};
use karuta::protocol::udp::{self, ConnectionIds, ErrorText, ParseError, Request};
use std::net::IpAddr;
use table::{Case, Expect};

const NOW: u64 = 1_800_000_000;

fn source() -> IpAddr {
    "192.0.2.9".parse().expect("an address")
}

/// What happens to a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is sent.
    Silence,
    /// The request goes on to the swarm.
    Served { close: bool },
    /// These bytes are sent.
    Answer { bytes: Vec<u8>, close: bool },
}

fn udp_error(transaction_id: u32, text: &str) -> Outcome {
    let mut buffer = [0; 64];
    let written = udp::write_error(&mut buffer, transaction_id, text).expect("enough room");
    Outcome::Answer {
        bytes: buffer[..written].to_vec(),
        close: false,
    }
}

fn answer_datagram(packet: &[u8], ids: &ConnectionIds, case: &Case) -> Outcome {
    let parsed = udp::parse(packet);
    let (connection_id, transaction_id) = match &parsed {
        Ok(request) => (request.connection_id(), request.transaction_id()),
        Err(ParseError::Drop(_)) => return Outcome::Silence,
        Err(ParseError::Answer {
            connection_id,
            transaction_id,
            ..
        }) => (Some(*connection_id), *transaction_id),
    };
    if connection_id.is_some_and(|id| !ids.accepts(NOW, source(), id)) {
        let unknown = ErrorText::UnknownAction;
        if matches!(&parsed, Err(ParseError::Answer { error, .. }) if *error == unknown) {
            return Outcome::Silence;
        }
        let mut buffer = [0; 64];
        let written = udp::write_bad_connection_id(
            &mut buffer,
            packet.len(),
            transaction_id,
            "bad connection ID",
        );
        return match written {
            Some(written) => Outcome::Answer {
                bytes: buffer[..written].to_vec(),
                close: false,
            },
            None => Outcome::Silence,
        };
    }
    let allow_ip_spoofing = case.settings.iter().any(|word| word == "allow_ip_spoofing");
    let announce = match parsed {
        Err(ParseError::Answer { error, .. }) => return udp_error(transaction_id, error.as_str()),
        Ok(Request::Announce { announce, .. }) => announce,
        _ => return Outcome::Served { close: false },
    };
    match udp::resolve_address(announce.claimed_ip, allow_ip_spoofing, source()) {
        Ok(_) => Outcome::Served { close: false },
        Err(error) => udp_error(transaction_id, error.as_str()),
    }
}

fn http_status(status: Status, keep_alive: bool, is_head: bool) -> Outcome {
    let mut bytes = Vec::new();
    http::write_status(&mut bytes, status, keep_alive, is_head);
    Outcome::Answer {
        bytes,
        close: !keep_alive,
    }
}

fn answer_bytes(bytes: &[u8], routes: &Routes, case: &Case) -> Outcome {
    let has = |setting: &str| case.settings.iter().any(|word| word == setting);
    let options = HeadOptions {
        max_head_bytes: 16_384,
        real_ip_header: has("real_ip_header").then_some("X-Real-IP"),
    };
    let head = match http::parse_head(bytes, &options) {
        Ok(HeadStatus::Partial) => return Outcome::Silence,
        Ok(HeadStatus::Complete(head)) => head,
        Err(error) => return http_status(error.status(), false, false),
    };
    if head.method != Method::Get {
        let is_head = head.method == Method::Head;
        return http_status(Status::MethodNotAllowed, head.keep_alive, is_head);
    }
    let Some(route) = routes.find(head.path) else {
        return http_status(Status::NotFound, head.keep_alive, false);
    };
    let limits = NumWantLimits {
        default: 50,
        max: 100,
    };
    let spoofing = has("allow_ip_spoofing");
    let result = match route.kind {
        RouteKind::Announce => http::parse_announce(head.query, limits)
            .and_then(|query| {
                http::resolve_address(&query.claimed, spoofing, head.real_ip, source())
            })
            .map(|_| ()),
        RouteKind::Scrape => http::parse_scrape(head.query, 50, |_| {}).map(|_| ()),
    };
    let close = !head.keep_alive;
    match result {
        Ok(()) => Outcome::Served { close },
        Err(failure) => {
            let mut bytes = Vec::new();
            let response = http::begin_response(&mut bytes, Status::Ok, head.keep_alive);
            http::write_failure(&mut bytes, failure.as_str(), None);
            response.finish(&mut bytes);
            Outcome::Answer { bytes, close }
        }
    }
}

/// Status and body of a response, whose head must be in order.
fn split_response(bytes: &[u8], close: bool) -> (u16, Vec<u8>) {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = response.parse(bytes).expect("a response").unwrap();
    let value = |name: &str| {
        let mut found = response.headers.iter().filter(|header| header.name == name);
        let value = found.next().map(|header| header.value);
        assert!(found.next().is_none(), "{name} twice");
        value
    };
    let body = bytes[head_len..].to_vec();
    assert_eq!(value("Content-Type"), Some(&b"text/plain"[..]));
    let connection: &[u8] = if close { b"close" } else { b"keep-alive" };
    assert_eq!(value("Connection"), Some(connection));
    let status = response.code.expect("a status");
    let allow = (status == 405).then_some(&b"GET"[..]);
    assert_eq!(value("Allow"), allow);
    let length = value("Content-Length").expect("a length").escape_ascii();
    let length: usize = length.to_string().parse().expect("a number");
    // The answer to HEAD has the length of a body that it has not.
    assert!(body.len() == length || (status == 405 && body.is_empty()));
    (status, body)
}

#[test]
fn malformed_datagrams_get_their_answers() {
    let ids = ConnectionIds::from_secret(b"malformed", 0);
    let issued = ids.issue(NOW, source());
    let cases = table::read(include_str!("malformed/udp.txt"));
    assert!(cases.len() >= 40);
    for case in &cases {
        let outcome = answer_datagram(&case.send.with(issued), &ids, case);
        let expected = match &case.expect {
            Expect::Drop => Outcome::Silence,
            Expect::Served => Outcome::Served { close: false },
            Expect::Exactly(bytes) => Outcome::Answer {
                bytes: bytes.with(issued),
                close: false,
            },
            other => panic!("{}: {other:?} is for HTTP", case.name),
        };
        assert_eq!(outcome, expected, "{} ({})", case.name, case.cites);
    }
}

#[test]
fn malformed_http_requests_get_their_answers() {
    let routes = Routes::compile(&["/announce"], &["/scrape"]).expect("valid routes");
    let cases = table::read(include_str!("malformed/http.txt"));
    assert!(cases.len() >= 80);
    for case in &cases {
        let name = format!("{} ({})", case.name, case.cites);
        match answer_bytes(&case.send.with(0), &routes, case) {
            Outcome::Silence => assert_eq!(case.expect, Expect::Wait, "{name}"),
            Outcome::Served { close } => {
                assert_eq!(case.expect, Expect::Served, "{name}");
                assert_eq!(close, case.close, "{name}");
            }
            Outcome::Answer { bytes, close } => {
                let (status, body) = split_response(&bytes, close);
                assert_eq!(Expect::Status(status, body), case.expect, "{name}");
                assert_eq!(close, case.close, "{name}");
            }
        }
    }
}

#[test]
fn names_in_the_tables_are_unique() {
    for table in [
        include_str!("malformed/udp.txt"),
        include_str!("malformed/http.txt"),
    ] {
        let mut names: Vec<_> = table::read(table)
            .into_iter()
            .map(|case| case.name)
            .collect();
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
