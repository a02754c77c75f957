//! Asking the processor to load a cache line before it is needed.
//!
//! Why: a batch of announces touches one cold cache line after the other;
//! asked for together, their misses overlap. A prefetch is a hint: it changes
//! no value, so callers need not care whether the processor heeds it.

/// Asks for the cache line that holds the first byte of `target`, for reading
/// (and keeps it in every cache level). Does nothing where the processor's
/// family has no known hint.
#[inline(always)]
pub fn prefetch_read<T>(target: &T) {
    let address: *const T = target;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: `_mm_prefetch` reads and writes nothing that the program can
        // observe and cannot fault, whatever the address; SSE is part of the
        // x86_64 baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: `prfm` is a hint: it cannot fault, reads no register but the
        // address and changes neither memory, stack nor flags.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) address,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = address;
    }
}

#[cfg(test)]
mod tests {
    use super::prefetch_read;

    #[test]
    fn a_hint_changes_nothing() {
        let value = [7u8; 100];
        prefetch_read(&value);
        prefetch_read::<[u8; 0]>(&[]);
        assert_eq!(value, [7u8; 100]);
    }
}
