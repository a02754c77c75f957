//! Reloads while clients are served: no reply and no peer is lost by one.

mod support;

use karuta::bittorrent::AddressFamily;
use karuta::config::Config;
use karuta::shard::stats::{Action, DropReason, Outcome, Protocol};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use support::{Announce, Http, Server, Udp, WATCHDOG, field, get, hash, scrape_packet, until};

const FAMILY: AddressFamily = AddressFamily::V4;

/// Clients of each protocol, and the torrents that each announces in turn.
const CLIENTS: u16 = 3;
const TORRENTS: u32 = 24;

/// The client that only one of two configurations lets in.
fn canary() -> Announce {
    let mut announce = Announce::leecher(hash(1000), 99);
    announce.peer_id[..8].copy_from_slice(b"-CN0001-");
    announce
}

/// Announces in a loop, each time waiting for the reply; says so after each.
/// Returns how many there were.
fn load(
    mut announce: impl FnMut(&Announce) -> u32,
    port: u16,
    stop: &AtomicBool,
    said: &SyncSender<()>,
) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) || count < u64::from(TORRENTS) {
        let torrent = count as u32 % TORRENTS;
        let interval = announce(&Announce::leecher(hash(torrent), port));
        assert!([1800, 900].contains(&interval), "{interval}");
        count += 1;
        // One that lies there unread says as much.
        let _ = said.try_send(());
    }
    count
}

/// Announces over one connection as long as the server keeps it.
fn over_http(server: SocketAddr) -> impl FnMut(&Announce) -> u32 {
    let mut connection: Option<Http> = None;
    move |announce| {
        let client = connection.get_or_insert_with(|| Http::connect(server));
        let response = client.get(&announce.target());
        if field(&response.head, "Connection") == Some("close") {
            client.closed();
            connection = None;
        }
        response.announced(FAMILY).interval
    }
}

#[test]
fn a_hundred_reloads_lose_no_reply_and_no_peer() {
    let mut first = support::config(2);
    first.http.as_mut().expect("on").enable_keepalive = true;
    let mut second = support::config(2);
    second.announce_interval = Duration::from_secs(900);
    second.min_announce_interval = Duration::from_secs(60);
    second.udp.as_mut().expect("on").max_packet_bytes_ipv4 = 700;
    second.http.as_mut().expect("on").max_request_bytes = 20_000;
    let hooks = "{udp: {}, prehooks: [{name: client approval, options: {blacklist: ['CN0001']}}]}";
    second.prehooks = Config::parse(hooks, "f").expect("valid").prehooks;
    let server = Server::start(&first);
    let (to_udp, to_http) = (server.udp(FAMILY), server.http(FAMILY));
    let stop = AtomicBool::new(false);
    let announces: u64 = std::thread::scope(|scope| {
        let mut clients = Vec::new();
        let mut progress: Vec<Receiver<()>> = Vec::new();
        for number in 0..CLIENTS * 2 {
            let (said, heard) = sync_channel(1);
            progress.push(heard);
            let stop = &stop;
            clients.push(scope.spawn(move || match number % 2 {
                0 => {
                    let mut client = Udp::new(to_udp);
                    let announce = |announce: &Announce| client.announce(announce).interval;
                    load(announce, 1 + number, stop, &said)
                }
                _ => load(over_http(to_http), 1 + number, stop, &said),
            }));
        }
        for number in 0..100 {
            let config = [&second, &first][number % 2];
            server.reload(config).expect("valid");
            // It is in force when it returns, on every shard.
            let refused = get(to_http, &canary().target()).body.len() < 60;
            assert_eq!(refused, number % 2 == 0, "reload {number}");
            for heard in &progress {
                // What was said before; then a reply that may have been on its
                // way, and one to an announce that came after the reload.
                heard.try_iter().count();
                heard.recv_timeout(WATCHDOG).expect("a reply");
                heard.recv_timeout(WATCHDOG).expect("another");
            }
        }
        stop.store(true, Ordering::Relaxed);
        let counts = clients.into_iter().map(|client| client.join());
        counts.map(|count| count.expect("no reply was lost")).sum()
    });
    let mut client = Udp::new(to_udp);
    for torrent in 0..TORRENTS {
        let counts = client.scrape(&[hash(torrent)]);
        assert_eq!(counts, [(0, 0, u32::from(CLIENTS) * 2)], "{torrent}");
    }
    let sum = |outcome| -> u64 {
        let of = |protocol| server.replies(protocol, Action::Announce, FAMILY, outcome);
        Protocol::ALL.map(of).iter().sum()
    };
    assert_eq!(sum(Outcome::Ok), announces + 50, "with those of the canary");
    assert_eq!(sum(Outcome::Error), 50, "those of the canary");
    for protocol in Protocol::ALL {
        for reason in DropReason::ALL {
            assert_eq!(server.drops(protocol, reason), 0, "{}", reason.name());
        }
    }
    // Published by the next tick.
    let peers = u64::from(TORRENTS) * u64::from(CLIENTS) * 2 + 1;
    until("the totals", || {
        let gauges = server.stats.iter().map(|stats| stats.family(FAMILY));
        let (leechers, swarms): (Vec<_>, Vec<_>) = gauges
            .map(|family| (family.leechers.get(), family.swarms.get()))
            .unzip();
        client.connect();
        leechers.iter().sum::<u64>() == peers && swarms.iter().sum::<u64>() == 25
    });
}

#[test]
fn requests_of_a_batch_that_is_under_way_are_answered() {
    // Datagrams that lie in the sockets while settings are exchanged.
    let server = Server::start(&support::config(2));
    let client = Udp::new(server.udp(FAMILY));
    for round in 0..20 {
        for number in 0..20 {
            client.send(&Announce::leecher(hash(number), 1).packet(client.id, number));
            client.send(&scrape_packet(
                client.id,
                number,
                &[hash(number), hash(number + 1)],
            ));
        }
        let mut config = support::config(2);
        config.announce_interval = Duration::from_secs(1000 + round);
        config.udp.as_mut().expect("on").max_packet_bytes_ipv4 = 600 + round as usize;
        server.reload(&config).expect("valid");
        for _ in 0..40 {
            client.receive();
        }
    }
}
