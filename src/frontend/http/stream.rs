//! The bytes of a connection, plain or through TLS.
//!
//! rustls is used as a state machine: it holds no socket and never waits. A
//! read feeds it what the socket has and takes out what it has deciphered; a
//! write does the reverse. Works on non-blocking sockets in a shard's loop
//! (`WouldBlock` means: wait as [`Stream::wants_write`] says) and on blocking
//! ones with timeouts.
//!
//! Bounds for each TLS connection: the bytes of one record or handshake message
//! that is half read (64 KiB), the contents of what one read of the socket
//! completed (16 KiB and a record), and `MOST_UNSENT` bytes to send.

use crate::shard::stats::Handshake;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// Bytes that may wait in a TLS connection to be sent.
const MOST_UNSENT: usize = 64 << 10;

/// Reads of the socket in one read of a TLS connection: messages without
/// content, of which a client can send any number, must not hold up others.
const MOST_READS: usize = 32;

/// One connection's bytes.
#[derive(Debug)]
pub enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Enciphered.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// A connection that was just accepted, with TLS as set or without.
    ///
    /// # Errors
    /// When rustls refuses what it is set to.
    pub fn accepted(socket: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let Some(tls) = tls else {
            return Ok(Self::Plain(socket));
        };
        let mut session = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(MOST_UNSENT));
        Ok(Self::Tls(Box::new(TlsStream {
            socket,
            session,
            heard: false,
            reported: false,
        })))
    }

    /// The socket below.
    #[must_use]
    pub const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// Whether the handshake of TLS is not over.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.session.is_handshaking(),
        }
    }

    /// Whether a client may have something to say after its last request: that
    /// it has said all (TLS).
    #[must_use]
    pub const fn has_goodbyes(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether there are bytes that the socket did not take yet.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Whether a read brings something although the socket has nothing: what
    /// was deciphered together with what the last read took, or the client's
    /// word that it has said all.
    #[must_use]
    pub fn has_more(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.session.reader().into_first_chunk().is_ok(),
        }
    }

    /// How the handshake ended, once.
    pub fn take_handshake(&mut self) -> Option<Handshake> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) if tls.reported || tls.session.is_handshaking() => None,
            Self::Tls(tls) => {
                tls.reported = true;
                Some(match tls.session.handshake_kind() {
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                        Handshake::Full
                    }
                    Some(_) => Handshake::Resumed,
                })
            }
        }
    }

    /// Whether it ends here without having come through the handshake that its
    /// client began.
    #[must_use]
    pub fn is_half_greeted(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.heard && tls.session.is_handshaking(),
        }
    }

    /// Says that nothing more will be sent. Over TLS the client then knows that
    /// nothing was cut off (RFC 8446, section 6.1).
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self
            && !tls.session.is_handshaking()
        {
            tls.session.send_close_notify();
            // A socket that is full now belongs to a client that does not read.
            let _ = tls.send();
        }
    }

    /// Closes the sending side.
    pub fn end(&mut self) {
        self.say_goodbye();
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.send(),
        }
    }
}

/// A connection with TLS.
pub struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// The client has sent something.
    heard: bool,
    /// The end of the handshake was told.
    reported: bool,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MOST_READS {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Clients often just close; the length of a request is known
                // from itself, so nothing can be cut off unnoticed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                continue;
            }
            self.heard = true;
            let processed = self.session.process_new_packets();
            // The handshake's answers, or the alert that says what is wrong.
            let sent = self.send();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match sent {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        if self.session.is_handshaking() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.session.writer().write(bytes)?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Gives the socket what waits to be sent.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
