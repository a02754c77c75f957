//! The program as its users start it: options, output and exit codes.

use karuta::config::Config;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A file that is there until the test ends.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("karuta-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("create");
        file.write_all(text.as_bytes()).expect("write");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn karuta(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_karuta"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("RUST_LOG_STYLE")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn check_prints_the_effective_configuration() {
    let output = karuta(&["--check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), Config::default().to_yaml());
    assert_eq!(text(&output.stderr), "");

    let file = TempFile::new("check.yaml", "udp: {private_key: hunter2hunter2hunter2}\n");
    let output = karuta(&["--check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    assert!(printed.contains("http: null\n"), "{printed}");
    assert!(printed.contains("# (set)"), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn a_bad_configuration_ends_with_2_and_one_line_for_each_mistake() {
    let file = TempFile::new("bad.yaml", "udp: {}\nanounce_interval: 5m\nshards: x\n");
    for arguments in [
        &["--config", file.path()][..],
        &["--check", "--config", file.path()],
    ] {
        let output = karuta(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(text(&output.stdout), "");
        let lines: Vec<&str> = text(&output.stderr).lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(
            lines[0],
            format!(
                "{}:2:1: unknown key \"anounce_interval\"; did you mean \"announce_interval\"?",
                file.path()
            )
        );
    }
    let output = karuta(&["--config", "/nonexistent/karuta.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("/nonexistent/karuta.yaml: cannot be read"),
        "{error}"
    );
}

#[test]
fn a_bad_command_line_ends_with_2() {
    for arguments in [&["--nonsense"][..], &["--config"], &["file.yaml"]] {
        let output = karuta(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn opentrackers_file_and_flags_are_configurations() {
    let file = TempFile::new(
        "ot.conf",
        "listen.udp.workers 4\nlisten.tcp_udp 127.0.0.1:7000\n",
    );
    let output = karuta(&["import-opentracker", file.path()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let imported = TempFile::new("imported.yaml", text(&output.stdout));
    let own = karuta(&["--check", "--config", imported.path()]);
    assert_eq!(own.status.code(), Some(0), "{own:?}");
    assert!(text(&own.stdout).contains("addr: 127.0.0.1:7000\n"));

    // The file itself comes to the same, as far as it does not matter who
    // starts it, and says what it does not do.
    let output = karuta(&["--check", "--opentracker", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let settings = |output: &Output| {
        let lines = text(&output.stdout).lines();
        let lines = lines.filter(|line| !line.starts_with("user:"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(settings(&output), settings(&own));
    let place = format!("{}:1: listen.udp.workers: has no equivalent", file.path());
    assert!(text(&output.stderr).contains(&place), "{output:?}");

    let flags = [
        "--check",
        "opentracker",
        "-i",
        "127.0.0.1",
        "-p7000",
        "-P",
        "7000",
    ];
    assert_eq!(settings(&karuta(&flags)), settings(&own));
    let closed = karuta(&["--closed", "--check", "opentracker", "-p", "7000"]);
    assert!(text(&closed.stdout).contains("whitelist: []"), "{closed:?}");

    let help = karuta(&["opentracker", "-h"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).starts_with("Usage: karuta opentracker"));
    for bad in [
        &["opentracker", "-x"][..],
        &["opentracker", "-p", "http"],
        &["--opentracker", "/nonexistent/ot.conf"],
        &["import-opentracker", "/nonexistent/ot.conf"],
        &["import-opentracker"],
        &["--opentracker", "a", "--config", "b"],
    ] {
        let output = karuta(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    let output = karuta(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = format!("karuta {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&output.stdout), expected);
    let output = karuta(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for option in [
        "--config <FILE>",
        "--check",
        "--debug",
        "--json",
        "--nocolors",
    ] {
        assert!(text(&output.stdout).contains(option), "{option}");
    }
}

#[test]
fn warnings_are_logged_as_lines_or_as_json() {
    let file = TempFile::new(
        "warn.yaml",
        "udp: {}\nstorage: {config: {peer_lifetime: 5m, shard_count: 4}}\n",
    );
    let output = karuta(&["--check", "--config", file.path()]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("INFO") && lines[0].contains("shard_count is ignored"));
    assert!(lines[1].contains("WARN") && lines[1].contains("peer_lifetime (5m) is shorter"));
    // Not a terminal, so no colours.
    assert!(!text(&output.stderr).contains('\u{1b}'));

    let output = karuta(&["--json", "--check", "--config", file.path()]);
    let lines: Vec<serde_json::Value> = text(&output.stderr)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[1]["level"], "warn");
    for line in &lines {
        let keys: Vec<&String> = line.as_object().expect("object").keys().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        // RFC 3339 in UTC, as in 2026-01-02T03:04:05.678Z.
        let time = line["time"].as_str().expect("text");
        assert!(
            time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T",
            "{time}"
        );
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }
}

#[test]
fn rust_log_overrides_the_level() {
    let file = TempFile::new(
        "level.yaml",
        "udp: {}\nstorage: {config: {shard_count: 4}}\n",
    );
    let output = Command::new(env!("CARGO_BIN_EXE_karuta"))
        .args(["--debug", "--check", "--config", file.path()])
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}
