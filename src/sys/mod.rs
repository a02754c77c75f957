//! The only unsafe code of the crate, behind safe functions.
//!
//! What: calls that the standard library does not offer. Every unsafe block
//! carries the reason why it is sound; nothing unsafe leaks to a caller.

mod prefetch;

pub use prefetch::prefetch_read;
