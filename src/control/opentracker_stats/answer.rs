//! Answers over HTTP, written by a thread that may wait, and the end of the
//! connection.
//!
//! The heads are opentracker's: no `Connection` header, errors as HTTP/1.0
//! with a title in HTML. A client that takes nothing for `STALL_TIMEOUT`, or
//! not all within [`TEXT_TIMEOUT`] ([`DUMP_TIMEOUT`] for every torrent), is given
//! up: there are a few threads only, and four slow readers must not have them all.

#![expect(
    clippy::disallowed_methods,
    reason = "deadlines of connections, on threads beside the shards"
)]

use super::encoding::Encoding;
use crate::frontend::http::stream::Stream;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// How long a client may take nothing at all.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take altogether, what is before it included: some
/// kilobytes, which the socket takes at once unless its client is slow.
pub const TEXT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a full scrape may take (opentracker: as long).
pub const DUMP_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Bytes that are written between two looks at the clock. TLS takes all of them
/// however slow its client is.
const MOST_AT_ONCE: usize = 16 << 10;

/// How long the client may take to close after its answer, if it has sent more
/// than was read.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// Most bytes that are read and thrown away at the end.
const MAX_DRAINED_BYTES: usize = 256 << 10;

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// A client that is being answered.
pub struct Client<'a> {
    stream: &'a mut Stream,
    deadline: Instant,
    /// Bytes that it has taken.
    pub taken_bytes: u64,
}

impl<'a> Client<'a> {
    /// Takes a connection, which becomes a blocking one.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn new(stream: &'a mut Stream) -> io::Result<Self> {
        stream.socket().set_nonblocking(false)?;
        stream.socket().set_write_timeout(Some(STALL_TIMEOUT))?;
        Ok(Self {
            stream,
            deadline: Instant::now() + TEXT_TIMEOUT,
            taken_bytes: 0,
        })
    }

    /// Lets the rest of the answer take so long from now on.
    pub fn allow(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// A whole answer.
    ///
    /// # Errors
    /// Those of writing.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
        );
        self.write_all(answer.as_bytes())
    }

    /// An error: `phrase` as in `404 Not Found`, and when to try again.
    ///
    /// # Errors
    /// Those of writing.
    pub fn send_error(&mut self, phrase: &str, retry: Option<Duration>) -> io::Result<()> {
        let title = phrase.get(4..).unwrap_or_default();
        let body = format!("<title>{title}</title>\n");
        let retry = retry.map_or_else(String::new, |after| {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            format!("Retry-After: {}\r\n", seconds.max(1))
        });
        let length = body.len();
        let answer = format!(
            "HTTP/1.0 {phrase}\r\nContent-Type: text/html\r\n{retry}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.write_all(answer.as_bytes())
    }

    /// Ends the connection so that what was written arrives.
    ///
    /// # Errors
    /// Those of writing what TLS still has.
    pub fn close(self, more_follows: bool) -> io::Result<()> {
        self.stream.flush()?;
        self.stream.end();
        if more_follows || self.has_unread() {
            // A close over unread bytes would be a reset.
            let _ = self.drain();
        }
        Ok(())
    }

    fn has_unread(&self) -> bool {
        let socket = self.stream.socket();
        let _ = socket.set_nonblocking(true);
        let unread = matches!(socket.peek(&mut [0]), Ok(1));
        let _ = socket.set_nonblocking(false);
        unread
    }

    /// Reads below TLS: what it says does not matter any more.
    fn drain(&self) -> io::Result<()> {
        let mut socket = self.stream.socket();
        let deadline = Instant::now() + LINGER_TIMEOUT;
        let (mut buffer, mut drained) = ([0; 4096], 0);
        while drained < MAX_DRAINED_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => drained += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        let count = self.stream.write(&bytes[..bytes.len().min(MOST_AT_ONCE)])?;
        self.taken_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body of unknown length: in chunks (RFC 9112, section 7.1), or up to the
/// end of the connection for clients of HTTP/1.0, which know no chunks.
pub struct Body<W: Write> {
    out: W,
    is_chunked: bool,
    /// Begins with room for the size of a chunk.
    buffer: Vec<u8>,
    /// A write has failed, so there is a hole.
    is_broken: bool,
}

/// Room for the size of a chunk in hexadecimal digits, and its line's end.
const SIZE_ROOM: usize = 10;

impl<W: Write> Body<W> {
    /// Writes the head of the response and begins its body.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin(mut out: W, version_minor: u8, encoding: Encoding) -> io::Result<Self> {
        let is_chunked = version_minor > 0;
        let transfer = match is_chunked {
            true => "Transfer-Encoding: chunked\r\n",
            false => "",
        };
        let encoding = encoding.header();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{encoding}{transfer}\r\n"
        )?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + SIZE_ROOM + 2);
        buffer.resize(SIZE_ROOM, 0);
        Ok(Self {
            out,
            is_chunked,
            buffer,
            is_broken: false,
        })
    }

    /// Writes what is left and the end.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<()> {
        self.send()?;
        if self.is_chunked {
            self.out.write_all(b"0\r\n\r\n")?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let length = self.buffer.len() - SIZE_ROOM;
        if length == 0 {
            // A chunk without bytes would be the end.
            return Ok(());
        }
        let mut start = SIZE_ROOM;
        if self.is_chunked {
            let size = format!("{length:x}\r\n");
            start -= size.len();
            self.buffer[start..SIZE_ROOM].copy_from_slice(size.as_bytes());
            self.buffer.extend_from_slice(b"\r\n");
        }
        let sent = self.out.write_all(&self.buffer[start..]);
        self.buffer.truncate(SIZE_ROOM);
        self.is_broken = sent.is_err();
        sent
    }
}

impl<W: Write> Write for Body<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_broken {
            // An encoder that is dropped tries once more.
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = CHUNK_BYTES + SIZE_ROOM - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if count == room {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::Encoder;
    use super::*;
    use crate::swarm::Random;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_body_comes_in_chunks_or_as_it_is() {
        let text = vec![b'x'; CHUNK_BYTES + 26];
        for (version_minor, encoding, head, expected) in [
            (
                1,
                Encoding::Identity,
                "Transfer-Encoding: chunked\r\n\r\n",
                [
                    &b"10000\r\n"[..],
                    &text[..CHUNK_BYTES],
                    b"\r\n1a\r\n",
                    &text[..26],
                    b"\r\n0\r\n\r\n",
                ]
                .concat(),
            ),
            (
                0,
                Encoding::Gzip,
                "Content-Encoding: gzip\r\n\r\n",
                text.clone(),
            ),
        ] {
            let mut out = Vec::new();
            let mut body = Body::begin(&mut out, version_minor, encoding).expect("memory");
            body.write_all(&text).expect("memory");
            body.finish().expect("memory");
            let begin =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{head}");
            assert!(out.starts_with(begin.as_bytes()));
            assert!(out[begin.len()..] == expected, "HTTP/1.{version_minor}");
        }
    }

    /// Takes so many bytes, and then fails like a client that stalls.
    struct Stalling(usize);

    impl Write for Stalling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert!(self.0 != 0, "it is asked again after it failed");
            self.0 = self.0.saturating_sub(bytes.len());
            match self.0 {
                0 => Err(ErrorKind::WouldBlock.into()),
                _ => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_has_less_time_than_a_dump() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let _peer = TcpStream::connect(address).expect("connect");
        let (stream, _) = listener.accept().expect("accept");
        let mut stream = Stream::Plain(stream);
        let mut client = Client::new(&mut stream).expect("a socket");
        client.send_text("in time").expect("room");
        // As if so much time had passed.
        client.deadline -= TEXT_TIMEOUT;
        let late = client.send_text("too late").map_err(|error| error.kind());
        assert_eq!(late, Err(ErrorKind::TimedOut));
        client.allow(DUMP_TIMEOUT);
        client.send_text("every torrent").expect("room");
        client.deadline -= DUMP_TIMEOUT;
        client.send_text("too late").expect_err("too late");
    }

    /// Encoders write what they have when they are dropped.
    #[test]
    fn a_client_that_stalls_is_given_up_once() {
        // What does not get smaller.
        let mut random = Random::new(1);
        let noise: Vec<u8> = (0..CHUNK_BYTES).map(|_| random.below(256) as u8).collect();
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let body = Body::begin(Stalling(CHUNK_BYTES), 1, encoding).expect("the head");
            let mut encoder = Encoder::new(encoding, body).expect("an encoder");
            let error = (0..).find_map(|_| encoder.write_all(&noise).err());
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
            drop(encoder);
        }
    }

    #[test]
    fn a_body_without_bytes_ends_once() {
        let mut out = Vec::new();
        let body = Body::begin(&mut out, 1, Encoding::Identity).expect("memory");
        body.finish().expect("memory");
        assert!(out.ends_with(b"chunked\r\n\r\n0\r\n\r\n"));
    }
}
