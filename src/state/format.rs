//! The bytes of a state file: header, blocks, trailer. No I/O.
//!
//! Nothing here trusts what it reads: every length is compared with what there
//! is before it is used, a block is at most [`MAX_PAYLOAD_BYTES`] long, and
//! decoding never allocates.

use crate::bittorrent::{AddressFamily, InfoHash, PeerId};
use crate::shard::survey::{PART_PEERS, PeerView};
use crate::swarm::SavedSwarm;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a state file begins with. The first byte is no text, and the line end
/// shows whether something took the file for text.
pub const MAGIC: [u8; 8] = *b"\x89karuta\n";

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Bytes of the file's header.
pub const HEADER_BYTES: usize = 32;

/// Bytes before the payload of a block.
pub const BLOCK_HEADER_BYTES: usize = 16;

/// A block is written once its payload is as long as this.
pub const FULL_BYTES: usize = 64 << 10;

/// The longest payload: one that was not full yet and then took the longest
/// record there is.
pub const MAX_PAYLOAD_BYTES: usize = FULL_BYTES + RECORD_BYTES + 4 + PART_PEERS * (20 + ID_BYTES);

/// Flag in the header: each peer has its id.
const PEER_IDS: u32 = 1;

/// Stands in the place of a block's number of records: this is the trailer.
const TRAILER: u32 = u32::MAX;

/// Payload of the trailer.
const TRAILER_BYTES: usize = 16;

/// Family, info hash, downloads, peers, seeders.
const RECORD_BYTES: usize = 1 + 20 + 4 + 2 + 2;

const ID_BYTES: usize = 20;

/// Ages are kept in units of so many seconds, so that 15 bits hold 36 hours:
/// more than any lifetime.
const AGE_UNIT_SECONDS: u32 = 4;
const AGE_MASK: u16 = 0x7fff;
const PAUSED: u16 = 0x8000;

/// Why bytes are not a state file, or not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// It does not begin as a state file does.
    Foreign,
    /// It is of another version of the format.
    Version(u32),
    /// Its header was changed.
    Header,
    /// It ends within the block of this number (from 0), or before it.
    Torn(u64),
    /// The block of this number was changed.
    Block(u64),
    /// The block of this number is intact, but what it says makes no sense.
    Record(u64),
    /// Its trailer counts other swarms or peers than there were.
    Totals,
    /// Something follows its trailer.
    Trailing,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is not a state file of karuta"),
            Self::Version(version) => write!(
                f,
                "it has format version {version}, this karuta reads version {VERSION}"
            ),
            Self::Header => f.write_str("its header is damaged"),
            Self::Torn(block) => write!(f, "it is torn: it ends in block {block}"),
            Self::Block(block) => write!(f, "block {block} is damaged"),
            Self::Record(block) => write!(f, "block {block} makes no sense"),
            Self::Totals => f.write_str("it does not hold as much as it says"),
            Self::Trailing => f.write_str("something follows its end"),
        }
    }
}

impl std::error::Error for FormatError {}

/// What stands at the head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// When it was saved, in seconds since 1970.
    pub saved_unix_seconds: u64,
    /// Whether each peer has its id.
    pub peer_ids: bool,
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.peer_ids { PEER_IDS } else { 0 };
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.saved_unix_seconds.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads one, with the salt of the file's blocks.
    ///
    /// # Errors
    /// `Foreign`, `Version` or `Header`.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Self, Salt), FormatError> {
        let mut input = Input(bytes);
        if input.take::<8>() != Some(MAGIC) {
            return Err(FormatError::Foreign);
        }
        let header = |input: &mut Input<'_>| {
            let (version, flags) = (input.u32()?, input.u32()?);
            let saved_unix_seconds = input.u64()?;
            let (_, checksum) = (input.u32()?, input.u32()?);
            Some((version, flags, saved_unix_seconds, checksum))
        };
        let (version, flags, saved_unix_seconds, checksum) =
            header(&mut input).ok_or(FormatError::Header)?;
        // First: the header of another version may end elsewhere.
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        if checksum != crc32fast::hash(&bytes[..28]) || flags & !PEER_IDS != 0 {
            return Err(FormatError::Header);
        }
        let header = Self {
            saved_unix_seconds,
            peer_ids: flags & PEER_IDS != 0,
        };
        Ok((header, Salt(checksum)))
    }

    /// The salt of the blocks of a file with this header.
    #[must_use]
    pub fn salt(&self) -> Salt {
        let [.., a, b, c, d] = self.encode();
        Salt(u32::from_le_bytes([a, b, c, d]))
    }
}

/// Binds blocks to their file: the checksum of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// The checksum of a block, of all but the checksum itself.
    fn checksum(self, number: u64, rest: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(rest);
        hasher.finalize()
    }
}

/// A block while it is filled.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    records: u32,
    peers: u32,
}

impl Default for Block {
    /// An empty one.
    fn default() -> Self {
        let mut block = Self {
            bytes: Vec::with_capacity(BLOCK_HEADER_BYTES + MAX_PAYLOAD_BYTES),
            records: 0,
            peers: 0,
        };
        block.clear();
        block
    }
}

impl Block {
    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(BLOCK_HEADER_BYTES, 0);
        (self.records, self.peers) = (0, 0);
    }

    /// Whether it should be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_HEADER_BYTES + FULL_BYTES
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Swarm records in it.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Peers in it.
    #[must_use]
    pub fn peers(&self) -> u32 {
        self.peers
    }

    /// Adds a swarm, or more peers of one: at most [`PART_PEERS`], seeders
    /// first, all of this family. Peer ids are written if `peer_ids`.
    pub fn push(
        &mut self,
        family: AddressFamily,
        swarm: &SavedSwarm,
        peers: impl Iterator<Item = PeerView>,
        peer_ids: bool,
    ) {
        let out = &mut self.bytes;
        out.push(family.index() as u8);
        out.extend_from_slice(&swarm.info_hash.0);
        out.extend_from_slice(&swarm.downloads.to_le_bytes());
        let counts = out.len();
        out.extend_from_slice(&[0; 4]);
        let (mut count, mut seeders) = (0u16, 0u16);
        for peer in peers.take(PART_PEERS) {
            match peer.ip {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            }
            out.extend_from_slice(&peer.port.to_be_bytes());
            let age = (peer.age_seconds / AGE_UNIT_SECONDS).min(u32::from(AGE_MASK)) as u16;
            let paused = if peer.is_paused { PAUSED } else { 0 };
            out.extend_from_slice(&(age | paused).to_le_bytes());
            if peer_ids {
                out.extend_from_slice(&peer.peer_id.map_or([0; ID_BYTES], |id| id.0));
            }
            count += 1;
            seeders += u16::from(peer.is_seeder);
        }
        if count == 0 {
            out.extend_from_slice(&swarm.empty_seconds.to_le_bytes());
        }
        out[counts..counts + 2].copy_from_slice(&count.to_le_bytes());
        out[counts + 2..counts + 4].copy_from_slice(&seeders.to_le_bytes());
        self.records += 1;
        self.peers += u32::from(count);
    }

    /// The bytes to write as the block of this number.
    pub fn seal(&mut self, salt: Salt, number: u64) -> &[u8] {
        let payload = (self.bytes.len() - BLOCK_HEADER_BYTES) as u32;
        let words = [payload, self.records, self.peers];
        for (at, word) in words.iter().enumerate() {
            self.bytes[4 + at * 4..8 + at * 4].copy_from_slice(&word.to_le_bytes());
        }
        let checksum = salt.checksum(number, &self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }

    /// Makes it the trailer of a file with so many records and peers in all.
    pub fn make_trailer(&mut self, records: u64, peers: u64) {
        self.clear();
        self.bytes.extend_from_slice(&records.to_le_bytes());
        self.bytes.extend_from_slice(&peers.to_le_bytes());
        self.records = TRAILER;
    }
}

/// What stands before the payload of a block that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    bytes: [u8; BLOCK_HEADER_BYTES],
    number: u64,
    /// Bytes of the payload that follows, [`MAX_PAYLOAD_BYTES`] at most.
    pub payload_bytes: usize,
    records: u32,
    peers: u32,
}

/// A block whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// So many records with so many peers.
    Records(u64, u64),
    /// The end: the sums.
    Trailer(u64, u64),
}

impl BlockHeader {
    /// Reads the header of the block of this number.
    ///
    /// # Errors
    /// `Block` if it is longer than a block can be.
    pub fn decode(bytes: [u8; BLOCK_HEADER_BYTES], number: u64) -> Result<Self, FormatError> {
        let mut input = Input(&bytes);
        let mut word = || input.u32().unwrap_or(0);
        let (_, payload_bytes, records, peers) = (word(), word() as usize, word(), word());
        if payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(FormatError::Block(number));
        }
        Ok(Self {
            bytes,
            number,
            payload_bytes,
            records,
            peers,
        })
    }

    /// Compares the payload with its checksum.
    ///
    /// # Errors
    /// `Block` if they do not agree.
    pub fn check(&self, salt: Salt, payload: &[u8]) -> Result<Checked, FormatError> {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&salt.0.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&self.bytes[4..]);
        hasher.update(payload);
        let damaged = FormatError::Block(self.number);
        if hasher.finalize().to_le_bytes() != self.bytes[..4] {
            return Err(damaged);
        }
        if self.records != TRAILER {
            return Ok(Checked::Records(self.records.into(), self.peers.into()));
        }
        let mut input = Input(payload);
        match (payload.len(), input.u64(), input.u64()) {
            (TRAILER_BYTES, Some(records), Some(peers)) => Ok(Checked::Trailer(records, peers)),
            _ => Err(damaged),
        }
    }
}

/// One swarm of a file, or some more of its peers.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Whose peers these are.
    pub family: AddressFamily,
    /// All but the peers.
    pub swarm: SavedSwarm,
    /// How many peers there are.
    pub peer_count: usize,
    seeders: usize,
    peer_ids: bool,
    peers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the next record from the head of a payload.
    ///
    /// # Errors
    /// `Record` with this number of the block.
    pub fn take(
        payload: &mut &'a [u8],
        peer_ids: bool,
        number: u64,
    ) -> Result<Option<Self>, FormatError> {
        if payload.is_empty() {
            return Ok(None);
        }
        let mut input = Input(payload);
        let record = Self::decode(&mut input, peer_ids).ok_or(FormatError::Record(number))?;
        *payload = input.0;
        Ok(Some(record))
    }

    fn decode(input: &mut Input<'a>, peer_ids: bool) -> Option<Self> {
        let family = match input.take::<1>()? {
            [0] => AddressFamily::V4,
            [1] => AddressFamily::V6,
            _ => return None,
        };
        let info_hash = InfoHash(input.take()?);
        let downloads = input.u32()?;
        let (peer_count, seeders) = (usize::from(input.u16()?), usize::from(input.u16()?));
        if seeders > peer_count || peer_count > PART_PEERS {
            return None;
        }
        let empty_seconds = if peer_count == 0 { input.u32()? } else { 0 };
        let peers = input.slice(peer_count * peer_bytes(family, peer_ids))?;
        Some(Self {
            family,
            swarm: SavedSwarm {
                info_hash,
                downloads,
                empty_seconds,
            },
            peer_count,
            seeders,
            peer_ids,
            peers,
        })
    }

    /// Its peers, so many seconds older than they were.
    pub fn peers(&self, older_seconds: u32) -> impl Iterator<Item = PeerView> + use<'a> {
        let Self {
            family,
            seeders,
            peer_ids,
            ..
        } = *self;
        let chunks = self.peers.chunks_exact(peer_bytes(family, peer_ids));
        chunks.enumerate().filter_map(move |(at, bytes)| {
            let mut input = Input(bytes);
            let ip = match family {
                AddressFamily::V4 => IpAddr::V4(Ipv4Addr::from(input.take::<4>()?)),
                AddressFamily::V6 => IpAddr::V6(Ipv6Addr::from(input.take::<16>()?)),
            };
            let port = u16::from_be_bytes(input.take()?);
            let state = input.u16()?;
            let age_seconds = u32::from(state & AGE_MASK) * AGE_UNIT_SECONDS;
            let peer = PeerView {
                ip,
                port,
                is_seeder: at < seeders,
                is_paused: state & PAUSED != 0,
                age_seconds: age_seconds.saturating_add(older_seconds),
                peer_id: input.take().map(PeerId),
            };
            // A store has no place for port 0.
            (port != 0).then_some(peer)
        })
    }
}

fn peer_bytes(family: AddressFamily, peer_ids: bool) -> usize {
    let id = if peer_ids { ID_BYTES } else { 0 };
    family.compact_peer_bytes() + 2 + id
}

/// Bytes that are taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    #[inline]
    fn slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
