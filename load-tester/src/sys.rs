//! The system calls the standard library has no safe form of: batched
//! datagrams, segmentation offload, epoll, and what concerns processes.
//!
//! The only module with `unsafe`, with its submodule; everything it exports is
//! safe to call. It knows nothing of trackers: bytes in, bytes out.

use std::io;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

mod process;

pub use process::{
    allow_open_files, catch_interrupt, end_with_this_thread, enter_network_namespace, interrupted,
    is_root, pin_to_cpu, signal,
};

/// Datagrams handed to the kernel or taken from it by one system call.
pub const BATCH: usize = 64;

/// Segments the kernel accepts in one message with UDP_SEGMENT: 64 up to
/// Linux 6.8 (`UDP_MAX_SEGMENTS`), more since.
pub const MAX_SEGMENTS: usize = 64;

/// Room for one control message with a 16-bit payload, aligned like a cmsghdr.
const CONTROL_WORDS: usize = 4;

/// A run of packets of one length, laid end to end.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The packets, `bytes.len()` a multiple of `packet_len`.
    pub bytes: &'a [u8],
    /// Length of each packet in bytes, at least 1.
    pub packet_len: usize,
}

/// Sends runs of datagrams on connected sockets, many per system call.
pub struct Sender {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    controls: Box<[[u64; CONTROL_WORDS]]>,
    packets: Box<[usize]>,
    segmentation: bool,
}

impl Sender {
    /// With `segmentation`, up to 64 packets of a run travel as one message
    /// (UDP_SEGMENT) that the kernel cuts up on the receiving side.
    pub fn new(segmentation: bool) -> Sender {
        Sender {
            headers: vec![zeroed_header(); BATCH].into_boxed_slice(),
            vectors: vec![empty_vector(); BATCH].into_boxed_slice(),
            controls: vec![[0; CONTROL_WORDS]; BATCH].into_boxed_slice(),
            packets: vec![0; BATCH].into_boxed_slice(),
            segmentation,
        }
    }

    /// Whether runs still travel as segmented messages.
    pub fn segmentation(&self) -> bool {
        self.segmentation
    }

    /// Sends `runs` in order on a connected, non-blocking socket. Returns the
    /// packets accepted and the error that ended the sending, if one did.
    ///
    /// Where the device cannot segment, the sender falls back to one message
    /// per packet and stays there.
    pub fn send(&mut self, socket: &impl AsRawFd, runs: &[Run]) -> (usize, Option<io::Error>) {
        let mut sent = 0;
        loop {
            let queued = self.fill(runs, sent);
            if queued == 0 {
                return (sent, None);
            }
            // SAFETY: the first `queued` headers were just filled by `fill` and
            // point into `runs`, `vectors` and `controls`, all of which live
            // across the call and are not moved by it.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    queued as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            if result > 0 {
                sent += self.packets[..result as usize].iter().sum::<usize>();
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP) if self.segmentation => {
                    self.segmentation = false;
                }
                _ => return (sent, Some(error)),
            }
        }
    }

    /// Writes the headers for the packets of `runs` after the first `skip`;
    /// returns how many headers are in use.
    fn fill(&mut self, runs: &[Run], mut skip: usize) -> usize {
        let per_message = if self.segmentation { MAX_SEGMENTS } else { 1 };
        let mut used = 0;
        for run in runs {
            let count = run.bytes.len() / run.packet_len;
            let mut next = skip.min(count);
            skip -= next;
            while next < count && used < BATCH {
                let packets = per_message.min(count - next);
                let start = next * run.packet_len;
                let bytes = &run.bytes[start..start + packets * run.packet_len];
                self.set(used, bytes, run.packet_len, packets);
                next += packets;
                used += 1;
            }
        }
        used
    }

    fn set(&mut self, index: usize, bytes: &[u8], packet_len: usize, packets: usize) {
        self.packets[index] = packets;
        self.vectors[index] = libc::iovec {
            iov_base: bytes.as_ptr() as *mut libc::c_void,
            iov_len: bytes.len(),
        };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_iov = &raw mut self.vectors[index];
        header.msg_iovlen = 1;
        if packets == 1 {
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            return;
        }
        header.msg_control = self.controls[index].as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes a length.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
        // SAFETY: the control buffer is 32 bytes, aligned to 8 and owned by
        // `self`; CMSG_SPACE(2) is 24 there, so the first header and its two
        // bytes of data lie inside it.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            (*control).cmsg_level = libc::SOL_UDP;
            (*control).cmsg_type = libc::UDP_SEGMENT;
            (*control).cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(control)
                .cast::<u16>()
                .write_unaligned(packet_len as u16);
        }
    }
}

/// Takes up to [`BATCH`] datagrams per system call into buffers of its own.
pub struct Receiver {
    buffer: Box<[u8]>,
    stride: usize,
    headers: Box<[libc::mmsghdr]>,
    // Pointed at by `headers`; kept alive and in place by being boxed here.
    _vectors: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
}

impl Receiver {
    /// Buffers of `stride` bytes each; longer datagrams arrive cut and marked.
    pub fn new(stride: usize) -> Receiver {
        let mut buffer = vec![0u8; stride * BATCH].into_boxed_slice();
        let mut vectors = vec![empty_vector(); BATCH].into_boxed_slice();
        let mut headers = vec![zeroed_header(); BATCH].into_boxed_slice();
        // SAFETY: all zeroes is a valid sockaddr_storage (family AF_UNSPEC).
        let unnamed: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let names = vec![unnamed; BATCH].into_boxed_slice();
        let base = buffer.as_mut_ptr();
        for (index, header) in headers.iter_mut().enumerate() {
            vectors[index] = libc::iovec {
                iov_base: base.wrapping_add(index * stride).cast(),
                iov_len: stride,
            };
            header.msg_hdr.msg_iov = &raw mut vectors[index];
            header.msg_hdr.msg_iovlen = 1;
        }
        Receiver {
            buffer,
            stride,
            headers,
            _vectors: vectors,
            names,
        }
    }

    /// Takes what has arrived; `WouldBlock` when nothing has, and with `wait`
    /// sleeps until something does (or the socket's read timeout ends).
    /// Sources are recorded only with `with_sources`.
    pub fn receive(
        &mut self,
        socket: &impl AsRawFd,
        wait: bool,
        with_sources: bool,
    ) -> io::Result<usize> {
        for index in 0..if with_sources { BATCH } else { 0 } {
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        let flags = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        // SAFETY: every header points at its own slice of `buffer` and at its
        // own entry of `names`, all owned by `self` and never moved or resized.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result as usize)
        }
    }

    /// The bytes of datagram `index` of the last batch, and whether it was cut.
    pub fn packet(&self, index: usize) -> (&[u8], bool) {
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(self.stride);
        let start = index * self.stride;
        let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        (&self.buffer[start..start + len], cut)
    }
}

/// Replies to the sources of a [`Receiver`]'s batch, one message each.
pub struct Replier {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    buffer: Box<[u8]>,
    stride: usize,
    queued: usize,
}

impl Replier {
    /// Room for [`BATCH`] replies of up to `stride` bytes.
    pub fn new(stride: usize) -> Replier {
        Replier {
            headers: vec![zeroed_header(); BATCH].into_boxed_slice(),
            vectors: vec![empty_vector(); BATCH].into_boxed_slice(),
            buffer: vec![0; stride * BATCH].into_boxed_slice(),
            stride,
            queued: 0,
        }
    }

    /// Queues a reply to the sender of datagram `index` of `received`; `write`
    /// fills the buffer, which keeps the bytes of its last use, and returns
    /// the length.
    pub fn reply(
        &mut self,
        received: &Receiver,
        index: usize,
        write: impl FnOnce(&[u8], &mut [u8]) -> usize,
    ) {
        let slot = self.queued;
        let bytes = &mut self.buffer[slot * self.stride..(slot + 1) * self.stride];
        let len = write(received.packet(index).0, bytes).min(bytes.len());
        self.vectors[slot] = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: len,
        };
        let header = &mut self.headers[slot].msg_hdr;
        header.msg_iov = &raw mut self.vectors[slot];
        header.msg_iovlen = 1;
        header.msg_name = (&raw const received.names[index]).cast_mut().cast();
        header.msg_namelen = received.headers[index].msg_hdr.msg_namelen;
        self.queued += 1;
    }

    /// Sends what is queued to the sources recorded in `received`, which must
    /// be the receiver the replies were queued from. What the kernel refuses
    /// is dropped.
    pub fn flush(&mut self, socket: &impl AsRawFd, received: &Receiver) {
        let mut sent = 0;
        for slot in 0..self.queued {
            let name = self.headers[slot].msg_hdr.msg_name as usize;
            let start = received.names.as_ptr() as usize;
            assert!(
                name >= start && name < start + size_of_val(&*received.names),
                "replies flushed with another receiver than they were queued from"
            );
        }
        while sent < self.queued {
            // SAFETY: headers `sent..queued` point into `vectors` and `buffer`
            // of `self` and into `received.names` (checked above), all alive.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr().add(sent),
                    (self.queued - sent) as libc::c_uint,
                    libc::MSG_NOSIGNAL,
                )
            };
            // An error belongs to the first message; skip it.
            sent += if result > 0 { result as usize } else { 1 };
        }
        self.queued = 0;
    }
}

/// An epoll instance over raw descriptors, edge or level triggered by choice
/// of `events` (libc::EPOLL*).
pub struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

impl Epoll {
    /// Delivers up to `capacity` events per wait.
    pub fn new(capacity: usize) -> io::Result<Epoll> {
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh descriptor that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; capacity].into_boxed_slice();
        Ok(Epoll { fd, events })
    }

    /// Watches `target`; `token` comes back with its events. Closing the
    /// descriptor ends the watch.
    pub fn add(&self, target: RawFd, events: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: token,
        };
        // SAFETY: `event` outlives the call; bad descriptors are an error.
        let result = unsafe {
            libc::epoll_ctl(
                self.fd.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                target,
                &raw mut event,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Waits up to `timeout_ms` (-1: for ever); returns the number of events.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the events buffer is owned by `self` and as long as stated.
        let result = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                timeout_ms,
            )
        };
        match result {
            0.. => Ok(result as usize),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Event bits and token of event `index` of the last wait.
    pub fn event(&self, index: usize) -> (u32, u64) {
        let event = self.events[index];
        (event.events, event.u64)
    }
}

/// Asks for a receive buffer of `bytes`, past the host's limit where the
/// process has the right to, else as much as the limit allows.
pub fn grow_receive_buffer(socket: &impl AsRawFd, bytes: usize) {
    let bytes = bytes as libc::c_int;
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        // A smaller buffer shows as reported loss at worst.
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    }
}

/// Lets many connections from one source address share its ports: the port is
/// chosen at connect, when the whole four-tuple is known (Linux 4.2).
pub fn bind_address_without_port(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a c_int that outlives the call, its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The address a datagram of the last batch came from.
pub fn source_of(receiver: &Receiver, index: usize) -> Option<SocketAddr> {
    let name = &receiver.names[index];
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says the storage holds a sockaddr_in, which
            // is smaller than sockaddr_storage and needs no more alignment.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = u32::from_be(v4.sin_addr.s_addr).into();
            Some(SocketAddr::V4(SocketAddrV4::new(
                ip,
                u16::from_be(v4.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = v6.sin6_addr.s6_addr.into();
            Some(SocketAddr::V6(SocketAddrV6::new(
                ip,
                u16::from_be(v6.sin6_port),
                0,
                v6.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

fn zeroed_header() -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid mmsghdr: null pointers, zero lengths.
    unsafe { mem::zeroed() }
}

fn empty_vector() -> libc::iovec {
    libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn segmented_and_single_messages_arrive_as_the_same_packets() {
        for segmentation in [true, false] {
            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let long: Vec<u8> = (0..100u8).flat_map(|n| [n; 10]).collect();
            let runs = [
                Run {
                    bytes: &long,
                    packet_len: 10,
                },
                Run {
                    bytes: b"abcdef",
                    packet_len: 3,
                },
            ];
            let (sent, error) = Sender::new(segmentation).send(&client, &runs);
            assert_eq!((sent, error.map(|e| e.to_string())), (102, None));
            let mut receiver = Receiver::new(64);
            let mut seen = Vec::new();
            while seen.len() < 102 {
                let count = receiver.receive(&server, true, true).unwrap();
                for index in 0..count {
                    assert_eq!(source_of(&receiver, index), client.local_addr().ok());
                    seen.push(receiver.packet(index).0.to_vec());
                }
            }
            assert_eq!(seen[99], [99u8; 10]);
            assert_eq!(seen[100], b"abc");
            assert_eq!(seen[101], b"def");
        }
    }

    #[test]
    fn a_datagram_longer_than_the_buffer_is_marked_as_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .send_to(&[7; 100], server.local_addr().unwrap())
            .unwrap();
        let mut receiver = Receiver::new(50);
        assert_eq!(receiver.receive(&server, true, false).unwrap(), 1);
        assert_eq!(receiver.packet(0), (&[7u8; 50][..], true));
    }
}
