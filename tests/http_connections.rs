//! The manners of HTTP connections (RFC 9112), against a tracker that runs: how
//! long they are kept, requests in pieces and in rows, limits, and clients that
//! misbehave. What is answered is in `http.rs`.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{Action, DropReason, Protocol};
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;
use support::{Announce, Http, Server, field, get, hash, request, scrape_target};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// A tracker that keeps connections.
fn keeping(shards: usize) -> Server {
    Server::with(shards, |_, http| http.enable_keepalive = true)
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
