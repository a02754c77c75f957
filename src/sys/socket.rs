//! Making the listening sockets: SO_REUSEPORT groups, one member per shard.

use super::option;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

/// Connections that wait for accept, at most; the kernel caps it at
/// net.core.somaxconn.
const TCP_BACKLOG: i32 = 4096;

/// What a UDP socket is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpOptions {
    /// `SO_RCVBUF` to ask for, in bytes; 0 leaves the system's default.
    pub receive_buffer_bytes: usize,
    /// `SO_SNDBUF` to ask for, in bytes; 0 leaves the system's default.
    pub send_buffer_bytes: usize,
    /// Tell with each datagram which local address it was sent to; needed on
    /// wildcard addresses, where the kernel would else answer from any.
    pub packet_info: bool,
}

/// A non-blocking UDP socket in the reuseport group of its address.
///
/// # Errors
/// Those of `socket`, `setsockopt` and `bind`.
pub fn udp(address: SocketAddr, options: UdpOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    prepare(&socket, address)?;
    if options.receive_buffer_bytes > 0 {
        force_buffer(&socket, libc::SO_RCVBUFFORCE, options.receive_buffer_bytes)
            .or_else(|_| socket.set_recv_buffer_size(options.receive_buffer_bytes))?;
    }
    if options.send_buffer_bytes > 0 {
        send_buffer(&socket, options.send_buffer_bytes)?;
    }
    if options.packet_info {
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        option::set(&socket, level, option, &1i32)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The receive buffer that the kernel granted, in bytes of payload: it reports
/// twice what was asked, for its own bookkeeping.
///
/// # Errors
/// Those of `getsockopt`.
pub fn receive_buffer_bytes(socket: &UdpSocket) -> io::Result<usize> {
    Ok(socket2::SockRef::from(socket).recv_buffer_size()? / 2)
}

/// How many datagrams the kernel has dropped in front of this socket since it
/// was made, modulo 2³²: nearly always because its receive buffer was full.
///
/// # Errors
/// Those of `getsockopt`; kernels before 4.12 do not tell.
pub fn dropped_datagrams(socket: impl AsFd) -> io::Result<u32> {
    /// The place of the drops among the numbers of `SO_MEMINFO` (`SK_MEMINFO_DROPS`).
    const DROPS: usize = 8;
    let numbers: [u32; DROPS + 1] = option::get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    Ok(numbers[DROPS])
}

/// A non-blocking TCP listener in the reuseport group of its address.
///
/// # Errors
/// Those of `socket`, `setsockopt`, `bind` and `listen`.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Inherited by accepted connections, so that it costs no call on each.
    socket.set_tcp_nodelay(true)?;
    prepare(&socket, address)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

/// Whether anyone else listens on this address, so that a second tracker on
/// the same port is told instead of silently taking half of the requests:
/// binds once without SO_REUSEPORT and lets go. Returns the address, with a
/// port that is free in place of 0: asked for one with SO_REUSEPORT, the kernel
/// may choose that of another UDP group.
///
/// # Errors
/// `AddrInUse` when someone does; other errors of `bind` likewise.
pub fn probe_free(address: SocketAddr, stream: bool) -> io::Result<SocketAddr> {
    let (kind, protocol) = match stream {
        true => (Type::STREAM, Protocol::TCP),
        false => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if stream {
        // Connections of an earlier run in TIME_WAIT do not count.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket();
    bound.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)
}

/// Asks for a send buffer, of which the kernel may grant less.
///
/// # Errors
/// Those of `setsockopt`.
pub(super) fn send_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    force_buffer(&socket, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| socket2::SockRef::from(&socket).set_send_buffer_size(bytes))
}

/// Beyond net.core.rmem_max, which only CAP_NET_ADMIN may ask for.
fn force_buffer(socket: impl AsFd, option: i32, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    option::set(socket, libc::SOL_SOCKET, option, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_one_port_and_strangers_are_noticed() {
        let first =
            udp(SocketAddr::from(([127, 0, 0, 1], 0)), UdpOptions::default()).expect("bind");
        let address = first.local_addr().expect("address");
        let _second = udp(address, UdpOptions::default()).expect("the group takes a second");
        let error = probe_free(address, false).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

        let listener = tcp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let address = listener.local_addr().expect("address");
        let error = probe_free(address, true).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        probe_free(address, true).expect("free again");
    }

    #[test]
    fn what_does_not_fit_into_the_buffer_is_counted() {
        let options = UdpOptions {
            receive_buffer_bytes: 1,
            ..UdpOptions::default()
        };
        let socket = udp(SocketAddr::from(([127, 0, 0, 1], 0)), options).expect("bind");
        assert_eq!(dropped_datagrams(&socket).expect("a count"), 0);
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("address");
        for _ in 0..100 {
            client.send_to(&[0; 1000], address).expect("send");
        }
        let mut received = 0;
        while socket.recv(&mut [0; 1000]).is_ok() {
            received += 1;
        }
        assert!(received < 100, "the kernel gives a buffer for all");
        let dropped = dropped_datagrams(&socket).expect("a count");
        assert_eq!(dropped, 100 - received);
    }

    /// Left to the kernel, two of so many would nearly surely share a port.
    #[test]
    fn each_group_gets_a_port_of_its_own() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut ports = std::collections::HashSet::new();
        let bind = |_| {
            let free = probe_free(any, false).expect("a free port");
            let socket = udp(free, UdpOptions::default()).expect("bind");
            assert!(ports.insert(free.port()), "{free} twice");
            assert_eq!(socket.local_addr().expect("address"), free);
            socket
        };
        let sockets: Vec<_> = (0..500).map(bind).collect();
        drop(sockets);
    }
}
