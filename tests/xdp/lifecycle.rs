//! How it starts and fails to start, reloads, and leaves an interface as it was.

use super::network::{CLIENT_V4, CLIENT_V6, Network, SERVER_V4, SERVER_V6};
use super::tracker::{ADDRESSES, Tracker, config, copy_for_all, usual};
use crate::support::program::Folder;
use crate::support::{Announce, Udp, hash, word};
use std::fs;
use std::net::SocketAddr;
use std::process::Output;

/// A user that no list of users needs to have.
const USER: &str = "65123";

fn client(tracker: &Tracker) -> Udp {
    tracker.client(CLIENT_V4, SocketAddr::new(SERVER_V4, 6969))
}

/// Both families are answered past the stack.
fn serves(tracker: &Tracker) {
    let (before, _) = tracker.metrics().listener("xs0");
    for (from, to) in [(CLIENT_V4, SERVER_V4), (CLIENT_V6, SERVER_V6)] {
        let mut client = tracker.client(from, SocketAddr::new(to, 6969));
        let reply = client.announce(&Announce::seeder(hash(1), 1));
        assert_eq!(reply.counts(), (1, 0));
    }
    tracker.counted("xs0", before + 4);
    tracker.sockets_are_idle();
}

/// Asserts the exit code and one line with all of these words.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains(" WARN ") && !line.contains(" INFO "))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    for word in words {
        assert!(lines[0].contains(word), "{word}: {said}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn the_interface_is_left_as_it_was() {
    let network = Network::new();
    let attached = || network.server.attached("xs0");
    assert_eq!(attached(), None);
    for mode in ["driver", "generic"] {
        for signal in ["TERM", "INT", "KILL", "TERM"] {
            let tracker = Tracker::start(&network, &usual(2, mode));
            assert!(attached().is_some());
            serves(&tracker);
            tracker.end(signal);
            assert_eq!(attached(), None);
        }
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn what_has_come_when_it_stops_is_answered() {
    let network = Network::new();
    for signal in ["TERM", "INT", "TERM"] {
        let tracker = Tracker::start(&network, &usual(2, "driver"));
        let client = client(&tracker);
        // Half of them belong to the other shard.
        for number in 0..100 {
            client.send(&Announce::leecher(hash(number), 1).packet(client.id, number));
        }
        tracker.program.signal(signal);
        for _ in 0..100 {
            assert_eq!(word(&client.receive(), 0), 1);
        }
        tracker.ended(Some(0));
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn a_second_tracker_does_not_take_the_interface() {
    let network = Network::new();
    for (first, second) in [
        ("driver", "driver"),
        ("driver", "generic"),
        ("driver", "auto"),
        ("generic", "driver"),
        ("generic", "generic"),
        ("generic", "auto"),
    ] {
        let tracker = Tracker::start(&network, &usual(1, first));
        let attached = network.server.attached("xs0");
        // Elsewhere but for the interface.
        let other = usual(1, second).replace("69", "79");
        let output = Tracker::fail(&network, &other);
        refused(&output, 1, &["udp.xdp_interfaces", "xs0"]);
        assert_eq!(network.server.attached("xs0"), attached);
        serves(&tracker);
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn root_is_given_up_with_the_interface_in_hand() {
    let network = Network::new();
    for mode in ["driver", "generic"] {
        let config = format!("user: '{USER}'\ngroup: '{USER}'\n{}", usual(2, mode));
        let tracker = Tracker::start(&network, &config);
        let status = fs::read_to_string(format!("/proc/{}/status", tracker.program.id()));
        let status = status.expect("its status");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        serves(&tracker);
        tracker.end("TERM");
    }
}

/// As the systemd unit starts it. CAP_IPC_LOCK stands in for a limit on locked
/// memory that is high enough, and is left alone.
#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn capabilities_are_dropped_once_all_is_open() {
    let network = Network::new();
    let needed = "+net_admin,+net_raw,+bpf,+ipc_lock";
    let tracker = Tracker::start_as_nobody(&network, needed, &usual(1, "driver"));
    let status = fs::read_to_string(format!("/proc/{}/status", tracker.program.id()));
    let status = status.expect("its status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000004000\n")),
            "{status}"
        );
    }
    serves(&tracker);
    tracker.end("TERM");
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn a_reload_leaves_the_interface_alone() {
    let network = Network::new();
    network.second_cable();
    let tracker = Tracker::start(&network, &usual(1, "driver"));
    let attached = || ["xs0", "xs1"].map(|name| network.server.attached(name));
    let before = attached();
    let mut client = client(&tracker);
    let mut interval = || client.announce(&Announce::leecher(hash(2), 1)).interval;
    assert_eq!(interval(), 1800);
    let keys = format!("addr: {ADDRESSES}\nxdp_interfaces: [xs1]\nxdp_mode: generic");
    tracker.rewrite(&format!("announce_interval: 20m\n{}", config(1, &keys)));
    tracker.program.signal("USR1");
    tracker.reaches("a reload", 1, |metrics| metrics.reloads());
    assert_eq!(interval(), 1200);
    assert_eq!(attached(), before);
    serves(&tracker);
    let log = tracker.end("TERM");
    let warning = log.lines().find(|line| line.contains("only a restart"));
    let warning = warning.expect("a warning");
    for word in ["udp.xdp_interfaces", "udp.xdp_mode", "left as at the start"] {
        assert!(warning.contains(word), "{word}: {log}");
    }
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn replies_fit_into_a_frame_whatever_a_reload_allows() {
    let network = Network::new();
    let keys = |bytes| {
        let keys = format!("addr: {ADDRESSES}\nxdp_interfaces: [xs0]\nmax_numwant: 2000");
        format!("{keys}\nmax_packet_bytes_ipv4: {bytes}")
    };
    let tracker = Tracker::start(&network, &config(2, &keys(1452)));
    let mut client = client(&tracker);
    // Some of each shard.
    let hashes = || (0..6).map(hash);
    for hash in hashes() {
        for port in 1..=250 {
            client.announce(&Announce::leecher(hash, port));
        }
    }
    let mut each_has = |peers: usize| {
        for hash in hashes() {
            let reply = client.announce(&Announce::leecher(hash, 1).want(2000));
            assert_eq!(reply.peers.len(), peers);
        }
    };
    each_has((1452 - 20) / 6);
    tracker.rewrite(&config(2, &keys(4000)));
    tracker.program.signal("USR1");
    tracker.reaches("a reload", 1, |metrics| metrics.reloads());
    each_has((1472 - 20) / 6);
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn what_cannot_be_taken_is_said() {
    let network = Network::new();
    let on = |interfaces: &str| {
        let keys = format!("addr: {ADDRESSES}\nxdp_interfaces: {interfaces}");
        Tracker::fail(&network, &config(1, &keys))
    };
    let missing = [
        "udp.xdp_interfaces: nope: there is no interface",
        "`ip link`",
    ];
    refused(&on("nope"), 1, &missing);
    // What was taken before is given back.
    refused(&on("[xs0, nope]"), 1, &missing);
    assert_eq!(network.server.attached("xs0"), None);
    refused(&on("[xs0, lo]"), 2, &["udp.xdp_interfaces", "loopback"]);
    let output = Tracker::fail(&network, &usual(1, "fast"));
    refused(&output, 2, &["xdp_mode", "driver", "generic"]);
    // A frame carries 1472 bytes over IPv4, 1452 over IPv6.
    for (key, bytes) in [
        ("max_packet_bytes_ipv4", 1472),
        ("max_packet_bytes_ipv6", 1452),
    ] {
        let keys = |bytes| format!("addr: {ADDRESSES}\nxdp_interfaces: xs0\n{key}: {bytes}");
        let output = Tracker::fail(&network, &config(1, &keys(bytes + 1)));
        refused(&output, 1, &[key, "xs0", &bytes.to_string()]);
        serves(&Tracker::start(&network, &config(1, &keys(bytes))));
    }
    serves(&Tracker::start(&network, &usual(1, "auto")));
}

#[test]
#[ignore = "needs root and network namespaces; .ci/run runs it"]
fn a_missing_privilege_is_named() {
    let network = Network::new();
    let folder = Folder::new();
    let copy = copy_for_all(&folder);
    for mode in ["auto", "driver", "generic"] {
        let file = folder.file("karuta.yaml", &usual(1, mode));
        let words = [
            "timeout",
            "20",
            "setpriv",
            "--reuid=nobody",
            "--clear-groups",
        ];
        let mut command = network.server.command(words);
        command.arg(&copy).arg("--config").arg(file);
        let output = command.output().expect("setpriv");
        refused(&output, 1, &["xs0", "CAP_NET_ADMIN"]);
        assert_eq!(network.server.attached("xs0"), None);
    }
}
