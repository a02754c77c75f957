//! The configuration file: what is accepted, what is refused and in what words.

use karuta::config::{Config, HttpConfig, Secret, Steering, UdpConfig};
use karuta::protocol::Dialect;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const REFERENCE: &str = include_str!("../config.yaml");
const CHIHAYA: &str = include_str!("data/chihaya.yaml");

fn parse(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refuse(text: &str) -> String {
    match Config::parse(text, "f") {
        Ok(config) => panic!("accepted: {text}\n{config:?}"),
        Err(error) => error.to_string(),
    }
}

/// Asserts the whole error of each text.
#[track_caller]
fn refuse_all(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(refuse(text), *expected, "{text}");
    }
}

#[test]
fn the_reference_file_is_the_default_configuration() {
    assert_eq!(parse(REFERENCE), Config::default());
}

#[test]
fn the_reference_file_names_and_explains_every_key() {
    let document = serde_yaml::from_str(&Config::default().to_yaml()).expect("YAML");
    let mut keys = BTreeSet::new();
    collect_keys(&document, &mut keys);
    assert!(keys.len() > 30, "{keys:?}");
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for key in keys {
        let at = lines
            .iter()
            .position(|line| line.trim_start().starts_with(&format!("{key}:")))
            .unwrap_or_else(|| panic!("config.yaml does not name {key}"));
        let above = lines[at - 1].trim_start();
        assert!(
            above.starts_with('#') || key == "config",
            "config.yaml does not explain {key}"
        );
    }
}

fn collect_keys(value: &serde_yaml::Value, keys: &mut BTreeSet<String>) {
    for (key, value) in value.as_mapping().into_iter().flatten() {
        keys.insert(key.as_str().expect("a word").to_owned());
        collect_keys(value, keys);
    }
}

#[test]
fn a_file_of_chihaya_is_accepted() {
    let config = parse(CHIHAYA);
    let mut expected = Config::default();
    expected.metrics_addr = vec!["0.0.0.0:6880".parse().expect("address")];
    expected.http = Some(HttpConfig {
        addr: vec!["0.0.0.0:6969".parse().expect("address")],
        real_ip_header: "x-real-ip".to_owned(),
        ..HttpConfig::default()
    });
    expected.udp = Some(UdpConfig {
        addr: vec!["0.0.0.0:6969".parse().expect("address")],
        private_key: Secret::new("not a key for anything that matters"),
        ..UdpConfig::default()
    });
    assert_eq!(config.to_yaml(), expected.to_yaml());
    assert_eq!(config.udp, expected.udp);
    let [notice] = config.notices() else {
        panic!("{:?}", config.notices());
    };
    assert!(notice.contains("shard_count is ignored"), "{notice}");
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("http.real_ip_header: x-real-ip is believed from everybody"));
}

#[test]
fn the_effective_configuration_reads_back() {
    let text = "
announce_interval: 1.5h
metrics_addr: ''
shards: 3
realtime_priority: 4
http:
  addr: [127.0.0.1:0, ':8080']
  read_timeout: 1500ms
  enable_keepalive: yes
  announce_routes: [/a, /b]
  scrape_routes: []
  real_ip_header: X-Forwarded-For
  max_numwant: 20
udp:
storage: {config: {max_peers: 5, downloads_lifetime: 8760h, peer_ids: true}}
state_file: /var/lib/karuta/state
state_interval: 5m
opentracker_state_file: /old/state
";
    let config = parse(text);
    let printed = config.to_yaml();
    assert_eq!(parse(&printed), config, "{printed}");
    assert_ne!(config, Config::default());
    assert_eq!(config.udp, None);
    assert!(config.metrics_addr.is_empty());
    assert_eq!(config.announce_interval, Duration::from_secs(5400));
    let http = config.http.expect("on");
    assert_eq!(http.addr.len(), 3);
    assert_eq!(http.read_timeout, Duration::from_millis(1500));
    assert!(http.enable_keepalive);
    // The default of 50 would contradict the maximum.
    assert_eq!(http.default_numwant, 20);
    assert_eq!(parse(&Config::default().to_yaml()), Config::default());
}

#[test]
fn the_secret_is_never_shown() {
    let text = "http: {}\nudp: {private_key: hunter2hunter2hunter2, steering: off}\n";
    let config = parse(text);
    let udp = config.udp.as_ref().expect("on");
    assert_eq!(udp.private_key.expose(), "hunter2hunter2hunter2");
    assert_eq!(udp.steering, Steering::Off);
    let shown = format!("{config:?}{config:#?}{}", config.to_yaml());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(shown.matches("(set)").count(), 3, "{shown}");
    // What is shown must not read as a key that everybody knows.
    let again = parse(&config.to_yaml());
    assert!(again.udp.expect("on").private_key.is_empty());
    // Nor may errors tell it.
    let error = refuse("udp: {private_key: [hunter2], private_kee: hunter2}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn sections_turn_frontends_on_and_off() {
    let config = parse("udp: {}");
    assert_eq!(config.http, None);
    assert_eq!(config.udp, Some(UdpConfig::default()));
    let config = parse("http: {}\nudp: {addr: ''}");
    assert_eq!(config.http, Some(HttpConfig::default()));
    assert_eq!(config.udp, None);
    for text in [
        "",
        "# nothing\n",
        "\u{feff}",
        "---\n",
        "http:\nudp: null\n",
        "chihaya: {}",
    ] {
        let error = refuse(text);
        assert!(error.contains("no frontend is on"), "{text:?}: {error}");
        assert!(error.contains("\"udp: {}\""), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{text:?}: {error}");
    }
}

#[test]
fn unknown_keys_are_placed_and_the_nearest_is_named() {
    refuse_all(&[
        (
            "udp: {}\n\n  # indented\nanounce_interval: 5m\n",
            "f:4:1: unknown key \"anounce_interval\"; did you mean \"announce_interval\"?",
        ),
        (
            "http:\n  addr: ':80'\n  read-timeout: 5s\n",
            "f:3:3: unknown key \"read-timeout\" in http; did you mean \"read_timeout\"?",
        ),
        (
            "chihaya:\n  udp: {max_numwants: 5}\n",
            "f:2:9: unknown key \"max_numwants\" in udp; did you mean \"max_numwant\"?",
        ),
        (
            "udp: {}\nstorage:\n  peer_lifetime: 5m\n",
            "f:3:3: unknown key \"peer_lifetime\" in storage; known here: name, config",
        ),
        (
            "chihaya: {udp: {}}\nudp: {}\n",
            "f:2:1: unknown key \"udp\"; known here: chihaya",
        ),
        (
            "udp: {}\n5: 6\n",
            "f:2:1: unknown key \"5\"; known here: announce_interval, min_announce_interval, \
             announce_interval_spread, dialect, metrics_addr, shards, realtime_priority, client_breakdown, user, group, chroot, http, udp, storage, state_file, state_interval, \
             opentracker_state_file, prehooks, posthooks",
        ),
    ]);
}

#[test]
fn the_dialect_of_opentracker_brings_its_limits() {
    let text = "{dialect: opentracker, announce_interval: 1620s, \
                announce_interval_spread: 359s, \
                http: {redirect_url: 'https://example.org/?a'}, udp: {}}";
    let config = parse(text);
    assert_eq!(config.dialect, Dialect::Opentracker);
    assert_eq!(config.announce_interval_spread, Duration::from_secs(359));
    assert_eq!(parse(&config.to_yaml()), config);
    assert_eq!(config.warnings().len(), 1, "{:?}", config.warnings());
    assert!(config.warnings()[0].contains("announce_interval_spread (32m59s)"));
    let (http, udp) = (config.http.expect("on"), config.udp.expect("on"));
    assert_eq!(http.redirect_url, "https://example.org/?a");
    assert_eq!((http.default_numwant, http.max_numwant), (50, 200));
    assert_eq!((udp.default_numwant, udp.max_numwant), (50, 200));
    assert_eq!(
        (http.max_scrape_infohashes, udp.max_scrape_infohashes),
        (64, 75)
    );
    let config = parse("{dialect: opentracker, udp: {max_numwant: 20, max_scrape_infohashes: 3}}");
    let udp = config.udp.expect("on");
    assert_eq!((udp.default_numwant, udp.max_numwant), (20, 20));
    assert_eq!(udp.max_scrape_infohashes, 3);
    refuse_all(&[
        (
            "dialect: chihaya\nudp: {}",
            "f:1:10: dialect: \"chihaya\" is not one of: karuta, opentracker",
        ),
        (
            "announce_interval_spread: 25h\nudp: {}",
            "f:1:27: announce_interval_spread: \"25h\" is out of range; use 0s to 24h",
        ),
        (
            "udp: {max_scrape_infohashes: 75}",
            "f:1:30: udp.max_scrape_infohashes: 75 is out of range; use a whole number from 1 to 74",
        ),
        (
            "http: {redirect_url: \"a\\r\\nb\"}",
            "f:1:22: http.redirect_url: \"a\\r\\nb\" is not a URL; write it without spaces, as \
             \"https://example.org/\", and percent-encode what is not ASCII",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_placed() {
    refuse_all(&[
        ("udp", "f:1:1: wants keys with values, not a text"),
        ("- udp", "f:1:1: wants keys with values, not a list"),
        ("udp: on", "f:1:6: udp: wants keys with values, not a text"),
        (
            "udp: {}\nannounce_interval: 1800",
            "f:2:20: announce_interval: 1800 is not a duration such as \"30m\", \"15s\", \
             \"1h30m\" or \"500ms\"; the unit is missing",
        ),
        (
            "udp: {}\nannounce_interval: 5 minutes",
            "f:2:20: announce_interval: \"5 minutes\" is not a duration such as \"30m\", \
             \"15s\", \"1h30m\" or \"500ms\"",
        ),
        (
            "udp: {}\nshards: \"2\"",
            "f:2:9: shards: \"2\" is not a number; use one from 0 to 1024, without quotes",
        ),
        (
            "http: {external_ip: 1}",
            "f:1:21: http.external_ip: 1 is not true or false",
        ),
        (
            "udp: {private_key: 12345}",
            "f:1:20: udp.private_key: wants a text, not a number; put it in quotes",
        ),
        (
            "udp: {steering: bpf}",
            "f:1:17: udp.steering: \"bpf\" is not one of: kernel, off",
        ),
        (
            "http: {announce_routes: [/a, {}]}",
            "f:1:30: http.announce_routes[1]: wants a text, not keys with values; \
             put it in quotes",
        ),
    ]);
}

#[test]
fn values_out_of_range_are_placed() {
    refuse_all(&[
        (
            "udp: {}\nannounce_interval: 25h",
            "f:2:20: announce_interval: \"25h\" is out of range; use 1s to 24h",
        ),
        (
            "udp: {}\nannounce_interval: 0",
            "f:2:20: announce_interval: 0 is out of range; use 1s to 24h",
        ),
        (
            "udp: {}\nannounce_interval: 1500ms",
            "f:2:20: announce_interval: \"1500ms\" has a fraction; use whole seconds",
        ),
        (
            "udp: {}\nstorage: {config: {peer_lifetime: 9999999h}}",
            "f:2:35: storage.config.peer_lifetime: \"9999999h\" is not a duration such as \
             \"30m\", \"15s\", \"1h30m\" or \"500ms\"",
        ),
        (
            "udp: {max_clock_skew: 4m}",
            "f:1:23: udp.max_clock_skew: \"4m\" is out of range; use 0s to 3m",
        ),
        (
            "udp: {max_scrape_infohashes: 75}",
            "f:1:30: udp.max_scrape_infohashes: 75 is out of range; \
             use a whole number from 1 to 74",
        ),
        (
            "http: {max_request_bytes: 1e4}",
            "f:1:27: http.max_request_bytes: 10000.0 is out of range; \
             use a whole number from 1024 to 65536",
        ),
        (
            "http: {max_connections: -1}",
            "f:1:25: http.max_connections: -1 is out of range; \
             use a whole number from 1 to 1000000",
        ),
    ]);
    // The ends of ranges are inside.
    parse("udp: {max_scrape_infohashes: 74, max_clock_skew: 180s}\nannounce_interval: 24h");
    parse("udp: {max_scrape_infohashes: 1, max_clock_skew: 0}\nmin_announce_interval: 1s");
}

#[test]
fn addresses_and_routes_are_checked() {
    refuse_all(&[
        (
            "udp: {addr: 'localhost:6969'}",
            "f:1:13: udp.addr: \"localhost:6969\" is not an address: \"localhost\" is not an IP \
             address (names are not looked up); write it as \"0.0.0.0:6969\", \"[::]:6969\" or \
             \":6969\"",
        ),
        (
            "udp:\n  addr:\n  - 127.0.0.1:1\n  - ::1\n",
            "f:4:5: udp.addr[1]: \"::1\" is not an address: it has no port; \
             write it as \"[::1]:6969\"",
        ),
        (
            "udp: {addr: [':80', '[::]:80']}",
            "f:1:21: udp.addr[1]: [::]:80 is given twice; remove one",
        ),
        (
            "udp: {addr: []}",
            "f:1:13: udp.addr: is an empty list; name an address, or omit the section to turn \
             it off",
        ),
        (
            "http: {addr: ':80'}\nmetrics_addr: 0.0.0.0:80\n",
            "f:2:15: metrics_addr: 0.0.0.0:80 is also in http.addr; choose another port",
        ),
        (
            "http: {announce_routes: [announce]}",
            "f:1:26: http.announce_routes[0]: route \"announce\": it has to begin with '/'",
        ),
        (
            "http: {announce_routes: [/a, /a]}",
            "f:1:30: http.announce_routes[1]: route \"/a\": another route matches the same paths",
        ),
        (
            "http: {scrape_routes: /announce}",
            "f:1:23: http.scrape_routes: route \"/announce\": another route matches the same paths",
        ),
        (
            "http: {announce_routes: []}",
            "f:1:25: http.announce_routes: is empty; name at least one path, such as \
             \"/announce\"",
        ),
        (
            "http: {announce_routes: ['/a:key/announce']}",
            "f:1:26: http.announce_routes[0]: route \"/a:key/announce\": ':' and '*' have to stand \
             at the beginning of a segment, behind a '/'",
        ),
        (
            "http: {announce_routes: ['/a b']}",
            "f:1:26: http.announce_routes[0]: route \"/a b\": it has a space, a '?', a '#' or another \
             character that a path cannot have",
        ),
        (
            "http: {stats_path: /stats}",
            "f:1:20: http.stats_path: \"/stats\" is not a path without its first slash; write it \
             as \"stats\"",
        ),
        (
            "http: {stats_path: 'st?ts'}",
            "f:1:20: http.stats_path: \"st?ts\" is not a path without its first slash; write it \
             as \"stats\"",
        ),
        (
            "http: {stats_path: scrape}",
            "f:1:20: http.stats_path: is also an announce or scrape route; choose another",
        ),
        (
            "dialect: opentracker\nhttp: {stats_path: scores}",
            "f:2:20: http.stats_path: is an announce or a scrape in the dialect of opentracker, \
             which goes by the first letters \"a\" and \"sc\"; choose another",
        ),
        (
            "http: {stats_networks: ['192.0.2.1/24']}",
            "f:1:25: http.stats_networks[0]: \"192.0.2.1/24\" has bits set behind the first 24; \
             clear them or lengthen the prefix",
        ),
        (
            "http: {full_scrape: true, scrape_routes: []}",
            "f:1:21: http.full_scrape: is of no use without a scrape route; name one in \
             scrape_routes or remove this",
        ),
        (
            "http: {real_ip_header: 'X-Real-IP:'}",
            "f:1:24: http.real_ip_header: \"X-Real-IP:\" is not a header name; write it as \
             \"X-Real-IP\"",
        ),
    ]);
    parse("http: {announce_routes: ['/users/:passkey/announce', '/a/*rest']}");
    parse("http: {stats_path: scores}");
    parse("http: {stats_path: stats/x, stats_networks: ['::1', 192.0.2.0/24], full_scrape: on}");
    // Two sockets on ports that the system chooses are no conflict.
    parse("udp: {addr: ['127.0.0.1:0', '127.0.0.1:0']}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    refuse_all(&[
        (
            "udp: {}\nstate_interval: 5m\n",
            "f:2:17: state_interval: has no effect without state_file; name one or remove this",
        ),
        (
            "udp: {}\nstate_file: a\nopentracker_state_file: a\n",
            "f:3:25: opentracker_state_file: is also state_file, which is of another form; name \
             another file",
        ),
        (
            "udp: {}\nannounce_interval: 5m\nmin_announce_interval: 6m\n",
            "f:3:24: min_announce_interval: is longer than announce_interval; \
             lower it or raise that",
        ),
        (
            "udp: {max_numwant: 10, default_numwant: 11}",
            "f:1:41: udp.default_numwant: is more than max_numwant; lower it or raise that",
        ),
        (
            "udp: {max_packet_bytes_ipv4: 508, max_scrape_infohashes: 42}",
            "f:1:30: udp.max_packet_bytes_ipv4: a scrape of max_scrape_infohashes (42) needs \
             512 bytes; raise this or lower that",
        ),
    ]);
    // A lesser value that is absent follows the greater one.
    let config = parse(
        "udp: {max_packet_bytes_ipv4: 508, max_scrape_infohashes: 41}\nannounce_interval: 5m\n",
    );
    assert_eq!(config.min_announce_interval, config.announce_interval);
}

#[test]
fn https_wants_all_its_keys() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/config.yaml");
    let folder = env!("CARGO_MANIFEST_DIR");
    refuse_all(&[
        (
            "http:\n  https_addr: ':443'\n",
            "f:2:15: http.https_addr: needs tls_cert_path too: HTTPS does not work without\n\
             f:2:15: http.https_addr: needs tls_key_path too: HTTPS does not work without",
        ),
        (
            &format!("http: {{https_addr: ':443', tls_cert_path: {here}}}"),
            "f:1:20: http.https_addr: needs tls_key_path too: HTTPS does not work without",
        ),
        (
            "http:\n  tls_cert_path: a.pem\n  tls_key_path: ''\n",
            "f:2:18: http.tls_cert_path: is given but https_addr is not; add that or remove this",
        ),
        (
            &format!(
                "http:\n  https_addr: ':443'\n  tls_cert_path: {folder}\n  tls_key_path: {here}/no\n"
            ),
            &format!(
                "f:3:18: http.tls_cert_path: {folder:?} is a directory; name a file in PEM form"
            ),
        ),
        (
            &format!(
                "http:\n  https_addr: ':443'\n  tls_cert_path: {here}\n  tls_key_path: {folder}/no\n"
            ),
            &format!(
                "f:4:17: http.tls_key_path: \"{folder}/no\" does not exist; name a file in PEM form"
            ),
        ),
        (
            &format!(
                "http: {{addr: '[::1]:80', https_addr: '[::1]:80', tls_cert_path: {here}, \
                 tls_key_path: {here}}}"
            ),
            "f:1:38: http.https_addr: [::1]:80 is also in http.addr; choose another port",
        ),
        (
            &format!(
                "metrics_addr: '[::1]:80'\nhttp: {{https_addr: '[::1]:80', \
                 tls_cert_path: {here}, tls_key_path: {here}}}"
            ),
            "f:1:15: metrics_addr: [::1]:80 is also in http.https_addr; choose another port",
        ),
    ]);
    // Without plain HTTP, and read back from what is shown.
    let text = format!(
        "http: {{addr: '', https_addr: '[::1]:443', tls_cert_path: {here}, tls_key_path: {here}}}"
    );
    let config = parse(&text);
    let http = config.http.as_ref().expect("on");
    assert_eq!((http.addr.len(), http.https_addr.len()), (0, 1));
    assert_eq!(parse(&config.to_yaml()), config);
    assert_eq!(parse("http: {addr: ''}\nudp: {}").http, None);
}

#[test]
fn proxies_are_subnets() {
    refuse_all(&[
        (
            "http: {trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]}",
            "f:1:38: http.trusted_proxies[1]: \"10.0.0.1/8\" has bits set behind the first 8; clear \
             them or lengthen the prefix",
        ),
        (
            "http: {trusted_proxies: haproxy}",
            "f:1:25: http.trusted_proxies: \"haproxy\" is not a subnet; write it as \
             \"192.0.2.0/24\"",
        ),
    ]);
    let text = "http: {trusted_proxies: ['::1', 10.0.0.0/8], proxy_protocol: on}";
    let config = parse(text);
    let http = config.http.as_ref().expect("on");
    assert_eq!(http.trusted_proxies.len(), 2);
    assert!(http.proxy_protocol);
    assert_eq!(parse(&config.to_yaml()), config);
    for (text, warning) in [
        (
            "http: {proxy_protocol: true}",
            "http.proxy_protocol is believed from everybody",
        ),
        (
            "http: {trusted_proxies: ['::1']}",
            "http.trusted_proxies has no effect",
        ),
    ] {
        let warnings = parse(text).warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(warning), "{warnings:?}");
    }
}

#[test]
fn what_is_not_supported_yet_says_so() {
    refuse_all(&[
        (
            "udp: {}\nstorage: {name: redis, config: {redis_broker: x}}",
            "f:2:17: storage.name: \"redis\" is not supported yet; use \"memory\"",
        ),
        (
            "udp: {}\nstorage: {name: disk}",
            "f:2:17: storage.name: \"disk\" is not a storage; use \"memory\"",
        ),
        (
            "udp: {}\nprehooks:\n- name: jwtt\n",
            "f:3:9: unknown hook \"jwtt\"; did you mean \"jwt\"?",
        ),
    ]);
}

#[test]
fn text_that_is_not_yaml_is_placed() {
    refuse_all(&[
        (
            "udp: {}\nshards: 1\nudp: {}\n",
            "f:3:1: the key \"udp\" is given twice; remove one",
        ),
        (
            "http:\n  external_ip: true\n  external_ip: true\n",
            "f:3:3: http: the key \"external_ip\" is given twice; remove one",
        ),
    ]);
    for (text, start, end) in [
        ("udp: {\n", "f:2:1: ", ""),
        (
            "udp:\n\taddr: x\n",
            "f:2:1: ",
            "; indent with spaces, not tabs",
        ),
        ("udp:\n  addr: [::]:6969\n", "f:2:", "quotes: \"[::]:6969\""),
        ("udp: *nothing\n", "f:1:6: ", ""),
        ("udp: {}\n---\nudp: {}\n", "f: ", ""),
        ("udp: !tag {}\n", "f:1:6: ", ""),
    ] {
        let error = refuse(text);
        assert!(
            error.starts_with(start) && error.ends_with(end),
            "{text}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn several_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = "shards: x\nudp:\n  max_numwant: 0\n  adr: ':80'\nmetrics_addr: nowhere\n";
    let error = refuse(text);
    let places: Vec<String> = error
        .lines()
        .map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":"))
        .collect();
    assert_eq!(places, ["f:1:9", "f:3:16", "f:4:3", "f:5:15"], "{error}");
}

#[test]
fn merge_keys_and_anchors_work() {
    let text = "http: &both {max_numwant: 10}\nudp:\n  <<: *both\n  max_clock_skew: 1s\n";
    let config = parse(text);
    assert_eq!(config.udp.expect("on").max_numwant, 10);
}

#[test]
fn doubtful_settings_are_warned_of() {
    let [warning] = &parse("udp: {}\nopentracker_state_file: a\n").warnings()[..] else {
        panic!("one warning");
    };
    assert!(warning.contains("downloads_lifetime is 0s"), "{warning}");
    let config = parse("udp: {private_key: secret}\nstorage: {config: {peer_lifetime: 20m}}\n");
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("peer_lifetime (20m) is shorter than announce_interval (30m)"));
    assert!(warnings[1].contains("private_key is short"));
    assert!(!warnings[1].contains("secret"), "{warnings:?}");
    let networks = "http: {stats_networks: '::1', full_scrape_networks: '::1'}";
    assert_eq!(
        parse(networks).warnings(),
        [
            "http.stats_networks has no effect while http.stats_path is off",
            "http.full_scrape_networks has no effect while http.full_scrape is off",
        ]
    );
    let config = parse("udp: {enable_request_timing: true}");
    assert_eq!(config.notices().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let directory = std::env::temp_dir().join(format!("karuta-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let load = |name: &str| {
        let error = Config::load(&directory.join(name)).expect_err(name);
        let shown = error.to_string();
        assert!(shown.contains(name), "{shown}");
        shown
    };
    let missing = load("missing.yaml");
    assert!(
        missing.contains("cannot be read") && missing.contains("--config"),
        "{missing}"
    );
    std::fs::write(directory.join("latin1.yaml"), b"udp: {}\n# caf\xe9\n").expect("write");
    assert!(load("latin1.yaml").contains("line 2 is not UTF-8"));
    std::fs::write(directory.join("good.yaml"), "udp: {}\n").expect("write");
    assert!(Config::load(&directory.join("good.yaml")).is_ok());
    assert!(Config::load(Path::new("/")).is_err());
    std::fs::remove_dir_all(&directory).expect("clean up");
}

#[test]
fn no_damage_to_a_file_panics() {
    assert!(CHIHAYA.is_ascii());
    for at in (0..CHIHAYA.len()).step_by(11) {
        let (before, after) = CHIHAYA.split_at(at);
        let mut damaged = vec![before.to_owned()];
        for insert in [
            ":", "- ", "{", "]", "&a ", "*a ", "!a ", "\"", "\t", "\n", "<<: ", "? ",
        ] {
            damaged.push(format!("{before}{insert}{after}"));
        }
        for text in damaged {
            if let Err(error) = Config::parse(&text, "f") {
                assert!(!error.problems.is_empty(), "{text}");
                assert_eq!(
                    error.to_string().lines().count(),
                    error.problems.len(),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn who_the_tracker_becomes_is_read_and_checked() {
    let config = parse("udp: {}\nuser: _karuta\ngroup: '1000'\nchroot: /srv/karuta\n");
    assert_eq!(config.user, "_karuta");
    assert_eq!(config.group, "1000");
    assert_eq!(config.chroot, "/srv/karuta");
    assert_eq!(parse(&config.to_yaml()), config);
    refuse_all(&[
        (
            "udp: {}\nuser: 1000\n",
            "f:2:7: user: wants a text, not a number; put it in quotes",
        ),
        (
            "udp: {}\nuser: a:b\n",
            "f:2:7: user: \"a:b\" is no name of a user",
        ),
        (
            "udp: {}\ngroup: x\n",
            "f:2:8: group: is set without user; name the user too",
        ),
        (
            "udp: {}\nchroot: srv\n",
            "f:2:9: chroot: \"srv\" does not begin with \"/\"; name the whole path",
        ),
    ]);
}
