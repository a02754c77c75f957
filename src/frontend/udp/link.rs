//! What datagrams come by and replies leave by: a socket of the kernel's
//! network stack, or the frames of AF_XDP. Requests are handled alike.

use super::frames::{FrameInbox, FrameOutbox};
use crate::bittorrent::AddressFamily;
use crate::protocol::frame::ReplyHeaders;
use crate::sys::datagram::{Address, Datagram, Inbox, LocalAddress, Outbox, Sent};
use crate::sys::socket::dropped_datagrams;
use std::io;
use std::net::UdpSocket;

/// One of the two, of one shard.
pub(super) enum Link {
    /// A socket.
    Socket {
        /// It, bound to an address.
        socket: UdpSocket,
        /// The family of the address.
        family: AddressFamily,
        /// What it is to send.
        outbox: Outbox,
    },
    /// A queue of a network interface.
    Frames(Box<FrameLink>),
}

/// A queue of a network interface.
pub(super) struct FrameLink {
    /// What has come.
    pub inbox: FrameInbox,
    /// What is to be sent.
    pub outbox: FrameOutbox,
}

impl Link {
    /// Whether [`Link::flush`] must come before the next reply.
    pub const fn is_full(&self) -> bool {
        match self {
            Self::Socket { outbox, .. } => outbox.is_full(),
            Self::Frames(link) => link.outbox.is_full(),
        }
    }

    /// How many datagrams the kernel has dropped for want of room, modulo 2³².
    pub fn dropped(&self) -> io::Result<u32> {
        match self {
            Self::Socket { socket, .. } => dropped_datagrams(socket),
            Self::Frames(link) => link.inbox.dropped(),
        }
    }

    /// Sends what waits; `None` if nothing does.
    pub fn flush(&mut self) -> Option<Sent> {
        match self {
            Self::Socket { outbox, .. } if outbox.is_empty() => None,
            Self::Socket { socket, outbox, .. } => Some(outbox.send(&*socket)),
            Self::Frames(link) => link.outbox.send(),
        }
    }
}

/// A batch of datagrams that has come.
pub(super) trait Arrivals {
    /// How a reply gets back, besides the sender's address.
    type Back: Back;

    /// Begins to fetch the datagram at this index, if there is one.
    fn prefetch(&self, at: usize);

    /// The datagram at this index of the last batch.
    fn datagram(&self, at: usize) -> Datagram<'_, Self::Back>;

    /// The family of the datagram's sender.
    fn family(&self, at: usize) -> AddressFamily;
}

/// Replies that are to leave.
pub(super) trait Departures {
    /// How each gets back.
    type Back: Back;

    /// How many wait.
    fn len(&self) -> usize;

    /// Adds one, as [`Outbox::push`] does. `write` is called in any case.
    fn push(
        &mut self,
        to: &Address,
        back: Self::Back,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    );
}

/// How a reply gets back, besides the sender's address.
pub(super) trait Back: Copy {
    /// In a form for either link.
    fn keep(self) -> ReturnPath;
}

/// A [`Back`] of either link, for a reply that waits for another shard.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReturnPath {
    Socket(LocalAddress),
    Frame(ReplyHeaders),
}

impl Back for LocalAddress {
    fn keep(self) -> ReturnPath {
        ReturnPath::Socket(self)
    }
}

impl Back for ReplyHeaders {
    fn keep(self) -> ReturnPath {
        ReturnPath::Frame(self)
    }
}

/// What has come by a socket whose address is of one family.
pub(super) struct SocketBatch<'a> {
    pub inbox: &'a Inbox,
    pub family: AddressFamily,
}

impl Arrivals for SocketBatch<'_> {
    type Back = LocalAddress;

    #[inline]
    fn prefetch(&self, at: usize) {
        self.inbox.prefetch(at);
    }

    #[inline(always)]
    fn datagram(&self, at: usize) -> Datagram<'_> {
        self.inbox.datagram(at)
    }

    #[inline(always)]
    fn family(&self, _: usize) -> AddressFamily {
        self.family
    }
}

impl Departures for Outbox {
    type Back = LocalAddress;

    fn len(&self) -> usize {
        Self::len(self)
    }

    #[inline]
    fn push(
        &mut self,
        to: &Address,
        back: LocalAddress,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        Self::push(self, to, back, write);
    }
}
