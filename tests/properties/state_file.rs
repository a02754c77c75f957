//! A state file of any bytes is loaded or refused; nothing else happens.

use karuta::bittorrent::AddressFamily;
use karuta::shard::owner::OwnerMap;
use karuta::shard::stats::ShardStats;
use karuta::shard::{Shard, ShardSettings};
use karuta::state::{Header, LoadError, Loaded, MAX_PAYLOAD_BYTES, load, statedump};
use std::io::Read;
use std::sync::Arc;

/// Room for so many peers and swarms.
const ROOM: u64 = 50;

pub fn shards(count: usize, max: u64) -> Vec<Shard> {
    let settings = ShardSettings {
        peer_lifetime_seconds: 1800,
        downloads_lifetime_seconds: 3600,
        sweep_seconds: 60,
        peer_ids: false,
        max_peers: max,
        max_swarms: max,
        client_breakdown: false,
        opentracker_statistics: false,
    };
    let shard = |id| {
        let stats = Arc::new(ShardStats::default());
        Shard::new(id, OwnerMap::new(7, count), &settings, 5, stats)
    };
    (0..count).map(shard).collect()
}

/// Sees to it that no read asks for more than a block.
struct Bounded<'a>(&'a [u8]);

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        assert!(buffer.len() <= MAX_PAYLOAD_BYTES);
        self.0.read(buffer)
    }
}

pub fn load_bytes(bytes: &[u8], shards: &mut [Shard], unix: u64) -> Result<Loaded, LoadError> {
    load(Bounded(bytes), shards, 10, unix)
}

pub fn peers(shards: &mut [Shard]) -> u64 {
    let of = |shard: &mut Shard, family| {
        let totals = shard.totals(family);
        totals.seeders + totals.leechers
    };
    let all = shards.iter_mut();
    all.map(|shard| of(shard, AddressFamily::V4) + of(shard, AddressFamily::V6))
        .sum()
}

/// Any bytes as a file, as a block with a right checksum, and as statedump.
pub fn any_bytes(bytes: &[u8]) {
    for file in [bytes.to_vec(), with_block(bytes)] {
        let mut shards = shards(2, ROOM);
        let loaded = load_bytes(&file, &mut shards, 1_000_000);
        assert!(peers(&mut shards) <= ROOM);
        if let Ok(loaded) = loaded {
            assert_eq!(loaded.peers, peers(&mut shards));
        }
    }
    let mut shards = shards(2, ROOM);
    let imported = statedump::import(bytes, &mut shards, 10, 1_000_000).expect("memory");
    assert!(imported.named.len() as u64 <= imported.bad_lines);
}

/// A whole file with one block of this payload, and what it counts beyond doubt
/// (the trailer then does not agree, after the block was looked at).
pub fn with_block(payload: &[u8]) -> Vec<u8> {
    let header = Header {
        saved_unix_seconds: 999_990,
        peer_ids: payload.first().is_some_and(|byte| byte & 2 != 0),
    };
    let mut file = header.encode().to_vec();
    block(&mut file, 0, payload, 1, 1);
    let totals: Vec<u8> = [1u64, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
    block(&mut file, 1, &totals, u32::MAX, 0);
    file
}

/// Adds a block, written apart from the tracker's own code.
fn block(file: &mut Vec<u8>, number: u64, payload: &[u8], records: u32, peers: u32) {
    let mut rest = Vec::new();
    for word in [payload.len() as u32, records, peers] {
        rest.extend(word.to_le_bytes());
    }
    rest.extend(payload);
    let salted = [&file[28..32], &number.to_le_bytes(), &rest].concat();
    file.extend(crc32fast::hash(&salted).to_le_bytes());
    file.extend(rest);
}
