//! Full scrapes: every torrent in every format, how often they may be asked
//! for, and what clients that do not read them hold up.

use super::support::{self, Announce, Udp, field, hash};
use super::{Counts, V4, ask, ask_with, connect_from, exchange, fill, serving, stats, until};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Reads `txt`, `txtp` and the like: hash in hexadecimal digits, then numbers.
fn read_lines(body: &[u8]) -> Vec<([u8; 20], Vec<u32>)> {
    let text = std::str::from_utf8(body).expect("text");
    text.lines()
        .map(|line| {
            let mut parts = line.split(':');
            let hex = parts.next().expect("a hash");
            let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("digits");
            let hash = std::array::from_fn(byte);
            (
                hash,
                parts.map(|part| part.parse().expect("a number")).collect(),
            )
        })
        .collect()
}

#[test]
fn every_torrent_once_in_every_format() {
    let server = serving(3, |_| {});
    let expected = fill(&server, 3000);
    let dump = |format: &str| ask(&server, &format!("/stats?mode=tpbs&format={format}"));

    let entries = read_lines(&dump("txtp").unchunked());
    let of = |counts: &(u32, u32, u32)| vec![counts.0, counts.1, counts.2];
    let all: Vec<_> = expected
        .iter()
        .map(|(hash, counts)| (*hash, of(counts)))
        .collect();
    assert!(entries == all, "txtp: all, once, sorted");
    let entries = read_lines(&dump("txt").unchunked());
    let all: Vec<_> = expected
        .iter()
        .map(|(hash, counts)| (*hash, vec![counts.0, counts.1]))
        .collect();
    assert!(entries == all, "txt");
    let binary = dump("bin").unchunked();
    let entries: Vec<_> = binary
        .chunks(28)
        .map(|entry| {
            let hash: [u8; 20] = entry[..20].try_into().expect("20 bytes");
            (
                hash,
                vec![support::word(entry, 20), support::word(entry, 24)],
            )
        })
        .collect();
    assert!(entries == all, "bin");
    let url = dump("url").unchunked();
    let url = std::str::from_utf8(&url).expect("text");
    assert_eq!(url.lines().count(), expected.len());
    let state = read_lines(&ask(&server, "/stats?mode=statedump").unchunked());
    let downloads: Vec<_> = state
        .iter()
        .map(|(hash, numbers)| (*hash, numbers[1]))
        .collect();
    let all: Vec<_> = expected
        .iter()
        .map(|(hash, counts)| (*hash, counts.2))
        .collect();
    assert!(downloads == all, "statedump");
    assert!(state.iter().all(|(_, numbers)| numbers[0] == state[0].1[0]
        || numbers[0] + 1 == state[0].1[0]
        || numbers[0] == state[0].1[0] + 1));

    let scraped = |body: Vec<u8>| {
        let mut files = Counts::new();
        let entries = body
            .strip_prefix(b"d5:filesd")
            .and_then(|rest| rest.strip_suffix(b"ee"));
        let mut rest = entries.expect("a dictionary");
        while !rest.is_empty() {
            rest = rest.strip_prefix(b"20:").expect("a key");
            let (hash, after) = rest.split_at(20);
            let end = after
                .windows(2)
                .position(|part| part == b"ee")
                .expect("an end");
            let (counts, after) = after.split_at(end + 2);
            let counts = support::Value::read(counts).dictionary();
            let number = |key: &str| counts[key.as_bytes()].number() as u32;
            let counts = (
                number("complete"),
                number("incomplete"),
                number("downloaded"),
            );
            let twice = files.insert(hash.try_into().expect("20 bytes"), counts);
            assert_eq!(twice, None, "once");
            rest = after;
        }
        files
    };
    let plain = ask(&server, "/scrape");
    assert_eq!(
        plain.head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    assert!(scraped(plain.unchunked()) == expected);
    assert!(scraped(dump("ben").unchunked()) == expected);
    let gzip = ask_with(
        &server,
        "/scrape",
        "1.1",
        "Accept-Encoding: deflate, gzip;q=0.5\r\n",
    );
    assert_eq!(field(&gzip.head, "Content-Encoding"), Some("gzip"));
    let mut decoded = Vec::new();
    let gzip = gzip.unchunked();
    let mut decoder = flate2::read::GzDecoder::new(gzip.as_slice());
    decoder.read_to_end(&mut decoded).expect("gzip");
    assert!(scraped(decoded) == expected, "gzip");
    let zstd = ask_with(&server, "/scrape", "1.1", "Accept-Encoding: gzip, zstd\r\n");
    assert_eq!(field(&zstd.head, "Content-Encoding"), Some("zstd"));
    let decoded = zstd::decode_all(zstd.unchunked().as_slice()).expect("zstd");
    assert!(scraped(decoded) == expected, "zstd");
    // HTTP/1.0 knows no chunks.
    let old = ask_with(&server, "/scrape", "1.0", "");
    assert_eq!(field(&old.head, "Transfer-Encoding"), None);
    assert!(scraped(old.body) == expected, "HTTP/1.0");

    let text = stats(&server, "fscr");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "10", "as many as were sent: {text}");
    assert!(lines[1].parse::<usize>().expect("bytes") > binary.len());
}

#[test]
fn an_address_waits_between_two_dumps() {
    let server = serving(1, |http| http.full_scrape_pause = Duration::from_secs(3600));
    let from = |last, target: &str| {
        let stream = connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), server.http(V4));
        exchange(stream, &format!("GET {target} HTTP/1.1\r\n\r\n"))
    };
    assert_eq!(from(1, "/scrape").unchunked(), b"d5:filesdee");
    for target in [
        "/scrape",
        "/stats?mode=tpbs&format=txt",
        "/stats?mode=statedump",
    ] {
        let answer = from(1, target);
        let head = &answer.head;
        assert!(
            head.starts_with("HTTP/1.0 429 Too Many Requests\r\n"),
            "{head}"
        );
        let seconds: u64 = field(head, "Retry-After")
            .expect("a time")
            .parse()
            .expect("seconds");
        assert!((1..=3600).contains(&seconds), "{head}");
        assert_eq!(answer.text(), "<title>Too Many Requests</title>\n");
    }
    assert_eq!(
        from(2, "/scrape").unchunked(),
        b"d5:filesdee",
        "others need not"
    );
    // Other statistics are no dumps.
    assert!(
        from(1, "/stats?mode=top10")
            .head
            .starts_with("HTTP/1.1 200 ")
    );
    let xml = from(1, "/stats?mode=everything").text();
    assert!(
        xml.contains("<count code=\"400 Not Modest\">3</count>"),
        "{xml}"
    );
}

#[test]
fn clients_that_leave_or_do_not_read_hold_up_nobody() {
    let server = serving(2, |_| {});
    let expected = fill(&server, 500);
    // Some leave at once, some never read; there are more than threads.
    let mut silent = Vec::new();
    for number in 0..12 {
        let mut stream = connect_from(support::V4, server.http(V4));
        stream
            .write_all(b"GET /scrape HTTP/1.1\r\n\r\n")
            .expect("send");
        if number % 2 == 0 {
            silent.push(stream);
        }
    }
    let mut client = Udp::new(server.udp(V4));
    assert_eq!(
        client
            .announce(&Announce::leecher(hash(1), 1000))
            .counts()
            .1,
        1
    );
    let answer = until(
        || ask(&server, "/stats?mode=tpbs&format=bin"),
        |answer| answer.head.starts_with("HTTP/1.1 200 "),
    );
    assert_eq!(answer.unchunked().len(), expected.len() * 28);
    // The tracker stops although they are still there.
    drop(server);
    drop(silent);
}
