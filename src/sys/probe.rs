//! Whether the host allows what glommio needs, asked before glommio is.
//!
//! Where io_uring is forbidden glommio panics or exits with little to say; a
//! probe first lets start-up explain.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct io_uring_params` is 120 bytes; only its size matters here.
#[repr(C, align(8))]
struct IoUringParams([u8; 120]);

/// Makes an io_uring of one entry and closes it again.
///
/// # Errors
/// EPERM where it is forbidden (seccomp, `kernel.io_uring_disabled`), ENOSYS
/// where the kernel has none, ENOMEM where memlock is too low.
pub fn io_uring() -> io::Result<()> {
    let mut params = IoUringParams([0; 120]);
    // SAFETY: the kernel reads and writes one `io_uring_params`, which is
    // zeroed, large enough and alive.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1u32, &raw mut params) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}

/// The soft limit on locked memory in bytes; `None` when unlimited.
#[must_use]
pub fn memlock_bytes() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

/// Raises the soft limit on open files to the hard one; returns the limit now
/// in force, `None` when unlimited.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused in some sandboxes; then the old limit stays.
    let _ = setrlimit(Resource::Nofile, wanted);
    getrlimit(Resource::Nofile).current
}
