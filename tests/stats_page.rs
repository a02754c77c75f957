//! What is served at `metrics_addr` while a tracker runs: metrics, statistics,
//! health; and the page in a real browser (Debian's chromium, by `.ci/run`).

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::control::web::server::{Answer, Route, WebServer};
use karuta::shard::stats::{Action, Outcome, Protocol};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use support::{Announce, Response, STARTED, Server, Udp, config, field, get, hash};

/// Questions after which something that ought to happen does not.
const PATIENCE: usize = 3_000;

fn start(shards: usize) -> (Server, SocketAddr) {
    let mut config = config(shards);
    config.metrics_addr = vec!["127.0.0.1:0".parse().expect("address")];
    let server = Server::start(&config);
    let address = server.metrics_addresses[0];
    (server, address)
}

fn body(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("UTF-8")
}

fn stats(address: SocketAddr) -> Value {
    let response = get(address, "/stats.json");
    assert_eq!(response.status, 200);
    serde_json::from_slice(&response.body).expect("JSON")
}

/// Asks until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    assert!((0..PATIENCE).any(|_| is_so()), "{what}");
}

/// The value of a series in the metrics; 0 when it is not there.
fn metric(address: SocketAddr, series: &str) -> f64 {
    let response = get(address, "/metrics");
    let mut lines = body(&response).lines();
    let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map_or(0.0, |value| value.parse().expect("a number"))
}

#[test]
fn all_paths_tell_of_the_same_tracker() {
    let (server, address) = start(2);
    let mut udp = Udp::new(server.udp(AddressFamily::V4));
    for number in 0..20u16 {
        udp.announce(&Announce::seeder(hash(number.into()), 1000 + number));
    }
    for number in 0..5u16 {
        let target = Announce::leecher(hash(number.into()), 2000 + number).target();
        assert_eq!(get(server.http(AddressFamily::V6), &target).status, 200);
    }
    until("totals are published", || {
        let stats = stats(address);
        stats["peers"]["ipv4"] == 20 && stats["peers"]["ipv6"] == 5
    });
    let stats = stats(address);
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["ready"], true);
    assert_eq!(stats["seeders"]["total"], 20);
    assert_eq!(stats["swarms"]["total"], 25);
    assert_eq!(stats["requests"]["udp"]["announce"], 20);
    assert_eq!(stats["requests"]["udp"]["connect"], 1);
    assert_eq!(stats["requests"]["http"]["announce"], 5);
    assert_eq!(stats["replies"]["http"]["ok"], 5);
    assert_eq!(stats["listeners"][0]["datagrams_in"], 21);
    assert_eq!(stats["listeners"][0]["datagrams_out"], 21);
    assert_eq!(stats["listeners"][0]["bytes_in"], 16 + 20 * 98);
    let http = &stats["listeners"][3];
    assert_eq!(
        (&http["connections"], &http["requests"]),
        (&5.into(), &5.into())
    );
    assert!(http["bytes_in"].as_u64() > Some(500), "{http}");
    assert!(http["bytes_out"].as_u64() > Some(500), "{http}");
    assert!(stats["memory"]["resident_bytes"].as_u64() > Some(1 << 20));
    assert_eq!(stats["shards"].as_array().map(Vec::len), Some(2));
    let page = get(address, "/stats");
    // Without its script the page tells the same.
    assert_eq!(shown(body(&page), ANNOUNCES), "20");
    assert_eq!(metric(address, "chihaya_storage_seeders_count"), 20.0);
    assert_eq!(metric(address, "chihaya_storage_infohashes_count"), 25.0);
}

/// Every reply is in a histogram, under its own labels, whoever answered it.
#[test]
fn every_reply_is_measured_once() {
    let (server, address) = start(3);
    let mut udp = Udp::new(server.udp(AddressFamily::V4));
    for number in 0..10u16 {
        udp.announce(&Announce::seeder(hash(number.into()), 1000 + number));
    }
    udp.scrape(&[hash(1), hash(2), hash(3), hash(4)]);
    let refused = Announce::seeder(hash(1), 0).packet(udp.id, 7);
    assert_eq!(udp.error(&refused), "invalid port");
    let unknown = Announce::seeder(hash(1), 1).packet(!udp.id, 8);
    assert_eq!(udp.error(&unknown), "bad connection ID");
    let http = server.http(AddressFamily::V4);
    for number in 0..30u16 {
        get(http, &Announce::leecher(hash(number.into()), 3000).target());
    }
    assert!(server.crossed(Protocol::Http) > 0, "some crossed shards");
    get(http, "/announce?port=1");
    get(http, "/nowhere");
    for (protocol, action, error, expected) in [
        ("udp", "connect", "", 1.0),
        ("udp", "announce", "", 10.0),
        ("udp", "scrape", "", 1.0),
        ("udp", "other", "invalid port", 1.0),
        ("udp", "announce", "bad connection ID", 1.0),
        ("http", "announce", "", 30.0),
        ("http", "announce", "no info_hash parameter supplied", 1.0),
        ("http", "other", "other", 1.0),
    ] {
        let name = format!("chihaya_{protocol}_response_duration_milliseconds");
        let labels = format!("action=\"{action}\",address_family=\"IPv4\",error=\"{error}\"");
        until(&format!("{name} {labels} is {expected}"), || {
            metric(address, &format!("{name}_count{{{labels}}}")) == expected
        });
        let all = metric(address, &format!("{name}_bucket{{le=\"+Inf\",{labels}}}"));
        assert_eq!(all, expected);
        assert!(metric(address, &format!("{name}_sum{{{labels}}}")) > 0.0);
    }
    let family = AddressFamily::V4;
    let announces = server.replies(Protocol::Http, Action::Announce, family, Outcome::Ok);
    assert_eq!(announces, 30);
    assert!(metric(address, "karuta_receive_batch_datagrams_count") >= 14.0);
}

/// Only announces that start are counted, and only while the option is on.
#[test]
fn clients_are_counted_when_they_start() {
    let mut config = config(2);
    config.metrics_addr = vec!["127.0.0.1:0".parse().expect("address")];
    let server = Server::start(&config);
    let address = server.metrics_addresses[0];
    let mut udp = Udp::new(server.udp(AddressFamily::V4));
    let mut start = |number: u16| {
        let announce = || Announce::leecher(hash(number.into()), 1000 + number);
        udp.announce(&announce().event(STARTED));
        udp.announce(&announce());
    };
    start(0);
    assert_eq!(stats(address)["clients"], Value::Null);
    config.client_breakdown = true;
    server.reload(&config).expect("reloaded");
    for number in 0..9 {
        start(number);
    }
    let announce = Announce::leecher(hash(1), 2000).event(STARTED);
    get(server.http(AddressFamily::V4), &announce.target());
    udp.announce(&Announce {
        peer_id: *b"\0\xff\"\n100-bbbbbbbbbbbb",
        ..announce
    });
    let clients = &stats(address)["clients"];
    assert_eq!(clients, &serde_json::json!({ "-KT0": 10, "other": 1 }));
    let series = "karuta_client_starts_total{client=\"-KT0\"}";
    assert_eq!(metric(address, series), 10.0);
}

#[test]
fn health_is_told() {
    let (_server, address) = start(2);
    let alive = get(address, "/healthz");
    assert_eq!((alive.status, body(&alive)), (200, "alive\n"));
    until("every shard answers", || {
        get(address, "/readyz").status == 200
    });
    let missing = get(address, "/");
    assert_eq!(missing.status, 404);
    assert_eq!(
        body(&missing),
        "not found; there are:\n/metrics\n/stats\n/stats.json\n/healthz\n/readyz\n"
    );
    let page = get(address, "/stats");
    let policy = field(&page.head, "Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
}

/// What a browser makes of a page after so many milliseconds of its own time,
/// which runs while it has nothing to wait for.
fn browse(url: &str) -> String {
    let profile = tempfile::tempdir().expect("a directory");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=9000", "--dump-dom"])
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("chromium is installed (apt-get install chromium)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The text of the element with this attribute.
fn shown<'p>(page: &'p str, attribute: &str) -> &'p str {
    let rest = page.split(attribute).nth(1).expect(attribute);
    let (_, rest) = rest.split_once('>').expect("an end");
    rest.split('<').next().expect("a text")
}

fn number(text: &str) -> f64 {
    let digits = text.replace('\u{202f}', "");
    digits.parse().unwrap_or_else(|_| panic!("{text:?}"))
}

const ANNOUNCES: &str = "data-at=\"/requests/udp/announce\"";

/// Something stands between browser and tracker that announces a hundred times
/// whenever the page asks for numbers: so it is known how they change.
#[test]
#[ignore = "a real browser; run by .ci/run"]
fn a_browser_shows_numbers_that_change() {
    let (server, address) = start(2);
    let mut udp = Udp::new(server.udp(AddressFamily::V4));
    for number in 0..1500u16 {
        udp.announce(&Announce::seeder(hash(number.into()), 1000 + number));
    }
    until("totals are published", || {
        stats(address)["swarms"]["total"] == 1500
    });
    let udp = Mutex::new(udp);
    let routes = vec![
        Route {
            path: "/stats",
            render: Arc::new(move || {
                let page = get(address, "/stats");
                Answer {
                    content_type: "text/html; charset=utf-8",
                    policy: field(&page.head, "Content-Security-Policy").map(str::to_owned),
                    ..Answer::text(page.status, body(&page))
                }
            }),
        },
        Route {
            path: "/stats.json",
            render: Arc::new(move || {
                let mut udp = udp.lock().expect("not poisoned");
                for _ in 0..100 {
                    udp.announce(&Announce::seeder(hash(1), 999));
                }
                Answer {
                    content_type: "application/json",
                    ..Answer::text(200, body(&get(address, "/stats.json")))
                }
            }),
        },
    ];
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let between = WebServer::start(listener, routes).expect("start");
    let url = format!("http://{}/stats", between.local_addr().expect("address"));
    let page = browse(&url);
    assert_eq!(
        shown(&page, "id=\"status\""),
        "Live: read anew every two seconds."
    );
    let updates = page.split("data-updates=\"").nth(1).expect("updates");
    let updates = number(updates.split('"').next().expect("a number"));
    assert!(updates >= 2.0, "{updates}");
    assert_eq!(number(shown(&page, ANNOUNCES)), 1500.0 + 100.0 * updates);
    let rate = "data-rate=\"/requests/udp/announce\"";
    assert!(number(shown(&page, rate)) > 0.0);
    // Written by the script as the page itself writes it.
    let swarms = "data-at=\"/swarms/total\"";
    assert_eq!(shown(&page, swarms), "1\u{202f}500");
    assert_eq!(shown(body(&get(address, "/stats")), swarms), "1\u{202f}500");
    assert_eq!(shown(&page, "data-at=\"/ready\""), "yes");
    assert_eq!(shown(&page, "data-at=\"/shards/1/answers\""), "yes");
}

#[test]
#[ignore = "a real browser; run by .ci/run"]
fn a_page_whose_tracker_is_gone_says_so() {
    // Serves the page itself, but not what its script asks for.
    let (server, address) = start(1);
    let html = get(address, "/stats").body;
    drop(server);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("stats.html");
    std::fs::write(&file, html).expect("written");
    let page = browse(&format!("file://{}", file.display()));
    let status = shown(&page, "id=\"status\"");
    assert_eq!(
        status,
        "The tracker does not answer; these numbers are old."
    );
}
