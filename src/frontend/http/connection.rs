//! One HTTP connection: its stream, what is half read and half written, and
//! how long it may stay.

use super::stream::Stream;
use crate::bittorrent::{AddressFamily, Event};
use crate::hook::Effects;
use crate::protocol::proxy::Introduction;
use crate::runtime::reactor::Interest;
use crate::shard::stats::Action;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Duration;

/// How the request in hand is to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyForm {
    /// What was asked.
    pub action: Action,
    pub keep_alive: bool,
    pub compact: bool,
    pub peer_ids: bool,
    /// The family of the peers in the answer.
    pub family: AddressFamily,
    /// The family of the client's own address.
    pub client_family: AddressFamily,
    /// Why the client announced.
    pub event: Event,
    /// The client's address, if it is to be told (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// What hooks have changed.
    pub effects: Effects,
    /// When the request was complete, since the start.
    pub arrived: Duration,
}

/// What a connection is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for a proxy to say for whom it speaks.
    Introduction,
    /// Waits for a request, or for the rest of one.
    Reading,
    /// Waits for another shard's answer; later requests wait behind it.
    Waiting,
    /// Has said its last; bytes that still come (over TLS the client's goodbye
    /// does as a rule) are thrown away until the client closes too, since
    /// closing over unread bytes would reset the connection and could destroy
    /// the answer on its way.
    Lingering,
}

pub(super) struct Connection {
    pub stream: Stream,
    /// The number of the listener that it came through.
    pub listener: usize,
    /// The other end of the connection, or whom a proxy speaks for (PROXY
    /// protocol).
    pub peer: IpAddr,
    /// Tells it from earlier connections in the same place.
    pub generation: u32,
    pub phase: Phase,
    /// What a proxy has said so far about whom it speaks for.
    pub introduction: Option<Box<Introduction>>,
    /// When it is closed unless something happens, in monotonic milliseconds.
    pub deadline: u64,
    /// Bytes that were read but not used: a part of a request, or requests
    /// that wait for their turn.
    pub unread: Vec<u8>,
    /// Bytes to write, from `written` on.
    pub unwritten: Vec<u8>,
    pub written: usize,
    pub form: ReplyForm,
    /// What the reactor watches it for; `None` before it was added.
    pub interest: Option<Interest>,
    /// The client has closed its side.
    pub ended: bool,
    /// Close once everything is written.
    pub last: bool,
    /// A request had a body, which is not read.
    pub body_follows: bool,
    /// At least one request was answered: it is idle, not slow.
    pub served: bool,
    /// Its deadline is that of an idle connection.
    pub idle: bool,
}

/// What a read brought.
pub(super) enum ReadResult {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

impl Connection {
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => ReadResult::End,
                Ok(count) => ReadResult::Bytes(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => ReadResult::Nothing,
                    _ => ReadResult::Failed,
                },
            };
        }
    }

    /// Throws away what still comes; returns whether the client has closed. Below
    /// TLS: what it says does not matter any more, and rustls takes it for its
    /// own fault (`debug_assert`) if it finds something wrong with what comes
    /// after it has said goodbye.
    pub fn discard(&mut self, buffer: &mut [u8]) -> bool {
        let mut socket = self.stream.socket();
        match socket.read(buffer) {
            Ok(count) => count == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
            ),
        }
    }

    /// Writes what `out` has, as far as the socket takes it, and keeps the
    /// rest. Nothing may be waiting from before.
    pub fn write_from(&mut self, out: &[u8]) -> io::Result<()> {
        debug_assert!(self.unwritten.is_empty());
        let count = write_some(&mut self.stream, out)?;
        if count < out.len() {
            self.unwritten.extend_from_slice(&out[count..]);
        }
        Ok(())
    }

    /// Writes what is waiting.
    pub fn write_unwritten(&mut self) -> io::Result<()> {
        if self.written < self.unwritten.len() {
            self.written += write_some(&mut self.stream, &self.unwritten[self.written..])?;
            if self.written == self.unwritten.len() {
                self.unwritten.clear();
                self.written = 0;
            }
            return Ok(());
        }
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    pub fn has_unwritten(&self) -> bool {
        self.written < self.unwritten.len() || self.stream.wants_write()
    }
}

/// Writes as much as the socket takes; 0 when it takes nothing now.
fn write_some(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match stream.write(&bytes[count..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => count += more,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => break,
                _ => return Err(error),
            },
        }
    }
    Ok(count)
}
