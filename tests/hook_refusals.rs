//! Hooks in a running tracker of two shards, over UDP and HTTP: what clients
//! are told, what reloads change, and what reaches a site.

use karuta::bittorrent::InfoHash;
use karuta::config::Config;
use karuta::hook::HookKind;
use karuta::server::Tracker;
use karuta::shard::stats::Refusal;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const CONNECT: [u8; 16] = [
    0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 1,
];

struct Bench {
    tracker: Tracker,
}

impl Bench {
    fn config(hooks: &str) -> Config {
        let text = format!(
            "shards: 2\nmetrics_addr: ''\nudp: {{addr: '127.0.0.1:0'}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{hooks}"
        );
        Config::parse(&text, "test").expect("a valid configuration")
    }

    fn start(hooks: &str) -> Self {
        let tracker = Tracker::start(&Self::config(hooks)).expect("starts");
        Self { tracker }
    }

    /// The body of an HTTP announce; empty when there was no answer.
    fn http(&self, hash: u8, more: &str, headers: &str) -> String {
        let hash = format!("%{hash:02x}").repeat(20);
        let target = format!(
            "/announce?info_hash={hash}&peer_id=-TR2820-abcdefghijkl&port=6881&left=1\
             &downloaded=0&uploaded=0{more}"
        );
        http(self.tracker.http[0], &target, headers)
    }

    /// A socket from which a datagram announce was sent.
    fn udp_sent(&self, hash: u8, options: &[u8]) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(self.tracker.udp[0]).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut buffer = [0; 2048];
        socket.send(&CONNECT).expect("sent");
        assert_eq!(receive(&socket, &mut buffer), 16);
        let mut request = buffer[8..16].to_vec();
        request.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        request.extend([hash; 20]);
        request.extend(b"-TR2820-abcdefghijkl");
        // Downloaded, left (1), uploaded, event, address, key: 44 bytes.
        request.extend([0; 8]);
        request.extend(1u64.to_be_bytes());
        request.extend([0; 20]);
        request.extend((-1i32).to_be_bytes());
        request.extend(6881u16.to_be_bytes());
        request.extend(options);
        socket.send(&request).expect("sent");
        socket
    }

    /// The reply to a datagram announce.
    fn udp(&self, hash: u8, options: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let socket = self.udp_sent(hash, options);
        let count = receive(&socket, &mut buffer);
        buffer[..count].to_vec()
    }

    /// Sends announces until the hook has dropped one of them; that one gets no
    /// reply.
    fn udp_dropped(&self, hook: HookKind) {
        let before = self.refusals(hook, Refusal::Drop);
        let mut unanswered = None;
        self.until("a datagram that is dropped", |bench| {
            unanswered.get_or_insert_with(|| bench.udp_sent(1, b""));
            let answered = unanswered.as_ref().is_some_and(|socket| {
                socket.set_nonblocking(true).expect("set");
                socket.recv(&mut [0; 2048]).is_ok()
            });
            if answered {
                unanswered = None;
            }
            !answered && bench.refusals(hook, Refusal::Drop) > before
        });
    }

    /// The text of a UDP error; `None` when it was an announce reply.
    fn udp_error(&self, hash: u8, options: &[u8]) -> Option<String> {
        let reply = self.udp(hash, options);
        let text = (reply[3] == 3).then(|| String::from_utf8_lossy(&reply[8..]).into_owned());
        assert!(text.is_some() || reply[3] == 1, "{reply:?}");
        text
    }

    fn refusals(&self, hook: HookKind, refusal: Refusal) -> u64 {
        let stats = self.tracker.stats.iter();
        stats
            .map(|stats| stats.hook_refusals(hook, refusal).get())
            .sum()
    }

    /// Asks again until the answer is as expected.
    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        for _ in 0..PATIENCE.as_millis() / 20 {
            if holds(self) {
                return;
            }
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
        panic!("{what}");
    }
}

/// Receives; the executors' timers interrupt any thread of the process.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.expect("a reply"),
        }
    }
}

fn http(address: SocketAddr, target: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: t\r\n{headers}\r\n").expect("sent");
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .expect("an answer or the end");
    let reply = String::from_utf8_lossy(&reply);
    reply
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned()
}

fn failure(reason: &str) -> String {
    format!("d14:failure reason{}:{reason}e", reason.len())
}

#[test]
fn refusals_have_chihayas_words_over_both_transports() {
    let listed = InfoHash([1; 20]);
    let keys = br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys");
    std::fs::write(&path, keys).expect("written");
    let jwt = format!(
        "prehooks: [{{name: jwt, options: {{jwk_set_file: '{}'}}}}]",
        path.display()
    );
    let torrents =
        format!("prehooks: [{{name: torrent approval, options: {{whitelist: ['{listed}']}}}}]");
    // Over UDP with URL data "/?jwt=x" (BEP 41).
    let token = b"\x02\x07/?jwt=x";
    for (hooks, hook, more, options, reason) in [
        (
            "prehooks: [{name: client approval, options: {blacklist: [TR2820]}}]",
            HookKind::ClientApproval,
            "",
            &b""[..],
            "unapproved client",
        ),
        (
            &torrents,
            HookKind::TorrentApproval,
            "",
            b"",
            "unapproved torrent",
        ),
        (
            &jwt,
            HookKind::Jwt,
            "",
            b"",
            "unapproved request: missing jwt",
        ),
        (
            &jwt,
            HookKind::Jwt,
            "&jwt=x",
            token,
            "unapproved request: invalid jwt",
        ),
        (
            "prehooks: [{name: ip approval, options: {deny: [127.0.0.0/8]}}]",
            HookKind::IpApproval,
            "",
            b"",
            "unapproved address",
        ),
        (
            "prehooks: [{name: port approval, options: {blacklist: ['6881']}}]",
            HookKind::PortApproval,
            "",
            b"",
            "unapproved port",
        ),
    ] {
        let bench = Bench::start(hooks);
        // Hashes of both shards.
        for hash in 2..10 {
            assert_eq!(bench.http(hash, more, ""), failure(reason), "{hooks}");
            assert_eq!(
                bench.udp_error(hash, options).as_deref(),
                Some(reason),
                "{hooks}"
            );
        }
        assert_eq!(bench.refusals(hook, Refusal::Fail), 16);
        if hook == HookKind::TorrentApproval {
            assert!(bench.http(1, "", "").contains("8:interval"));
            assert_eq!(bench.udp_error(1, b""), None);
        }
        bench.tracker.stop().expect("stops");
    }
}

#[test]
fn a_header_holds_the_token_too() {
    let bench =
        Bench::start("prehooks: [{name: jwt, options: {jwk_set_url: 'http://127.0.0.1:1/'}}]");
    let invalid = failure("unapproved request: invalid jwt");
    assert_eq!(bench.http(1, "", "Authorization: Bearer x\r\n"), invalid);
    bench.tracker.stop().expect("stops");
}

#[test]
fn who_is_dropped_gets_no_answer() {
    let bench = Bench::start(
        "prehooks: [{name: ip approval, options: {deny: [127.0.0.1], refusal: drop}}]",
    );
    assert_eq!(bench.http(1, "", ""), "");
    assert_eq!(bench.refusals(HookKind::IpApproval, Refusal::Drop), 1);
    bench.udp_dropped(HookKind::IpApproval);
    assert_eq!(bench.refusals(HookKind::IpApproval, Refusal::Drop), 2);
    bench.tracker.stop().expect("stops");
}

#[test]
fn over_the_rate_http_is_told_when_to_come_back_and_udp_nothing() {
    let bench = Bench::start("prehooks: [{name: rate limit, options: {requests: 1, period: 24h}}]");
    // Each shard has a budget, and the kernel chooses the shard.
    bench.until("the limit of both shards", |bench| {
        bench.http(1, "", "")
            == "d14:failure reason17:too many requests8:intervali1800e\
                12:min intervali1800e8:retry ini30ee"
    });
    bench.udp_dropped(HookKind::RateLimit);
    bench.tracker.stop().expect("stops");
}

#[test]
fn intervals_vary() {
    let bench = Bench::start(
        "announce_interval: 1800s\nprehooks: [{name: interval variation, options: \
         {modify_response_probability: 1, max_increase_delta: 1}}]",
    );
    for hash in 1..10 {
        let body = bench.http(hash, "", "");
        assert!(
            body.contains("8:intervali1801e12:min intervali901e"),
            "{body}"
        );
        let reply = bench.udp(hash, b"");
        assert_eq!(reply[8..12], 1801u32.to_be_bytes());
    }
    bench.tracker.stop().expect("stops");
}

#[test]
fn fixed_peers_are_in_every_reply() {
    let bench =
        Bench::start("prehooks: [{name: fixed peers, options: {peers: ['192.0.2.1:258']}}]");
    for hash in 1..10 {
        let reply = bench.udp(hash, b"");
        assert_eq!(reply[20..], [192, 0, 2, 1, 1, 2]);
        assert!(bench.http(hash, "&compact=0", "").contains("192.0.2.1"));
    }
    bench.tracker.stop().expect("stops");
}

#[test]
fn fifos_change_the_running_list() {
    let directory = tempfile::tempdir().expect("a directory");
    let [list, add, delete] = ["list", "add", "delete"].map(|name| directory.path().join(name));
    let line = |hash: u8| format!("{}\n", InfoHash([hash; 20]));
    std::fs::write(&list, line(1)).expect("written");
    let hooks = format!(
        "prehooks: [{{name: torrent approval, options: {{whitelist_file: '{}', format: \
         opentracker, fifo_add: '{}', fifo_delete: '{}'}}}}]",
        list.display(),
        add.display(),
        delete.display()
    );
    let bench = Bench::start(&hooks);
    let write = |path: &Path, text: &str| {
        let file = std::fs::File::options().write(true).open(path);
        let mut file = file.expect("the tracker reads it");
        file.write_all(text.as_bytes()).expect("written");
    };
    let served = |bench: &Bench, hash| bench.udp_error(hash, b"").is_none();
    assert!(served(&bench, 1));
    assert!(!served(&bench, 2));
    write(&delete, &line(1));
    bench.until("the deletion", |bench| !served(bench, 1));
    write(&add, &(line(2) + &line(3)));
    bench.until("the addition", |bench| served(bench, 2) && served(bench, 3));
    // Back to the file.
    bench.tracker.reread_lists();
    bench.until("the file", |bench| served(bench, 1) && !served(bench, 2));
    // New hooks, for which the old ones leave the FIFOs.
    let hooks = hooks.replace("format", "scrapes: true, format");
    bench.tracker.reload(&Bench::config(&hooks)).expect("valid");
    write(&add, &line(4));
    bench.until("the addition", |bench| served(bench, 4));
    bench.tracker.stop().expect("stops");
}

#[test]
fn lists_and_hooks_change_while_it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("list");
    let line = |hash: u8| format!("{}\n", InfoHash([hash; 20]));
    std::fs::write(&path, line(1)).expect("written");
    let bench = Bench::start(&format!(
        "prehooks: [{{name: torrent approval, options: {{whitelist_file: '{}'}}}}]",
        path.display()
    ));
    assert!(bench.udp_error(1, b"").is_none() && bench.udp_error(2, b"").is_some());
    // Replaced, as editors do; noticed without being told.
    let new = directory.path().join("new");
    std::fs::write(&new, line(1) + &line(2)).expect("written");
    std::fs::rename(&new, &path).expect("renamed");
    bench.until("the new list", |bench| bench.udp_error(2, b"").is_none());
    bench.tracker.reread_lists();
    // Another configuration, and then one that cannot start.
    let other = Bench::config("prehooks: [{name: port approval, options: {blacklist: ['6881']}}]");
    bench.tracker.reload(&other).expect("valid");
    let by_port = Some("unapproved port".to_owned());
    for hash in 1..9 {
        assert_eq!(bench.udp_error(hash, b""), by_port);
    }
    let bad = Bench::config(
        "prehooks: [{name: torrent approval, options: {whitelist_file: /nonexistent}}]",
    );
    let error = bench
        .tracker
        .reload(&bad)
        .expect_err("no such file")
        .to_string();
    assert!(error.contains("/nonexistent: cannot be read"), "{error}");
    assert_eq!(bench.udp_error(1, b""), by_port);
    bench.tracker.stop().expect("stops");
}

#[test]
fn a_list_that_cannot_be_read_keeps_it_from_starting() {
    let config = Bench::config(
        "prehooks:\n- name: torrent approval\n  options: {blacklist_file: /nonexistent}\n",
    );
    let error = Tracker::start(&config)
        .err()
        .expect("no such file")
        .to_string();
    let expected = "prehooks (line 6): torrent approval: /nonexistent: cannot be read: ";
    assert!(error.starts_with(expected), "{error}");
}

/// Answers one request with this body and gives what was sent.
fn serve(listener: &TcpListener, body: &str) -> (String, String) {
    let (stream, _) = listener.accept().expect("a request");
    let mut reader = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        head += &line;
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).expect("a body");
    let count = body.len();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("answered");
    (head, String::from_utf8(sent).expect("text"))
}

#[test]
fn a_site_is_told_of_events_and_of_the_last_before_the_end() {
    let site = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/events", site.local_addr().expect("an address"));
    let bench = Bench::start(&format!(
        "posthooks: [{{name: webhook, options: {{url: '{url}', batch_delay: 10ms}}}}]"
    ));
    bench.http(1, "&event=started", "");
    bench.http(1, "", "");
    let (head, sent) = serve(&site, "");
    assert!(head.starts_with("POST /events HTTP/1.1"), "{head}");
    assert!(sent.contains(r#""event":"started""#), "{sent}");
    assert!(
        sent.contains(r#""ip":"127.0.0.1","port":6881,"left":1"#),
        "{sent}"
    );
    assert!(!sent.contains("none"), "{sent}");
    bench.http(1, "&event=stopped", "");
    let last = std::thread::spawn(move || serve(&site, ""));
    bench.tracker.stop().expect("stops");
    let (_, sent) = last.join().expect("served");
    assert!(sent.contains(r#""event":"stopped""#), "{sent}");
}

#[test]
fn keys_are_fetched() {
    let site = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/keys", site.local_addr().expect("an address"));
    // The key and the signature of RFC 8037, appendix A.4, say nothing of a
    // torrent; what shows is that the set is asked for, again after a failure.
    let bench = Bench::start(&format!(
        "prehooks: [{{name: jwt, options: {{jwk_set_url: '{url}'}}}}]"
    ));
    let (head, _) = serve(&site, "oops");
    assert!(head.starts_with("GET /keys HTTP/1.1"), "{head}");
    bench.tracker.reread_lists();
    let (head, _) = serve(&site, "{}");
    assert!(head.starts_with("GET /keys HTTP/1.1"), "{head}");
    bench.tracker.stop().expect("stops");
}
