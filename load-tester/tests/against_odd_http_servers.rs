//! Whole runs over HTTP against small servers in this process that do what
//! servers do but should not. No run passes or fails by the speed of this host.

mod tiny_tracker;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use karuta_load_tester::config::RunConfig;
use karuta_load_tester::workload::FillShape;
use tiny_tracker::{V4, checked, http_config};

/// A good reply to an announce.
const PEERS: &str = "d8:intervali1800e5:peers12:aaaaaabbbbbbe";

/// A server that hands each request to `answer`, which says whether the
/// connection stays; it ends with the test.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn new(answer: fn(&mut TcpStream) -> bool) -> Server {
        let listener = TcpListener::bind((V4, 0)).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            stop: Arc::default(),
        };
        let stop = server.stop.clone();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::spawn(move || while take_request(&mut stream) && answer(&mut stream) {});
            }
        });
        server
    }

    /// A run that ends after as many good replies as there are peers.
    fn fill(&self, keep_alive: bool, peers: u64) -> RunConfig {
        let mut config = http_config(self.address, keep_alive);
        config.fill = Some(FillShape::OneEach);
        config.workload.peers = peers;
        config
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

/// Reads a request; `false` at the end of the connection.
fn take_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(len) if len > 0 => request.extend(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
    true
}

/// Writes a reply with the given extra header lines; whether that went well.
fn reply(stream: &mut TcpStream, headers: &str, body: &str) -> bool {
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).is_ok()
}

#[test]
fn a_server_that_keeps_no_connection_is_no_measurement_of_keep_alive() {
    // With and without a word about it.
    let servers = [
        Server::new(|stream| {
            reply(stream, "", PEERS);
            false
        }),
        Server::new(|stream| {
            reply(stream, "Connection: close\r\n", PEERS);
            false
        }),
    ];
    for server in &servers {
        let report = checked(&server.fill(true, 60));
        let connections = report.connections;
        assert_eq!(connections.replies, 60, "{report:?}");
        assert!(connections.opened >= 60, "{report:?}");
        let said = "the tracker closes the connection after each reply: use --no-keep-alive";
        assert!(
            report.invalid.iter().any(|f| f.contains(said)),
            "{report:?}"
        );
        let line = connections.to_string();
        assert!(report.to_text().contains(&line), "{line}");
        assert!(
            serde_json::to_string(&report)
                .unwrap()
                .contains("\"closed_by_server\":")
        );
        let report = checked(&server.fill(false, 60));
        assert_eq!(report.connections.closed_by_server, 60, "{report:?}");
        assert!(report.is_valid(), "{report:?}");
    }
}

#[test]
fn a_connection_that_the_server_should_close_is_not_waited_for() {
    let server = Server::new(|stream| reply(stream, "", PEERS));
    let mut config = server.fill(false, 18);
    // Longer than a fill waits for a reply: one that is waited for would show.
    config.timeout = Duration::from_secs(3600);
    let report = checked(&config);
    assert_eq!(report.answered.announces, 18, "{report:?}");
    assert_eq!(report.connections.not_closed_by_server, 18, "{report:?}");
    assert_eq!(report.connections.closed_by_server, 0, "{report:?}");
    let said = "does not close the connection after its reply";
    assert!(
        report.invalid.iter().any(|f| f.contains(said)),
        "{report:?}"
    );
    // The same server is a good one for keep-alive.
    let report = checked(&server.fill(true, 18));
    assert!(report.is_valid(), "{report:?}");
    assert_eq!(report.connections.closed_by_server, 0, "{report:?}");
    assert!(report.connections.opened <= 6, "{report:?}");
}

#[test]
fn connections_that_break_say_why_and_what_to_do() {
    let server = Server::new(|_| false);
    let report = checked(&http_config(server.address, true));
    let reasons: u64 = report.break_reasons.iter().map(|(_, count)| count).sum();
    assert!(
        reasons > 0 && reasons == report.broken_connections,
        "{report:?}"
    );
    let text = report.to_text();
    assert!(
        text.contains("(closed by the server before the reply)"),
        "{text}"
    );
    assert!(text.contains("try fewer --connections"), "{text}");
    assert!(!text.contains("--window"), "{text}");
}

#[test]
fn a_scrape_that_lacks_swarms_is_no_good_reply() {
    let server = Server::new(|stream| reply(stream, "", "d5:filesd20:aaaaaaaaaaaaaaaaaaaadeee"));
    for (swarms, is_good) in [(3, false), (1, true)] {
        let mut config = http_config(server.address, true);
        (config.workload.announces, config.workload.scrapes) = (0.0, 1.0);
        config.workload.swarms = swarms;
        config.scrape_hashes = 3;
        let report = checked(&config);
        assert_eq!(report.is_valid(), is_good, "{report:?}");
        let fewer = (
            "(fewer swarms than asked for: unknown ones may be left out, fill first)".to_string(),
            report.bad_replies,
        );
        assert_eq!(report.texts.first(), (!is_good).then_some(&fewer));
        assert!(report.sent.scrapes > 0, "{report:?}");
    }
}

#[test]
fn a_reply_head_without_end_is_too_long() {
    let server = Server::new(|stream| {
        let head = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(2 << 20));
        // The tester leaves before the end of it.
        let _ = stream.write_all(head.as_bytes());
        false
    });
    let report = checked(&server.fill(true, 10));
    let too_long = ("(reply head too long)".to_string(), report.bad_replies);
    assert_eq!(report.texts, [too_long]);
    assert!(report.bad_replies > 0, "{report:?}");
}

#[test]
fn a_reply_body_has_a_limit_too() {
    let server = Server::new(|stream| reply(stream, "", &"a".repeat(4 << 20)));
    let report = checked(&server.fill(true, 10));
    let too_long = ("(reply longer than 1 MiB)".to_string(), report.bad_replies);
    assert_eq!(report.texts, [too_long]);
    assert!(report.bad_replies > 0, "{report:?}");
}
