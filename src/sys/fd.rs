//! Handing file descriptors to types that only take them raw.

use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

/// Gives an owned descriptor to a type that is built from a raw one.
///
/// The new value owns the descriptor: nothing else closes it.
#[must_use]
pub fn adopt<T: FromRawFd>(fd: OwnedFd) -> T {
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, so the
    // new value is its only owner.
    unsafe { T::from_raw_fd(fd.into_raw_fd()) }
}

/// A second descriptor for the same open file, closed on exec.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
