//! BEP 41: options after the fixed part of an announce.
//!
//! An option is a type byte; all but `end` (0) and `nop` (1) are followed by a
//! length byte and that many bytes. `URLData` (2) holds a part of the path and
//! query that the tracker's URL has; the parts joined are what an HTTP client
//! would have sent as its request target.
//!
//! Chihaya refuses unknown options; BEP 41 says to skip them, and so does this
//! module. An option that claims more bytes than the packet has ends the list:
//! old clients append other things than options, and an announce is not worth
//! refusing for that.

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_URL_DATA: u8 = 2;

/// The URL data of an announce: borrowed from the packet, possibly in parts
/// (one part holds at most 255 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlData<'a> {
    options: &'a [u8],
}

impl<'a> UrlData<'a> {
    /// Takes everything that follows the fixed part of an announce.
    #[must_use]
    #[inline]
    pub const fn new(options: &'a [u8]) -> Self {
        Self { options }
    }

    /// The parts in their order. Empty parts are not reported.
    #[must_use]
    #[inline]
    pub const fn parts(&self) -> UrlDataParts<'a> {
        UrlDataParts { rest: self.options }
    }

    /// Whether no part has any byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// The whole URL data when it is in one part (or absent: an empty slice);
    /// `None` when it has to be joined with [`UrlData::copy_to`].
    #[must_use]
    pub fn as_single(&self) -> Option<&'a [u8]> {
        let mut parts = self.parts();
        let first = parts.next().unwrap_or_default();
        match parts.next() {
            None => Some(first),
            Some(_) => None,
        }
    }

    /// Appends the joined parts to `out`, which may grow. The packet's size
    /// bounds what is appended.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        for part in self.parts() {
            out.extend_from_slice(part);
        }
    }
}

/// The parts of an [`UrlData`].
#[derive(Clone, Debug)]
pub struct UrlDataParts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for UrlDataParts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (&kind, rest) = self.rest.split_first()?;
            match kind {
                OPTION_END => self.rest = &[],
                OPTION_NOP => self.rest = rest,
                _ => {
                    let option = rest
                        .split_first()
                        .and_then(|(&length, rest)| rest.split_at_checked(usize::from(length)));
                    let Some((data, rest)) = option else {
                        // Truncated: nothing after it can be trusted.
                        self.rest = &[];
                        return None;
                    };
                    self.rest = rest;
                    if kind == OPTION_URL_DATA && !data.is_empty() {
                        return Some(data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(options: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        UrlData::new(options).copy_to(&mut out);
        out
    }

    #[test]
    fn joins_parts_and_skips_what_it_does_not_know() {
        // BEP 41, "Extension Format": nop, URLData "/a", unknown 9, URLData "?b".
        let options = b"\x01\x02\x02/a\x09\x03xyz\x02\x02?b\x00\x02\x01c";
        assert_eq!(joined(options), b"/a?b");
        assert_eq!(UrlData::new(options).as_single(), None);
    }

    #[test]
    fn one_part_needs_no_copy() {
        assert_eq!(UrlData::new(b"\x02\x02/a").as_single(), Some(&b"/a"[..]));
        assert_eq!(UrlData::new(b"").as_single(), Some(&b""[..]));
        assert_eq!(UrlData::new(b"\x02\x00").as_single(), Some(&b""[..]));
        assert!(UrlData::new(b"\x02\x00\x00").is_empty());
    }

    #[test]
    fn a_truncated_option_ends_the_list() {
        assert_eq!(joined(b"\x02\x02/a\x02\x05/b"), b"/a");
        assert_eq!(joined(b"\x02"), b"");
        assert_eq!(joined(b"\x07\xff"), b"");
    }
}
