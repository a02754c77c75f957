//! opentracker's statistics, byte for byte, and read by the rules of those who
//! read them.
//!
//! The files of `tests/data/opentracker_stats` were put together from the
//! formats of opentracker's source and compared with what Debian's binary says
//! (which has `everything` with the same nine errors), not written by karuta.

use karuta::control::opentracker_stats::encoding::Encoding;
use karuta::control::opentracker_stats::everything::everything;
use karuta::control::opentracker_stats::render;
use karuta::control::opentracker_stats::request::{self, Invalid, Mode};
use karuta::control::opentracker_stats::snapshot::Snapshot;
use proptest::prelude::*;

fn sample() -> Snapshot {
    Snapshot {
        tracker_id: 1_702_998_377,
        version: "karuta 0.1.0".to_owned(),
        uptime_seconds: 7322,
        torrents: 9,
        peers: 45,
        seeds: 25,
        completed: 17,
        tcp_accepts: 60_000,
        tcp_announces: 45_000,
        tcp_scrapes: 300,
        udp_packets: 900_000,
        udp_connects: 200_000,
        udp_announces: 600_000,
        udp_scrapes: 5_000,
        udp_mismatches: 42,
        livesyncs: 0,
        renewals: std::array::from_fn(|at| (at * at) as u64),
        http_errors: std::array::from_fn(|at| at as u64 + 1),
        stalls: 3,
        full_scrapes: 40_000,
        full_scrape_bytes: 123_456_789,
    }
}

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("data/opentracker_stats/", $name))
    };
}

#[test]
fn every_mode_as_opentracker_writes_it() {
    let taken = sample();
    for (text, expected) in [
        (render::peers(&taken), golden!("peer.txt")),
        (render::torrents(&taken), golden!("torr.txt")),
        (render::connections(&taken), golden!("conn.txt")),
        (render::tcp(&taken), golden!("tcp4.txt")),
        (render::udp(&taken), golden!("udp4.txt")),
        (render::scrapes(&taken), golden!("scrp.txt")),
        (render::completed(&taken), golden!("completed.txt")),
        (render::syncs(&taken), golden!("syncs.txt")),
        (render::full_scrapes(&taken), golden!("fscr.txt")),
        (render::http_errors(&taken), golden!("herr.txt")),
        (render::renewals(&taken), golden!("renew.txt")),
        (render::version(&taken), golden!("version.txt")),
        (everything(&taken), golden!("everything.xml")),
    ] {
        assert_eq!(text, expected);
    }
}

/// A tracker that has just started divides by no zero.
#[test]
fn rates_in_the_first_second_are_counts() {
    let taken = Snapshot {
        udp_packets: 7,
        completed: 2,
        ..Snapshot::default()
    };
    assert_eq!(
        render::udp(&taken),
        "7\n0\n0 seconds (0 hours)\nopentracker udp4 stats, 7 conns/s :: 0 success/s."
    );
    assert!(render::completed(&taken).ends_with("opentracker, 2 completed/h."));
}

/// An element of the XML, as much as readers look at.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attribute: Option<(String, String)>,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document; strict about what closes what.
    fn read(xml: &str) -> Self {
        let mut open = vec![Self::default()];
        let mut rest = xml;
        while let Some(at) = rest.find('<') {
            let (text, tag) = rest.split_at(at);
            open.last_mut().expect("open").text.push_str(text);
            let (tag, after) = tag[1..].split_once('>').expect("a whole tag");
            rest = after;
            if tag.starts_with('?') {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                let element = open.pop().expect("open");
                assert_eq!(element.name, name, "closed in the right order");
                open.last_mut().expect("open").children.push(element);
                continue;
            }
            let (name, attribute) = match tag.split_once(' ') {
                None => (tag, None),
                Some((name, attribute)) => {
                    let (key, value) = attribute.split_once('=').expect("an attribute");
                    let value = value
                        .strip_prefix('"')
                        .and_then(|value| value.strip_suffix('"'));
                    let value = value.expect("in quotes");
                    (name, Some((key.to_owned(), value.to_owned())))
                }
            };
            open.push(Self {
                name: name.to_owned(),
                attribute,
                ..Self::default()
            });
        }
        assert_eq!(rest, "", "nothing behind the root");
        let mut document = open.pop().expect("the document");
        assert!(open.is_empty(), "all are closed");
        document.children.remove(0)
    }

    /// The elements of a path below this one.
    fn find(&self, path: &str) -> Vec<&Self> {
        let mut found = vec![self];
        for name in path.split('/') {
            let below = |element: &'_ Self| -> Vec<usize> {
                let named = element.children.iter().enumerate();
                named
                    .filter(|(_, child)| child.name == name)
                    .map(|(at, _)| at)
                    .collect()
            };
            found = found
                .into_iter()
                .flat_map(|element| {
                    below(element)
                        .into_iter()
                        .map(|at| &element.children[at])
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        found
    }

    fn number(&self, path: &str) -> u64 {
        let text = &self.find(path)[0].text;
        text.parse().unwrap_or_else(|_| panic!("{path}: {text:?}"))
    }
}

/// Exporters for Prometheus take each value by its path and parse it as a
/// whole number; the intervals of `renew` and the codes of `http_error` become
/// labels, so they must differ, and an interval must be a whole number.
#[test]
fn exporters_find_every_field() {
    let stats = Element::read(&everything(&sample()));
    assert_eq!(stats.name, "stats");
    for (path, value) in [
        ("tracker_id", 1_702_998_377),
        ("uptime", 7322),
        ("torrents/count_mutex", 9),
        ("torrents/count_iterator", 9),
        ("peers/count", 45),
        ("seeds/count", 25),
        ("completed/count", 17),
        ("connections/tcp/accept", 60_000),
        ("connections/tcp/announce", 45_000),
        ("connections/tcp/scrape", 300),
        ("connections/udp/overall", 900_000),
        ("connections/udp/connect", 200_000),
        ("connections/udp/announce", 600_000),
        ("connections/udp/scrape", 5_000),
        ("connections/udp/missmatch", 42),
        ("connections/livesync/count", 0),
        ("debug/mutex_stall/count", 3),
    ] {
        assert_eq!(stats.number(path), value, "{path}");
    }
    let renewals = stats.find("debug/renew/count");
    assert_eq!(renewals.len(), 45);
    for (at, count) in renewals.iter().enumerate() {
        let (key, interval) = count.attribute.as_ref().expect("an interval");
        assert_eq!(key, "interval");
        assert_eq!(interval.parse::<usize>(), Ok(at));
        assert_eq!(count.text.parse::<usize>(), Ok(at * at));
    }
    let errors = stats.find("debug/http_error/count");
    let codes: std::collections::BTreeSet<_> = errors
        .iter()
        .map(|count| {
            assert!(count.text.parse::<u64>().is_ok());
            let (key, code) = count.attribute.as_ref().expect("a code");
            assert_eq!(key, "code");
            code
        })
        .collect();
    assert_eq!(codes.len(), 9);
}

/// A script for InfluxDB takes elements by their positions.
#[test]
fn positions_are_those_of_opentracker() {
    let stats = Element::read(&everything(&sample()));
    let child = |at: usize| &stats.children[at];
    assert_eq!(child(2).text, "7322");
    for (at, value) in [(3, "9"), (4, "45"), (5, "25"), (6, "17")] {
        assert_eq!(child(at).children[0].text, value);
    }
}

/// Munin's plugin: lines 1 and 2, and the third word of line 3.
#[test]
fn munin_reads_three_lines() {
    let text = render::peers(&sample());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1]), ("45", "25"));
    assert_eq!(lines[2].split_whitespace().nth(2), Some("9"));
}

proptest! {
    #[test]
    fn no_query_and_no_header_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request::parse(&bytes);
        let _ = Encoding::negotiate(&bytes);
    }

    /// What is made of words that mean something, in any order.
    #[test]
    fn queries_of_known_words_are_read(words in proptest::collection::vec(
        prop_oneof![
            Just("mode=peer"), Just("mode=tpbs"), Just("format=txt"), Just("x=y"),
            Just("mode=xyz"), Just("format=xyz"), Just(""), Just("mode"),
        ],
        0..6,
    )) {
        let result = request::parse(words.join("&").as_bytes());
        let wrong = ["mode=xyz", "format=xyz", "mode"];
        let is_wrong = words.iter().any(|word| wrong.contains(word));
        prop_assert_eq!(result.is_err(), is_wrong);
        let mode = words.iter().rfind(|word| word.starts_with("mode="));
        match (result, mode) {
            (Ok(mode), None | Some(&"mode=peer")) => prop_assert_eq!(mode, Mode::Peers),
            (Ok(mode), _) => prop_assert!(matches!(mode, Mode::Dump(_))),
            (Err(Invalid), _) => {}
        }
    }

    /// Weights decide, whatever else is listed.
    #[test]
    fn the_greater_weight_wins(gzip in 1..=1000u32, zstd in 1..=1000u32, swap: bool) {
        let weight = |name: &str, weight: u32| format!("{name};q={:.3}", f64::from(weight) / 1000.0);
        let (gzip_item, zstd_item) = (weight("gzip", gzip), weight("zstd", zstd));
        let accept = match swap {
            false => format!("br, {gzip_item}, {zstd_item}"),
            true => format!("{zstd_item},deflate;q=1,{gzip_item}"),
        };
        let expected = if zstd >= gzip { Encoding::Zstd } else { Encoding::Gzip };
        prop_assert_eq!(Encoding::negotiate(accept.as_bytes()), expected, "{}", accept);
    }
}
