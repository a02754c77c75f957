//! The tables of malformed requests (`tests/malformed/`) against a tracker that
//! runs, over sockets: every case gets its exact answer.

#[path = "malformed/table.rs"]
mod table;

mod support;

use karuta::bittorrent::AddressFamily;
use support::{Http, Server, Udp, field, word};
use table::{Case, Expect};

/// A tracker of one shard for each set of settings that the cases ask for.
struct Servers(Vec<(Vec<String>, Server)>);

impl Servers {
    fn of(&mut self, case: &Case) -> &Server {
        let known = self.0.iter().position(|(words, _)| *words == case.settings);
        let at = known.unwrap_or_else(|| {
            self.0.push((case.settings.clone(), start(&case.settings)));
            self.0.len() - 1
        });
        &self.0[at].1
    }
}

fn start(settings: &[String]) -> Server {
    Server::with(1, |udp, http| {
        http.enable_keepalive = true;
        http.max_request_bytes = 16_384;
        for word in settings {
            match word.as_str() {
                "allow_ip_spoofing" => {
                    udp.allow_ip_spoofing = true;
                    http.allow_ip_spoofing = true;
                }
                "real_ip_header" => http.real_ip_header = "X-Real-IP".to_owned(),
                other => panic!("unknown setting {other}"),
            }
        }
    })
}

#[test]
fn malformed_datagrams_get_their_answers() {
    let mut servers = Servers(Vec::new());
    for case in table::read(include_str!("malformed/udp.txt")) {
        let name = format!("{} ({})", case.name, case.cites);
        let mut client = Udp::new(servers.of(&case).udp(AddressFamily::V4));
        let packet = case.send.with(client.id);
        match &case.expect {
            Expect::Drop => client.silence(&packet),
            Expect::Served => assert_ne!(word(&client.call(&packet), 0), 3, "{name}"),
            Expect::Exactly(bytes) => {
                assert_eq!(client.call(&packet), bytes.with(client.id), "{name}");
                // Once, and not again.
                client.connect();
                client.connect();
            }
            other => panic!("{name}: {other:?} is for HTTP"),
        }
    }
}

#[test]
fn malformed_http_requests_get_their_answers() {
    let mut servers = Servers(Vec::new());
    for case in table::read(include_str!("malformed/http.txt")) {
        let name = format!("{} ({})", case.name, case.cites);
        let address = servers.of(&case).http(AddressFamily::V4);
        let request = case.send.with(0);
        let mut client = Http::connect(address);
        client.send(&request);
        if case.expect == Expect::Wait {
            // No more comes, and nothing was answered.
            client.end();
            client.closed();
            continue;
        }
        let response = client.response_to(request.starts_with(b"HEAD "));
        let connection = field(&response.head, "Connection");
        let expected = if case.close { "close" } else { "keep-alive" };
        assert_eq!(connection, Some(expected), "{name}");
        match &case.expect {
            Expect::Served => {
                assert_eq!(response.status, 200, "{name}");
                let body = response.bencode().dictionary();
                assert!(!body.contains_key(&b"failure reason"[..]), "{name}");
            }
            Expect::Status(status, body) => {
                assert_eq!((response.status, &response.body), (*status, body), "{name}");
            }
            other => panic!("{name}: {other:?} is for UDP"),
        }
        if case.close {
            client.end();
            client.closed();
        } else {
            let next = client.get("/");
            assert_eq!(next.status, 200, "{name}: the next request");
        }
    }
}

#[test]
fn malformed_requests_arrive_in_single_bytes_too() {
    let mut servers = Servers(Vec::new());
    for case in table::read(include_str!("malformed/http.txt")) {
        let Expect::Status(status, body) = &case.expect else {
            continue;
        };
        let address = servers.of(&case).http(AddressFamily::V6);
        let request = case.send.with(0);
        if !case.settings.is_empty() || request.len() > 2000 {
            continue;
        }
        let name = format!("{} ({})", case.name, case.cites);
        let mut client = Http::connect(address);
        for byte in &request {
            // The answer may come before the last byte, and the connection end.
            if std::io::Write::write(&mut client.socket, &[*byte]).is_err() {
                break;
            }
        }
        let response = client.response_to(request.starts_with(b"HEAD "));
        assert_eq!((response.status, &response.body), (*status, body), "{name}");
    }
}
