//! From a state file to the shards, before they serve.
//!
//! One thread reads and checks blocks; each shard has a thread that takes its
//! own swarms out of every block, as the number of shards and the key of their
//! owners differ from start to start. At most a few blocks are in memory.

use super::format::{
    BLOCK_HEADER_BYTES, BlockHeader, Checked, FormatError, HEADER_BYTES, Header, Record, Salt,
};
use crate::shard::Shard;
use crossbeam_channel::{Receiver, bounded};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

/// Blocks that wait for one shard.
const BLOCKS_AHEAD: usize = 4;

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// When the file was saved, in seconds since 1970.
    pub saved_unix_seconds: u64,
    /// Swarms that are there now.
    pub swarms: u64,
    /// Peers that are there now.
    pub peers: u64,
    /// Peers that had not announced for too long by now.
    pub expired_peers: u64,
    /// Peers for which there was no room under `max_peers` and `max_swarms`.
    pub refused_peers: u64,
}

/// Why a file was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It could not be read.
    Io(io::Error),
    /// It is not what it should be.
    Format(FormatError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Format(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<FormatError> for LoadError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// Loads a file into the shards (all of them, in order). `now_seconds` is the
/// shards' time, `unix_seconds` the wall clock's.
///
/// # Errors
/// Why the file is no good. The shards may then hold a part of it.
pub fn load(
    file: impl Read,
    shards: &mut [Shard],
    now_seconds: u32,
    unix_seconds: u64,
) -> Result<Loaded, LoadError> {
    let mut blocks = Blocks::begin(file)?;
    let Header {
        saved_unix_seconds,
        peer_ids,
    } = blocks.header;
    let away = unix_seconds.saturating_sub(saved_unix_seconds);
    let away_seconds = u32::try_from(away).unwrap_or(u32::MAX);
    let parts: Result<Vec<Loaded>, LoadError> = thread::scope(|scope| {
        let mut lanes = Vec::new();
        let mut threads = Vec::new();
        for shard in shards {
            let (lane, blocks) = bounded(BLOCKS_AHEAD);
            lanes.push(lane);
            let filler = Filler {
                now_seconds,
                away_seconds,
                peer_ids,
            };
            threads.push(scope.spawn(move || filler.fill(shard, &blocks)));
        }
        while let Some(block) = blocks.next()? {
            let block = Arc::new(block);
            for lane in &lanes {
                // One that has ended says below why.
                let _ = lane.send(block.clone());
            }
        }
        drop(lanes);
        let ends = threads.into_iter();
        ends.map(|thread| Ok(thread.join().expect("a shard's filler does not panic")?))
            .collect()
    });
    let mut loaded = Loaded {
        saved_unix_seconds,
        ..Loaded::default()
    };
    for part in parts? {
        loaded.swarms += part.swarms;
        loaded.peers += part.peers;
        loaded.expired_peers += part.expired_peers;
        loaded.refused_peers += part.refused_peers;
    }
    Ok(loaded)
}

/// A block of records that is intact.
struct Block {
    number: u64,
    payload: Vec<u8>,
}

/// Reads blocks one after the other.
struct Blocks<R> {
    file: R,
    header: Header,
    salt: Salt,
    number: u64,
    records: u64,
    peers: u64,
}

impl<R: Read> Blocks<R> {
    fn begin(mut file: R) -> Result<Self, LoadError> {
        let mut bytes = [0; HEADER_BYTES];
        if fill(&mut file, &mut bytes)? < HEADER_BYTES {
            let is_ours = bytes.starts_with(&super::format::MAGIC);
            let error = match is_ours {
                true => FormatError::Torn(0),
                false => FormatError::Foreign,
            };
            return Err(error.into());
        }
        let (header, salt) = Header::decode(&bytes)?;
        Ok(Self {
            file,
            header,
            salt,
            number: 0,
            records: 0,
            peers: 0,
        })
    }

    /// The next block of records; `None` at a right end.
    fn next(&mut self) -> Result<Option<Block>, LoadError> {
        let number = self.number;
        self.number += 1;
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        if fill(&mut self.file, &mut bytes)? < BLOCK_HEADER_BYTES {
            return Err(FormatError::Torn(number).into());
        }
        let header = BlockHeader::decode(bytes, number)?;
        let mut payload = vec![0; header.payload_bytes];
        if fill(&mut self.file, &mut payload)? < payload.len() {
            return Err(FormatError::Torn(number).into());
        }
        match header.check(self.salt, &payload)? {
            Checked::Records(records, peers) => {
                self.records += records;
                self.peers += peers;
                Ok(Some(Block { number, payload }))
            }
            Checked::Trailer(records, peers) if (records, peers) != (self.records, self.peers) => {
                Err(FormatError::Totals.into())
            }
            Checked::Trailer(..) => match fill(&mut self.file, &mut [0])? {
                0 => Ok(None),
                _ => Err(FormatError::Trailing.into()),
            },
        }
    }
}

/// Reads until the buffer is full or the file ends; returns how much.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LoadError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LoadError::Io(error)),
        }
    }
    Ok(filled)
}

/// Puts one shard's swarms into it.
#[derive(Clone, Copy)]
struct Filler {
    now_seconds: u32,
    /// Between the save and now.
    away_seconds: u32,
    peer_ids: bool,
}

impl Filler {
    fn fill(self, shard: &mut Shard, blocks: &Receiver<Arc<Block>>) -> Result<Loaded, FormatError> {
        let mut loaded = Loaded::default();
        let (owners, own) = (*shard.owners(), shard.id());
        for block in blocks {
            let mut payload = block.payload.as_slice();
            while let Some(record) = Record::take(&mut payload, self.peer_ids, block.number)? {
                let mut swarm = record.swarm;
                if owners.owner(&swarm.info_hash) != own {
                    continue;
                }
                swarm.empty_seconds = swarm.empty_seconds.saturating_add(self.away_seconds);
                let peers = record.peers(self.away_seconds);
                let restored = shard.restore(self.now_seconds, record.family, &swarm, peers);
                loaded.swarms += u64::from(restored.new_swarm);
                loaded.peers += restored.peers;
                loaded.expired_peers += restored.expired_peers;
                loaded.refused_peers += restored.refused_peers;
            }
        }
        Ok(loaded)
    }
}
