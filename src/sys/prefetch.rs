//! A hint to the processor that a value will be read soon.

/// Asks for the cache line of `value` without waiting for it, so that the
/// misses of a batch of requests overlap. Does nothing where the architecture
/// offers no such hint to stable Rust.
#[inline(always)]
pub fn prefetch_read<T: ?Sized>(value: &T) {
    prefetch(std::ptr::from_ref(value).cast());
}

/// As [`prefetch_read`], for a value of at most 64 bytes that may lie in two
/// cache lines: asks for both, wherever its fields are.
#[inline(always)]
pub fn prefetch_whole<T>(value: &T) {
    const { assert!(0 < size_of::<T>() && size_of::<T>() <= 64) };
    let first = std::ptr::from_ref(value).cast::<i8>();
    prefetch(first);
    prefetch(first.wrapping_add(size_of::<T>() - 1));
}

#[inline(always)]
fn prefetch(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and changes no memory, whatever the
        // address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
