//! What the codecs cost per request: parsing and answering over UDP and HTTP,
//! and issuing and checking connection ids.
//!
//! Each case works on the same few bytes, which stay in the first-level cache.
//! Not measured: fetching a request from memory, system calls, swarms.

use criterion::{Criterion, criterion_group, criterion_main};
use karuta::bittorrent::{AnnounceCounts, InfoHash, ScrapeCounts};
use karuta::protocol::http::{
    self, AnnounceReply, HeadOptions, HeadStatus, NumWantLimits, Routes, Status,
};
use karuta::protocol::udp::{self, AnnounceAction, ConnectionIds, Request};
use std::hint::black_box;
use std::net::IpAddr;

const NOW: u64 = 1_800_000_000;
const PEERS: [u8; 30 * 6] = [0x5a; 30 * 6];

const REQUEST: &[u8] = b"GET /announce\
    ?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
    &peer_id=-qB4630-k8hj0wgej6ch&port=6881&uploaded=0&downloaded=0&left=727955456\
    &corrupt=0&key=ABCD0123&event=started&numwant=30&compact=1&no_peer_id=1\
    &supportcrypto=1&redundant=0 HTTP/1.1\r\n\
    Host: tracker.example:6969\r\nUser-Agent: qBittorrent/4.6.3\r\n\
    Accept-Encoding: gzip\r\nConnection: close\r\n\r\n";

fn udp_announce(c: &mut Criterion) {
    let packet = [
        &1u64.to_be_bytes()[..],
        b"\0\0\0\x01\x0a\x0b\x0c\x0d",
        &[0x5a; 64],
        b"\0\0\0\x02\0\0\0\0\xde\xad\xbe\xef\xff\xff\xff\xff\x1a\xe1",
    ]
    .concat();
    c.bench_function("udp/announce, parse and reply with 30 peers", |b| {
        let mut out = [0; udp::MAX_PACKET_BYTES_V4];
        b.iter(|| {
            let Ok(Request::Announce {
                transaction_id,
                announce,
                ..
            }) = udp::parse(black_box(&packet))
            else {
                panic!("not an announce");
            };
            black_box(announce);
            let action = AnnounceAction::Standard;
            let written = udp::write_announce_header(&mut out, action, transaction_id, 1800, 1, 2);
            let start = written.unwrap_or_default();
            out[start..start + PEERS.len()].copy_from_slice(black_box(&PEERS));
            black_box(&out);
        });
    });
}

fn udp_scrape(c: &mut Criterion) {
    let packet = [
        &1u64.to_be_bytes()[..],
        b"\0\0\0\x02\x0a\x0b\x0c\x0d",
        &[0x5a; 20 * 74],
    ]
    .concat();
    c.bench_function("udp/scrape, parse and reply with 74 hashes", |b| {
        let mut out = [0; udp::MAX_PACKET_BYTES_V4];
        b.iter(|| {
            let Ok(Request::Scrape { info_hashes, .. }) = udp::parse(black_box(&packet)) else {
                panic!("not a scrape");
            };
            let counts = info_hashes.iter().map(|hash| ScrapeCounts {
                complete: hash.prefix(),
                ..ScrapeCounts::default()
            });
            black_box(udp::write_scrape(&mut out, 1, counts)).expect("enough room");
        });
    });
}

fn connection_ids(c: &mut Criterion) {
    let ids = ConnectionIds::from_secret(b"bench", 10);
    for (name, address) in [("IPv4", "192.0.2.1"), ("IPv6", "2001:db8::1")] {
        let address: IpAddr = address.parse().expect("an address");
        let id = ids.issue(NOW, address);
        c.bench_function(&format!("connection id/issue, {name}"), |b| {
            b.iter(|| ids.issue(black_box(NOW), black_box(address)));
        });
        c.bench_function(&format!("connection id/accept, {name}"), |b| {
            b.iter(|| ids.accepts(black_box(NOW), black_box(address), black_box(id)));
        });
    }
}

fn http_announce(c: &mut Criterion) {
    let routes = Routes::compile(&["/announce"], &["/scrape"]).expect("valid routes");
    let options = HeadOptions {
        max_head_bytes: 8192,
        real_ip_header: None,
    };
    let limits = NumWantLimits {
        default: 50,
        max: 100,
    };
    c.bench_function("http/head and route", |b| {
        b.iter(|| {
            let head = http::parse_head(black_box(REQUEST), &options);
            let Ok(HeadStatus::Complete(head)) = head else {
                panic!("not a head");
            };
            black_box(routes.find(head.path)).expect("a route").kind
        });
    });
    let query = REQUEST
        .split(|&byte| byte == b' ')
        .nth(1)
        .expect("a target");
    let (_, query) = http::query::split_target(query);
    c.bench_function("http/announce, parse the query", |b| {
        b.iter(|| http::parse_announce(black_box(query), limits).expect("an announce"));
    });
    let reply = AnnounceReply {
        counts: AnnounceCounts {
            complete: 1234,
            incomplete: 567,
            downloaded: 89_012,
        },
        interval_seconds: 1800,
        min_interval_seconds: 900,
        peers: &PEERS,
        ..AnnounceReply::default()
    };
    c.bench_function("http/announce, reply with 30 peers", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            let response = http::begin_response(&mut out, Status::Ok, false);
            http::write_announce_compact(&mut out, black_box(&reply));
            response.finish(&mut out);
            black_box(&out);
        });
    });
    c.bench_function("http/scrape, reply with 50 hashes", |b| {
        let mut out = Vec::new();
        let mut files = [(InfoHash([0; 20]), ScrapeCounts::default()); 50];
        b.iter(|| {
            for (at, (hash, _)) in files.iter_mut().enumerate() {
                hash.0[0] = (at as u8).wrapping_mul(77);
            }
            out.clear();
            http::write_scrape(&mut out, &mut files);
            black_box(&out);
        });
    });
}

criterion_group!(
    benches,
    udp_announce,
    udp_scrape,
    connection_ids,
    http_announce
);
criterion_main!(benches);
