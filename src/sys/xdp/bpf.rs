//! Programs of eBPF: loaded by `bpf(2)`, attached to an interface as XDP.
//!
//! Everything here is a descriptor. The kernel detaches a program when the last
//! one of its [`Link`] is closed, however the process ends.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of eBPF (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation code: class, size or source, mode.
    pub code: u8,
    registers: u8,
    /// Instructions to skip, or an offset in memory.
    pub offset: i16,
    /// The constant operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction on registers of these numbers, from 0 to 10.
    #[must_use]
    pub const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        let registers = match cfg!(target_endian = "little") {
            true => from << 4 | to & 15,
            false => to << 4 | from & 15,
        };
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }

    /// The number of the register that is written.
    #[must_use]
    pub const fn to(&self) -> u8 {
        match cfg!(target_endian = "little") {
            true => self.registers & 15,
            false => self.registers >> 4,
        }
    }

    /// The number of the register that is read.
    #[must_use]
    pub const fn from(&self) -> u8 {
        match cfg!(target_endian = "little") {
            true => self.registers >> 4,
            false => self.registers & 15,
        }
    }
}

/// The commands of `bpf(2)` that are used, and their types.
mod command {
    use super::c_int;

    pub const MAP_CREATE: c_int = 0;
    pub const MAP_UPDATE_ELEM: c_int = 2;
    pub const PROG_LOAD: c_int = 5;
    pub const LINK_CREATE: c_int = 28;
}

/// A hash table (`BPF_MAP_TYPE_HASH`).
const MAP_HASH: u32 = 1;
/// Sockets of AF_XDP by their numbers (`BPF_MAP_TYPE_XSKMAP`).
const MAP_SOCKETS: u32 = 17;
/// `BPF_PROG_TYPE_XDP`, and `BPF_XDP`, the place where it is attached.
const PROGRAM_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
const MODE_GENERIC: u32 = 1 << 1;
const MODE_DRIVER: u32 = 1 << 2;

/// Bytes of a program's name, its final zero among them (`BPF_OBJ_NAME_LEN`).
const NAME_BYTES: usize = 16;

/// What `ip link` and bpftool call the program.
const PROGRAM_NAME: &[u8; NAME_BYTES] = b"karuta\0\0\0\0\0\0\0\0\0\0";

/// How often loading a program is tried again.
const LOAD_ATTEMPTS: usize = 10;

/// Calls `bpf(2)` with the beginning of its `union bpf_attr`, whose rest the
/// kernel takes for zero.
fn call<T>(command: c_int, attribute: &mut T) -> io::Result<c_int> {
    // SAFETY: the kernel reads as many bytes as are stated, all of a live value
    // of plain integers; the addresses among them are of buffers that the
    // callers below keep alive and as long as they state.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>() as u32,
        )
    };
    match result {
        0.. => Ok(result as c_int),
        _ => Err(io::Error::last_os_error()),
    }
}

fn call_for_descriptor<T>(command: c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attribute)?;
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A table that programs and the process share.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Map {
    /// A hash table from keys of `key_bytes` to numbers.
    ///
    /// # Errors
    /// EPERM without CAP_BPF, ENOMEM.
    pub fn table(key_bytes: usize, entries: usize) -> io::Result<Self> {
        Self::new(MAP_HASH, key_bytes, entries)
    }

    /// Room for sockets of AF_XDP with numbers below `entries`.
    ///
    /// # Errors
    /// EPERM without CAP_BPF and CAP_NET_ADMIN, ENOMEM.
    pub fn sockets(entries: usize) -> io::Result<Self> {
        Self::new(MAP_SOCKETS, size_of::<u32>(), entries)
    }

    fn new(kind: u32, key_bytes: usize, entries: usize) -> io::Result<Self> {
        let entries = u32::try_from(entries).map_err(|_| io::ErrorKind::InvalidInput)?;
        let value_bytes = size_of::<u32>() as u32;
        // map_type, key_size, value_size, max_entries.
        let mut attribute = [kind, key_bytes as u32, value_bytes, entries.max(1)];
        call_for_descriptor(command::MAP_CREATE, &mut attribute).map(Self)
    }

    /// Sets the value of a key, which is as long as the map's keys are.
    ///
    /// # Errors
    /// E2BIG when it is full, EINVAL for a socket that is not bound.
    pub fn set<const N: usize>(&self, key: &[u8; N], value: u32) -> io::Result<()> {
        #[repr(C)]
        struct Attribute {
            map: u32,
            padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let mut attribute = Attribute {
            map: self.0.as_raw_fd() as u32,
            padding: 0,
            key: key.as_ptr() as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        call(command::MAP_UPDATE_ELEM, &mut attribute).map(drop)
    }

    /// Enters a socket under a number.
    ///
    /// # Errors
    /// As for [`Map::set`].
    pub fn set_socket(&self, number: u32, socket: impl AsFd) -> io::Result<()> {
        let fd = socket.as_fd().as_raw_fd() as u32;
        self.set(&number.to_ne_bytes(), fd)
    }
}

/// A program that the kernel has verified.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads an XDP program.
    ///
    /// # Errors
    /// EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL or EACCES for a program
    /// that the kernel refuses.
    pub fn load(instructions: &[Instruction]) -> io::Result<Self> {
        #[repr(C)]
        struct Attribute {
            kind: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_bytes: u32,
            log: u64,
            kernel_version: u32,
            flags: u32,
            name: [u8; NAME_BYTES],
        }
        let license = c"MIT";
        let mut attribute = Attribute {
            kind: PROGRAM_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *PROGRAM_NAME,
        };
        // The kernel gives up when a signal, or work of an io_uring that was just
        // closed, comes in between, and asks to be called again.
        let mut result = call_for_descriptor(command::PROG_LOAD, &mut attribute);
        for _ in 0..LOAD_ATTEMPTS {
            match &result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    result = call_for_descriptor(command::PROG_LOAD, &mut attribute);
                }
                _ => break,
            }
        }
        result.map(Self)
    }

    /// Attaches it to the interface of this index: in its driver, or at the
    /// beginning of the network stack.
    ///
    /// # Errors
    /// EBUSY or EEXIST where another program is attached, EOPNOTSUPP or EINVAL
    /// where the driver knows no XDP or not for frames of that size.
    pub fn attach(&self, interface: u32, in_driver: bool) -> io::Result<Link> {
        let mode = match in_driver {
            true => MODE_DRIVER,
            false => MODE_GENERIC,
        };
        // prog_fd, target_ifindex, attach_type, flags.
        let mut attribute = [self.0.as_raw_fd() as u32, interface, ATTACH_XDP, mode];
        call_for_descriptor(command::LINK_CREATE, &mut attribute).map(Link)
    }
}

/// A program on an interface; detached when this is dropped.
#[derive(Debug)]
pub struct Link(#[expect(dead_code, reason = "it lives as long as this does")] OwnedFd);
