//! Memory that the kernel maps: anonymous, or of a descriptor.

use std::io;
use std::ptr::{self, NonNull};

/// No page is smaller.
const LEAST_PAGE_BYTES: usize = 4096;

/// A mapping, to read and write, unmapped when dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is memory without a thread of its own; who may touch what
// of it is held by those who map it.
unsafe impl Send for Mapping {}
// SAFETY: as above; what is shared, its address and length, does not change.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// A mapping at an address of the kernel's choice. `fd` is -1 for an
    /// anonymous one.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub(super) fn new(bytes: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(address) if start != libc::MAP_FAILED => Ok(Self {
                start: address,
                bytes,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Anonymous memory of zeros that begins at a multiple of `bytes`, a power
    /// of two of at least a page.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub(super) fn aligned(bytes: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let whole = Self::new(2 * bytes, flags, -1, 0)?;
        let before = whole.start.addr().get().wrapping_neg() % bytes;
        // SAFETY: at most `bytes` into the mapping.
        let (start, end) = unsafe {
            let start = whole.start.byte_add(before);
            (start, start.byte_add(bytes))
        };
        let front = Self {
            start: whole.start,
            bytes: before,
        };
        let back = Self {
            start: end,
            bytes: bytes - before,
        };
        // Its three parts have owners of their own now.
        std::mem::forget(whole);
        drop((front, back));
        Ok(Self { start, bytes })
    }

    /// As [`Mapping::aligned`], in huge pages where there are any, which the
    /// kernel has found and cleared when this returns.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub(super) fn touched(bytes: usize) -> io::Result<Self> {
        let mapping = Self::aligned(bytes)?;
        mapping.ask_for_huge_pages();
        for offset in (0..bytes).step_by(LEAST_PAGE_BYTES) {
            // SAFETY: inside the mapping, which nobody else knows of yet.
            unsafe { mapping.start.byte_add(offset).write_volatile(0) };
        }
        Ok(mapping)
    }

    /// Its first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for huge pages where they are touched for the first time from now
    /// on. Kernels without them, and hosts where they are off, leave it at
    /// that.
    pub(super) fn ask_for_huge_pages(&self) {
        // SAFETY: advice about this mapping; it changes no contents.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: mapped by `new`, or a part of that which is nobody else's.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}
