//! Giving up root (`user`, `group`, `chroot`), seen from outside: what the
//! kernel says of the process and its threads, and that it serves.
//!
//! Needs root; says so and passes without it.

mod support;

use karuta::bittorrent::AddressFamily;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::program::{Folder, Program, program};
use support::{Announce, Udp, hash};

/// A user and a group that no list of users needs to have.
const USER: u32 = 65_123;
const GROUP: u32 = 65_321;

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let root = status.contains("Uid:\t0\t0\t0\t0");
    if !root {
        println!("skipped: only root can give up root");
    }
    root
}

/// A port below 1024 that was free a moment ago.
fn low_port() -> u16 {
    let free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
    };
    let first = 512 + (std::process::id() % 256) as u16;
    (first..1024).find(free).expect("a free port below 1024")
}

/// What the kernel says of a process or thread: one line for each key.
fn status(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join("status")).expect("status");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| (key.to_owned(), value.trim().replace('\t', " ")))
        .collect()
}

/// Asserts that every thread of a process is this user and can do nothing.
fn is_nobody(id: u32, user: u32, group: u32, groups: &str) {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("threads");
    let mut threads = 0;
    for task in tasks {
        let status = status(&task.expect("a thread").path());
        let name = &status["Name"];
        assert_eq!(
            status["Uid"],
            [user; 4].map(|id| id.to_string()).join(" "),
            "{name}"
        );
        assert_eq!(
            status["Gid"],
            [group; 4].map(|id| id.to_string()).join(" "),
            "{name}"
        );
        assert_eq!(status["Groups"], groups, "{name}");
        for set in ["CapEff", "CapPrm", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {name}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        threads += 1;
    }
    let own = fs::metadata(format!("/proc/{id}/fd")).expect("its files");
    assert_eq!(own.uid(), user, "it may see what it has open");
    // The main thread, two shards, signals and metrics.
    assert!(threads >= 4, "{threads}");
}

fn announces_are_answered(program: &Program) {
    let mut client = Udp::new(program.udp);
    let reply = client.announce(&Announce::seeder(hash(1), 7));
    assert_eq!(reply.counts(), (1, 0));
    let target = Announce::leecher(hash(1), 8).target();
    let reply = support::get(program.http, &target).announced(AddressFamily::V4);
    assert_eq!(reply.ports(), [7]);
    assert_eq!(support::get(program.metrics, "/metrics").status, 200);
}

#[test]
fn root_is_given_up_after_a_low_port_is_bound() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let port = low_port();
    let config = folder.file(
        "karuta.yaml",
        &format!(
            "shards: 2\nmetrics_addr: 127.0.0.1:0\nuser: '{USER}'\ngroup: '{GROUP}'\n\
             udp: {{addr: '127.0.0.1:{port}'}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        ),
    );
    let mut process = Program::start(program().arg("--config").arg(config));
    assert_eq!((process.udp.port(), process.http.port()), (port, port));
    is_nobody(process.id(), USER, GROUP, &GROUP.to_string());
    announces_are_answered(&process);
    process.signal("TERM");
    let (status, log) = process.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let word = format!("runs as {USER} (user {USER}, group {GROUP})");
    assert!(log.contains(&word), "{log}");
}

#[test]
fn a_user_by_name_has_its_own_groups() {
    if !is_root() {
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("users");
    let nobody = passwd.lines().find(|line| line.starts_with("nobody:"));
    let Some(nobody) = nobody else {
        println!("skipped: this host has no user nobody");
        return;
    };
    let fields: Vec<u32> = nobody
        .split(':')
        .filter_map(|part| part.parse().ok())
        .collect();
    let [uid, gid] = fields[..] else {
        panic!("{nobody}");
    };
    let folder = Folder::new();
    let config = folder.file(
        "karuta.yaml",
        "shards: 2\nmetrics_addr: 127.0.0.1:0\nuser: nobody\n\
         udp: {addr: '127.0.0.1:0'}\nhttp: {addr: '127.0.0.1:0'}\n",
    );
    let process = Program::start(program().arg("--config").arg(config));
    is_nobody(process.id(), uid, gid, &gid.to_string());
}

#[test]
fn below_a_new_root_it_serves_and_reads_its_lists() {
    if !is_root() {
        return;
    }
    let (folder, outside) = (Folder::new(), Folder::new());
    let text: String = hash(1).iter().map(|byte| format!("{byte:02x}")).collect();
    folder.file("allowed", &format!("{text}\n"));
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(["t.test".to_owned()]).expect("names");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    folder.file("certificate.pem", &certificate.pem());
    let key = folder.file("key.pem", &key.serialize_pem());
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("a folder");
    chown(&state, Some(USER), Some(GROUP)).expect("chown");
    let config = outside.file(
        "karuta.yaml",
        &format!(
            "state_file: /state/karuta\nshards: 2\nmetrics_addr: 127.0.0.1:0\nuser: '{USER}'\ngroup: '{GROUP}'\nchroot: {}\n\
             udp: {{addr: '127.0.0.1:0'}}\nhttp:\n  addr: '127.0.0.1:0'\n  \
             https_addr: '127.0.0.1:0'\n  tls_cert_path: /certificate.pem\n  \
             tls_key_path: /key.pem\n\
             prehooks:\n- name: torrent approval\n  options: {{whitelist_file: /allowed}}\n",
            folder.path().display()
        ),
    );
    let mut process = Program::start(program().arg("--config").arg(&config));
    is_nobody(process.id(), USER, GROUP, &GROUP.to_string());
    for link in ["root", "cwd"] {
        let link = fs::read_link(format!("/proc/{}/{link}", process.id())).expect("a link");
        assert_eq!(link, folder.path().canonicalize().expect("a path"));
    }
    announces_are_answered(&process);
    let other = Announce::leecher(hash(2), 8).target();
    assert_eq!(
        support::get(process.http, &other).failure(),
        "unapproved torrent"
    );
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
    let saved = fs::metadata(state.join("karuta")).expect("its state");
    assert_eq!(saved.uid(), USER);

    // Paths are below the new root, and read as the user, from the first time on.
    let refused = |word: &str| {
        let output = program().arg("--config").arg(&config).output();
        let output = output.expect("it ran");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(word), "{said}");
    };
    folder.open(&key, 0o600);
    refused("/key.pem");
    folder.open(&key, 0o644);
    fs::remove_file(folder.path().join("allowed")).expect("remove");
    refused("/allowed");
}

#[test]
fn what_cannot_be_become_is_said() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    // Others must be able to execute it.
    let copy = folder.path().join("karuta");
    fs::copy(env!("CARGO_BIN_EXE_karuta"), &copy).expect("a copy");
    folder.open(&copy, 0o755);
    let refused = |keys: &str, by: Option<u32>| {
        let text = format!("shards: 1\nmetrics_addr: ''\nudp: {{addr: '127.0.0.1:0'}}\n{keys}\n");
        let config = folder.file("karuta.yaml", &text);
        let mut command = Command::new(&copy);
        command.arg("--config").arg(config);
        if let Some(user) = by {
            command.uid(user).gid(user);
        }
        let output = command.output().expect("it ran");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains(" WARN "))
            .collect();
        assert_eq!(lines.len(), 1, "{said}");
        lines[0].to_owned()
    };
    let error = refused("user: no-such-user", None);
    assert!(
        error.contains("user: there is no user \"no-such-user\""),
        "{error}"
    );
    let error = refused("chroot: /nonexistent", None);
    assert!(
        error.contains("chroot: cannot make /nonexistent the root"),
        "{error}"
    );
    let error = refused("user: root", Some(USER));
    assert!(
        error.contains("user: only root can become \"root\""),
        "{error}"
    );
    let error = refused("chroot: /", Some(USER));
    assert!(error.contains("only root may"), "{error}");
}

/// Name, scheduling policy and real-time priority of each thread (fields 41 and
/// 40 of `/proc/PID/task/TID/stat`).
fn policies(id: u32) -> Vec<(String, [u32; 2])> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("threads");
    let of = |task: std::io::Result<fs::DirEntry>| {
        // A thread may end meanwhile.
        let line = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = line.rsplit_once(')').expect("a name");
        let (_, name) = name.split_once('(').expect("a name");
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields[number - 3].parse().expect("a number");
        Some((name.to_owned(), [field(41), field(40)]))
    };
    tasks.filter_map(of).collect()
}

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;

/// Whether this process has a capability, by its number.
fn has_capability(number: u32) -> bool {
    let effective = &status(Path::new("/proc/self"))["CapEff"];
    u64::from_str_radix(effective, 16).expect("a number") >> number & 1 == 1
}

const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;

/// Whether the limit on real-time priorities lets everybody have this one.
fn is_open(priority: u32) -> bool {
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max realtime priority"));
    let hard = line
        .and_then(|line| line.split_whitespace().nth(4))
        .expect("a limit");
    hard.parse().map_or(true, |hard: u32| hard >= priority)
}

/// Starts a tracker of one shard that wants a real-time priority, and asserts
/// whether it has it; the other threads never do.
fn wants_priority(user: &str, expected: bool, change: impl Fn(&mut Command)) {
    let folder = Folder::new();
    let config = folder.file(
        "karuta.yaml",
        &format!(
            "{user}shards: 1\nmetrics_addr: 127.0.0.1:0\nrealtime_priority: 7\n\
             udp: {{addr: '127.0.0.1:0'}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
        ),
    );
    let mut command = program();
    change(command.arg("--config").arg(config));
    let mut process = Program::start(&mut command);
    // An answer shows that the shard has begun.
    announces_are_answered(&process);
    let (first, rest): (Vec<_>, Vec<_>) = policies(process.id())
        .into_iter()
        .partition(|(_, policy)| *policy == [SCHED_FIFO, 7]);
    // What glommio starts for a shard has its name, too.
    let is_usual = |(_, policy): &(String, [u32; 2])| *policy == [SCHED_OTHER, 0];
    assert!(rest.len() > 1 && rest.iter().all(is_usual), "{rest:?}");
    process.signal("TERM");
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
    let refused =
        log.contains("realtime_priority: a shard cannot have 7") && log.contains("ulimit -r");
    assert_eq!(
        (first.len(), refused),
        (usize::from(expected), !expected),
        "{log}"
    );
    assert!(
        first.iter().all(|(name, _)| name.starts_with("shard-")),
        "{first:?}"
    );
}

#[test]
fn shards_have_the_priority_that_they_may() {
    if !is_root() {
        return;
    }
    let raised = has_capability(CAP_SYS_RESOURCE) || is_open(7);
    wants_priority("", has_capability(CAP_SYS_NICE) || raised, |_| ());
    // Who gives up root has raised the limit before.
    let user = format!("user: '{USER}'\ngroup: '{GROUP}'\n");
    wants_priority(&user, raised, |_| ());
    // Nobody may, and is told what to do; the tracker serves all the same.
    wants_priority("", is_open(7), |command| {
        command.uid(USER).gid(GROUP);
    });
}
