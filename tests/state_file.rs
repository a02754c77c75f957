//! The file of the saved state, and statedumps, read into shards: whole ones
//! into any number of shards, and what is not whole is refused. What a tracker
//! that runs does with them is in `state.rs`.

#[path = "properties/mod.rs"]
mod properties;
mod support;

use karuta::bittorrent::{AddressFamily, InfoHash, PeerId};
use karuta::shard::Shard;
use karuta::shard::survey::PeerView;
use karuta::state::{Block, FileWriter, FormatError, Header, LoadError, statedump};
use karuta::swarm::SavedSwarm;
use properties::state_file::{any_bytes, load_bytes, peers, shards, with_block};
use proptest::prelude::*;
use std::net::IpAddr;
use support::hash;

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
