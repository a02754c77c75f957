//! A small HTTP/1.1 server for what is read beside the tracker: metrics,
//! statistics, health.
//!
//! It serves a few fixed paths to a few clients, with GET and HEAD. Each connection has one
//! request, a thread of its own, and a deadline for the whole exchange, so a
//! client that is slow, silent or broken costs a thread for that long and
//! delays nobody. There are never more than [`MAX_CONNECTIONS`]: when one more
//! comes, the oldest is cut off, so a heap of silent clients cannot lock out
//! the next one.
//!
//! The shards are not involved: what is served is made from published
//! counters, on the threads of this module.

#![expect(
    clippy::disallowed_methods,
    reason = "the endpoint's own deadlines, on a thread beside the shards"
)]

use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections served at once. A host has one Prometheus, or a few.
pub const MAX_CONNECTIONS: usize = 8;

/// Most bytes of a request. Prometheus sends about 400.
pub const MAX_REQUEST_BYTES: usize = 8192;

/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// How long one exchange may take, from accept to the last byte.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes read and thrown away after an answer, so that closing the
/// connection does not destroy the answer on its way (a close with unread
/// bytes is a reset).
const MAX_DRAINED_BYTES: usize = 256 * 1024;

/// How long to wait when connections cannot be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Makes an answer.
pub type Render = Arc<dyn Fn() -> Answer + Send + Sync>;

/// A path and what is served there.
#[derive(Clone)]
pub struct Route {
    /// The path, exactly; a query is ignored.
    pub path: &'static str,
    /// Called for each request, on the connection's thread.
    pub render: Render,
}

/// An answer without its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status: 200, or 503 for a health check that fails.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// The header Content-Security-Policy, for pages.
    pub policy: Option<String>,
}

impl Answer {
    /// Plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
            policy: None,
        }
    }

    /// The whole answer; to a HEAD, all but the body.
    fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            _ => "Request Header Fields Too Large",
        };
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        // RFC 9110, 15.5.6: a 405 must name the methods that are allowed.
        if self.status == 405 {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        if let Some(policy) = &self.policy {
            head.push_str("Content-Security-Policy: ");
            head.push_str(policy);
            head.push_str("\r\n");
        }
        head.push_str("Connection: close\r\n\r\n");
        if !is_head {
            head.push_str(&self.body);
        }
        head.into_bytes()
    }
}

/// A running server. Stops when dropped.
pub struct WebServer {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Serves these paths on a listener that is already bound.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn start(listener: TcpListener, routes: Vec<Route>) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        let listener = Arc::new(listener);
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (listener, stopping) = (listener.clone(), stopping.clone());
            let routes: Arc<[Route]> = routes.into();
            thread::Builder::new()
                .name("web".to_owned())
                .spawn(move || accept_until_stopped(&listener, &stopping, &routes))?
        };
        Ok(Self {
            listener,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Stops: cuts off open connections and returns when all threads are gone.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stopping.store(true, Ordering::Release);
        // On Linux this ends an accept that waits, and every later one.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// A connection that is being served.
struct Connection {
    stream: Arc<TcpStream>,
    thread: JoinHandle<()>,
}

impl Connection {
    fn start(stream: TcpStream, routes: Arc<[Route]>) -> io::Result<Self> {
        let stream = Arc::new(stream);
        let served = stream.clone();
        let thread = thread::Builder::new()
            .name("web-client".to_owned())
            .spawn(move || {
                if let Err(error) = serve(&served, &routes) {
                    log::debug!("a connection for metrics ended: {error}");
                }
                // The accept loop still holds the stream.
                let _ = served.shutdown(Shutdown::Both);
            })?;
        Ok(Self { stream, thread })
    }

    /// Ends it now. Waits only for what a body takes to make.
    fn cut_off(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.join();
    }
}

fn accept_until_stopped(listener: &TcpListener, stopping: &AtomicBool, routes: &Arc<[Route]>) {
    let mut connections = VecDeque::new();
    while !stopping.load(Ordering::Acquire) {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            break;
        }
        connections.retain(|connection: &Connection| !connection.thread.is_finished());
        let started = accepted.and_then(|(stream, _)| {
            if connections.len() >= MAX_CONNECTIONS
                && let Some(oldest) = connections.pop_front()
            {
                oldest.cut_off();
            }
            Connection::start(stream, routes.clone())
        });
        match started {
            Ok(connection) => connections.push_back(connection),
            // The client went away between connecting and being accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                log::warn!("cannot serve metrics at the moment: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
    for connection in connections {
        connection.cut_off();
    }
}

/// One exchange: reads the request, answers, closes.
fn serve(stream: &TcpStream, routes: &[Route]) -> io::Result<()> {
    let deadline = Instant::now() + EXCHANGE_TIMEOUT;
    let Some((answer, is_head)) = read_request(stream, deadline, routes)? else {
        return Ok(());
    };
    write_all(stream, &answer.to_bytes(is_head), deadline)?;
    stream.shutdown(Shutdown::Write)?;
    drain(stream, deadline)
}

/// Reads a request and decides on its answer, and whether that was asked for
/// without its body; `None` if the client left without a word.
fn read_request(
    mut stream: &TcpStream,
    deadline: Instant,
    routes: &[Route],
) -> io::Result<Option<(Answer, bool)>> {
    let refuse = |status, text: &str| Ok(Some((Answer::text(status, text), false)));
    let mut buffer = [0; MAX_REQUEST_BYTES];
    let mut length = 0;
    loop {
        let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) else {
            return refuse(431, "request too large\n");
        };
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(room) {
            Ok(0) if length == 0 => return Ok(None),
            Ok(0) => return refuse(400, "incomplete request\n"),
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&buffer[..length]) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let method = request.method.unwrap_or_default();
                let target = request.path.unwrap_or_default();
                return Ok(Some((answer(method, target, routes), method == "HEAD")));
            }
            Err(httparse::Error::TooManyHeaders) => {
                return refuse(431, "too many headers\n");
            }
            Err(_) => return refuse(400, "malformed request\n"),
        }
    }
}

/// What to answer to a method on a target.
fn answer(method: &str, target: &str, routes: &[Route]) -> Answer {
    let path = target.split('?').next().unwrap_or_default();
    let Some(route) = routes.iter().find(|route| route.path == path) else {
        let mut text = "not found; there are:\n".to_owned();
        for route in routes {
            text.push_str(route.path);
            text.push('\n');
        }
        return Answer::text(404, text);
    };
    if !matches!(method, "GET" | "HEAD") {
        return Answer::text(405, "method not allowed\n");
    }
    (route.render)()
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(time_left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the client to close, reading what it still sends.
fn drain(mut stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => drained += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until a deadline, or the error that it has passed.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}
