//! Options of sockets whose values are plain integers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// An integer, or a structure of the kernel that consists of integers.
///
/// # Safety
/// Any bytes must be a valid value of it, and it must have no padding.
pub(super) unsafe trait Integers {}

// SAFETY: an integer.
unsafe impl Integers for i32 {}
// SAFETY: an integer.
unsafe impl Integers for u32 {}
// SAFETY: integers of one size.
unsafe impl<const N: usize> Integers for [u32; N] {}

/// # Errors
/// Those of `setsockopt(2)`.
pub(super) fn set<T: Integers>(
    socket: impl AsFd,
    level: i32,
    option: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the value is live, of integers, and its size is stated.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Errors
/// Those of `getsockopt(2)`; Unsupported when the kernel knows less than the
/// whole value.
pub(super) fn get<T: Integers>(socket: impl AsFd, level: i32, option: i32) -> io::Result<T> {
    // SAFETY: all-zero bytes are a valid value: integers.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `length` bytes into a live value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    match result {
        0 if length as usize == size_of::<T>() => Ok(value),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}
