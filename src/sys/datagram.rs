//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`.
//!
//! One system call moves up to [`BATCH`] datagrams. The buffers live as long
//! as their [`Inbox`] or [`Outbox`] and are reused: nothing is allocated after
//! construction. Addresses are kept in the kernel's own layout, so that
//! answering a datagram copies 28 bytes and converts nothing.

use super::path_mtu::{self, Width};
use super::prefetch_read;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Datagrams moved by one system call, at most. 64 is where measured
/// throughput stops rising; more only adds latency within a batch.
pub const BATCH: usize = 64;

/// Bytes of a received datagram that are kept. The largest request of use is a
/// scrape of 74 info hashes (16 + 74 × 20 = 1,496 bytes) or an announce with
/// BEP 41 options; what is longer is cut, as trailing bytes are tolerated.
pub const RECEIVE_BYTES: usize = 2048;

/// Room for one packet-information control message of either family.
const CONTROL_BYTES: usize = 64;

/// Where a datagram came from or goes to: a `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Address {
    bytes: [u8; 28],
}

const SOCKADDR_IN_BYTES: u32 = size_of::<libc::sockaddr_in>() as u32;
const SOCKADDR_IN6_BYTES: u32 = size_of::<libc::sockaddr_in6>() as u32;

impl Address {
    /// The IP address, with IPv4-mapped IPv6 addresses made IPv4.
    #[must_use]
    #[inline]
    pub fn ip(&self) -> IpAddr {
        let b = &self.bytes;
        if self.is_ipv6() {
            let mut octets = [0u8; 16];
            octets.copy_from_slice(&b[8..24]);
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        } else {
            IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7]))
        }
    }

    /// The UDP port; 0 can be forged by a sender and cannot be answered.
    #[must_use]
    #[inline]
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    const fn is_ipv6(&self) -> bool {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]]) == libc::AF_INET6 as u16
    }

    const fn length(&self) -> u32 {
        if self.is_ipv6() {
            SOCKADDR_IN6_BYTES
        } else {
            SOCKADDR_IN_BYTES
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0u8; 28];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        Self { bytes }
    }
}

/// The local address that a datagram was sent to, on sockets that ask for it
/// ([`super::socket::UdpOptions::packet_info`]); its reply leaves from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalAddress {
    /// Not known: the kernel chooses, which is right for sockets bound to one
    /// address.
    #[default]
    Unknown,
    /// `IP_PKTINFO`.
    V4(Ipv4Addr),
    /// `IPV6_RECVPKTINFO`; the interface index matters for link-local ones.
    V6(Ipv6Addr, u32),
}

/// One received datagram.
pub struct Datagram<'a, To = LocalAddress> {
    /// The payload, cut at [`RECEIVE_BYTES`].
    pub bytes: &'a [u8],
    /// Its sender.
    pub from: &'a Address,
    /// Where it was sent to, where the socket was asked to tell.
    pub to: To,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct ReceiveBuffer([u8; RECEIVE_BYTES + STAGGER]);

/// Keeps the beginnings of buffers out of each other's cache sets: at a stride
/// that is a power of two, those of a whole batch would share two of the
/// sixty-four sets of a first-level cache.
const STAGGER: usize = LINE;

/// Bytes of a cache line.
const LINE: usize = 64;

/// The bytes of the whole cache lines that so many take.
const fn lines(bytes: usize) -> usize {
    bytes.next_multiple_of(LINE)
}

fn empty_headers() -> Box<[libc::mmsghdr]> {
    // SAFETY: all-zero bytes are a valid `mmsghdr`: null pointers and lengths 0.
    (0..BATCH).map(|_| unsafe { zeroed() }).collect()
}

fn empty_vectors() -> Box<[libc::iovec]> {
    let empty = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    vec![empty; BATCH].into_boxed_slice()
}

/// Buffers for receiving; one serves all sockets of a shard in turn.
pub struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    buffers: Box<[ReceiveBuffer]>,
    addresses: Box<[Address]>,
    controls: Box<[Control]>,
    received: usize,
}

// SAFETY: the raw pointers in the headers and vectors are set anew by each call
// to `receive` and point into memory that self owns; none is used between calls.
unsafe impl Send for Inbox {}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            headers: empty_headers(),
            vectors: empty_vectors(),
            buffers: vec![ReceiveBuffer([0; RECEIVE_BYTES + STAGGER]); BATCH].into_boxed_slice(),
            addresses: vec![Address::default(); BATCH].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH].into_boxed_slice(),
            received: 0,
        }
    }
}

impl Inbox {
    /// Receives what is there, up to [`BATCH`] datagrams, without waiting;
    /// returns how many. 0 when nothing is there.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)` but for `EAGAIN` and `EINTR`, which count as
    /// "nothing there".
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.received = 0;
        for at in 0..BATCH {
            self.vectors[at] = libc::iovec {
                iov_base: self.buffers[at].0.as_mut_ptr().cast(),
                iov_len: RECEIVE_BYTES,
            };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.addresses[at]).cast();
            header.msg_namelen = size_of::<Address>() as u32;
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES;
            header.msg_flags = 0;
        }
        // SAFETY: each of the BATCH headers points to an address, a vector, a
        // buffer and a control block of the lengths stated, all owned by self
        // and untouched until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        self.received = count as usize;
        Ok(self.received)
    }

    /// How many datagrams the last [`Inbox::receive`] brought.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.received
    }

    /// How many bytes the last [`Inbox::receive`] brought, without headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let headers = self.headers[..self.received].iter();
        headers.map(|header| u64::from(header.msg_len)).sum()
    }

    /// Whether the last [`Inbox::receive`] brought nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// Begins to fetch the first two cache lines of a datagram, as long as an
    /// announce is, if there is one at this index: the kernel has written it,
    /// and the batch's others after it.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        if at < self.received {
            let bytes = &self.buffers[at].0;
            prefetch_read(&bytes[0]);
            prefetch_read(&bytes[64]);
            prefetch_read(&self.addresses[at]);
        }
    }

    /// The datagram at this index of the last batch.
    ///
    /// # Panics
    /// When `at` is not below [`Inbox::len`].
    #[must_use]
    #[inline(always)]
    pub fn datagram(&self, at: usize) -> Datagram<'_> {
        assert!(at < self.received);
        let length = (self.headers[at].msg_len as usize).min(RECEIVE_BYTES);
        let control_bytes = self.headers[at].msg_hdr.msg_controllen.min(CONTROL_BYTES);
        Datagram {
            bytes: &self.buffers[at].0[..length],
            from: &self.addresses[at],
            to: read_packet_info(&self.controls[at].0[..control_bytes]),
        }
    }
}

/// The header of a control message: length (8 bytes), level, type (4 each).
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

#[inline(always)]
fn read_packet_info(control: &[u8]) -> LocalAddress {
    // The sockets ask for one kind of control message, so it is the first one.
    let Some((header, data)) = control.split_at_checked(CONTROL_HEADER_BYTES) else {
        return LocalAddress::Unknown;
    };
    let word = |at: usize| {
        i32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    match (word(8), word(12)) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
            // struct in_pktinfo: interface, ipi_spec_dst, ipi_addr.
            LocalAddress::V4(Ipv4Addr::new(data[4], data[5], data[6], data[7]))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
            let mut octets = [0u8; 16];
            octets.copy_from_slice(&data[..16]);
            let interface = u32::from_ne_bytes([data[16], data[17], data[18], data[19]]);
            LocalAddress::V6(Ipv6Addr::from(octets), interface)
        }
        _ => LocalAddress::Unknown,
    }
}

/// Writes the control message that makes a reply leave from `local`; returns
/// its length, 0 for none.
fn write_packet_info(control: &mut [u8; CONTROL_BYTES], local: LocalAddress) -> usize {
    let (level, kind, data_bytes) = match local {
        LocalAddress::Unknown => return 0,
        LocalAddress::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, 12usize),
        LocalAddress::V6(..) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20),
    };
    control[..8].copy_from_slice(&(CONTROL_HEADER_BYTES + data_bytes).to_ne_bytes());
    control[8..12].copy_from_slice(&level.to_ne_bytes());
    control[12..16].copy_from_slice(&kind.to_ne_bytes());
    let data = &mut control[CONTROL_HEADER_BYTES..];
    data[..24].fill(0);
    match local {
        LocalAddress::Unknown => {}
        LocalAddress::V4(ip) => data[4..8].copy_from_slice(&ip.octets()),
        LocalAddress::V6(ip, interface) => {
            data[..16].copy_from_slice(&ip.octets());
            // Elsewhere the routing table knows better than the interface on
            // which the request happened to arrive.
            if ip.is_unicast_link_local() {
                data[16..20].copy_from_slice(&interface.to_ne_bytes());
            }
        }
    }
    CONTROL_HEADER_BYTES + data_bytes.next_multiple_of(8)
}

/// What became of a batch of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the kernel.
    pub sent: usize,
    /// Their bytes, without headers.
    pub bytes: u64,
    /// Refused by it, and dropped: a full send buffer, no route, a firewall.
    pub failed: usize,
}

/// Buffers for sending by one socket.
pub struct Outbox {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    buffers: Box<[u8]>,
    buffer_bytes: usize,
    /// Where the next datagram goes: they lie side by side, so that replies,
    /// short as most are, touch few pages and cache lines.
    position: usize,
    lengths: Box<[usize]>,
    addresses: Box<[Address]>,
    controls: Box<[Control]>,
    control_lengths: Box<[usize]>,
    filled: usize,
    sure_bytes: usize,
    /// What the socket was told last.
    width: Option<Width>,
}

// SAFETY: as for `Inbox`: each call to `send` sets the pointers anew.
unsafe impl Send for Outbox {}

impl Outbox {
    /// Room for [`BATCH`] datagrams of at most `buffer_bytes` each. Those of up to
    /// `sure_bytes` fit every path; longer ones may be fragmented on the way
    /// (IPv4), or as the path's MTU demands (IPv6).
    #[must_use]
    pub fn new(buffer_bytes: usize, sure_bytes: usize) -> Self {
        Self {
            headers: empty_headers(),
            vectors: empty_vectors(),
            buffers: vec![0; BATCH * lines(buffer_bytes)].into_boxed_slice(),
            buffer_bytes,
            position: 0,
            lengths: vec![0; BATCH].into_boxed_slice(),
            addresses: vec![Address::default(); BATCH].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH].into_boxed_slice(),
            control_lengths: vec![0; BATCH].into_boxed_slice(),
            filled: 0,
            sure_bytes,
            width: None,
        }
    }

    /// How many datagrams wait to be sent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether no datagram waits to be sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether [`Outbox::send`] must come before the next [`Outbox::push`].
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// Adds a datagram. `write` fills the buffer and returns the length, or
    /// `None` to send nothing after all.
    ///
    /// # Panics
    /// When full, or when `write` claims more than the buffer holds.
    #[inline]
    pub fn push(
        &mut self,
        to: &Address,
        from: LocalAddress,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        let at = self.filled;
        assert!(at < BATCH);
        let start = self.position;
        let Some(length) = write(&mut self.buffers[start..start + self.buffer_bytes]) else {
            return;
        };
        assert!(length <= self.buffer_bytes);
        self.position = start + lines(length);
        self.lengths[at] = length;
        self.addresses[at] = *to;
        self.control_lengths[at] = write_packet_info(&mut self.controls[at].0, from);
        self.filled = at + 1;
    }

    /// Sends what waits, without blocking, and empties the box.
    ///
    /// A datagram that the kernel refuses is skipped; when the send buffer is
    /// full the rest is dropped: a tracker's client asks again.
    pub fn send(&mut self, socket: impl AsFd) -> Sent {
        let mut result = Sent::default();
        self.suit_paths(&socket);
        let mut start = 0;
        for at in 0..self.filled {
            let length = self.lengths[at];
            self.vectors[at] = libc::iovec {
                iov_base: self.buffers[start..].as_mut_ptr().cast(),
                iov_len: length,
            };
            start += lines(length);
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.addresses[at]).cast();
            header.msg_namelen = self.addresses[at].length();
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            header.msg_controllen = self.control_lengths[at];
            header.msg_control = match self.control_lengths[at] {
                0 => ptr::null_mut(),
                _ => self.controls[at].0.as_mut_ptr().cast(),
            };
        }
        let mut next = 0;
        while next < self.filled {
            // SAFETY: the headers from `next` to `filled` were set just above
            // and point to memory that self owns and does not touch meanwhile.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.headers[next..].as_mut_ptr(),
                    (self.filled - next) as u32,
                    libc::MSG_DONTWAIT,
                )
            };
            if count > 0 {
                let handed = &self.headers[next..next + count as usize];
                let bytes = handed.iter().map(|header| u64::from(header.msg_len));
                result.bytes += bytes.sum::<u64>();
                result.sent += count as usize;
                next += count as usize;
                continue;
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => break,
                _ => next += 1,
            }
        }
        result.failed = self.filled - result.sent;
        self.filled = 0;
        self.position = 0;
        result
    }

    /// Has the socket treat paths as the longest datagram that waits needs it.
    fn suit_paths(&mut self, socket: impl AsFd) {
        let lengths = &self.lengths[..self.filled];
        let width = match lengths.iter().any(|&length| length > self.sure_bytes) {
            false => Width::Sure,
            true => Width::Wide,
        };
        if self.filled > 0 && self.width != Some(width) {
            path_mtu::suit(socket, self.addresses[0].is_ipv6(), width);
            self.width = Some(width);
        }
    }
}

#[cfg(test)]
mod tests;
