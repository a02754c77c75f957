//! Datagrams that come and go as frames (AF_XDP).

use super::AHEAD;
use super::link::{Arrivals, Departures};
use crate::bittorrent::AddressFamily;
use crate::protocol::frame::{self, ETHERNET_BYTES, ReplyHeaders};
use crate::sys::datagram::{Address, BATCH, Datagram, Sent};
use crate::sys::xdp::socket::{FRAME_BYTES, FrameReceiver, FrameSender};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A frame that was read: where its payload lies and how it is answered.
#[derive(Clone, Copy)]
struct Letter {
    frame: usize,
    start: usize,
    end: usize,
    from: Address,
    reply: ReplyHeaders,
}

/// What [`FrameInbox::receive`] brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// Datagrams to be handled.
    pub datagrams: usize,
    /// Frames that cannot be answered.
    pub bad: usize,
    /// Bytes of the datagrams, without headers.
    pub bytes: u64,
}

/// The receiving half of a queue, with the last batch.
pub(super) struct FrameInbox {
    receiver: FrameReceiver,
    letters: Vec<Letter>,
}

impl AsFd for FrameInbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl FrameInbox {
    pub fn new(receiver: FrameReceiver) -> Self {
        Self {
            receiver,
            letters: Vec::with_capacity(BATCH),
        }
    }

    /// How many frames the kernel has dropped for want of room, modulo 2³².
    pub fn dropped(&self) -> io::Result<u32> {
        self.receiver.dropped_frames()
    }

    /// Takes what has come, up to [`BATCH`] frames, and reads their headers.
    pub fn receive(&mut self) -> Received {
        let mut received = Received::default();
        self.letters.clear();
        let frames = self.receiver.receive();
        for at in 0..AHEAD {
            self.receiver.prefetch(at);
        }
        for at in 0..frames {
            self.receiver.prefetch(at + AHEAD);
            let bytes = self.receiver.frame(at);
            let Ok(datagram) = frame::read(bytes) else {
                received.bad += 1;
                continue;
            };
            let start = datagram.reply.bytes();
            received.bytes += datagram.payload.len() as u64;
            self.letters.push(Letter {
                frame: at,
                start,
                end: start + datagram.payload.len(),
                from: Address::from(datagram.source),
                reply: datagram.reply,
            });
        }
        received.datagrams = self.letters.len();
        received
    }
}

impl Arrivals for FrameInbox {
    type Back = ReplyHeaders;

    /// Read already.
    fn prefetch(&self, _: usize) {}

    #[inline]
    fn datagram(&self, at: usize) -> Datagram<'_, ReplyHeaders> {
        let letter = &self.letters[at];
        Datagram {
            bytes: &self.receiver.frame(letter.frame)[letter.start..letter.end],
            from: &letter.from,
            to: letter.reply,
        }
    }

    #[inline]
    fn family(&self, at: usize) -> AddressFamily {
        self.letters[at].reply.family()
    }
}

/// The sending half of a queue, with the replies that wait.
pub(super) struct FrameOutbox {
    sender: FrameSender,
    /// Bytes of a frame, at most.
    frame_bytes: usize,
    /// Where a reply is written that no frame is free for: the announce behind
    /// it counts all the same.
    spare: Box<[u8]>,
    waiting: Sent,
}

impl FrameOutbox {
    /// For an interface with this MTU.
    pub fn new(sender: FrameSender, mtu: usize) -> Self {
        Self {
            sender,
            frame_bytes: (ETHERNET_BYTES + mtu).min(FRAME_BYTES),
            spare: vec![0; FRAME_BYTES].into_boxed_slice(),
            waiting: Sent::default(),
        }
    }

    /// Whether [`FrameOutbox::send`] should come before the next push.
    pub const fn is_full(&self) -> bool {
        self.waiting.sent >= BATCH
    }

    /// Sends what waits, without blocking; `None` if nothing does.
    pub fn send(&mut self) -> Option<Sent> {
        let sent = std::mem::take(&mut self.waiting);
        if sent == Sent::default() && self.sender.is_idle() {
            return None;
        }
        self.sender.send();
        Some(sent)
    }
}

impl Departures for FrameOutbox {
    type Back = ReplyHeaders;

    fn len(&self) -> usize {
        self.waiting.sent
    }

    #[inline]
    fn push(
        &mut self,
        _: &Address,
        back: ReplyHeaders,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        let Self {
            sender,
            frame_bytes,
            spare,
            waiting,
        } = self;
        let start = back.bytes();
        if !sender.has_room() {
            let written = write(&mut spare[start..*frame_bytes]);
            waiting.failed += usize::from(written.is_some());
            return;
        }
        sender.push(|frame| {
            let payload_bytes = write(frame.get_mut(start..*frame_bytes)?)?;
            let length = back.write(frame, payload_bytes)?;
            waiting.sent += 1;
            waiting.bytes += payload_bytes as u64;
            Some(length)
        });
    }
}
