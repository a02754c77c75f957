//! Sockets of AF_XDP: frames in memory that the process shares with the kernel.
//!
//! ```text
//!             fill ring: empty frames            completion ring: sent frames
//!  receiver ------------------------> kernel ------------------------> sender
//!           <------------------------        <------------------------
//!             receive ring: filled               send ring: to be sent
//! ```
//!
//! Each frame belongs to one side at a time: to the kernel while its number is
//! in the fill or the send ring, else to the process. Received frames and those
//! to be sent are apart, so the two halves of a socket share no frame.

use crate::sys::datagram::BATCH;
use crate::sys::mapping::Mapping;
use crate::sys::option::{self, Integers};
use crate::sys::prefetch_read;
use crate::sys::socket::send_buffer;
use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a frame's room, of which the kernel leaves 256 free in front of what
/// it receives.
pub const FRAME_BYTES: usize = 2048;

/// Bytes of a received frame, at most.
pub const RECEIVED_BYTES: usize = FRAME_BYTES - 256;

/// Frames that can wait to be read.
const RECEIVE_FRAMES: u32 = 4096;

/// Frames that can wait to be sent.
const SEND_FRAMES: u32 = 1024;

/// Frames that one call sends at least, where there are as many.
const FRAMES_PER_CALL: u32 = 16;

/// Calls to send what waits, at most: a batch takes four.
const MAX_CALLS: u32 = 16;

/// Bytes that the kernel may have in copies of frames under way: as much as all
/// frames need with its bookkeeping, a page each.
const SEND_BUFFER_BYTES: usize = SEND_FRAMES as usize * 4096;

/// Where the kernel lays the rings' memory (linux/if_xdp.h).
const RECEIVE_RING_AT: i64 = 0;
const SEND_RING_AT: i64 = 0x8000_0000;
const FILL_RING_AT: i64 = 0x1_0000_0000;
const COMPLETION_RING_AT: i64 = 0x1_8000_0000;

/// One of the four rings: numbers or descriptions of frames.
struct Ring<T> {
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    flags: *const AtomicU32,
    entries: *mut T,
    mask: u32,
    /// How far this side has come.
    position: u32,
    _mapping: Mapping,
}

// SAFETY: the pointers lead into the mapping that moves with them.
unsafe impl<T> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// # Errors
    /// Those of `mmap`.
    fn map(
        socket: &OwnedFd,
        at: i64,
        offsets: &libc::xdp_ring_offset,
        entries: u32,
    ) -> io::Result<Self> {
        let bytes = offsets.desc as usize + entries as usize * size_of::<T>();
        let mapping = Mapping::new(
            bytes,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            socket.as_raw_fd(),
            at,
        )?;
        let field = |offset: u64| -> *const AtomicU32 {
            // SAFETY: the kernel says that these lie in the ring's memory.
            unsafe { mapping.start().as_ptr().add(offset as usize) }
                .cast_const()
                .cast()
        };
        Ok(Self {
            producer: field(offsets.producer),
            consumer: field(offsets.consumer),
            flags: field(offsets.flags),
            // SAFETY: as above.
            entries: unsafe { mapping.start().as_ptr().add(offsets.desc as usize) }.cast(),
            mask: entries - 1,
            position: 0,
            _mapping: mapping,
        })
    }

    fn load(&self, field: *const AtomicU32) -> u32 {
        // SAFETY: one of the fields above, aligned, in a mapping that lives.
        unsafe { &*field }.load(Ordering::Acquire)
    }

    fn publish(&self, field: *const AtomicU32) {
        // SAFETY: as in `load`.
        unsafe { &*field }.store(self.position, Ordering::Release);
    }

    /// Entries that the kernel has put in and this side has not taken.
    fn filled(&self) -> u32 {
        self.load(self.producer).wrapping_sub(self.position)
    }

    /// Takes the next of [`Ring::filled`] entries.
    fn take(&mut self) -> T {
        // SAFETY: the mask keeps the index inside the ring; the caller has seen
        // that the kernel has published this entry.
        let entry = unsafe {
            self.entries
                .add((self.position & self.mask) as usize)
                .read()
        };
        self.position = self.position.wrapping_add(1);
        entry
    }

    /// Puts one in, where there is room by the number of frames there are.
    fn put(&mut self, entry: T) {
        // SAFETY: the mask keeps the index inside the ring, and each ring has
        // as many entries as there are frames for it: this one is not the
        // kernel's.
        unsafe {
            self.entries
                .add((self.position & self.mask) as usize)
                .write(entry);
        }
        self.position = self.position.wrapping_add(1);
    }

    /// Whether the kernel wants to be told of new entries.
    fn wants_wakeup(&self) -> bool {
        self.load(self.flags) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The memory of all frames of a socket, and the socket.
struct Shared {
    socket: OwnedFd,
    frames: Mapping,
}

impl Shared {
    /// # Safety
    /// The frame, and all of `length` bytes at `address`, must belong to the
    /// process as long as the slice lives.
    unsafe fn bytes(&self, address: u64, length: usize) -> &[u8] {
        // SAFETY: the caller's, and the bounds below.
        unsafe { std::slice::from_raw_parts(self.at(address, length), length) }
    }

    /// Where a frame lies; an address that the kernel should never give ends
    /// the process.
    fn at(&self, address: u64, length: usize) -> *mut u8 {
        let start = address as usize;
        assert!(
            start <= self.frames.bytes() && length <= self.frames.bytes() - start,
            "AF_XDP: a frame out of bounds"
        );
        // SAFETY: inside the mapping.
        unsafe { self.frames.start().as_ptr().add(start) }
    }
}

/// The half that receives.
pub struct FrameReceiver {
    shared: Arc<Shared>,
    receive: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    /// The frames of the last batch.
    batch: Vec<libc::xdp_desc>,
}

/// The half that sends.
pub struct FrameSender {
    shared: Arc<Shared>,
    send: Ring<libc::xdp_desc>,
    completion: Ring<u64>,
    /// Frames that wait for nothing.
    free: Vec<u64>,
}

/// Opens a socket on one queue of an interface. Where the driver can, frames
/// are not copied.
///
/// # Errors
/// EPERM without CAP_NET_RAW, EBUSY when another socket has the queue, ENOBUFS
/// or ENOMEM when the limit on locked memory is too low, EAFNOSUPPORT where the
/// kernel has no AF_XDP.
pub fn open(interface: u32, queue: u32) -> io::Result<(FrameReceiver, FrameSender)> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let bytes = (RECEIVE_FRAMES + SEND_FRAMES) as usize * FRAME_BYTES;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let frames = Mapping::new(bytes, flags, -1, 0)?;
    // SAFETY: all-zero bytes are a valid registration: plain integers.
    let mut registration: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    registration.addr = frames.start().as_ptr() as u64;
    registration.len = bytes as u64;
    registration.chunk_size = FRAME_BYTES as u32;
    option::set(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)?;
    // With less, more of a burst waits for the next call.
    send_buffer(&socket, SEND_BUFFER_BYTES)?;
    for (ring, entries) in [
        (libc::XDP_UMEM_FILL_RING, RECEIVE_FRAMES),
        (libc::XDP_RX_RING, RECEIVE_FRAMES),
        (libc::XDP_UMEM_COMPLETION_RING, SEND_FRAMES),
        (libc::XDP_TX_RING, SEND_FRAMES),
    ] {
        option::set(&socket, libc::SOL_XDP, ring, &entries)?;
    }
    // Linux before 5.4 knows less of the rings.
    let offsets: libc::xdp_mmap_offsets =
        option::get(&socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
    let mut fill = Ring::map(&socket, FILL_RING_AT, &offsets.fr, RECEIVE_FRAMES)?;
    let receive = Ring::map(&socket, RECEIVE_RING_AT, &offsets.rx, RECEIVE_FRAMES)?;
    let completion = Ring::map(&socket, COMPLETION_RING_AT, &offsets.cr, SEND_FRAMES)?;
    let send = Ring::map(&socket, SEND_RING_AT, &offsets.tx, SEND_FRAMES)?;
    for number in 0..RECEIVE_FRAMES {
        fill.put(u64::from(number) * FRAME_BYTES as u64);
    }
    fill.publish(fill.producer);
    bind(&socket, interface, queue)?;
    let first = u64::from(RECEIVE_FRAMES);
    let free = (first..first + u64::from(SEND_FRAMES)).rev();
    let shared = Arc::new(Shared { socket, frames });
    Ok((
        FrameReceiver {
            shared: shared.clone(),
            receive,
            fill,
            batch: Vec::with_capacity(BATCH),
        },
        FrameSender {
            shared,
            send,
            completion,
            free: free.map(|number| number * FRAME_BYTES as u64).collect(),
        },
    ))
}

// SAFETY: all its fields are integers, and none is padding.
unsafe impl Integers for libc::xdp_umem_reg {}
// SAFETY: all its fields are integers of one size.
unsafe impl Integers for libc::xdp_mmap_offsets {}
// SAFETY: all its fields are integers of one size.
unsafe impl Integers for libc::xdp_statistics {}

fn bind(socket: &OwnedFd, interface: u32, queue: u32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid address: plain integers.
    let mut address: libc::sockaddr_xdp = unsafe { std::mem::zeroed() };
    address.sxdp_family = libc::AF_XDP as u16;
    address.sxdp_flags = libc::XDP_USE_NEED_WAKEUP;
    address.sxdp_ifindex = interface;
    address.sxdp_queue_id = queue;
    // SAFETY: a live address whose size is stated.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_xdp>() as u32,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl AsFd for FrameReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.socket.as_fd()
    }
}

impl FrameReceiver {
    /// Gives the frames of the last batch back and takes what has come, up to
    /// [`BATCH`] frames; returns how many.
    pub fn receive(&mut self) -> usize {
        if !self.batch.is_empty() {
            for frame in self.batch.drain(..) {
                // What was received begins somewhere in its frame.
                self.fill.put(frame.addr - frame.addr % FRAME_BYTES as u64);
            }
            self.fill.publish(self.fill.producer);
        }
        // The kernel ran out of empty frames, and waits for a word.
        if self.fill.wants_wakeup() {
            self.wake();
        }
        let count = self.receive.filled().min(BATCH as u32);
        if count > 0 {
            for _ in 0..count {
                self.batch.push(self.receive.take());
            }
            self.receive.publish(self.receive.consumer);
        }
        self.batch.len()
    }

    /// The frame at this index of the last batch.
    ///
    /// # Panics
    /// When `at` is not below what [`FrameReceiver::receive`] returned.
    #[must_use]
    #[inline]
    pub fn frame(&self, at: usize) -> &[u8] {
        let frame = self.batch[at];
        // SAFETY: a frame of the last batch is the process's until the next
        // `receive`, which needs self exclusively.
        unsafe { self.shared.bytes(frame.addr, frame.len as usize) }
    }

    /// Begins to fetch the cache lines of a frame that headers and an announce
    /// are in, if there is one at this index.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        if at < self.batch.len() {
            let (head, _) = self.frame(at).as_chunks::<64>();
            for line in head.iter().take(3) {
                prefetch_read(line);
            }
        }
    }

    /// How many frames the kernel has dropped since the socket was made, modulo
    /// 2³², because all were waiting to be read.
    ///
    /// # Errors
    /// Those of `getsockopt`.
    pub fn dropped_frames(&self) -> io::Result<u32> {
        let socket = &self.shared.socket;
        let statistics: libc::xdp_statistics =
            option::get(socket, libc::SOL_XDP, libc::XDP_STATISTICS)?;
        Ok((statistics.rx_dropped + statistics.rx_ring_full) as u32)
    }

    /// Wakes the driver. `recvfrom` would, too, but not before Linux 5.11.
    #[cold]
    fn wake(&self) {
        let mut socket = [PollFd::new(&self.shared.socket, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Interrupted or not: the flag is looked at again.
        let _ = rustix::event::poll(&mut socket, Some(&at_once));
    }
}

impl FrameSender {
    /// Whether a frame is free for the next [`FrameSender::push`].
    #[inline]
    pub fn has_room(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        !self.free.is_empty()
    }

    /// Writes one frame for [`FrameSender::send`]; `write` fills its room and
    /// returns its length, or `None` to send nothing after all.
    ///
    /// # Panics
    /// Without [`FrameSender::has_room`], or when `write` claims more than the
    /// room of [`FRAME_BYTES`].
    #[inline]
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let address = self.free[self.free.len() - 1];
        let at = self.shared.at(address, FRAME_BYTES);
        // SAFETY: a free frame is the process's, and of its two halves only this
        // one has its number, exclusively while it writes.
        let room = unsafe { std::slice::from_raw_parts_mut(at, FRAME_BYTES) };
        let Some(length) = write(room) else {
            return;
        };
        assert!(length <= FRAME_BYTES);
        self.free.pop();
        self.send.put(libc::xdp_desc {
            addr: address,
            len: length as u32,
            options: 0,
        });
    }

    /// Whether the kernel has taken every frame.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.send.load(self.send.consumer) == self.send.position
    }

    /// Has the kernel send what was written. What it cannot take now (the
    /// interface is busy) goes with a later call.
    pub fn send(&mut self) {
        self.send.publish(self.send.producer);
        // Where frames are copied, a call takes 16 or 32 of them and asks for the
        // next, as it does when the interface is busy. How far it came is not
        // always to be seen in the ring (before Linux 6.17), so calls are counted.
        let mut calls = (self.waiting() / FRAMES_PER_CALL + 1).min(MAX_CALLS);
        while calls > 0 && self.waiting() > 0 && self.send.wants_wakeup() && self.call_again() {
            calls -= 1;
        }
        self.reclaim();
    }

    /// Calls the kernel to send; returns whether it asks for one more call.
    fn call_again(&self) -> bool {
        // SAFETY: no memory is involved: the frames are in the ring.
        let result = unsafe {
            libc::sendto(
                self.shared.socket.as_raw_fd(),
                ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null(),
                0,
            )
        };
        let asks = [libc::EAGAIN, libc::EBUSY].map(Some);
        result < 0 && asks.contains(&io::Error::last_os_error().raw_os_error())
    }

    fn waiting(&self) -> u32 {
        let taken = self.send.load(self.send.consumer);
        self.send.position.wrapping_sub(taken)
    }

    /// Takes back the frames that were sent.
    fn reclaim(&mut self) {
        let sent = self.completion.filled();
        for _ in 0..sent {
            self.free.push(self.completion.take());
        }
        if sent > 0 {
            self.completion.publish(self.completion.consumer);
        }
    }
}
