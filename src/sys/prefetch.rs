//! A hint to the processor that a value will be read soon.

/// Asks for the cache line of `value` without waiting for it, so that the
/// misses of a batch of requests overlap. Does nothing where the architecture
/// offers no such hint to stable Rust.
#[inline(always)]
pub fn prefetch_read<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: a prefetch never faults and changes no memory; the address
        // comes from a live reference besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
