//! What holds for any input of the codecs, on random inputs. Proptest prints
//! the input that fails, made as small as it can.

mod properties;

use karuta::protocol::udp::{CONNECTION_ID_LIFE_SECONDS, ConnectionIds};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes that look like datagrams: a header with a likely action before them.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let header = (any::<u64>(), 0u32..6, any::<u32>());
    let body = prop::collection::vec(any::<u8>(), 0..160);
    let event = 0u8..7;
    (header, body, event, any::<bool>()).prop_map(
        |((id, action, transaction), body, event, magic)| {
            let id = if magic { 0x0417_2710_1980 } else { id };
            let mut packet = [
                &id.to_be_bytes()[..],
                &action.to_be_bytes(),
                &transaction.to_be_bytes(),
            ]
            .concat();
            packet.extend(body);
            if let Some(field) = packet.get_mut(80..84) {
                field.copy_from_slice(&[0, 0, 0, event]);
            }
            packet
        },
    )
}

/// Queries with the keys and values that matter, some of them malformed.
fn queries() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "info_hash",
        "INFO_HASH",
        "peer_id",
        "port",
        "left",
        "downloaded",
        "uploaded",
        "event",
        "numwant",
        "compact",
        "no_peer_id",
        "ip",
        "%69p",
        "x",
        "",
        "%",
        "a-very-long-key-indeed",
    ]);
    let value = prop_oneof![
        "[0-9]{1,3}",
        "-?[0-9]{1,24}",
        "[a-z]{20}",
        "(%[0-9a-fA-F]{2}){20}",
        "(?i)(started|stopped|completed|paused|none|)",
        "[ -~]{0,24}",
    ];
    let separator = prop::sample::select(vec!["&", ";", "&&"]);
    prop::collection::vec((key, value, separator), 0..14).prop_map(|pairs| {
        let pairs = pairs.into_iter();
        pairs
            .map(|(key, value, separator)| format!("{key}={value}{separator}"))
            .collect()
    })
}

/// Queries of complete announces, in any order, with one more pair.
fn complete_queries() -> impl Strategy<Value = String> {
    let required = [
        "info_hash=aaaaaaaaaaaaaaaaaaaa",
        "peer_id=bbbbbbbbbbbbbbbbbbbb",
        "port=6881",
        "left=1",
        "downloaded=2",
        "uploaded=3",
        "event=started",
        "numwant=20",
    ];
    (Just(required.to_vec()).prop_shuffle(), queries())
        .prop_map(|(required, more)| format!("{more}{}", required.join("&")))
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "G\u{e9}T"]);
    let path = prop::sample::select(vec![
        "/announce",
        "/scrape",
        "/a/b",
        "/scrape.php",
        "//%61",
        "/x/y/z",
        "*",
        "http://a/announce",
    ]);
    let version = prop::sample::select(vec!["1.0", "1.1", "1.1", "2.0"]);
    let header = prop::sample::select(vec![
        "Host: a\r\n",
        "Connection: close\r\n",
        "Content-Length: 3\r\n",
        "X-Real-IP: 192.0.2.1\r\n",
        "X-Real-IP: ?\r\n",
        "bad\r\n",
        "Transfer-Encoding: chunked\r\n",
    ]);
    let headers = prop::collection::vec(header, 0..4);
    let tail = prop::collection::vec(any::<u8>(), 0..8);
    (method, path, queries(), version, headers, tail).prop_map(
        |(method, path, query, version, headers, tail)| {
            let headers = headers.concat();
            let head = format!("{method} {path}?{query} HTTP/{version}\r\n{headers}\r\n");
            [head.as_bytes(), &tail].concat()
        },
    )
}

/// Bytes made of what bencode is made of.
fn bencode() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "d", "l", "e", "i1e", "i-20e", "i0e", "i00e", "0:", "1:a", "1:b", "2:aa", "3:a", "01:a",
        "x",
    ]);
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat().into_bytes())
}

/// Bencode that is valid, to a depth of four.
fn valid_bencode() -> impl Strategy<Value = Vec<u8>> {
    let string = |bytes: &[u8]| [bytes.len().to_string().as_bytes(), b":", bytes].concat();
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| format!("i{number}e").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(move |bytes| string(&bytes)),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6);
        let dictionary =
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..4), inner, 0..6);
        prop_oneof![
            list.prop_map(|values| [b"l", &values.concat()[..], b"e"].concat()),
            dictionary.prop_map(move |pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| [string(&key), value].concat());
                [b"d", &pairs.collect::<Vec<_>>().concat()[..], b"e"].concat()
            }),
        ]
    })
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
    ]
}

/// Frames that are right but for what the checksums of UDP cover.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..120);
    (any::<[u8; 12]>(), any::<[u8; 36]>(), payload, any::<bool>()).prop_map(
        |(ethernet, addresses, payload, is_v4)| {
            let sum = |words: &[u8]| {
                let words = words.as_chunks::<2>().0.iter();
                let mut sum: u32 = words.map(|&word| u32::from(u16::from_be_bytes(word))).sum();
                while sum > 0xffff {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                sum as u16
            };
            let (ips, ports) = addresses.split_at(if is_v4 { 8 } else { 32 });
            let udp_bytes = (8 + payload.len() as u16).to_be_bytes();
            let mut frame = ethernet.to_vec();
            if is_v4 {
                let total = (28 + payload.len() as u16).to_be_bytes();
                let mut header = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0].to_vec();
                header.extend(ips);
                let checksum = !sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(header);
            } else {
                frame.extend([
                    0x86,
                    0xdd,
                    0x60,
                    0,
                    0,
                    0,
                    udp_bytes[0],
                    udp_bytes[1],
                    17,
                    64,
                ]);
                frame.extend(ips);
            }
            // As a virtual interface leaves it: of the pseudo header only.
            let pseudo = [ips, &[0, 17], &udp_bytes].concat();
            frame.extend(&ports[..4]);
            frame.extend(udp_bytes);
            frame.extend(sum(&pseudo).to_be_bytes());
            frame.extend(payload);
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_packet(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::udp::any_packet(&packet);
    }

    #[test]
    fn likely_packet(packet in packets()) {
        properties::udp::any_packet(&packet);
    }

    #[test]
    fn any_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::frame::any_frame(&bytes);
    }

    #[test]
    fn likely_frame(frame in frames()) {
        properties::frame::any_frame(&frame);
    }

    #[test]
    fn any_request(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::http::any_request(&bytes);
    }

    #[test]
    fn likely_request(bytes in requests()) {
        properties::http::any_request(&bytes);
    }

    #[test]
    fn likely_query(query in queries()) {
        properties::http::any_query(query.as_bytes());
    }

    #[test]
    fn complete_query(query in complete_queries()) {
        properties::http::any_query(query.as_bytes());
    }

    #[test]
    fn any_request_in_opentrackers_dialect(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::opentracker::any_request(&bytes);
    }

    #[test]
    fn likely_request_in_opentrackers_dialect(bytes in requests()) {
        properties::opentracker::any_request(&bytes);
    }

    #[test]
    fn likely_query_in_opentrackers_dialect(query in queries()) {
        properties::opentracker::any_request(query.as_bytes());
    }

    #[test]
    fn complete_query_in_opentrackers_dialect(query in complete_queries()) {
        properties::opentracker::any_request(query.as_bytes());
    }

    #[test]
    fn any_value(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
        properties::http::any_value(&bytes);
    }

    #[test]
    fn likely_value(text in "([a-z%]|%[0-9a-fA-F]{2}){0,20}") {
        properties::http::any_value(text.as_bytes());
    }

    #[test]
    fn every_info_hash(bytes in any::<[u8; 20]>()) {
        properties::http::any_value(&bytes);
    }

    #[test]
    fn any_bencode(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        properties::bencode::any_input(&bytes);
    }

    #[test]
    fn likely_bencode(bytes in bencode()) {
        properties::bencode::any_input(&bytes);
    }

    #[test]
    fn every_value_of_bencode(bytes in valid_bencode()) {
        use karuta::protocol::bencode::{Limits, Reader};
        prop_assert!(Reader::new(&bytes, Limits::default()).all(|event| event.is_ok()));
        properties::bencode::any_input(&bytes);
    }

    #[test]
    fn connection_ids_belong_to_one_address_and_one_key(
        key in any::<[u8; 16]>(),
        other_key in any::<[u8; 16]>(),
        address in addresses(),
        other_address in addresses(),
        now in 0u64..1 << 40,
        age in 0..=CONNECTION_ID_LIFE_SECONDS,
        skew in 0u64..600,
        guess in any::<u64>(),
        flipped in 0u32..64,
    ) {
        let ids = ConnectionIds::new(key, skew);
        let id = ids.issue(now, address);
        prop_assert_ne!(id, 0);
        prop_assert!(ids.accepts(now + age, address, id));
        prop_assert!(ids.clone().accepts(now, address, id));
        if other_address != address {
            prop_assert!(!ids.accepts(now, other_address, id));
        }
        if other_key != key {
            prop_assert!(!ConnectionIds::new(other_key, skew).accepts(now, address, id));
        }
        prop_assert!(!ids.accepts(now, address, id ^ (1 << flipped)));
        prop_assert!(guess == id || !ids.accepts(now, address, guess));
    }

    #[test]
    fn connection_ids_of_mapped_addresses_are_those_of_ipv4(bits in any::<u32>(), now in 0u64..1 << 40) {
        let ids = ConnectionIds::from_secret(b"key", 0);
        let v4 = Ipv4Addr::from(bits);
        prop_assert_eq!(ids.issue(now, v4.into()), ids.issue(now, v4.to_ipv6_mapped().into()));
    }

    #[test]
    fn connection_ids_of_different_secrets_differ(
        a in prop::collection::vec(any::<u8>(), 0..40),
        b in prop::collection::vec(any::<u8>(), 0..40),
        address in addresses(),
    ) {
        let issue = |secret: &[u8]| ConnectionIds::from_secret(secret, 10).issue(1 << 30, address);
        prop_assert_eq!(a == b, issue(&a) == issue(&b));
    }
}
