//! Bare responders: what a host can do with no tracker behind the sockets.
//!
//! They read as much of a request as a reply needs and answer with a fixed
//! number of made-up peers, so that their rate is the limit for any server
//! with the same system calls. One thread, one socket (UDP) or one epoll
//! instance (HTTP).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use crate::packet::MAX_SCRAPE_HASHES;
use crate::sys::{BATCH, Epoll, Receiver, Replier};

/// Answers connects, announces (with `peers` peers) and scrapes (with zeroes)
/// for ever: blocking recvmmsg, then sendmmsg, 64 at a time.
pub fn udp(socket: &UdpSocket, peers: usize) -> io::Result<()> {
    crate::sys::grow_receive_buffer(socket, 4 << 20);
    let peer_len = if socket.local_addr()?.is_ipv6() {
        18
    } else {
        6
    };
    let longest = (20 + peers * peer_len).max(8 + 12 * MAX_SCRAPE_HASHES);
    let mut receiver = Receiver::new(2048);
    let mut replier = Replier::new(longest);
    loop {
        let received = match receiver.receive(socket, true, true) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for index in 0..received {
            if receiver.packet(index).0.len() >= 16 {
                replier.reply(&receiver, index, |request, reply| {
                    answer(request, reply, peers * peer_len)
                });
            }
        }
        replier.flush(socket, &receiver);
    }
}

/// Writes the reply to a request of at least 16 bytes; returns its length.
fn answer(request: &[u8], reply: &mut [u8], peer_bytes: usize) -> usize {
    let is_connect = request[..8] == 0x0417_2710_1980u64.to_be_bytes();
    let action = if is_connect { 0 } else { request[11] };
    reply[..4].copy_from_slice(&u32::from(action).to_be_bytes());
    reply[4..8].copy_from_slice(&request[12..16]);
    match action {
        0 => {
            reply[8..16].copy_from_slice(&0x0123_4567_89ab_cdefu64.to_be_bytes());
            16
        }
        1 => {
            reply[8..12].copy_from_slice(&1800u32.to_be_bytes());
            reply[12..16].copy_from_slice(&1u32.to_be_bytes());
            reply[16..20].copy_from_slice(&1u32.to_be_bytes());
            20 + peer_bytes
        }
        _ => {
            let len = 8 + ((request.len() - 16) / 20).min(MAX_SCRAPE_HASHES) * 12;
            reply[8..len].fill(0);
            len
        }
    }
}

/// Answers every HTTP request with an announce reply of `peers` IPv4 peers,
/// for ever; closes after each where the request says so.
pub fn http(listener: &TcpListener, peers: usize) -> io::Result<()> {
    let keep = http_reply(peers, true);
    let close = http_reply(peers, false);
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new(BATCH)?;
    epoll.add(listener.as_raw_fd(), libc::EPOLLIN, u64::MAX)?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    loop {
        for index in 0..epoll.wait(-1)? {
            let (_, token) = epoll.event(index);
            if token == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let at = free.pop().unwrap_or(connections.len());
                    epoll.add(stream.as_raw_fd(), libc::EPOLLIN, at as u64)?;
                    if at == connections.len() {
                        connections.push(None);
                    }
                    connections[at] = Some(stream);
                }
                continue;
            }
            let at = token as usize;
            let keeps = connections[at]
                .as_mut()
                .is_some_and(|stream| respond(stream, &keep, &close));
            if !keeps {
                connections[at] = None;
                free.push(at);
            }
        }
    }
}

/// Answers one request; whole requests are expected to arrive at once.
/// Returns whether the connection stays.
fn respond(stream: &mut TcpStream, keep: &[u8], close: &[u8]) -> bool {
    let mut request = [0; 2048];
    let len = match stream.read(&mut request) {
        Ok(0) => return false,
        Ok(len) => len,
        Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
    };
    let wants_close = request[..len]
        .windows(17)
        .any(|w| w.eq_ignore_ascii_case(b"connection: close"));
    if wants_close {
        let _ = stream.write_all(close);
        return false;
    }
    stream.write_all(keep).is_ok()
}

/// How many peers make the HTTP reply about `bytes` long.
pub fn http_peers(bytes: f64, keep_alive: bool) -> usize {
    let bare = http_reply(0, keep_alive).len() as f64;
    ((bytes - bare) / 6.0).round().max(0.0) as usize
}

/// The fixed HTTP reply.
fn http_reply(peers: usize, keep_alive: bool) -> Vec<u8> {
    let mut body =
        b"d8:completei1e10:incompletei1e8:intervali1800e12:min intervali900e5:peers".to_vec();
    body.extend(format!("{}:", peers * 6).bytes());
    body.extend(std::iter::repeat_n([127, 0, 0, 9, 0x1a, 0xe1], peers).flatten());
    body.push(b'e');
    let connection = if keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    };
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{connection}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    reply.extend(body);
    reply
}

/// Binds and answers for ever; the address is told on standard output.
pub fn serve(address: SocketAddr, peers: usize, over_http: bool) -> io::Result<()> {
    if over_http {
        let listener = TcpListener::bind(address)?;
        println!("answering HTTP on {}", listener.local_addr()?);
        http(&listener, peers)
    } else {
        let socket = UdpSocket::bind(address)?;
        println!("answering UDP on {}", socket.local_addr()?);
        udp(&socket, peers)
    }
}
