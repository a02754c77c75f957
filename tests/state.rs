//! State that outlives the process: what was saved comes back, in whatever
//! number of shards, and a file that is not whole is refused.

#[path = "properties/mod.rs"]
mod properties;
mod support;

use karuta::bittorrent::{AddressFamily, InfoHash, PeerId};
use karuta::config::Config;
use karuta::shard::Shard;
use karuta::shard::survey::{PeerView, Survey, SurveyDesk, SwarmView};
use karuta::state::{
    Block, FileWriter, FormatError, Header, LoadError, Place, load, probe, statedump,
};
use karuta::swarm::SavedSwarm;
use properties::state_file::{any_bytes, load_bytes, peers, shards, with_block};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use support::{Announce, COMPLETED, STOPPED, Server, Udp, WATCHDOG, config, hash};

const V4: AddressFamily = AddressFamily::V4;
const V6: AddressFamily = AddressFamily::V6;

/// When the files of these tests were saved.
const SAVED: u64 = 1_000_000;

fn peer(number: u32, is_seeder: bool, age_seconds: u32) -> PeerView {
    let [_, b, c, d] = number.to_be_bytes();
    PeerView {
        ip: IpAddr::from([11, b, c, d]),
        port: 6881,
        is_seeder,
        is_paused: false,
        age_seconds,
        peer_id: None,
    }
}

fn swarm(number: u32, downloads: u32, empty_seconds: u32) -> SavedSwarm {
    SavedSwarm {
        info_hash: InfoHash(hash(number)),
        downloads,
        empty_seconds,
    }
}

/// The bytes of a file with one block per group of swarms.
fn file(peer_ids: bool, blocks: &[&[(AddressFamily, SavedSwarm, &[PeerView])]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header {
        saved_unix_seconds: SAVED,
        peer_ids,
    };
    let mut writer = FileWriter::begin(&mut bytes, &header).expect("memory");
    for swarms in blocks {
        let mut block = Block::default();
        for (family, swarm, peers) in *swarms {
            block.push(*family, swarm, peers.iter().copied(), peer_ids);
        }
        writer.write(&mut block).expect("memory");
    }
    let saved = writer.finish().expect("memory");
    assert_eq!(saved.bytes, bytes.len() as u64);
    bytes
}

fn small_file() -> Vec<u8> {
    let seeders = [peer(1, true, 0), peer(2, false, 8)];
    let v6 = PeerView {
        ip: "2001:db8::1".parse().expect("address"),
        ..peer(3, false, 0)
    };
    file(
        false,
        &[
            &[(V4, swarm(1, 5, 0), &seeders), (V4, swarm(2, 3, 60), &[])],
            &[(V6, swarm(1, 1, 0), &[v6])],
        ],
    )
}

/// Complete, incomplete, downloaded.
fn counts(shards: &mut [Shard], family: AddressFamily, number: u32) -> (u32, u32, u32) {
    let info_hash = InfoHash(hash(number));
    let owner = shards[0].owners().owner(&info_hash);
    let counts = shards[owner].scrape(family, &info_hash);
    (counts.complete, counts.incomplete, counts.downloaded)
}

fn refusal(bytes: &[u8]) -> FormatError {
    match load_bytes(bytes, &mut shards(2, 0), SAVED) {
        Err(LoadError::Format(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_loaded_into_any_number_of_shards() {
    for count in [1, 2, 5] {
        let mut shards = shards(count, 0);
        let loaded = load_bytes(&small_file(), &mut shards, SAVED + 20).expect("a good file");
        assert_eq!((loaded.swarms, loaded.peers), (3, 3));
        assert_eq!(counts(&mut shards, V4, 1), (1, 1, 5));
        assert_eq!(counts(&mut shards, V4, 2), (0, 0, 3));
        assert_eq!(counts(&mut shards, V6, 1), (0, 1, 1));
    }
}

#[test]
fn a_torn_file_is_refused_wherever_it_ends() {
    let whole = small_file();
    for end in 0..whole.len() {
        let expected = match end {
            0..8 => FormatError::Foreign,
            _ => FormatError::Torn(0),
        };
        let error = refusal(&whole[..end]);
        let same = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
        assert!(same, "{end} of {}: {error:?}", whole.len());
    }
    let longer = [&whole[..], &[0]].concat();
    assert_eq!(refusal(&longer), FormatError::Trailing);
}

#[test]
fn every_damaged_byte_is_noticed() {
    let whole = small_file();
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            let error = refusal(&damaged);
            assert!(!error.to_string().is_empty(), "{at}");
        }
    }
}

#[test]
fn blocks_of_another_file_or_place_are_noticed() {
    let one: &[(AddressFamily, SavedSwarm, &[PeerView])] = &[(V4, swarm(1, 5, 60), &[])];
    let two: &[(AddressFamily, SavedSwarm, &[PeerView])] = &[(V4, swarm(2, 5, 60), &[])];
    let whole = file(false, &[one, two]);
    let other = file(true, &[one, two]);
    let block = (whole.len() - 32 - 32) / 2;
    let (first, second) = (32..32 + block, 32 + block..32 + 2 * block);
    let mut swapped = whole.clone();
    swapped[first.clone()].copy_from_slice(&whole[second.clone()]);
    swapped[second].copy_from_slice(&whole[first.clone()]);
    assert_eq!(refusal(&swapped), FormatError::Block(0));
    let mut mixed = whole;
    mixed[first.clone()].copy_from_slice(&other[first]);
    assert_eq!(refusal(&mixed), FormatError::Block(0));
}

#[test]
fn other_versions_and_files_are_named() {
    let mut newer = small_file();
    newer[8] = 2;
    assert_eq!(
        refusal(&newer).to_string(),
        "it has format version 2, this karuta reads version 1"
    );
    assert_eq!(refusal(&[b'x'; 100]), FormatError::Foreign);
    assert_eq!(refusal(b""), FormatError::Foreign);
}

#[test]
fn who_was_silent_for_too_long_by_now_is_left_out() {
    // Lifetime 1800 s, downloads are kept for 3600 s.
    let ages = [peer(1, true, 0), peer(2, false, 1000), peer(3, false, 1600)];
    let bytes = file(
        false,
        &[&[
            (V4, swarm(1, 7, 0), &ages),
            (V4, swarm(2, 7, 0), &ages[2..]),
            (V4, swarm(3, 0, 0), &ages[2..]),
            (V4, swarm(4, 7, 3000), &[]),
        ]],
    );
    let load = |away| {
        let mut shards = shards(3, 0);
        let loaded = load_bytes(&bytes, &mut shards, SAVED + away).expect("a good file");
        let known = [1, 2, 3, 4].map(|number| counts(&mut shards, V4, number));
        (loaded, known, shards)
    };
    let (loaded, known, _) = load(0);
    assert_eq!((loaded.peers, loaded.expired_peers), (5, 0));
    assert_eq!(known, [(1, 2, 7), (0, 1, 7), (0, 1, 0), (0, 0, 7)]);

    let (loaded, known, mut shards) = load(300);
    assert_eq!(
        (loaded.peers, loaded.expired_peers, loaded.swarms),
        (2, 3, 3)
    );
    assert_eq!(known, [(1, 1, 7), (0, 0, 7), (0, 0, 0), (0, 0, 7)]);
    // Those that are left expire in their time: the last announce counts.
    let sweep = |shards: &mut [Shard], now| {
        for shard in shards {
            for _ in 0..3 {
                shard.tick(now, 100_000);
            }
        }
    };
    // It is second 10 of the shards' clock. Swarm 4 was empty for 3000 s when
    // saved, and for 300 s until the load.
    sweep(&mut shards, 10 + 300);
    assert_eq!(counts(&mut shards, V4, 4), (0, 0, 7));
    sweep(&mut shards, 10 + 301);
    assert_eq!(counts(&mut shards, V4, 4), (0, 0, 0));
    sweep(&mut shards, 10 + 500);
    assert_eq!(counts(&mut shards, V4, 1), (1, 1, 7));
    sweep(&mut shards, 10 + 501);
    assert_eq!(counts(&mut shards, V4, 1), (1, 0, 7));

    let (_, known, _) = load(601);
    assert_eq!(known[3], (0, 0, 0), "no peer for an hour");
    let (loaded, known, _) = load(10_000_000_000);
    assert_eq!((loaded.peers, loaded.swarms), (0, 0));
    assert_eq!(known, [(0, 0, 0); 4]);
}

#[test]
fn a_clock_that_was_set_back_ages_nobody() {
    let mut shards = shards(2, 0);
    let loaded = load_bytes(&small_file(), &mut shards, SAVED - 5000).expect("a good file");
    assert_eq!(loaded.peers, 3);
}

#[test]
fn caps_hold_for_what_is_loaded() {
    let many: Vec<PeerView> = (0..100).map(|number| peer(number, false, 0)).collect();
    let bytes = file(false, &[&[(V4, swarm(1, 0, 0), &many)]]);
    let mut shards = shards(1, 30);
    let loaded = load_bytes(&bytes, &mut shards, SAVED).expect("a good file");
    assert_eq!((loaded.peers, loaded.refused_peers), (30, 70));
    assert_eq!(peers(&mut shards), 30);
}

#[test]
fn peer_ids_may_be_in_the_file_or_not() {
    let named = PeerView {
        peer_id: Some(PeerId(*b"-KT0100-cccccccccccc")),
        ..peer(1, true, 0)
    };
    let bytes = file(
        true,
        &[&[(V4, swarm(1, 2, 0), &[named, peer(2, false, 0)])]],
    );
    // These shards keep none.
    let mut shards = shards(2, 0);
    load_bytes(&bytes, &mut shards, SAVED).expect("a good file");
    assert_eq!(counts(&mut shards, V4, 1), (1, 1, 2));
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let record = |family: u8, peers: u16, seeders: u16, rest: usize| {
        let mut record = vec![family];
        record.extend([9; 24]);
        record.extend(peers.to_le_bytes());
        record.extend(seeders.to_le_bytes());
        record.extend(vec![1; rest]);
        refusal(&with_block(&record))
    };
    assert_eq!(record(7, 1, 0, 8), FormatError::Record(0), "a family");
    assert_eq!(record(0, 1, 2, 8), FormatError::Record(0), "more seeders");
    assert_eq!(record(0, 1025, 0, 1025 * 8), FormatError::Record(0));
    assert_eq!(record(0, 1, 0, 7), FormatError::Record(0), "cut off");
    assert_eq!(record(0, 2, 0, 17), FormatError::Record(0), "a rest");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_loaded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        any_bytes(&bytes);
    }

    #[test]
    fn records_of_any_bytes_are_loaded_or_refused(
        family in 0..3u8,
        peers in 0..20u16,
        seeders in 0..10u16,
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut record = vec![family];
        record.extend([7; 24]);
        record.extend(peers.to_le_bytes());
        record.extend(seeders.to_le_bytes());
        record.extend(rest);
        any_bytes(&record);
    }
}

/// A folder of this test's own, and a configuration whose state lies there.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("karuta.state")
    }

    fn config(&self, shards: usize) -> Config {
        let mut config = config(shards);
        config.state_file = self.state();
        config.storage.config.downloads_lifetime = Duration::from_secs(3600);
        config
    }
}

type Members = BTreeMap<(usize, [u8; 20]), Vec<(SocketAddr, bool, Option<PeerId>)>>;

/// Collects every peer of a tracker.
struct Roll(Members, Sender<Members>);

impl Survey for Roll {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        let key = (swarm.family.index(), swarm.info_hash.0);
        let members = self.0.entry(key).or_default();
        members.extend(swarm.peers().map(|peer| {
            let address = SocketAddr::new(peer.ip, peer.port);
            (address, peer.is_seeder, peer.peer_id)
        }));
    }

    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        self.swarm(swarm);
    }

    fn finish(self: Box<Self>) {
        self.1.send(self.0).expect("the test listens");
    }
}

fn roll(desk: &SurveyDesk) -> Members {
    let (sender, receiver) = channel();
    desk.send(|_| Box::new(Roll(Members::new(), sender.clone())))
        .expect("room");
    let mut all = Members::new();
    for _ in 0..desk.shards() {
        all.extend(receiver.recv_timeout(WATCHDOG).expect("an end"));
    }
    for members in all.values_mut() {
        members.sort_unstable_by_key(|(address, ..)| *address);
    }
    all
}

fn client(server: &Server, family: AddressFamily) -> Udp {
    Udp::new(server.udp(family))
}

#[test]
fn everything_survives_a_stop_and_a_start_with_other_shards() {
    for peer_ids in [false, true] {
        let home = Home::new();
        let with = |shards| {
            let mut config = home.config(shards);
            config.storage.config.peer_ids = peer_ids;
            Server::start(&config)
        };
        let server = with(3);
        for family in [V4, V6] {
            let mut client = client(&server, family);
            for number in 0..60 {
                client.announce(&Announce::seeder(hash(number), 1000));
                client.announce(&Announce::leecher(hash(number), 2000));
                let done = Announce::seeder(hash(number), 2000).event(COMPLETED);
                client.announce(&done);
            }
            // A swarm of several parts, and one that is empty by now.
            for port in 1..=1500 {
                client.announce(&Announce::leecher(hash(500), port).want(0));
            }
            client.announce(&Announce::seeder(hash(501), 9).event(COMPLETED));
            client.announce(&Announce::seeder(hash(501), 9).event(STOPPED));
        }
        let before = roll(&server.surveys());
        assert_eq!(
            before.values().map(Vec::len).sum::<usize>(),
            2 * (120 + 1500)
        );
        drop(server);
        for shards in [2, 1, 4] {
            let server = with(shards);
            assert!(roll(&server.surveys()) == before, "{shards} shards");
            let mut client = client(&server, V6);
            let scraped = client.scrape(&[hash(0), hash(500), hash(501), hash(502)]);
            assert_eq!(scraped, [(2, 1, 0), (0, 0, 1500), (0, 1, 0), (0, 0, 0)]);
        }
    }
}

#[test]
fn a_foreign_file_is_set_aside_and_the_tracker_starts_empty() {
    let home = Home::new();
    fs::write(home.state(), "a letter to somebody").expect("write");
    let server = Server::start(&home.config(2));
    assert!(roll(&server.surveys()).is_empty());
    let aside = fs::read(home.path("karuta.state.bad")).expect("it is kept");
    assert_eq!(aside, b"a letter to somebody");
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 1);
}

#[test]
fn nothing_of_a_torn_file_is_kept() {
    let home = Home::new();
    let server = Server::start(&home.config(1));
    let mut announcer = client(&server, V4);
    for number in 0..3000 {
        announcer.announce(&Announce::seeder(hash(number), 1).want(0));
    }
    drop(server);
    let whole = fs::read(home.state()).expect("saved");
    assert!(whole.len() > 100_000, "several blocks: {}", whole.len());
    fs::write(home.state(), &whole[..whole.len() - 1]).expect("write");
    let server = Server::start(&home.config(1));
    assert!(roll(&server.surveys()).is_empty());
}

#[test]
fn the_state_is_saved_while_announces_go_on() {
    let home = Home::new();
    let mut config = home.config(2);
    config.state_interval = Duration::from_millis(10);
    let server = Server::start(&config);
    let mut client = client(&server, V4);
    let mut number = 0;
    // As long as it takes, but for ever only if nothing is saved.
    while number < 50 || server.state_stats().last_saved_unix_seconds() == 0 {
        client.announce(&Announce::seeder(hash(number % 500), 1).want(0));
        number += 1;
    }
    let bytes = fs::read(home.state()).expect("saved");
    let mut shards = shards(2, 0);
    load(&bytes[..], &mut shards, 10, SAVED).expect("a whole file");
    drop(server);
    let server = Server::start(&home.config(1));
    assert_eq!(roll(&server.surveys()).len(), number.min(500) as usize);
}

#[test]
fn a_reload_can_have_it_saved_more_often() {
    let home = Home::new();
    let mut config = home.config(2);
    let server = Server::start(&config);
    let mut client = client(&server, V4);
    client.announce(&Announce::seeder(hash(1), 1));
    assert_eq!(server.state_stats().last_saved_unix_seconds(), 0);
    config.state_interval = Duration::from_millis(10);
    let report = server.reload(&config).expect("a good configuration");
    assert_eq!(report.changed, ["state_interval"]);
    while server.state_stats().last_saved_unix_seconds() == 0 {
        client.announce(&Announce::seeder(hash(1), 1));
    }
}

#[test]
fn what_a_killed_save_left_is_no_matter() {
    let home = Home::new();
    let server = Server::start(&home.config(2));
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let saved = fs::read(home.state()).expect("saved");
    fs::write(home.path("karuta.state.tmp"), &saved[..40]).expect("write");
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 1);
    client(&server, V4).announce(&Announce::seeder(hash(2), 1));
    drop(server);
    let server = Server::start(&home.config(2));
    assert_eq!(roll(&server.surveys()).len(), 2);
    assert!(!home.path("karuta.state.tmp").exists());
}

#[test]
fn a_save_that_fails_is_counted_and_the_old_file_stays() {
    let home = Home::new();
    let server = Server::start(&home.config(1));
    client(&server, V4).announce(&Announce::seeder(hash(1), 1));
    drop(server);
    let saved = fs::read(home.state()).expect("saved");
    let mut config = home.config(2);
    config.state_interval = Duration::from_millis(10);
    let server = Server::start(&config);
    // Nothing can be written there, whoever tries.
    let in_the_way = home.path("karuta.state.tmp");
    while fs::create_dir(&in_the_way).is_err() {}
    let mut client = client(&server, V4);
    while server.state_stats().save_failures() < 2 {
        client.announce(&Announce::seeder(hash(2), 1));
    }
    let now = fs::read(home.state()).expect("it is there");
    drop(server);
    assert_eq!(fs::read(home.state()).expect("it is there"), now);
    let mut shards = shards(2, 0);
    load(&now[..], &mut shards, 10, SAVED).expect("a whole file");
    assert!(now.len() >= saved.len());
}

#[test]
fn a_place_that_cannot_be_written_is_told_at_the_start() {
    let home = Home::new();
    let mut config = home.config(1);
    config.state_file = home.path("nowhere/karuta.state");
    let error = karuta::server::Tracker::start(&config).err().expect("no");
    let text = error.to_string();
    assert!(text.contains("nowhere/karuta.state"), "{text}");
    assert!(
        text.contains("directory that karuta may write to"),
        "{text}"
    );
}

#[test]
fn two_trackers_do_not_write_one_file() {
    let home = Home::new();
    let place = Place::open(&home.state()).expect("a folder");
    let first = place.begin().expect("free");
    let second = probe(&place).expect_err("taken");
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    probe(&place).expect("free again");
}

#[test]
fn a_replacement_that_is_given_up_changes_nothing() {
    let home = Home::new();
    fs::write(home.state(), "old").expect("write");
    let place = Place::open(&home.state()).expect("a folder");
    let mut replacement = place.begin().expect("free");
    replacement.file.write_all(b"half").expect("write");
    drop(replacement);
    assert_eq!(fs::read(home.state()).expect("old"), b"old");
    let mut replacement = place.begin().expect("free");
    replacement.file.write_all(b"new").expect("write");
    replacement.commit().expect("commit");
    assert_eq!(fs::read(home.state()).expect("new"), b"new");
    let names = fs::read_dir(home.folder.path()).expect("folder").count();
    assert_eq!(names, 1, "nothing else is left");
}

fn dump(lines: &[(u32, u64, u64)]) -> String {
    let mut text = Vec::new();
    for &(number, base_minute, downloads) in lines {
        let line = statedump::Line {
            info_hash: InfoHash(hash(number)),
            base_minute,
            downloads,
        };
        line.write(&mut text);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_statedump_is_taken_over_once_however_often() {
    let minute = SAVED / 60;
    let text = dump(&[
        (1, minute, 9),
        (2, minute - 30, 4),
        (3, minute - 61, 4),
        (4, minute, 0),
        (5, minute + 9, u64::MAX),
    ]);
    let text = format!("{text}nonsense\n{}:1\n\n", "0".repeat(40));
    let mut shards = shards(3, 0);
    for _ in 0..2 {
        let imported = statedump::import(text.as_bytes(), &mut shards, 10, SAVED).expect("memory");
        assert_eq!(imported.torrents, 3);
        assert_eq!((imported.without_downloads, imported.not_kept), (1, 1));
        assert_eq!(imported.bad_lines, 2);
        let bad = [statedump::BadLine::Hash, statedump::BadLine::Downloads];
        assert_eq!(imported.named, [(6, bad[0]), (7, bad[1])]);
        let known = [1, 2, 3, 4].map(|number| counts(&mut shards, V4, number).2);
        assert_eq!(known, [9, 4, 0, 0]);
        assert_eq!(
            counts(&mut shards, V4, 5).2,
            (1 << 30) - 1,
            "the most there is"
        );
    }
}

#[test]
fn of_a_statedump_and_our_own_state_the_larger_number_counts() {
    let mut shards = shards(2, 0);
    load_bytes(&small_file(), &mut shards, SAVED).expect("a good file");
    let v6_only = file(
        false,
        &[&[(
            V6,
            swarm(8, 2, 0),
            &[PeerView {
                ip: "2001:db8::1".parse().expect("address"),
                ..peer(3, false, 0)
            }],
        )]],
    );
    load_bytes(&v6_only, &mut shards, SAVED).expect("a good file");
    let minute = SAVED / 60;
    // Known: 1 with 5 and 1 by IPv6; 2 with 3; 8 with 2 by IPv6.
    let text = dump(&[(1, minute, 10), (2, minute, 2), (8, minute, 3)]);
    for _ in 0..2 {
        let imported = statedump::import(text.as_bytes(), &mut shards, 10, SAVED).expect("memory");
        assert_eq!(imported.torrents, 3);
        assert_eq!(counts(&mut shards, V4, 1), (1, 1, 9));
        assert_eq!(counts(&mut shards, V6, 1), (0, 1, 1));
        assert_eq!(counts(&mut shards, V4, 2), (0, 0, 3));
        assert_eq!(counts(&mut shards, V6, 8), (0, 1, 3));
        assert_eq!(counts(&mut shards, V4, 8), (0, 0, 0), "no second swarm");
    }
}

/// Collects the lines of a statedump.
struct Dump(Vec<u8>, Sender<Vec<u8>>);

impl Survey for Dump {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        if let Some(line) = statedump::Line::of(swarm, 30_000_000) {
            line.write(&mut self.0);
        }
    }

    fn wants_peers(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>) {
        self.1.send(self.0).expect("the test listens");
    }
}

#[test]
fn a_tracker_imports_what_it_dumps() {
    let home = Home::new();
    let server = Server::start(&home.config(2));
    for family in [V4, V6] {
        let mut client = client(&server, family);
        client.announce(&Announce::seeder(hash(1), 1).event(COMPLETED));
        client.announce(&Announce::seeder(hash(1), 2).event(COMPLETED));
    }
    client(&server, V6).announce(&Announce::seeder(hash(2), 1).event(COMPLETED));
    let (sender, receiver) = channel();
    let desk = server.surveys();
    desk.send(|_| Box::new(Dump(Vec::new(), sender.clone())))
        .expect("room");
    let parts = (0..2).map(|_| receiver.recv_timeout(WATCHDOG).expect("an end"));
    let text = String::from_utf8(parts.collect::<Vec<_>>().concat()).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let hex = |number| InfoHash(hash(number)).to_string().to_uppercase();
    let mut expected = vec![
        format!("{}:30000000:4", hex(1)),
        format!("{}:30000000:1", hex(2)),
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    drop(server);

    let mut config = home.config(3);
    config.state_file = PathBuf::new();
    config.opentracker_state_file = home.path("dump");
    fs::write(home.path("dump"), text).expect("write");
    let server = Server::start(&config);
    let scraped = client(&server, V4).scrape(&[hash(1), hash(2)]);
    assert_eq!(scraped, [(0, 4, 0), (0, 1, 0)]);
    drop(server);

    fs::remove_file(home.path("dump")).expect("remove");
    let error = karuta::server::Tracker::start(&config).err().expect("no");
    assert!(
        error.to_string().contains("opentracker_state_file"),
        "{error}"
    );
}

#[test]
fn a_save_that_hangs_does_not_keep_a_second_signal_from_ending_it() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let home = Home::new();
    let text = format!(
        "shards: 1\nmetrics_addr: ''\nudp: {{addr: 127.0.0.1:0}}\nstate_file: {}\n",
        home.state().display()
    );
    fs::write(home.path("karuta.yaml"), text).expect("write");
    let mut child = Command::new(env!("CARGO_BIN_EXE_karuta"))
        .arg("--config")
        .arg(home.path("karuta.yaml"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut said = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut log = BufReader::new(child.stderr.take().expect("stderr")).lines();
    while !said
        .next()
        .expect("it runs")
        .expect("text")
        .contains("udp://")
    {}
    // To open a pipe that nobody reads takes for ever.
    let made = Command::new("mkfifo")
        .arg(home.path("karuta.state.tmp"))
        .status();
    assert!(made.expect("mkfifo").success());
    let signal = |child: &std::process::Child| {
        let sent = Command::new("kill").arg(child.id().to_string()).status();
        assert!(sent.expect("kill").success());
    };
    signal(&child);
    while !log
        .next()
        .expect("it runs")
        .expect("text")
        .contains("once more")
    {}
    signal(&child);
    while !log
        .next()
        .expect("it runs")
        .expect("text")
        .contains("ending at once")
    {}
    assert_eq!(child.wait().expect("its end").code(), Some(1));
    assert!(!Path::new(&home.state()).exists());
}
