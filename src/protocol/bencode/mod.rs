//! Bencode (BEP 3, "bencoding"): a writer into a caller's buffer and a reader
//! with bounds.

mod reader;
mod writer;

pub use reader::{Error, ErrorKind, Event, KeyOrder, Limits, Reader};
pub use writer::Writer;
pub(super) use writer::{DECIMAL_DIGITS, decimal};
