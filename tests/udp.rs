//! The UDP protocol (BEP 15, BEP 41, BEP 7) over sockets, against a tracker
//! that runs.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::shard::stats::{Action, DropReason, Outcome, Protocol};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use support::{
    Announce, Announced, COMPLETED, STARTED, STOPPED, Server, Udp, V4, V6, config, hash,
    scrape_packet, word,
};

const FAMILIES: [AddressFamily; 2] = AddressFamily::ALL;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16))
        .collect::<Result<_, _>>()
        .expect("hexadecimal")
}

#[test]
fn every_message_byte_by_byte() {
    let server = Server::start(&config(2));
    for (family, this_peer) in [
        (AddressFamily::V4, "7f000001 1ae1"),
        (
            AddressFamily::V6,
            "00000000 00000000 00000000 00000001 1ae1",
        ),
    ] {
        let client = Udp::new(server.udp(family));
        let reply = client.call(&hex("0000041727101980 00000000 0a0b0c0d"));
        assert_eq!(reply.len(), 16);
        assert_eq!(reply[..8], hex("00000000 0a0b0c0d"));
        let id = format!("{:08x}{:08x}", word(&reply, 8), word(&reply, 12));

        // A leecher that is alone gets itself, since there is nobody else.
        let announce = |action: &str, ip: &str| {
            hex(&format!(
                "{id} {action} 0a0b0c0e
                 6161616161616161616161616161616161616161
                 2d4b54303130302d626262626262626262626262
                 0000000000000001 0000000000000002 0000000000000003
                 00000002 {ip} deadbeef ffffffff 1ae1"
            ))
        };
        assert_eq!(
            client.call(&announce("00000001", "00000000")),
            hex(&format!(
                "00000001 0a0b0c0e 00000708 00000001 00000000 {this_peer}"
            ))
        );
        // The old opentracker form, with an address field of 16 bytes, is
        // answered under its own number.
        let zero = "00000000 00000000 00000000 00000000";
        assert_eq!(
            client.call(&announce("00000004", zero)),
            hex(&format!(
                "00000004 0a0b0c0e 00000708 00000001 00000000 {this_peer}"
            ))
        );
        let scrape = hex(&format!(
            "{id} 00000002 0a0b0c0f
             6161616161616161616161616161616161616161
             6262626262626262626262626262626262626262"
        ));
        assert_eq!(
            client.call(&scrape),
            hex("00000002 0a0b0c0f 00000000 00000000 00000001 00000000 00000000 00000000")
        );
        // An error: action 3, the transaction id, the text.
        let unknown = hex(&format!("{id} 00000009 0a0b0c10"));
        assert_eq!(
            client.call(&unknown),
            [&hex("00000003 0a0b0c10")[..], b"unknown action ID"].concat()
        );
    }
}

#[test]
fn bep_41_options_and_trailing_bytes_are_read_over() {
    let server = Server::start(&config(1));
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    for (number, options) in [
        // URLData in two parts, with a nop between and an end behind.
        &b"\x02\x0a/dir?a=b&c\x01\x02\x03=d&\x00"[..],
        // Unknown options are skipped (BEP 41), a truncated one ends the list.
        b"\x07\x03xyz\x02\x02/a",
        b"\x02\xff/cut",
        b"\x02",
        b"\x00garbage behind the end",
        &[0xff; 400],
    ]
    .iter()
    .enumerate()
    {
        let announce = Announce {
            options: options.to_vec(),
            ..Announce::leecher(hash(number as u32), 6881)
        };
        let reply = client.announce(&announce);
        assert_eq!((reply.counts(), reply.ports()), ((0, 1), vec![6881]));
    }
    // A scrape with half a hash behind the whole ones.
    let mut packet = scrape_packet(client.id, 7, &[hash(0)]);
    packet.extend([1; 11]);
    assert_eq!(client.call(&packet).len(), 8 + 12);
    // A connect with trailing bytes.
    let mut packet = hex("0000041727101980 00000000 0a0b0c0d");
    packet.extend([0; 100]);
    assert_eq!(client.call(&packet).len(), 16);
}

#[test]
fn connection_ids_belong_to_an_address_and_to_a_key() {
    let secret = |text: &'static str| {
        Server::with(1, |udp, _| {
            udp.private_key = karuta::config::Secret::new(text);
        })
    };
    let (one, same, other) = (secret("one key"), secret("one key"), secret("another key"));
    let server = one.udp(AddressFamily::V4);
    let mut client = Udp::from(V4, server);
    let elsewhere = Udp::from("127.0.0.9".parse().expect("address"), server);
    let announce = Announce::leecher(hash(1), 6881);

    // Another port of the same address may use it; so may another instance.
    let mut neighbour = Udp::from(V4, server);
    neighbour.id = client.id;
    assert_eq!(neighbour.announce(&announce).counts(), (0, 1));
    let mut instance = Udp::from(V4, same.udp(AddressFamily::V4));
    instance.id = client.id;
    assert_eq!(instance.announce(&announce).counts(), (0, 1));

    // Another address may not, nor may an instance with another key, nor is
    // any id but the one issued accepted.
    let stranger = Udp::from(V4, other.udp(AddressFamily::V4));
    let packet = announce.packet(client.id, 5);
    assert_eq!(elsewhere.error(&packet), "bad connection ID");
    assert_eq!(stranger.error(&packet), "bad connection ID");
    for id in [0, 1, client.id ^ 1, client.id ^ (1 << 63), u64::MAX] {
        assert_eq!(client.error(&announce.packet(id, 6)), "bad connection ID");
    }
    // A request shorter than the error would be is dropped: nothing is
    // amplified. The error has 25 bytes.
    let short = [&0u64.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 1], &[0; 8]].concat();
    client.silence(&short);
    assert_eq!(one.drops(Protocol::Udp, DropReason::BadConnectionId), 1);
    assert_eq!(
        client.error(&[&short[..], &[0]].concat()),
        "bad connection ID"
    );
}

#[test]
fn the_address_field_counts_only_if_spoofing_is_allowed() {
    let claimed: Ipv4Addr = "192.0.2.77".parse().expect("address");
    let claimed6: Ipv6Addr = "2001:db8::77".parse().expect("address");
    for allowed in [false, true] {
        let server = Server::with(1, |udp, _| udp.allow_ip_spoofing = allowed);
        let mut client = Udp::new(server.udp(AddressFamily::V4));
        let announce = Announce {
            ip: claimed,
            ..Announce::leecher(hash(1), 6881)
        };
        let expected = if allowed { IpAddr::V4(claimed) } else { V4 };
        assert_eq!(
            client.announce(&announce).peers,
            [SocketAddr::new(expected, 6881)]
        );
        let mut client = Udp::new(server.udp(AddressFamily::V6));
        let tid = client.next_id();
        let reply = client.call(&announce.packet4(claimed6, client.id, tid));
        let expected = if allowed { IpAddr::V6(claimed6) } else { V6 };
        assert_eq!(
            Announced::read(&reply, 4, tid, AddressFamily::V6).peers,
            [SocketAddr::new(expected, 6881)]
        );
    }
}

/// Fills a swarm with this many leechers, on the ports from 1 on.
fn fill(client: &mut Udp, hash: [u8; 20], leechers: u16) {
    for port in 1..=leechers {
        client.announce(&Announce::leecher(hash, port).want(0));
    }
}

#[test]
fn replies_stay_within_the_packet_size() {
    let sizes = [(1452, 1232), (508, 508), (20 + 6 * 90, 20 + 18 * 40 + 17)];
    for (v4, v6) in sizes {
        let server = Server::with(1, |udp, _| {
            udp.max_numwant = 2000;
            udp.max_packet_bytes_ipv4 = v4;
            udp.max_packet_bytes_ipv6 = v6;
            udp.max_scrape_infohashes = 74;
        });
        for (family, limit, stride) in [(AddressFamily::V4, v4, 6), (AddressFamily::V6, v6, 18)] {
            let mut client = Udp::new(server.udp(family));
            fill(&mut client, hash(1), 300);
            let tid = client.next_id();
            let packet = Announce::seeder(hash(1), 999)
                .want(2000)
                .packet(client.id, tid);
            let reply = client.call(&packet);
            let fits = (limit - 20) / stride;
            assert_eq!(reply.len(), 20 + fits * stride);
            let peers = Announced::read(&reply, 1, tid, family).ports();
            let different: BTreeSet<u16> = peers.iter().copied().collect();
            assert_eq!(different.len(), fits, "nobody twice");
            let hashes: Vec<_> = (0..74).map(hash).collect();
            let counts = client.scrape(&hashes);
            assert_eq!(counts.len(), 74.min((limit - 8) / 12));
            assert_eq!(counts[1], (1, 0, 300));
        }
    }
}

#[test]
fn as_many_peers_as_wanted_if_there_are_so_many() {
    let server = Server::start(&config(1));
    for family in FAMILIES {
        let mut client = Udp::new(server.udp(family));
        for (number, peers) in [1u16, 2, 3, 7, 30, 60, 150, 400].into_iter().enumerate() {
            let hash = hash(number as u32);
            fill(&mut client, hash, peers);
            let fits = if family == AddressFamily::V4 { 238 } else { 67 };
            for (asked, wanted) in [
                (0, 0),
                (1, 1),
                (2, 2),
                (3, 3),
                (29, 29),
                (99, 99),
                (100, 100),
                (101, 100),
                (i32::MAX, 100),
                (-1, 50),
                (i32::MIN, 50),
            ] {
                let expected = wanted.min(i32::from(peers)).min(fits) as usize;
                // A seeder gets leechers, all of which are other peers.
                let reply = client.announce(&Announce::seeder(hash, 60_000).want(asked));
                let different: BTreeSet<_> = reply.peers.iter().collect();
                assert_eq!(reply.peers.len(), expected, "{asked} of {peers}");
                assert_eq!(different.len(), expected, "nobody twice");
                assert!(reply.peers.iter().all(|peer| peer.port() <= peers));
                assert_eq!(reply.counts(), (1, u32::from(peers)));
                client.announce(&Announce::seeder(hash, 60_000).event(STOPPED));
                // A leecher of the swarm is one of them and is left out.
                let expected = wanted.min(i32::from(peers) - 1).min(fits) as usize;
                let reply = client.announce(&Announce::leecher(hash, 1).want(asked));
                if peers > 1 {
                    assert_eq!(reply.peers.len(), expected, "{asked} of {peers} but one");
                    assert!(reply.peers.iter().all(|peer| peer.port() != 1));
                }
            }
        }
    }
}

#[test]
fn seeders_and_leechers() {
    let server = Server::start(&config(2));
    for family in FAMILIES {
        let mut client = Udp::new(server.udp(family));
        let mut tell = |announce: Announce| {
            let reply = client.announce(&announce);
            (reply.counts(), reply.ports())
        };
        let hash = hash(1);
        let (leecher, seeder) = (
            |port| Announce::leecher(hash, port),
            |port| Announce::seeder(hash, port),
        );
        // Alone: itself, as there is nobody else; none if none is wanted.
        assert_eq!(tell(leecher(1).event(STARTED)), ((0, 1), vec![1]));
        assert_eq!(tell(leecher(1).want(0)), ((0, 1), vec![]));
        // Updated before the reply: two that announce in turn find each other.
        assert_eq!(tell(leecher(2)), ((0, 2), vec![1]));
        assert_eq!(tell(leecher(1)), ((0, 2), vec![2]));
        assert_eq!(tell(seeder(11)), ((1, 2), vec![1, 2]));
        // Seeders get leechers only, leechers get seeders first.
        assert_eq!(tell(seeder(12)), ((2, 2), vec![1, 2]));
        assert_eq!(tell(leecher(1)), ((2, 2), vec![2, 11, 12]));
        for _ in 0..20 {
            assert_eq!(tell(leecher(1).want(2)), ((2, 2), vec![11, 12]));
        }
        // Left 0 without an event makes a seeder; so does `completed`,
        // whatever is left.
        assert_eq!(tell(seeder(2)), ((3, 1), vec![1]));
        assert_eq!(tell(leecher(1).event(COMPLETED)).0, (4, 0));
        // A seeder among seeders: nobody but itself.
        assert_eq!(tell(seeder(2)), ((4, 0), vec![2]));
        // Something left again makes a leecher.
        assert_eq!(tell(leecher(2)), ((3, 1), vec![1, 11, 12]));
        // Stopped: gone, and answered without peers.
        assert_eq!(tell(leecher(2).event(STOPPED)), ((3, 0), vec![]));
        assert_eq!(tell(leecher(77).event(STOPPED)), ((3, 0), vec![]));
        for (port, left) in [(1, 2), (11, 1), (12, 0)] {
            assert_eq!(tell(seeder(port).event(STOPPED)), ((left, 0), vec![]));
        }
    }
}

#[test]
fn families_are_kept_apart() {
    let server = Server::start(&config(2));
    let mut four = Udp::new(server.udp(AddressFamily::V4));
    let mut six = Udp::new(server.udp(AddressFamily::V6));
    assert_eq!(
        four.announce(&Announce::seeder(hash(1), 4)).counts(),
        (1, 0)
    );
    let reply = six.announce(&Announce::leecher(hash(1), 6));
    assert_eq!((reply.counts(), reply.ports()), ((0, 1), vec![6]));
    assert_eq!(four.scrape(&[hash(1)]), [(1, 0, 0)]);
    assert_eq!(six.scrape(&[hash(1)]), [(0, 0, 1)]);
}

#[test]
fn downloads_count_once_for_each_leecher_that_completes() {
    let server = Server::start(&config(1));
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    let hash = hash(1);
    let mut after = |announce: Announce| {
        client.announce(&announce);
        client.scrape(&[hash])[0]
    };
    assert_eq!(after(Announce::leecher(hash, 1)), (0, 0, 1));
    assert_eq!(after(Announce::leecher(hash, 2)), (0, 0, 2));
    assert_eq!(after(Announce::seeder(hash, 1).event(COMPLETED)), (1, 1, 1));
    // Said twice, counted once.
    assert_eq!(after(Announce::seeder(hash, 1).event(COMPLETED)), (1, 1, 1));
    assert_eq!(after(Announce::seeder(hash, 1)), (1, 1, 1));
    // A seeder from the start has downloaded nothing here.
    assert_eq!(after(Announce::seeder(hash, 3).event(STARTED)), (2, 1, 1));
    assert_eq!(
        after(Announce::leecher(hash, 2).event(COMPLETED)),
        (3, 2, 0)
    );
    assert_eq!(after(Announce::seeder(hash, 1).event(STOPPED)), (2, 2, 0));
}

#[test]
fn a_scrape_of_74_hashes_gathers_from_all_shards() {
    let server = Server::with(4, |udp, _| udp.max_scrape_infohashes = 74);
    for family in FAMILIES {
        let mut client = Udp::new(server.udp(family));
        let hashes: Vec<_> = (0..74).map(hash).collect();
        let mut expected = Vec::new();
        for (number, &hash) in hashes.iter().enumerate() {
            let (seeders, leechers) = (number as u16 % 3, number as u16 % 5);
            for port in 1..=seeders {
                let event = if port == 1 { COMPLETED } else { 0 };
                client.announce(&Announce::seeder(hash, port).event(event));
            }
            for port in 1..=leechers {
                client.announce(&Announce::leecher(hash, 100 + port));
            }
            let downloads = u32::from(seeders > 0);
            expected.push((u32::from(seeders), downloads, u32::from(leechers)));
        }
        assert_eq!(client.scrape(&hashes), expected);
        // In the order of the request, each as often as it was asked for.
        let (mixed, in_order): (Vec<_>, Vec<_>) = (0..60)
            .map(|at| (at * 31 + at / 20) % 74)
            .map(|at| (hashes[at], expected[at]))
            .unzip();
        assert_eq!(client.scrape(&mixed), in_order);
        // No more than 74 are read.
        let more: Vec<_> = (0..80).map(hash).collect();
        assert_eq!(client.scrape(&more), expected);
    }
    assert!(server.crossed(Protocol::Udp) > 0);
}

#[test]
fn scrapes_are_cut_at_max_scrape_infohashes() {
    let server = Server::with(3, |udp, _| udp.max_scrape_infohashes = 5);
    let mut client = Udp::new(server.udp(AddressFamily::V4));
    let hashes: Vec<_> = (0..20).map(hash).collect();
    assert_eq!(client.scrape(&hashes).len(), 5);
    assert_eq!(client.scrape(&hashes[..4]).len(), 4);
}

/// An attacker who forges the address of one tracker must not set two trackers
/// on each other: what one says to strangers the other does not answer, whatever
/// text it puts into its errors.
#[test]
fn answers_are_not_answered() {
    let server = Server::start(&config(1));
    for family in FAMILIES {
        let mut client = Udp::new(server.udp(family));
        let connected = client.call(&hex("0000041727101980 00000000 0a0b0c0d"));
        client.silence(&connected);
        let refused = client.call(&Announce::leecher(hash(1), 6881).packet(1, 2));
        assert_eq!(word(&refused, 0), 3);
        client.silence(&refused);
        for bytes in 8..200 {
            let text = "Connection ID missmatch. ".bytes().cycle().take(bytes);
            let error: Vec<u8> = hex("00000003 0a0b0c0d").into_iter().chain(text).collect();
            client.silence(&error);
        }
    }
}

/// A socket with a dense stream is taken out of the epoll, and must be back in
/// it when the stream ends.
#[test]
fn a_socket_answers_after_a_stream_has_ended_on_it() {
    const STREAM: u32 = 40;
    let server = Server::start(&config(1));
    let mut clients = FAMILIES.map(|family| Udp::new(server.udp(family)));
    for round in 0..50 {
        for client in &mut clients {
            let id = client.connect();
            let packets = (0..STREAM).map(|number| {
                let port = number as u16 + 1;
                Announce::leecher(hash(round), port).packet(id, number)
            });
            packets.for_each(|packet| client.send(&packet));
            let answered: BTreeSet<u32> = (0..STREAM).map(|_| word(&client.receive(), 4)).collect();
            assert_eq!(answered, (0..STREAM).collect());
        }
        // One by one, on both sockets in turn.
        for turn in 0..4 {
            clients[turn % 2].connect();
        }
    }
}

/// A tracker on the wildcard addresses.
fn wildcard(shards: usize) -> Server {
    Server::with(shards, |udp, _| {
        udp.addr = vec![
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        ];
    })
}

/// Everything that is answered, asked at this address of a wildcard socket. A
/// connected socket hears only the address that it asked.
fn all_from(server: &Server, ip: IpAddr) {
    let port = server.udp(AddressFamily::of(&ip)).port();
    let local = match ip {
        IpAddr::V4(_) => V4,
        IpAddr::V6(_) => V6,
    };
    let mut client = Udp::from(local, SocketAddr::new(ip, port));
    for number in 0..16 {
        client.announce(&Announce::leecher(hash(number), 6881));
    }
    let hashes: Vec<_> = (0..16).map(hash).collect();
    assert_eq!(client.scrape(&hashes).len(), 16);
    let bad = Announce::leecher(hash(1), 0).packet(client.id, 1);
    assert_eq!(client.error(&bad), "invalid port");
}

#[test]
fn wildcard_sockets_answer_from_the_address_that_was_asked() {
    // With several shards, some answers take the way over another shard.
    for shards in [1, 4] {
        let server = wildcard(shards);
        for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.255.3.4", "::1"] {
            all_from(&server, ip.parse().expect("address"));
        }
    }
}

/// Run by the test below, in a network namespace with two more addresses.
#[test]
#[ignore = "needs addresses that the test below makes"]
fn inside_a_network_namespace() {
    let server = wildcard(2);
    for ip in ["::1", "fd00:6b61::2", "fd00:6b61::3"] {
        all_from(&server, ip.parse().expect("address"));
    }
}

#[test]
fn wildcard_sockets_answer_from_the_ipv6_address_that_was_asked() {
    let script = "ip link set lo up && ip addr add fd00:6b61::2/128 dev lo && \
                  ip addr add fd00:6b61::3/128 dev lo";
    let make = |then: &str| {
        std::process::Command::new("unshare")
            .args(["--net", "sh", "-c", &format!("{script} {then}")])
            .arg(std::env::current_exe().expect("this program"))
            .output()
    };
    // Only root may, and not everywhere.
    if !make("").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no network namespace can be made here");
        return;
    }
    let output = make("&& exec \"$0\" --exact inside_a_network_namespace --ignored").expect("sh");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn requests_and_replies_are_counted_as_they_were_sent() {
    let server = Server::start(&config(3));
    for (family, times) in [(AddressFamily::V4, 1), (AddressFamily::V6, 2)] {
        let mut client = Udp::new(server.udp(family));
        for number in 0..10 * times {
            client.announce(&Announce::leecher(hash(number), 6881));
        }
        for number in 0..7 * times {
            client.scrape(&[hash(number), hash(number + 1), hash(number + 2)]);
        }
        for _ in 0..5 * times {
            client.connect();
        }
        for _ in 0..4 * times {
            client.error(&Announce::leecher(hash(1), 6881).packet(1, 2));
        }
        for _ in 0..3 * times {
            client.error(&hex(&format!("{:016x} 00000009 00000001", client.id)));
        }
        for _ in 0..2 * times {
            client.send(b"short");
            client.send(&hex("0000041727101981 00000000 0a0b0c0d"));
        }
        let times = u64::from(times);
        let udp = Protocol::Udp;
        for (action, requests, ok, errors) in [
            (Action::Connect, 1 + 5 * times, 1 + 5 * times, 0),
            (Action::Announce, 14 * times, 10 * times, 4 * times),
            (Action::Scrape, 7 * times, 7 * times, 0),
        ] {
            assert_eq!(server.requests(udp, action, family), requests, "{action:?}");
            assert_eq!(server.replies(udp, action, family, Outcome::Ok), ok);
            assert_eq!(server.replies(udp, action, family, Outcome::Error), errors);
        }
        let other = server.replies(udp, Action::Other, family, Outcome::Error);
        assert_eq!(other, 3 * times);
    }
    // All that was sent before is counted once the shards have ended.
    let stats = server.stats.clone();
    drop(server);
    let drops = |reason| -> u64 {
        let each = stats
            .iter()
            .map(|stats| stats.drops(Protocol::Udp, reason).get());
        each.sum()
    };
    assert_eq!(drops(DropReason::TooShort), 6);
    assert_eq!(drops(DropReason::BadMagic), 6);
    for reason in DropReason::ALL {
        if !matches!(reason, DropReason::TooShort | DropReason::BadMagic) {
            assert_eq!(drops(reason), 0, "{reason:?}");
        }
    }
}
