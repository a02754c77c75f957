//! Whole runs against a tiny tracker in this process that can be told to
//! misbehave. No run passes or fails by the speed of this host.

mod tiny_tracker;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use karuta_load_tester::account::{Account, Verdict};
use karuta_load_tester::config::{Pace, RunConfig};
use karuta_load_tester::inflight::Entry;
use karuta_load_tester::pace::Timeline;
use karuta_load_tester::run::{RunError, run};
use karuta_load_tester::skew::Skew;
use karuta_load_tester::workload::{FillShape, Traffic};
use socket2::{Domain, Socket, Type};
use tiny_tracker::{Fault, Tracker, V4, V6, checked, config, http_config};

#[test]
fn a_closed_loop_counts_every_reply() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Window(16));
    config.workload.connects = 1.0;
    config.workload.scrapes = 1.0;
    config.scrape_hashes = 3;
    config.threads = 2;
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    let answered = report.answered;
    assert!(
        answered.announces > 0 && answered.connects > 0 && answered.scrapes > 0,
        "{report:?}"
    );
    assert_eq!(report.peers_per_reply, 2.0);
    assert_eq!(report.latency.count, answered.total());
}

#[test]
fn a_fixed_rate_sends_every_request_that_is_due() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Rate(1000.0));
    config.warm_up = Duration::ZERO;
    let report = checked(&config);
    assert_eq!(
        report.sent.total() + report.unsent,
        200,
        "1000/s for 0.2 s: {report:?}"
    );
    assert!(report.is_valid(), "{report:?}");
}

#[test]
fn packets_leave_the_same_with_and_without_segmentation() {
    for segmentation in [true, false] {
        let tracker = Tracker::udp(Fault::None);
        let config = RunConfig {
            segmentation,
            fill: Some(FillShape::OneEach),
            ..config(tracker.address, Pace::Window(200))
        };
        let report = checked(&config);
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(tracker.seen().len() as u64, config.workload.peers);
    }
}

#[test]
fn a_fill_announces_every_peer_although_packets_are_lost() {
    let tracker = Tracker::udp(Fault::DropEveryThird);
    let config = RunConfig {
        fill: Some(FillShape::Drawn(Skew::Cubic)),
        threads: 2,
        timeout: Duration::from_millis(20),
        ..config(tracker.address, Pace::Window(64))
    };
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    assert_eq!(report.answered.announces, config.workload.peers);
    assert!(report.retransmitted > 0 && report.lost > 0, "{report:?}");
    assert_eq!(tracker.seen().len() as u64, config.workload.peers);
}

#[test]
fn loss_in_a_closed_loop_is_reported_and_makes_the_run_invalid() {
    let tracker = Tracker::udp(Fault::DropEveryThird);
    let config = RunConfig {
        timeout: Duration::from_millis(10),
        ..config(tracker.address, Pace::Window(8))
    };
    let report = checked(&config);
    assert!(report.lost > 0 && report.answered.total() > 0, "{report:?}");
    assert!(!report.is_valid());
}

#[test]
fn a_tracker_that_stops_answering_makes_the_run_invalid_however_little_is_lost() {
    let tracker = Tracker::udp(Fault::Die);
    let config = RunConfig {
        timeout: Duration::from_millis(50),
        max_loss: 1.0,
        warm_up: Duration::ZERO,
        ..config(tracker.address, Pace::Window(4))
    };
    let report = checked(&config);
    assert_eq!(report.invalid.len(), 1, "{report:?}");
    assert!(
        report.invalid[0].starts_with("no replies for the last 0."),
        "{report:?}"
    );
}

#[test]
fn a_watched_process_that_ends_makes_the_run_invalid() {
    let tracker = Tracker::udp(Fault::None);
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let config = RunConfig {
        cpu_of: Some(child.id()),
        rss_of: Some(child.id()),
        ..config(tracker.address, Pace::Window(4))
    };
    let report = thread::scope(|scope| {
        let report = scope.spawn(|| checked(&config));
        while tracker.announces() == 0 && !report.is_finished() {
            thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        report.join().unwrap()
    });
    let expected = format!("the watched process {} ended during the run", child.id());
    assert_eq!(report.invalid, [expected]);
    assert!(report.cpu.is_none() && report.resident_bytes.is_none());
}

#[test]
fn wrong_transaction_ids_are_found() {
    let tracker = Tracker::udp(Fault::WrongTransactionId);
    let config = RunConfig {
        timeout: Duration::from_millis(20),
        ..config(tracker.address, Pace::Window(8))
    };
    let report = checked(&config);
    assert_eq!(report.answered.total(), 0);
    assert!(report.unknown_ids > 0 && !report.is_valid(), "{report:?}");
}

#[test]
fn duplicate_replies_are_told_from_wrong_ids_and_do_not_count_as_answers() {
    for (every, valid) in [(200, true), (1, false)] {
        let tracker = Tracker::udp(Fault::Repeat(every));
        let mut config = config(tracker.address, Pace::Rate(2500.0));
        config.warm_up = Duration::ZERO;
        let report = checked(&config);
        assert_eq!(report.unknown_ids, 0, "{report:?}");
        assert!(report.duplicates > 0, "{report:?}");
        assert!(report.replies <= report.sent.total(), "{report:?}");
        let said = format!("{} duplicate replies", report.duplicates);
        let expected = if valid { vec![] } else { vec![said] };
        assert_eq!(report.invalid, expected, "{report:?}");
    }
}

#[test]
fn error_replies_are_counted_with_their_text() {
    let tracker = Tracker::udp(Fault::Error);
    let report = checked(&config(tracker.address, Pace::Window(8)));
    assert_eq!(
        report.texts,
        [("not today".to_string(), report.error_replies)]
    );
    assert!(report.error_replies > 0 && !report.is_valid(), "{report:?}");
}

#[test]
fn malformed_replies_are_counted_as_invalid() {
    for (fault, text) in [
        (
            Fault::Malformed,
            "(malformed reply: length does not fit its action)",
        ),
        (Fault::WrongAction, "(reply to another kind of request)"),
        (Fault::TooManyPeers, "(more peers than asked for)"),
    ] {
        let tracker = Tracker::udp(fault);
        let report = checked(&config(tracker.address, Pace::Window(8)));
        assert_eq!(report.texts, [(text.to_string(), report.bad_replies)]);
        assert!(report.bad_replies > 0 && !report.is_valid(), "{report:?}");
    }
}

#[test]
fn a_scrape_reply_of_too_few_swarms_is_called_that() {
    let tracker = Tracker::udp(Fault::FewSwarms);
    let mut config = config(tracker.address, Pace::Window(8));
    config.workload.scrapes = 1.0;
    config.workload.announces = 0.0;
    config.scrape_hashes = 3;
    let report = checked(&config);
    let said = "(fewer swarms than asked for)".to_string();
    assert_eq!(report.texts, [(said, report.bad_replies)]);
    assert!(report.bad_replies > 0, "{report:?}");
}

#[test]
fn a_tracker_that_may_choose_may_send_many_peers() {
    let tracker = Tracker::udp(Fault::ThousandPeers);
    let mut config = config(tracker.address, Pace::Window(8));
    config.numwant = -1;
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    assert_eq!(report.peers_per_reply, 1000.0);
}

#[test]
fn refused_peers_of_a_fill_are_given_up() {
    let tracker = Tracker::udp(Fault::Error);
    let config = RunConfig {
        fill: Some(FillShape::OneEach),
        ..config(tracker.address, Pace::Window(32))
    };
    let report = checked(&config);
    assert_eq!(report.rejected, config.workload.peers);
    assert_eq!(report.retransmitted, 2 * config.workload.peers);
    assert_eq!(
        report.invalid,
        [
            "no request was answered",
            "0 of 1000 peers placed",
            "1000 peers of the fill were not accepted: not today"
        ]
    );
    assert!(
        report.idle_fraction <= 1.0 && report.to_text().contains("0 of 1000 peers"),
        "{report:?}"
    );
}

#[test]
fn a_fill_outlives_a_restart_of_the_tracker() {
    let tracker = Tracker::udp(Fault::Restart);
    let config = RunConfig {
        fill: Some(FillShape::OneEach),
        ..config(tracker.address, Pace::Window(32))
    };
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    assert_eq!(report.answered.announces, config.workload.peers);
    // Each of three sockets is held at its first refusal, with at most a window
    // of requests in flight.
    assert!((1..=96).contains(&report.error_replies), "{report:?}");
}

#[test]
fn a_thread_that_cannot_be_pinned_is_told_before_anything_is_sent() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Rate(1e6));
    config.cpus = vec![usize::MAX];
    let error = run(&config, false).unwrap_err();
    assert!(matches!(error, RunError::Pin(usize::MAX, _)), "{error}");
    assert_eq!(tracker.announces(), 0);
}

#[test]
fn only_accepted_peers_keep_a_fill_going() {
    let config = RunConfig {
        fill: Some(FillShape::OneEach),
        ..config((V4, 1).into(), Pace::Window(1))
    };
    let mut account = Account::new(&config, 0);
    let timeline = Timeline::new(Duration::ZERO, None);
    let second = 1_000_000_000;
    let mut answer = |verdict, now| {
        let (request, attempts) = account.source.draw().unwrap().unwrap();
        let entry = Entry {
            request,
            intended: now,
            sent: now,
            measured: true,
            attempts,
        };
        account.arrived(20, now, &timeline);
        account.answered(&entry, &verdict, now);
        [account.has_stalled(now + 8 * second), account.stats.stalled]
    };
    assert_eq!(answer(Verdict::Good { peers: 0 }, second), [false; 2]);
    assert_eq!(answer(Verdict::Bad("no"), 3 * second), [false; 2]);
    assert_eq!(answer(Verdict::Failure(b"no"), 4 * second), [true; 2]);
}

#[test]
fn where_nothing_listens_the_error_says_so() {
    // Both ports are held, so that nobody else takes them: the socket belongs to
    // a peer that sends nothing, and the other does not listen.
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    held.connect("127.0.0.1:9").unwrap();
    let udp = held.local_addr().unwrap();
    let error = run(&config(udp, Pace::Window(1)), false).unwrap_err();
    assert!(
        matches!(error, RunError::Connect(_)) && error.to_string().contains("nothing listens"),
        "{error}"
    );
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    held.bind(&any.into()).unwrap();
    let tcp = held.local_addr().unwrap().as_socket().unwrap();
    let error = run(&http_config(tcp, true), false).unwrap_err();
    assert!(
        matches!(error, RunError::Connect(_)) && error.to_string().contains("nothing listens"),
        "{error}"
    );
}

#[test]
fn http_connections_are_kept_or_not() {
    for keep_alive in [true, false] {
        let tracker = Tracker::http(Fault::None);
        let report = checked(&http_config(tracker.address, keep_alive));
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(report.peers_per_reply, 2.0);
    }
}

#[test]
fn http_at_a_fixed_rate_sends_every_request_that_is_due() {
    let tracker = Tracker::http(Fault::None);
    let mut config = http_config(tracker.address, true);
    config.pace = Pace::Rate(500.0);
    config.warm_up = Duration::ZERO;
    let report = checked(&config);
    assert_eq!(
        report.sent.total() + report.unsent,
        100,
        "500/s for 0.2 s: {report:?}"
    );
}

#[test]
fn an_http_fill_announces_every_peer_although_connections_break() {
    for keep_alive in [true, false] {
        let tracker = Tracker::http(Fault::DropEveryThird);
        let mut config = http_config(tracker.address, keep_alive);
        config.fill = Some(FillShape::Drawn(Skew::Uniform));
        config.workload.peers = 60;
        let report = checked(&config);
        assert!(report.is_valid(), "{report:?}");
        assert_eq!(report.answered.announces, 60);
        assert!(report.broken_connections > 0, "{report:?}");
        assert_eq!(tracker.seen().len(), 60);
    }
}

#[test]
fn http_failures_are_counted_with_their_text() {
    let tracker = Tracker::http(Fault::Error);
    let report = checked(&http_config(tracker.address, true));
    assert_eq!(
        report.texts,
        [("not today".to_string(), report.error_replies)]
    );
    let tracker = Tracker::http(Fault::Malformed);
    let report = checked(&http_config(tracker.address, true));
    assert_eq!(
        report.texts,
        [(
            "(body is no bencoded dictionary)".to_string(),
            report.bad_replies
        )]
    );
    assert!(report.bad_replies > 0 && !report.is_valid(), "{report:?}");
}

#[test]
fn both_families_are_measured() {
    for ip in [V4, V6] {
        let tracker = Tracker::udp_at(ip, Fault::None);
        let udp = checked(&config(tracker.address, Pace::Window(8)));
        let tracker = Tracker::http_at(ip, Fault::None);
        let http = checked(&http_config(tracker.address, true));
        for report in [udp, http] {
            assert!(report.is_valid(), "{report:?}");
            assert_eq!(report.peers_per_reply, 2.0, "{report:?}");
        }
    }
}

#[test]
fn every_source_address_sends() {
    for over_http in [false, true] {
        let (tracker, config) = if over_http {
            let tracker = Tracker::http(Fault::None);
            let config = http_config(tracker.address, true);
            (tracker, config)
        } else {
            let tracker = Tracker::udp(Fault::None);
            let config = config(tracker.address, Pace::Window(64));
            (tracker, config)
        };
        let config = RunConfig {
            fill: Some(FillShape::OneEach),
            ..config
        };
        assert!(checked(&config).is_valid());
        let seen: HashSet<Option<IpAddr>> =
            tracker.seen().iter().map(|(_, ip, _)| Some(*ip)).collect();
        assert_eq!(seen, config.sources.into_iter().collect());
    }
}

#[test]
fn the_warm_up_is_load_that_does_not_count() {
    let tracker = Tracker::udp(Fault::None);
    let mut config = config(tracker.address, Pace::Rate(1000.0));
    config.warm_up = Duration::from_millis(50);
    let report = checked(&config);
    assert!(report.is_valid() && report.lost == 0, "{report:?}");
    assert_eq!(report.sent.total(), 200, "{report:?}");
    assert_eq!(tracker.announces(), 250);
}

#[test]
fn latency_counts_from_when_a_request_should_have_been_sent() {
    let config = config((V4, 1).into(), Pace::Rate(1000.0));
    let mut account = Account::new(&config, 0);
    let mut traffic = Traffic::new(&config.workload, 0);
    for (intended, measured) in [(1_000_000, true), (2_000_000, false)] {
        let entry = Entry {
            request: traffic.draw(),
            intended,
            sent: 5_000_000,
            measured,
            attempts: 0,
        };
        account.sent(&entry);
        account.answered(&entry, &Verdict::Good { peers: 3 }, 6_000_000);
    }
    let latency = account.stats.latencies.summary();
    assert_eq!(latency.count, 1, "what is not measured does not count");
    assert!((latency.max_us - 5000.0).abs() < 10.0, "{latency:?}");
    assert_eq!(account.stats.sent, [0, 1, 0]);
}

#[test]
fn a_stall_shows_in_all_that_should_have_been_sent_meanwhile() {
    let tracker = Tracker::udp(Fault::WithholdAHundred);
    let mut config = config(tracker.address, Pace::Rate(1000.0));
    config.warm_up = Duration::ZERO;
    let report = checked(&config);
    assert!(report.is_valid(), "{report:?}");
    // The k-th of a hundred is answered when the last is due or later, 100 - k
    // ms after it should have been sent, however slow this host is.
    let latency = &report.latency;
    assert_eq!(latency.count, 200);
    assert!(latency.p90_us > 75_000.0, "{report:?}");
    assert!(latency.max_us > 98_000.0, "{report:?}");
}
