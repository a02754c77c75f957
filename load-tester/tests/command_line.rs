//! The program: what it refuses, what it prints, and how it ends.

mod tiny_tracker;

use std::collections::HashSet;
use std::process::{Command, Output, Stdio};

use tiny_tracker::{Fault, Tracker};

fn tester(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_karuta-load-tester"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_makes_no_sense_is_refused_and_says_why() {
    for (arguments, expected) in [
        ("", "no target; give udp://HOST:PORT"),
        ("127.0.0.1:1", "has no scheme; write udp://127.0.0.1:1"),
        (
            "https://127.0.0.1/announce",
            "https:// is not measured, because",
        ),
        (
            "https://127.0.0.1:443",
            "give the tracker's http:// address",
        ),
        (
            "ftp://127.0.0.1:1",
            "only udp:// and http:// can be measured",
        ),
        ("udp://127.0.0.1", "write HOST:PORT"),
        (
            "udp://192.0.2.1:1",
            "192.0.2.1 is not a loopback address; add --allow-remote",
        ),
        (
            "http://[2001:db8::1]:1",
            "2001:db8::1 is not a loopback address",
        ),
        (
            "http://127.0.0.1:1 --window 3",
            "--window is for udp:// targets",
        ),
        (
            "http://127.0.0.1:1 --connects 1",
            "--connects is for udp:// targets",
        ),
        (
            "http://127.0.0.1:1 --no-segmentation",
            "--no-segmentation is for udp://",
        ),
        (
            "udp://127.0.0.1:1 --connections 3",
            "--connections is for http:// targets",
        ),
        (
            "udp://127.0.0.1:1 --no-keep-alive",
            "--no-keep-alive is for http://",
        ),
        (
            "http://127.0.0.1:1 --connections 3 --sources 4",
            "less than one per source",
        ),
        (
            "udp://127.0.0.1:1 --fill 9 --scrapes 1",
            "--scrapes has no place in a fill",
        ),
        (
            "udp://127.0.0.1:1 --fill 9 --stopped 0.1",
            "--stopped has no place in a fill",
        ),
        ("udp://127.0.0.1:1 --fill 0", "--fill must be at least 1"),
        (
            "udp://127.0.0.1:1 --fill 9 --fill-shape x",
            "write one-each; or as --skew:",
        ),
        (
            "udp://127.0.0.1:1 --fill 100000000000 --info-hashes 1 --threads 2",
            "--fill 100000000000 is too much: swarm 0 needs more than 524280",
        ),
        (
            "udp://127.0.0.1:1 --threads 1025",
            "--threads 1025 is more than 1024",
        ),
        (
            "udp://127.0.0.1:1 --peers 18446744073709551615",
            "is more than 1000000000000",
        ),
        (
            "udp://127.0.0.1:1 --fill-shape one-each",
            "required arguments were not provided",
        ),
        ("udp://127.0.0.1:1 --skew 0", "a Zipf exponent above 0"),
        (
            "udp://127.0.0.1:1 --window 3 --rate 3",
            "cannot be used with",
        ),
        (
            "udp://127.0.0.1:1 --rate 0",
            "--rate 0 is not above 0 and at most",
        ),
        ("udp://127.0.0.1:1 --rate nan", "--rate NaN is not above 0"),
        (
            "udp://127.0.0.1:1 --timeout 0",
            "--timeout 0 is not between",
        ),
        (
            "udp://127.0.0.1:1 --numwant -2",
            "--numwant -2 is not between",
        ),
        (
            "udp://127.0.0.1:1 --max-loss 101",
            "not a percentage between 0 and 100",
        ),
        (
            "udp://127.0.0.1:1 --seeders 2",
            "--seeders is 2, not a fraction",
        ),
        (
            "udp://127.0.0.1:1 --started 0.6 --completed 0.6",
            "together is 1.2",
        ),
        ("udp://127.0.0.1:1 --announces 0", "and not all 0"),
        (
            "udp://127.0.0.1:1 --scrapes 1e10",
            "must be finite, not negative and at most 10^9",
        ),
        ("udp://127.0.0.1:1 --scrapes nan", "must be finite"),
        ("udp://127.0.0.1:1 --rate -5", "--rate -5 is not above 0"),
        ("udp://127.0.0.1:1 --threads -1", "invalid value '-1'"),
        (
            "udp://127.0.0.1:1 --scrape-hashes 75",
            "not between 1 and 74",
        ),
        (
            "udp://127.0.0.1:1 --duration 0",
            "--duration 0 is not between",
        ),
        (
            "udp://127.0.0.1:1 --peers 7",
            "less than one per source address (8)",
        ),
        ("udp://[::1]:1 --sources 2", "needs an IPv4 loopback target"),
        (
            "udp://[::1]:1 --source-addresses 127.0.0.1",
            "of another family",
        ),
    ] {
        let output = tester(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(expected), "{arguments}: {said}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}

#[test]
fn a_host_that_may_not_be_used_as_source_is_named() {
    let tracker = Tracker::udp(Fault::None);
    let arguments = format!("udp://{} --source-addresses 192.0.2.1", tracker.address);
    let output = tester(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot send from 192.0.2.1: "), "{said}");
}

#[test]
fn connections_that_the_host_does_not_allow_are_refused_before_the_load() {
    let tester = |limit: &str, connections: u32| {
        let tester = env!("CARGO_BIN_EXE_karuta-load-tester");
        let run = format!(
            "ulimit {limit} && exec {tester} http://127.0.0.1:1 --threads 2 --connections {connections}"
        );
        let output = Command::new("sh").args(["-c", &run]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_string()
    };
    let said = tester("-n 100", 60);
    assert!(
        said.contains("needs 138 open files, but only 100 are allowed"),
        "{said}"
    );
    // Up to the hard limit the tester helps itself; nothing listens there.
    for (limit, connections) in [("-n 100", 30), ("-S -n 40", 60)] {
        let said = tester(limit, connections);
        assert!(said.contains("nothing listens on"), "{said}");
    }
}

#[test]
fn the_summary_is_for_people_and_json_for_machines() {
    for fault in [Fault::None, Fault::Error] {
        let tracker = Tracker::udp(fault);
        let arguments = format!(
            "udp://{} --warm-up 0 --duration 0.05 --timeout 20000 --info-hashes 10 --peers 100 --skew 1.1",
            tracker.address
        );
        let code = if fault == Fault::None { 0 } else { 3 };
        let output = tester(&arguments);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in ["p50 ", "p90 ", "p99 ", "p99.9 ", "max ", " lost, "] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(said.contains("INVALID"), fault == Fault::Error, "{said}");
        assert_eq!(said.contains("not today"), fault == Fault::Error, "{said}");
        assert!(output.stderr.is_empty(), "no bar where no terminal is");

        let output = tester(&format!("{arguments} --json"));
        assert_eq!(output.status.code(), Some(code));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["replies"].as_u64() > Some(0), "{report}");
        for name in ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"] {
            assert!(report["latency"][name].is_number(), "{report}");
        }
        let invalid = report["invalid"].as_array().unwrap();
        assert_eq!(invalid.is_empty(), fault == Fault::None, "{report}");
    }
}

#[test]
fn a_report_that_cannot_be_printed_is_no_panic() {
    let tracker = Tracker::udp(Fault::None);
    let target = format!("udp://{}", tracker.address);
    let run = |out: Stdio| {
        Command::new(env!("CARGO_BIN_EXE_karuta-load-tester"))
            .args([&target, "--warm-up=0", "--duration=0.02", "--timeout=20000"])
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = run(Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));

    let full = std::fs::File::create("/dev/full").unwrap();
    let output = run(full.into()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.starts_with("error: cannot print the report: "),
        "{said}"
    );
}

#[test]
fn an_interrupted_run_still_reports_and_says_so() {
    let tracker = Tracker::udp(Fault::None);
    let child = Command::new(env!("CARGO_BIN_EXE_karuta-load-tester"))
        .arg(format!("udp://{}", tracker.address))
        .args(["--warm-up=0", "--duration=1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while tracker.announces() < 100 {
        std::thread::yield_now();
    }
    karuta_load_tester::sys::signal(child.id(), 2).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("INVALID") && said.contains("interrupted"),
        "{said}"
    );
    assert!(!said.contains("measured for 1000"), "{said}");
}

#[test]
fn the_info_hashes_that_are_written_are_those_that_are_sent() {
    let path = std::env::temp_dir().join(format!("karuta-hashes-{}", std::process::id()));
    let tracker = Tracker::udp(Fault::None);
    let arguments = format!(
        "--write-info-hashes {} --info-hashes 300 --seed 5",
        path.display()
    );
    let output = tester(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(written.ends_with('\n'));
    let written: HashSet<String> = written.lines().map(str::to_owned).collect();
    assert_eq!(written.len(), 300);

    let output = tester(&format!(
        "udp://{} --fill 300 --fill-shape one-each --timeout 20000 --info-hashes 300 --seed 5",
        tracker.address
    ));
    assert!(output.status.success(), "{}", text(&output.stdout));
    let hex = |hash: Vec<u8>| hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let sent: HashSet<String> = tracker
        .seen()
        .into_iter()
        .map(|(hash, ..)| hex(hash))
        .collect();
    assert_eq!(written, sent);
    assert_eq!(tracker.announces(), 300);

    for mistake in ["--info-hashes 0", "127.0.0.1:1"] {
        let output = tester(&format!("{mistake} --write-info-hashes {}", path.display()));
        assert_eq!(output.status.code(), Some(2), "{mistake}");
        assert!(!path.exists(), "{mistake}");
    }

    let output = tester("--write-info-hashes /nonexistent/file");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot write /nonexistent/file: "), "{said}");
}
