//! The program as a process: what it prints, how it fails to start, and how it
//! ends.

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Output};
use support::program::{Folder, Program, program};
use support::{Announce, Http, Udp, hash, request};

/// Both frontends on ports that the system chooses, with keep-alive.
const ANY_PORT: &str = "
shards: 2
metrics_addr: 127.0.0.1:0
udp: {addr: 127.0.0.1:0}
http: {addr: 127.0.0.1:0, enable_keepalive: true}
";

fn start(config: &Path, arguments: &[&str]) -> Program {
    Program::start(program().arg("--config").arg(config).args(arguments))
}

fn once(command: &mut Command) -> Output {
    command.output().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Asserts exit code 1 and one line that has all of these words.
fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains(" WARN "))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    for word in words {
        assert!(lines[0].contains(word), "{word}: {said}");
    }
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn it_says_what_it_serves() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let mut process = start(&file, &[]);
    assert!(process.said[0].ends_with(" serves on 2 shards:"));
    assert_eq!(process.said[1], format!("  udp://{}/announce", process.udp));
    assert_eq!(
        process.said[2],
        format!("  http://{}/announce", process.http)
    );
    let metrics = process.said[3].trim().strip_prefix("metrics at http://");
    let address = metrics.and_then(|rest| rest.strip_suffix("/metrics"));
    let address: SocketAddr = address.expect("an address").parse().expect("an address");
    let reply = Udp::new(process.udp).announce(&Announce::leecher(hash(1), 1));
    assert_eq!(reply.counts(), (0, 1));
    let metrics = support::get(address, "/metrics");
    assert_eq!(metrics.status, 200);
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn both_signals_stop_it_with_what_is_under_way_answered() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    for name in ["INT", "TERM"] {
        for _ in 0..3 {
            let mut process = start(&file, &[]);
            let udp = Udp::new(process.udp);
            let mut clients: Vec<Http> = (0..20).map(|_| Http::connect(process.http)).collect();
            for client in &mut clients[..10] {
                assert_eq!(client.get("/").status, 200);
            }
            // Requests lie in its sockets when the signal comes. Half of them
            // belong to the other shard.
            for number in 0..50 {
                udp.send(&Announce::leecher(hash(number), 1).packet(udp.id, number));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                client.send(request(&Announce::leecher(hash(number as u32), 2).target()));
            }
            process.signal(name);
            for _ in 0..50 {
                assert_eq!(support::word(&udp.receive(), 0), 1);
            }
            for client in &mut clients {
                assert_eq!(client.response().status, 200);
                client.closed();
            }
            let (status, log) = process.end();
            assert_eq!(status.code(), Some(0), "{log}");
            assert!(log.contains("stopped"), "{log}");
        }
    }
}

#[test]
fn clients_that_do_not_leave_do_not_keep_it() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let mut process = start(&file, &[]);
    let mut idle = Http::connect(process.http);
    assert_eq!(idle.get("/").status, 200);
    let mut half = Http::connect(process.http);
    half.send("GET / HT");
    let silent = Http::connect(process.http);
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
    drop((idle, half, silent));
}

#[test]
fn nothing_is_logged_for_a_request() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let mut process = start(&file, &["--json"]);
    let mut udp = Udp::new(process.udp);
    for number in 0..20 {
        udp.announce(&Announce::leecher(hash(number), 1));
        udp.send(b"malformed");
        udp.error(&Announce::leecher(hash(number), 1).packet(1, 1));
        support::get(process.http, &Announce::leecher(hash(number), 1).target());
        support::get(process.http, "/announce?malformed");
        let mut http = Http::connect(process.http);
        http.send("malformed\r\n\r\n");
        assert_eq!(http.response().status, 400);
    }
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0));
    // Every line is JSON; there are a few for start and stop, none for 120
    // requests.
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert!((1..10).contains(&lines.len()), "{log}");
    for line in &lines {
        for key in ["time", "level", "target", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
}

/// Waits until a request for metrics has this line in its answer.
fn until_metric(process: &Program, line: &str) {
    for _ in 0..20_000 {
        let text = text(&support::get(process.metrics, "/metrics").body);
        if text.lines().any(|found| found == line) {
            return;
        }
    }
    panic!("no {line}");
}

#[test]
fn signals_reload_it() {
    let folder = Folder::new();
    let write = |more: &str| folder.file("karuta.yaml", &format!("{ANY_PORT}{more}\n"));
    let file = write("");
    let mut process = start(&file, &[]);
    let mut udp = Udp::new(process.udp);
    let mut interval = || udp.announce(&Announce::leecher(hash(1), 1)).interval;
    assert_eq!(interval(), 1800);
    for (at, name) in ["HUP", "USR1", "HUP"].into_iter().enumerate() {
        let seconds = 1000 + at as u32;
        write(&format!("announce_interval: {seconds}s"));
        process.signal(name);
        let ok = |count| format!("karuta_reloads_total{{result=\"ok\"}} {count}");
        until_metric(&process, &ok(at + 1));
        assert_eq!(interval(), seconds);
    }
    let hook = "prehooks: [{name: torrent approval, options: {whitelist_file: /nonexistent}}]";
    let bad = [
        "announce_interval: 5m\nanounce_interval: 6m",
        &format!("announce_interval: 5m\n{hook}"),
        "announce_interval: 5m\nudp: [",
    ];
    for (count, text) in (1..).zip(bad) {
        write(text);
        process.signal("HUP");
        let failed = format!("karuta_reloads_total{{result=\"failed\"}} {count}");
        until_metric(&process, &failed);
        assert_eq!(interval(), 1002);
    }
    let moved = ANY_PORT.replace("shards: 2", "shards: 3");
    folder.file("karuta.yaml", &format!("{moved}announce_interval: 20m\n"));
    // Many at once are a few.
    for _ in 0..20 {
        process.signal("HUP");
        process.signal("USR1");
    }
    let mut asked = 0;
    while interval() != 1200 {
        asked += 1;
        assert!(asked < 200_000, "it was not reloaded");
    }
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    for words in [
        "changed announce_interval",
        &format!("{}:7:1: unknown key \"anounce_interval\"", file.display()),
        "did you mean \"announce_interval\"?",
        &format!(
            "{}: prehooks (line 7): torrent approval: /nonexistent: cannot be read",
            file.display()
        ),
        "nothing has changed",
        "only a restart changes shards: left as at the start",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn it_stops_in_the_middle_of_a_reload() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let list = folder.path().join("list");
    let made = Command::new("mkfifo").arg(&list).status();
    assert!(made.expect("mkfifo").success());
    let mut process = start(&file, &[]);
    let hook = format!(
        "prehooks: [{{name: torrent approval, options: {{whitelist_file: '{}'}}}}]",
        list.display()
    );
    folder.file("karuta.yaml", &format!("{ANY_PORT}{hook}\n"));
    process.signal("HUP");
    // It opens as soon as somebody reads, who then waits for what is written.
    let mut writing = std::fs::OpenOptions::new();
    writing.write(true).custom_flags(libc::O_NONBLOCK);
    let mut udp = Udp::new(process.udp);
    let mut asked = 0;
    let writer = loop {
        // The hook is not there yet.
        let reply = udp.announce(&Announce::leecher(hash(1), 1));
        assert_eq!(reply.counts(), (0, 1));
        match writing.open(&list) {
            Ok(writer) => break writer,
            Err(error) => assert!(asked < 200_000, "nobody reads: {error}"),
        }
        asked += 1;
    };
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    drop(writer);
}

#[test]
fn shards_that_would_keep_each_other_from_running_are_refused() {
    let folder = Folder::new();
    let text = "shards: 1024\nrealtime_priority: 1\nmetrics_addr: ''\nudp: {addr: 127.0.0.1:0}\n";
    let file = folder.file("crowd.yaml", text);
    let output = once(program().arg("--config").arg(file));
    refused(
        &output,
        &["realtime_priority: 1024 shards on ", "lower shards to "],
    );
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = |local: std::io::Result<SocketAddr>| local.expect("address");
    let (udp_address, tcp_address) = (address(udp.local_addr()), address(tcp.local_addr()));
    for (name, text, address) in [
        (
            "udp.addr",
            format!("udp: {{addr: {udp_address}}}"),
            udp_address,
        ),
        (
            "http.addr",
            format!("http: {{addr: {tcp_address}}}"),
            tcp_address,
        ),
        (
            "metrics_addr",
            format!("metrics_addr: {tcp_address}\nudp: {{addr: 127.0.0.1:0}}"),
            tcp_address,
        ),
    ] {
        let mut text = format!("shards: 2\n{text}\n");
        if !text.contains("metrics_addr") {
            text.push_str("metrics_addr: 127.0.0.1:0\n");
        }
        let file = folder.file("port.yaml", &text);
        let output = once(program().arg("--config").arg(&file));
        refused(
            &output,
            &[name, &address.to_string(), "in use", "ss -lntup"],
        );
    }
}

#[test]
fn a_second_tracker_does_not_join_the_first() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let mut process = start(&file, &[]);
    for (name, address) in [("udp", process.udp), ("http", process.http)] {
        let text = format!("metrics_addr: 127.0.0.1:0\n{name}: {{addr: {address}}}\n");
        let file = folder.file("second.yaml", &text);
        refused(&once(program().arg("--config").arg(&file)), &["in use"]);
    }
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_bad_file_ends_with_2_and_the_line_and_the_nearest_key() {
    let folder = Folder::new();
    let file = folder.file("bad.yaml", "udp:\n  max_numwnt: 3\n");
    let output = once(program().arg("--config").arg(&file));
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("{}:2:3", file.display())), "{said}");
    assert!(said.contains("max_numwant"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn too_little_locked_memory_is_named() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    // Only a user without CAP_IPC_LOCK is bound by the limit; the program
    // looks at the limit itself.
    let output = once(
        Command::new("sh")
            .args(["-c", "ulimit -l 64 && exec \"$0\" --config \"$1\""])
            .arg(env!("CARGO_BIN_EXE_karuta"))
            .arg(&file),
    );
    refused(&output, &["locked memory", "ulimit -l"]);
}

/// Denies io_uring_setup(2) with an errno, as seccomp profiles do, and becomes
/// the program that is named behind: no_new_privs, then a filter of four
/// instructions (load the number; if it is 425, return the errno; allow).
const DENY: &str = r#"
import ctypes, os, struct, sys
errno = int(sys.argv[1])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50000 | errno), (0x06, 0, 0, 0x7fff0000)]
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
program = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(filter)))
libc = ctypes.CDLL(None, use_errno=True)
one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
assert libc.prctl(38, one, zero, zero, zero) == 0, ctypes.get_errno()
assert libc.prctl(22, ctypes.c_ulong(2), program, zero, zero) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[test]
fn no_io_uring_is_named() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let deny = folder.file("deny.py", DENY);
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3, which sets the filter, is not here");
        return;
    }
    for (errno, words) in [
        ("1", ["io_uring", "seccomp", "Docker"]),
        ("38", ["io_uring", "kernel", "5.8"]),
    ] {
        let mut command = Command::new("python3");
        command.arg(&deny).arg(errno);
        command.arg(env!("CARGO_BIN_EXE_karuta"));
        let output = once(command.arg("--config").arg(&file));
        refused(&output, &words);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = Folder::new();
    let file = folder.file("karuta.yaml", ANY_PORT);
    let mut process = start(&file, &[]);
    // A client in the middle of an answer keeps a stopping tracker for a
    // moment: a request whose answers it does not take.
    let mut client = Http::connect(process.http);
    client.socket.set_nonblocking(true).expect("nonblocking");
    let hashes: Vec<_> = (0..50).map(hash).collect();
    let bytes = request(&support::scrape_target(&hashes));
    let mut other = Http::connect(process.http);
    let mut stuck = 0;
    let mut at = 0;
    while stuck < 3000 {
        match client.socket.write(&bytes.as_bytes()[at..]) {
            Ok(count) => (at, stuck) = ((at + count) % bytes.len(), 0),
            Err(_) => {
                stuck += 1;
                assert_eq!(other.get("/").status, 200);
            }
        }
    }
    // Both are there when it goes on, however long that takes.
    for signal in ["STOP", "TERM", "INT", "CONT"] {
        process.signal(signal);
    }
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("ending at once"), "{log}");
}
