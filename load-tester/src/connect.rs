//! Opens sockets, and tries the tracker before the run, so that one that is not
//! there is told at once and in plain words.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{self, CONNECT_LEN, Reply};
use crate::random::mix;
use crate::sys;

/// Receive buffer asked for, in bytes: enough for a few thousand replies.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long one connect is waited for before it is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How long a TCP connection is waited for.
const TCP_PATIENCE: Duration = Duration::from_secs(3);

const UDP: &str = "UDP";
const TCP: &str = "TCP";

/// A connected socket with a connection id.
#[derive(Debug)]
pub struct Endpoint {
    /// Non-blocking and connected.
    pub socket: UdpSocket,
    /// From the tracker.
    pub connection_id: u64,
}

/// Why the tracker cannot be asked.
#[derive(Debug)]
pub enum ConnectError {
    /// The source address cannot be used.
    Bind(IpAddr, io::Error),
    /// The socket could not be made or connected.
    Socket(&'static str, SocketAddr, io::Error),
    /// The host answered that nothing listens on the port.
    NothingListens(&'static str, SocketAddr),
    /// No answer to connects (UDP).
    NoAnswer(SocketAddr, Duration),
    /// The tracker answered with an error (UDP).
    Refused(SocketAddr, String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Bind(ip, error) => write!(
                f,
                "cannot send from {ip}: {error}; give addresses of this host with --source-addresses, or fewer --sources"
            ),
            ConnectError::Socket(transport, to, error) => {
                write!(f, "cannot connect to {transport} {to}: {error}")
            }
            ConnectError::NothingListens(transport, to) => write!(
                f,
                "nothing listens on {transport} {to} (refused); start the tracker or check address and port"
            ),
            ConnectError::NoAnswer(to, waited) => write!(
                f,
                "no answer from UDP {to} to connects within {}; is it a tracker, and does a firewall drop the packets?",
                humantime::format_duration(*waited)
            ),
            ConnectError::Refused(to, text) => {
                write!(f, "the tracker at UDP {to} refuses connects: {text}")
            }
        }
    }
}

impl std::error::Error for ConnectError {}

/// One UDP endpoint per source address, all connected within `patience`.
pub fn endpoints(
    target: SocketAddr,
    sources: &[Option<IpAddr>],
    patience: Duration,
    seed: u64,
) -> Result<Vec<Endpoint>, ConnectError> {
    sources
        .iter()
        .enumerate()
        .map(|(index, source)| {
            let socket = open_udp(target, *source)?;
            let connection_id = obtain(&socket, target, patience, mix(seed, index as u64) as u32)?;
            socket
                .set_nonblocking(true)
                .map_err(|error| ConnectError::Socket(UDP, target, error))?;
            Ok(Endpoint {
                socket,
                connection_id,
            })
        })
        .collect()
}

/// Tries one TCP connection per source address.
pub fn try_tcp(target: SocketAddr, sources: &[Option<IpAddr>]) -> Result<(), ConnectError> {
    for source in sources {
        let socket = open_tcp(target, *source)?;
        match socket.connect_timeout(&target.into(), TCP_PATIENCE) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::NothingListens(TCP, target));
            }
            Err(error) => return Err(ConnectError::Socket(TCP, target, error)),
        }
    }
    Ok(())
}

/// Begins a TCP connection that does not block.
pub fn begin_tcp(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = open_tcp(target, source).map_err(|error| match error {
        ConnectError::Bind(_, error) | ConnectError::Socket(_, _, error) => error,
        _ => io::ErrorKind::ConnectionRefused.into(),
    })?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn open_tcp(target: SocketAddr, source: Option<IpAddr>) -> Result<Socket, ConnectError> {
    let domain = Domain::for_address(target);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
        .map_err(|error| ConnectError::Socket(TCP, target, error))?;
    if source.is_some() {
        // Only a convenience where it is not supported: fewer ports then.
        let _ = sys::bind_address_without_port(&socket);
    }
    bind(&socket, source)?;
    Ok(socket)
}

fn open_udp(target: SocketAddr, source: Option<IpAddr>) -> Result<UdpSocket, ConnectError> {
    let failed = |error| ConnectError::Socket(UDP, target, error);
    let domain = Domain::for_address(target);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(failed)?;
    bind(&socket, source)?;
    socket.connect(&target.into()).map_err(failed)?;
    sys::grow_receive_buffer(&socket, RECEIVE_BUFFER);
    Ok(socket.into())
}

fn bind(socket: &Socket, source: Option<IpAddr>) -> Result<(), ConnectError> {
    let Some(ip) = source else { return Ok(()) };
    socket
        .bind(&SocketAddr::new(ip, 0).into())
        .map_err(|error| ConnectError::Bind(ip, error))
}

fn obtain(
    socket: &UdpSocket,
    target: SocketAddr,
    patience: Duration,
    first_id: u32,
) -> Result<u64, ConnectError> {
    let failed = |error| ConnectError::Socket(UDP, target, error);
    socket.set_read_timeout(Some(RETRY_AFTER)).map_err(failed)?;
    let start = Instant::now();
    let mut id = first_id;
    while start.elapsed() < patience {
        id = id.wrapping_add(1);
        let mut request = [0; CONNECT_LEN];
        packet::write_connect(&mut request, id);
        let mut reply = [0; 2048];
        match socket.send(&request).and_then(|_| socket.recv(&mut reply)) {
            Ok(len) => match packet::read_reply(&reply[..len], target.is_ipv6()) {
                Ok((got, Reply::Connect { connection_id })) if got == id => {
                    return Ok(connection_id);
                }
                Ok((got, Reply::Error { message })) if got == id => {
                    let text = String::from_utf8_lossy(message).into_owned();
                    return Err(ConnectError::Refused(target, text));
                }
                _ => {}
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::NothingListens(UDP, target));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(ConnectError::NoAnswer(target, patience))
}
