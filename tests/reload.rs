//! Reload: every key that can change does, what cannot is named, and a bad
//! file changes nothing. That nothing is lost by one is in
//! `reload_under_load.rs`.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::{Config, HttpConfig, Secret, UdpConfig};
use karuta::server::{ConfigSource, Reach, Report, keys};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use support::{
    Announce, Http, Response, STOPPED, Server, Udp, field, get, hash, scrape_target, until,
};

const FAMILY: AddressFamily = AddressFamily::V4;

/// Reloads the default configuration of tests but for one change.
fn reload(server: &Server, change: impl FnOnce(&mut Config)) -> Report {
    let mut config = support::config(server.shards());
    change(&mut config);
    server.reload(&config).expect("valid")
}

fn udp(config: &mut Config) -> &mut UdpConfig {
    config.udp.as_mut().expect("udp")
}

fn http(config: &mut Config) -> &mut HttpConfig {
    config.http.as_mut().expect("http")
}

/// The hooks of a file with this line.
fn hooks(config: &mut Config, line: &str) {
    let parsed = Config::parse(&format!("udp: {{}}\n{line}\n"), "f").expect("valid");
    config.prehooks = parsed.prehooks;
    config.posthooks = parsed.posthooks;
}

#[test]
fn intervals_change() {
    let server = Server::start(&support::config(2));
    let mut client = Udp::new(server.udp(FAMILY));
    let mut intervals = |number| {
        let announce = Announce::leecher(hash(number), 1);
        let response = get(server.http(FAMILY), &announce.target()).bencode();
        let response = response.dictionary();
        (
            client.announce(&announce).interval,
            response[&b"interval"[..]].number(),
            response[&b"min interval"[..]].number(),
        )
    };
    assert_eq!(intervals(1), (1800, 1800, 900));
    let report = reload(&server, |config| {
        config.announce_interval = Duration::from_secs(100);
        config.min_announce_interval = Duration::from_secs(50);
    });
    assert_eq!(
        report.changed,
        ["announce_interval", "min_announce_interval"]
    );
    for number in 1..9 {
        assert_eq!(intervals(number), (100, 100, 50));
    }
}

#[test]
fn how_much_is_answered_changes() {
    let server = Server::start(&support::config(1));
    let mut client = Udp::new(server.udp(FAMILY));
    for port in 1..=101 {
        client.announce(&Announce::leecher(hash(1), port));
    }
    let asking = Announce::leecher(hash(1), 1);
    let hashes: Vec<_> = (0..50).map(hash).collect();
    let mut counts = || {
        let over_udp = |client: &mut Udp, want| {
            let reply = client.announce(&asking.clone().want(want));
            reply.peers.len()
        };
        let over_http = |want| {
            let response = get(server.http(FAMILY), &asking.clone().want(want).target());
            response.announced(FAMILY).peers.len()
        };
        let scraped = get(server.http(FAMILY), &scrape_target(&hashes));
        let scraped = match scraped.bencode().dictionary().contains_key(&b"files"[..]) {
            true => scraped.scraped().len(),
            false => 0,
        };
        [
            over_udp(&mut client, -1),
            over_udp(&mut client, 500),
            client.scrape(&hashes).len(),
            over_http(-1),
            over_http(500),
            scraped,
        ]
    };
    assert_eq!(counts(), [50, 100, 50, 50, 100, 50]);
    reload(&server, |config| {
        udp(config).default_numwant = 3;
        udp(config).max_numwant = 7;
        udp(config).max_scrape_infohashes = 5;
        http(config).default_numwant = 4;
        http(config).max_numwant = 8;
        http(config).max_scrape_infohashes = 6;
    });
    assert_eq!(counts()[..5], [3, 7, 5, 4, 8]);
    assert!(counts()[5] <= 6);
    // What fits into a packet, of either family.
    let mut wide = Udp::new(server.udp(AddressFamily::V6));
    for port in 1..=101 {
        wide.announce(&Announce::leecher(hash(1), port));
    }
    let report = reload(&server, |config| {
        udp(config).max_packet_bytes_ipv4 = 608;
        udp(config).max_packet_bytes_ipv6 = 20 + 18 * 30;
    });
    assert!(report.changed.contains(&"udp.max_packet_bytes_ipv4"));
    assert_eq!(client.announce(&asking.clone().want(500)).peers.len(), 98);
    assert_eq!(wide.announce(&asking.clone().want(500)).peers.len(), 30);
    reload(&server, |_| {});
    assert_eq!(client.announce(&asking.clone().want(500)).peers.len(), 100);
    assert_eq!(wide.announce(&asking.want(500)).peers.len(), 67);
}

#[test]
fn whose_word_on_addresses_counts_changes() {
    let server = Server::start(&support::config(1));
    let to = server.http(FAMILY);
    let mut client = Udp::new(server.udp(FAMILY));
    // Each asks with another torrent; who asks next sees who asked before.
    let mut seen = |torrent| {
        let hash = hash(torrent);
        let mut spoofer = Announce::leecher(hash, 1);
        spoofer.ip = [203, 0, 113, 1].into();
        client.announce(&spoofer);
        let target = Announce::leecher(hash, 2).target();
        get(to, &format!("{target}&ip=203.0.113.2"));
        let target = Announce::leecher(hash, 3).target();
        let mut proxy = Http::connect(to);
        proxy.send(format!(
            "GET {target} HTTP/1.1\r\nHost: t\r\nX-Real-IP: 203.0.113.3\r\n\r\n"
        ));
        let response = proxy.response();
        let knows = response.bencode().dictionary();
        let reply = client.announce(&Announce::leecher(hash, 4));
        let mut peers: Vec<String> = reply.peers.iter().map(SocketAddr::to_string).collect();
        peers.sort();
        (peers, knows.contains_key(&b"external ip"[..]))
    };
    let own = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
    assert_eq!(seen(1), (own.to_vec(), false));
    reload(&server, |config| {
        udp(config).allow_ip_spoofing = true;
        http(config).allow_ip_spoofing = true;
        http(config).external_ip = true;
    });
    let claimed = ["127.0.0.1:3", "203.0.113.1:1", "203.0.113.2:2"].map(str::to_owned);
    assert_eq!(seen(2), (claimed.to_vec(), true));
    let report = reload(&server, |config| {
        http(config).real_ip_header = "X-Real-IP".to_owned();
    });
    assert_eq!(
        report.changed.iter().collect::<BTreeSet<_>>(),
        [
            "http.allow_ip_spoofing",
            "http.external_ip",
            "http.real_ip_header",
            "udp.allow_ip_spoofing"
        ]
        .iter()
        .collect()
    );
    let (peers, is_told) = seen(3);
    assert!(peers.contains(&"127.0.0.1:1".to_owned()), "{peers:?}");
    assert!(peers.contains(&"203.0.113.3:3".to_owned()), "{peers:?}");
    assert!(!peers.contains(&"203.0.113.2:2".to_owned()), "{peers:?}");
    assert!(!is_told);
}

#[test]
fn routes_change() {
    let server = Server::start(&support::config(1));
    let status = |path: &str| {
        let target = Announce::leecher(hash(1), 1).target();
        get(server.http(FAMILY), &target.replace("/announce", path)).status
    };
    let scrape = |path: &str| {
        let target = scrape_target(&[hash(1)]).replace("/scrape", path);
        get(server.http(FAMILY), &target).status
    };
    assert_eq!([status("/announce"), status("/a/:key")], [200, 404]);
    assert_eq!([scrape("/scrape"), scrape("/s")], [200, 404]);
    reload(&server, |config| {
        http(config).announce_routes = vec!["/a/:key".to_owned()];
        http(config).scrape_routes = vec!["/s".to_owned()];
    });
    assert_eq!([status("/announce"), status("/a/abc")], [404, 200]);
    assert_eq!([scrape("/scrape"), scrape("/s")], [404, 200]);
    reload(&server, |config| http(config).scrape_routes.clear());
    assert_eq!([scrape("/scrape"), scrape("/s")], [404, 404]);
}

#[test]
fn what_connections_may_do_changes() {
    let hour = Duration::from_secs(3600);
    let patient = |config: &mut Config| {
        http(config).read_timeout = hour;
        http(config).idle_timeout = hour;
        http(config).enable_keepalive = true;
    };
    let mut config = support::config(1);
    patient(&mut config);
    let server = Server::start(&config);
    let to = server.http(FAMILY);
    let mut kept = Http::connect(to);
    assert_eq!(kept.get("/").status, 200);
    let mut silent = Http::connect(to);

    let long = format!("/{}", "x".repeat(2000));
    assert_eq!(get(to, &long).status, 404);
    reload(&server, |config| {
        patient(config);
        http(config).max_request_bytes = 1024;
    });
    assert_ne!(get(to, &long).status, 404);

    reload(&server, |config| {
        patient(config);
        http(config).max_connections = 2;
    });
    // Two are open. Those above are closed by now or will be.
    until("the limit", || Http::connect(to).gone());
    reload(&server, patient);
    assert_eq!(get(to, "/").status, 200);

    // Those that were there keep the time that they were given.
    reload(&server, |config| {
        patient(config);
        http(config).read_timeout = Duration::from_millis(1);
    });
    assert!(Http::connect(to).gone());
    assert_eq!(silent.get("/").status, 200);
    reload(&server, |config| {
        patient(config);
        http(config).idle_timeout = Duration::from_millis(1);
    });
    let mut idle = Http::connect(to);
    assert_eq!(idle.get("/").status, 200);
    assert!(idle.gone());

    reload(&server, |config| {
        patient(config);
        http(config).enable_keepalive = false;
    });
    let last = kept.get("/");
    assert_eq!(
        (last.status, field(&last.head, "Connection")),
        (200, Some("close"))
    );
    kept.closed();
}

#[test]
fn caps_change() {
    let server = Server::start(&support::config(1));
    let mut client = Udp::new(server.udp(FAMILY));
    let mut leechers = |torrent, port, event| {
        let announce = Announce::leecher(hash(torrent), port).event(event);
        client.announce(&announce);
        client.scrape(&[hash(torrent)])[0].2
    };
    for port in 1..=3 {
        assert_eq!(leechers(1, port, 0), u32::from(port));
    }
    reload(&server, |config| config.storage.config.max_peers = 2);
    assert_eq!(leechers(1, 4, 0), 3, "nobody goes, and nobody comes");
    assert_eq!(leechers(1, 2, 0), 3, "who is there is still answered");
    assert_eq!(server.peers_not_stored(), 1);
    reload(&server, |config| config.storage.config.max_peers = 4);
    assert_eq!(leechers(1, 4, 0), 4);
    assert_eq!(leechers(1, 5, 0), 4);
    assert_eq!(leechers(1, 4, STOPPED), 3);
    assert_eq!(leechers(1, 5, 0), 4);
    reload(&server, |config| config.storage.config.max_swarms = 1);
    assert_eq!(leechers(2, 1, 0), 0);
    assert_eq!(server.swarms_not_stored(), 1);
    let report = reload(&server, |_| {});
    assert_eq!(report.changed, ["storage.config.max_swarms"]);
    assert_eq!(leechers(2, 1, 0), 1);
}

#[test]
fn connection_ids_change_with_the_key_and_only_with_it() {
    let server = Server::start(&support::config(2));
    let mut client = Udp::new(server.udp(FAMILY));
    let announce = Announce::leecher(hash(1), 1);
    let first = client.id;
    reload(&server, |config| {
        udp(config).max_clock_skew = Duration::from_secs(60)
    });
    assert_eq!(client.announce(&announce).interval, 1800);
    let report = reload(&server, |config| {
        udp(config).private_key = Secret::new("another key of some length");
    });
    assert!(report.changed.contains(&"udp.private_key"));
    for number in 0..8 {
        let text = client.error(&Announce::leecher(hash(number), 1).packet(first, 1));
        assert!(text.to_lowercase().contains("connection id"), "{text}");
    }
    client.id = client.connect();
    assert_eq!(client.announce(&announce).interval, 1800);
    // Without a key: the one that was drawn at the start.
    reload(&server, |_| {});
    client.id = first;
    assert_eq!(client.announce(&announce).interval, 1800);
}

#[test]
fn hooks_change_and_those_that_stay_keep_what_they_know() {
    let limit = "prehooks: [{name: rate limit, options: {requests: 2, period: 1h}}]";
    let mut config = support::config(1);
    hooks(&mut config, limit);
    let server = Server::start(&config);
    let to = server.http(FAMILY);
    let ask = || get(to, &Announce::leecher(hash(1), 1).target());
    let is_refused = |response: Response| {
        let dictionary = response.bencode().dictionary();
        dictionary.contains_key(&b"failure reason"[..])
    };
    assert!(!is_refused(ask()) && !is_refused(ask()) && is_refused(ask()));
    // The same hook, elsewhere in the file.
    let report = reload(&server, |config| {
        hooks(config, &format!("\n\n{limit}"));
        config.announce_interval = Duration::from_secs(1000);
    });
    assert_eq!(report.changed, ["announce_interval"]);
    assert!(is_refused(ask()), "the limit remembers");
    let report = reload(&server, |config| {
        config.announce_interval = Duration::from_secs(1000);
    });
    assert_eq!(report.changed, ["prehooks"]);
    for _ in 0..5 {
        assert_eq!(ask().announced(FAMILY).interval, 1000);
    }
    reload(&server, |config| {
        hooks(
            config,
            "prehooks: [{name: client approval, options: {whitelist: ['AB*']}}]",
        );
    });
    assert!(is_refused(ask()));
}

#[test]
fn what_needs_a_restart_is_named_each_time_and_left() {
    let server = Server::start(&support::config(2));
    for _ in 0..3 {
        let report = reload(&server, |config| {
            config.shards = 5;
            config.realtime_priority = 1;
            config.metrics_addr = vec!["127.0.0.1:1".parse().expect("an address")];
            config.storage.config.peer_ids = true;
            config.user = "daemon".into();
            config.group = "daemon".into();
            config.chroot = "/".into();
            config.state_file = "state".into();
            config.user = "nobody".to_owned();
            config.group = "nogroup".to_owned();
            config.chroot = "/".to_owned();
            config.opentracker_state_file = "dump".into();
            udp(config).addr.pop();
            udp(config).receive_buffer_bytes = 1;
            udp(config).send_buffer_bytes = 2;
            udp(config).steering = karuta::config::Steering::Off;
            udp(config).xdp_interfaces = vec!["eth0".to_owned()];
            udp(config).xdp_mode = karuta::config::XdpMode::Generic;
            http(config).addr.pop();
            http(config).https_addr = vec!["127.0.0.1:1".parse().expect("an address")];
            http(config).max_numwant = 77;
        });
        let named: BTreeSet<&str> = report.restart.into_iter().collect();
        let expected: BTreeSet<&str> = keys()
            .filter(|(name, reach)| *reach == Reach::Restart && *name != "storage.name")
            .map(|(name, _)| name)
            .collect();
        assert_eq!(named, expected);
    }
    // A frontend cannot be turned off; the rest of its section stays too.
    let report = reload(&server, |config| {
        config.http = None;
        config.announce_interval = Duration::from_secs(1000);
    });
    assert_eq!(report.restart, ["http"]);
    let announce = Announce::leecher(hash(1), 1);
    let response = get(server.http(FAMILY), &announce.target());
    assert_eq!(response.announced(FAMILY).interval, 1000);
    let mut wide = Udp::new(server.udp(AddressFamily::V6));
    assert_eq!(wide.announce(&announce).interval, 1000);
    let same = reload(&server, |config| {
        config.announce_interval = Duration::from_secs(1000);
        http(config).max_numwant = 77;
    });
    assert_eq!(same, Report::default());
}

/// A file of a test.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let name = format!("karuta-reload-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("written");
    }

    fn source(&self) -> ConfigSource {
        let path = self.0.clone();
        ConfigSource {
            name: path.display().to_string(),
            read: Box::new(move || Config::load(&path).map_err(|error| error.to_string())),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const ADDRESSES: &str = "shards: 2
metrics_addr: 127.0.0.1:0
udp: {addr: ['127.0.0.1:0', '[::1]:0']}
http: {addr: ['127.0.0.1:0', '[::1]:0']}
";

#[test]
fn bad_files_change_nothing_and_a_good_one_still_does() {
    let file = File::new("bad.yaml");
    file.write(ADDRESSES);
    let source = file.source();
    let server = Server::start(&(source.read)().expect("valid"));
    let reloader = server.reloader();
    let mut client = Udp::new(server.udp(FAMILY));
    let mut interval = || client.announce(&Announce::leecher(hash(1), 1)).interval;
    let metrics = |result: &str| {
        let text = get(server.metrics_addresses[0], "/metrics").body;
        let text = String::from_utf8(text).expect("text");
        let name = format!("karuta_reloads_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("the series").parse::<u64>().expect("a number")
    };
    let bad = [
        "announce_interval: 5m\nanounce_interval: 6m\n",
        "announce_interval: 5m\nprehooks:\n- name: torrent approval\n  options: {whitelist_file: /nonexistent}\n",
        "announce_interval: 5m\nudp: [",
    ];
    for (number, text) in bad.into_iter().enumerate() {
        file.write(&format!("{ADDRESSES}{text}"));
        reloader.reload_from(Some(&source));
        assert_eq!(interval(), 1800);
        assert_eq!(metrics("failed"), number as u64 + 1);
    }
    std::fs::remove_file(&file.0).expect("removed");
    reloader.reload_from(Some(&source));
    assert_eq!((interval(), metrics("failed"), metrics("ok")), (1800, 4, 0));
    file.write(&format!(
        "{ADDRESSES}announce_interval: 5m\nmin_announce_interval: 1m\n"
    ));
    reloader.reload_from(Some(&source));
    assert_eq!((interval(), metrics("failed"), metrics("ok")), (300, 4, 1));
    // Without a file there is nothing to go wrong.
    reloader.reload_from(None);
    assert_eq!((interval(), metrics("failed"), metrics("ok")), (300, 4, 2));
}

#[test]
fn the_manual_says_of_each_key_what_a_change_takes() {
    let manual = include_str!("../docs/operation.md");
    let mut table = BTreeMap::new();
    for line in manual.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, names, takes, ..] = cells[..] else {
            continue;
        };
        let reach = match takes {
            "reload" => Reach::Live,
            "restart" => Reach::Restart,
            "no effect" => Reach::None,
            _ => continue,
        };
        for name in names.split('`').skip(1).step_by(2) {
            assert_eq!(table.insert(name, reach), None, "{name} stands there twice");
        }
    }
    let keys: BTreeMap<&str, Reach> = keys().collect();
    assert_eq!(table, keys.clone().into_iter().collect());
    // And those are the keys that there are.
    let document = serde_yaml::from_str(&Config::default().to_yaml()).expect("YAML");
    let mut names = BTreeSet::new();
    leaves("", &document, &mut names);
    assert_eq!(names, keys.into_keys().map(str::to_owned).collect());
}

fn leaves(path: &str, value: &serde_yaml::Value, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_mapping().expect("keys") {
        let path = format!("{path}{}", key.as_str().expect("a word"));
        match value.is_mapping() {
            true => leaves(&format!("{path}."), value, into),
            false => drop(into.insert(path)),
        }
    }
}

#[test]
fn a_reload_after_the_end_fails() {
    let tracker = karuta::server::Tracker::start(&support::config(1)).expect("starts");
    let reloader = tracker.reloader();
    tracker.stop().expect("stops");
    let error = reloader.reload(&support::config(1)).expect_err("it ended");
    assert!(error.to_string().contains("stopped"), "{error}");
}
