//! Classic BPF on a reuseport group: the kernel picks the socket.
//!
//! `SO_ATTACH_REUSEPORT_CBPF` needs no privilege. The program sees the UDP
//! payload at offset 0 and returns the index of a socket in the order in which
//! the group's sockets were bound; an index out of range makes the kernel fall
//! back to its hash of the addresses.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// One instruction of classic BPF (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation code: class, size or source, mode.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// Attaches a program to the reuseport group of `socket`.
///
/// # Errors
/// Those of `setsockopt`: EINVAL for a program the kernel refuses, ENOPROTOOPT
/// where it knows no such option, EPERM under some sandboxes.
pub fn attach(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let filters: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jump_true,
            jf: instruction.jump_false,
            k: instruction.k,
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filters.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filters.as_ptr().cast_mut(),
    };
    // SAFETY: the option takes a `sock_fprog`, whose filters live until the
    // call returns; the kernel copies and does not change them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
