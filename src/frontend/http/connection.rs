//! One HTTP connection: its socket, what is half read and half written, and
//! how long it may stay.

use crate::bittorrent::{AddressFamily, Event};
use crate::hook::Effects;
use crate::runtime::reactor::Interest;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};

/// How the request in hand is to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyForm {
    pub keep_alive: bool,
    pub compact: bool,
    pub peer_ids: bool,
    /// The family of the peers in the answer.
    pub family: AddressFamily,
    /// Why the client announced.
    pub event: Event,
    /// The client's address, if it is to be told (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// What hooks have changed.
    pub effects: Effects,
}

/// What a connection is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for a request, or for the rest of one.
    Reading,
    /// Waits for another shard's answer; later requests wait behind it.
    Waiting,
    /// Has said its last; bytes that still come are thrown away until the
    /// client closes too, since closing over unread bytes would reset the
    /// connection and could destroy the answer on its way.
    Lingering,
}

pub(super) struct Connection {
    pub socket: TcpStream,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Tells it from earlier connections in the same place.
    pub generation: u32,
    pub phase: Phase,
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
            return match self.socket.read(buffer) {
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

    /// Writes what `out` has, as far as the socket takes it, and keeps the
    /// rest. Nothing may be waiting from before.
    pub fn write_from(&mut self, out: &[u8]) -> io::Result<()> {
        debug_assert!(!self.has_unwritten());
        let count = write_some(&mut self.socket, out)?;
        if count < out.len() {
            self.unwritten.extend_from_slice(&out[count..]);
        }
        Ok(())
    }

    /// Writes what is waiting.
    pub fn write_unwritten(&mut self) -> io::Result<()> {
        if self.has_unwritten() {
            self.written += write_some(&mut self.socket, &self.unwritten[self.written..])?;
            if !self.has_unwritten() {
                self.unwritten.clear();
                self.written = 0;
            }
        }
        Ok(())
    }

    pub const fn has_unwritten(&self) -> bool {
        self.written < self.unwritten.len()
    }
}

/// Writes as much as the socket takes; 0 when it takes nothing now.
fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match socket.write(&bytes[count..]) {
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
