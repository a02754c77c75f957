//! `karuta e2e` against a tracker, against nobody, and against servers that
//! answer with something else.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{Action, Protocol};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Output;
use std::thread;
use support::program::{Folder, program};
use support::{Server, V4, config};

/// Checks these URLs; an answer may take this long.
fn check(http: &str, udp: &str, timeout: &str) -> (Option<i32>, Vec<String>) {
    let arguments = ["e2e", "--delay", "0s", "--timeout", timeout];
    let output = program()
        .args(arguments)
        .args(["--httpaddr", http, "--udpaddr", udp])
        // Trackers are asked directly whatever is set.
        .env("http_proxy", "http://127.0.0.1:9")
        .output()
        .expect("the program");
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let mut said = String::from_utf8(stdout).expect("text");
    said.push_str(&String::from_utf8(stderr).expect("text"));
    (status.code(), said.lines().map(str::to_owned).collect())
}

/// Asserts that one line says this, and exit code 1.
#[track_caller]
fn fails(http: &str, udp: &str, words: &[&str]) {
    // Long enough for whoever does answer.
    fails_within(http, udp, "20s", words);
}

#[track_caller]
fn fails_within(http: &str, udp: &str, timeout: &str, words: &[&str]) {
    let (code, said) = check(http, udp, timeout);
    assert_eq!(code, Some(1), "{said:?}");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(": FAILED: "), "{said:?}");
    for word in words {
        assert!(said[0].contains(word), "{word}: {said:?}");
    }
}

#[test]
fn a_tracker_that_works_passes() {
    for shards in [1, 3] {
        let server = Server::start(&config(shards));
        for family in AddressFamily::ALL {
            let http = format!("http://{}/announce", server.http(family));
            let udp = format!("udp://{}", server.udp(family));
            let (code, said) = check(&http, &udp, "20s");
            assert_eq!(code, Some(0), "{said:?}");
            assert_eq!(said.len(), 2);
            let ok = "ok: the second peer was told of the first; announce again in 1800 s";
            assert_eq!(said[0], format!("{http}: {ok}"));
            assert_eq!(said[1], format!("{udp}: {ok}"));
        }
        // Both peers have announced and have been taken back.
        for family in AddressFamily::ALL {
            for protocol in [Protocol::Http, Protocol::Udp] {
                assert_eq!(server.requests(protocol, Action::Announce, family), 4);
            }
        }
    }
}

#[test]
fn https_is_checked_with_or_without_its_certificate() {
    let folder = Folder::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = ["tracker.test".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).expect("names");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let mut config = config(2);
    let http = config.http.as_mut().expect("http");
    http.https_addr = vec![SocketAddr::new(V4, 0)];
    http.tls_cert_path = folder.file("certificate.pem", &certificate.pem());
    http.tls_key_path = folder.file("key.pem", &key.serialize_pem());
    let server = Server::start(&config);
    let url = format!("https://{}/announce", server.https[0]);
    fails(&url, "", &["--insecure"]);
    let output = program()
        .args(["e2e", "--delay", "0s", "--timeout", "20s", "--insecure"])
        .args(["--httpaddr", &url, "--udpaddr", ""])
        .output()
        .expect("the program");
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with(&format!("{url}: ok: ")), "{said}");
}

#[test]
fn nobody_there_fails_both_and_says_so() {
    // Bound and not listening, so that nobody else takes it.
    let tcp = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let tcp = tcp.expect("a socket");
    tcp.bind(&SocketAddr::new(V4, 0).into()).expect("bind");
    let http = tcp
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("IP");
    // Likewise: it belongs to a peer that sends nothing.
    let socket = UdpSocket::bind((V4, 0)).expect("bind");
    socket.connect((V4, 9)).expect("connect");
    let udp = socket.local_addr().expect("an address");
    let (code, said) = check(&format!("http://{http}"), &format!("udp://{udp}"), "20s");
    assert_eq!(code, Some(1));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with(&format!("http://{http}/announce: FAILED: ")),
        "{said:?}"
    );
    assert!(
        said[0].contains("no program listens on this port"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with(&format!("udp://{udp}: FAILED: ")),
        "{said:?}"
    );
    assert!(
        said[1].contains("no program listens on this UDP port"),
        "{said:?}"
    );
}

/// Answers every datagram with what `answer` makes of it, until the process
/// ends; returns the URL.
fn udp_server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> String {
    let socket = UdpSocket::bind((V4, 0)).expect("bind");
    let url = format!("udp://{}", socket.local_addr().expect("an address"));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..count]), from);
        }
    });
    url
}

/// The head of a reply to this request.
fn head(request: &[u8], action: u32) -> Vec<u8> {
    let mut reply = action.to_be_bytes().to_vec();
    reply.extend(&request[12..16]);
    reply
}

fn connect_reply(request: &[u8]) -> Vec<u8> {
    let mut reply = head(request, 0);
    reply.extend([7; 8]);
    reply
}

#[test]
fn a_udp_server_that_lies_is_caught() {
    let is_connect = |request: &[u8]| request[8..12] == [0; 4];
    let peers = |peers: &'static [u8]| {
        udp_server(move |request| match is_connect(request) {
            true => connect_reply(request),
            false => {
                let mut reply = head(request, 1);
                reply.extend([0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 0]);
                reply.extend(peers);
                reply
            }
        })
    };
    let url = peers(&[]);
    fails(
        "",
        &url,
        &["the second peer's announce", "not among the 0 peers"],
    );
    let url = peers(&[9, 9, 9, 9, 9, 9]);
    fails(
        "",
        &url,
        &["the first peer's announce", "port 2313", "made up"],
    );
    let url = peers(&[1, 2, 3]);
    fails("", &url, &["3 bytes of peers are no multiple of 6"]);

    let url = udp_server(move |request| match is_connect(request) {
        true => connect_reply(request),
        false => [head(request, 3), b"bad connection ID".to_vec()].concat(),
    });
    fails("", &url, &["refuses it: \"bad connection ID\""]);
    let url = udp_server(|request| head(request, 0));
    fails("", &url, &["connect to 127.0.0.1:", "only 8 bytes"]);
    let url = udp_server(|request| head(request, 2));
    fails("", &url, &["to action 2, not to 0"]);
    // An answer to something else is no answer.
    let url = udp_server(|request| {
        let mut reply = connect_reply(request);
        reply[7] ^= 1;
        reply
    });
    fails_within("", &url, "300ms", &["no answer within 300ms"]);
}

/// Answers every connection with these bytes, until the process ends; returns
/// the URL.
fn http_server(answer: String) -> String {
    let listener = TcpListener::bind((V4, 0)).expect("bind");
    let url = format!(
        "http://{}/announce",
        listener.local_addr().expect("an address")
    );
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[test]
fn an_http_server_that_lies_is_caught() {
    let cases: [(String, &[&str]); 6] = [
        (
            ok("d8:intervali60e5:peers0:e"),
            &["the second peer's announce", "not among the 0 peers"],
        ),
        (
            ok("d14:failure reason18:unapproved torrente"),
            &[
                "the first peer's announce",
                "refuses it: \"unapproved torrent\"",
            ],
        ),
        (ok("<html>It works!</html>"), &["not bencode"]),
        (ok(""), &["not bencode"]),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            &["status 404", "is the path right"],
        ),
        (String::new(), &["the first peer's announce"]),
    ];
    for (answer, words) in cases {
        fails(&http_server(answer), "", words);
    }
    // One that accepts and says nothing.
    let listener = TcpListener::bind((V4, 0)).expect("bind");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    fails_within(
        &url,
        "",
        "300ms",
        &["timeout", "is a tracker running there"],
    );
}

#[test]
fn a_bad_url_is_a_bad_command_line() {
    for (http, udp, words) in [
        ("127.0.0.1:1", "", "--httpaddr: \"127.0.0.1:1\" is no URL"),
        (
            "",
            "tcp://127.0.0.1:1",
            "--udpaddr: \"tcp://127.0.0.1:1\" is no URL",
        ),
        ("", "", "nothing to check"),
    ] {
        let (code, said) = check(http, udp, "5s");
        assert_eq!(code, Some(2), "{said:?}");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("error: ") && said[0].contains(words),
            "{said:?}"
        );
    }
}
