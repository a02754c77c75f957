//! From the shards to a state file, while they serve or after.
//!
//! Each shard's [`Dump`] fills blocks on the shard's thread, in slices; one
//! thread checksums and writes them. A shard is never more than
//! [`BLOCKS_AHEAD`] blocks ahead of the disk (and what one more slice brings):
//! it is not ready then until a block comes back. When a save is given up its
//! dumps learn that and end; else a shard would wait for ever, at its end too.

use super::format::{Block, Header};
use super::place::Place;
use crate::shard::owner::ShardId;
use crate::shard::survey::{Busy, Survey, SurveyDesk, SwarmView};
use crate::swarm::SavedSwarm;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use std::fmt;
use std::io::{self, Write};

/// Blocks of one shard that wait to be written.
const BLOCKS_AHEAD: usize = 4;

/// What was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Swarms; one with many peers counts once per
    /// [`crate::shard::survey::PART_PEERS`].
    pub records: u64,
    /// Peers.
    pub peers: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why nothing was saved; the old file is as it was.
#[derive(Debug)]
pub enum SaveError {
    /// The new file could not be written.
    Io(io::Error),
    /// The shards have too many surveys to do already.
    Busy,
    /// A shard ended before it was through.
    CutShort,
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                f.write_str("another process is writing it; give each tracker a file of its own")
            }
            Self::Io(error) => error.fmt(f),
            Self::Busy => Busy.fmt(f),
            Self::CutShort => f.write_str("a shard ended meanwhile"),
        }
    }
}

impl std::error::Error for SaveError {}

impl From<io::Error> for SaveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What shards send to the thread that writes.
pub(super) enum Message {
    /// A full block, or the last.
    Block(ShardId, Block),
    /// A shard has nothing more.
    End,
}

/// One save under way: what the shards' dumps send.
pub(super) struct Collection {
    messages: Receiver<Message>,
    /// The way back for written blocks, by shard.
    empties: Vec<Sender<Block>>,
    desk: SurveyDesk,
    peer_ids: bool,
}

impl Collection {
    /// A dump for every shard, and what collects from them.
    pub(super) fn new(desk: &SurveyDesk, peer_ids: bool) -> (Self, Vec<Dump>) {
        let (sender, messages) = unbounded();
        let mut empties = Vec::new();
        let dumps = (0..desk.shards()).map(|shard| {
            let (back, returned) = unbounded();
            empties.push(back);
            Dump {
                shard,
                sender: sender.clone(),
                returned,
                spare: Vec::new(),
                away: 0,
                block: None,
                peer_ids,
                nobody_listens: false,
            }
        });
        let dumps = dumps.collect();
        let collection = Self {
            messages,
            empties,
            desk: desk.clone(),
            peer_ids,
        };
        (collection, dumps)
    }

    /// What is to be read to learn that a dump has begun.
    pub(super) const fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    /// Writes what the dumps send into a new file and puts it in place.
    /// `first` was received already.
    pub(super) fn save(
        self,
        place: &Place,
        saved_unix_seconds: u64,
        first: Option<Message>,
    ) -> Result<Saved, SaveError> {
        let mut replacement = place.begin()?;
        let header = Header {
            saved_unix_seconds,
            peer_ids: self.peer_ids,
        };
        let mut writer = FileWriter::begin(&mut replacement.file, &header)?;
        let mut left = self.empties.len();
        let messages = first.into_iter().chain(&self.messages);
        for message in messages {
            match message {
                Message::End => left -= 1,
                Message::Block(shard, mut block) => {
                    writer.write(&mut block)?;
                    block.clear();
                    // A shard that has ended needs it no more.
                    if self.empties[shard].send(block).is_ok() {
                        self.desk.nudge(shard);
                    }
                }
            }
            if left == 0 {
                break;
            }
        }
        if left > 0 {
            return Err(SaveError::CutShort);
        }
        let saved = writer.finish()?;
        replacement.commit()?;
        Ok(saved)
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        // Dumps that wait for a block see that none will come.
        self.empties.clear();
        for shard in 0..self.desk.shards() {
            self.desk.nudge(shard);
        }
    }
}

/// Writes the parts of a state file.
pub struct FileWriter<W> {
    file: W,
    header: Header,
    number: u64,
    saved: Saved,
}

impl<W: Write> FileWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin(mut file: W, header: &Header) -> io::Result<Self> {
        let bytes = header.encode();
        file.write_all(&bytes)?;
        Ok(Self {
            file,
            header: *header,
            number: 0,
            saved: Saved {
                bytes: bytes.len() as u64,
                ..Saved::default()
            },
        })
    }

    /// Writes a block.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&mut self, block: &mut Block) -> io::Result<()> {
        self.saved.records += u64::from(block.records());
        self.saved.peers += u64::from(block.peers());
        self.append(block)
    }

    /// Writes the trailer: without it the file is torn.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<Saved> {
        let mut trailer = Block::default();
        trailer.make_trailer(self.saved.records, self.saved.peers);
        self.append(&mut trailer)?;
        self.file.flush()?;
        Ok(self.saved)
    }

    fn append(&mut self, block: &mut Block) -> io::Result<()> {
        let bytes = block.seal(self.header.salt(), self.number);
        self.number += 1;
        self.saved.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// Saves once, through the desk of a tracker that runs.
///
/// # Errors
/// Why it could not.
pub fn save(
    desk: &SurveyDesk,
    place: &Place,
    peer_ids: bool,
    unix_seconds: u64,
) -> Result<Saved, SaveError> {
    let (collection, dumps) = Collection::new(desk, peer_ids);
    let mut dumps = dumps.into_iter();
    desk.send(|_| Box::new(dumps.next().expect("a dump for each shard")))
        .map_err(|Busy| SaveError::Busy)?;
    drop(dumps);
    collection.save(place, unix_seconds, None)
}

/// Whether a file can be written there: makes one and removes it.
///
/// # Errors
/// Why not.
pub fn probe(place: &Place) -> io::Result<()> {
    place.begin().map(drop)
}

/// What a shard does for a save.
pub(super) struct Dump {
    shard: ShardId,
    sender: Sender<Message>,
    returned: Receiver<Block>,
    spare: Vec<Block>,
    /// Blocks that were sent and have not come back.
    away: usize,
    block: Option<Block>,
    peer_ids: bool,
    /// The save was given up.
    nobody_listens: bool,
}

impl Dump {
    fn record(&mut self, swarm: &SwarmView<'_>) {
        if self.nobody_listens {
            return;
        }
        let block = match &mut self.block {
            Some(block) => block,
            empty => empty.insert(self.spare.pop().unwrap_or_default()),
        };
        let saved = SavedSwarm {
            info_hash: swarm.info_hash,
            downloads: swarm.counts.downloaded,
            empty_seconds: swarm.empty_seconds.unwrap_or(0),
        };
        block.push(swarm.family, &saved, swarm.peers(), self.peer_ids);
        if block.is_full() {
            self.send();
        }
    }

    fn send(&mut self) {
        if let Some(block) = self.block.take() {
            self.away += 1;
            let sent = self.sender.send(Message::Block(self.shard, block));
            self.nobody_listens |= sent.is_err();
        }
    }
}

impl Survey for Dump {
    fn swarm(&mut self, swarm: &SwarmView<'_>) {
        self.record(swarm);
    }

    fn more_peers(&mut self, swarm: &SwarmView<'_>) {
        self.record(swarm);
    }

    fn ready(&mut self) -> bool {
        loop {
            match self.returned.try_recv() {
                Ok(block) => {
                    self.away -= 1;
                    self.spare.push(block);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.nobody_listens = true;
                    break;
                }
            }
        }
        self.away < BLOCKS_AHEAD || self.nobody_listens
    }

    fn wanted(&self) -> bool {
        !self.nobody_listens
    }

    fn finish(mut self: Box<Self>) {
        self.send();
        // Nobody is there to mind if the save was given up.
        let _ = self.sender.send(Message::End);
    }
}
