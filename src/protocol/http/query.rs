//! Query strings as trackers read them: `key=value` pairs, separated by `&` or
//! `;` (Chihaya), the same for HTTP and for the URL data of BEP 41.
//!
//! Keys and values stay as they came, percent-encoded and borrowed; who needs
//! a value decodes it (see [`percent`]).

use super::percent::{self, InvalidEscape};

/// Splits a request target or URL data into the path and the query behind the
/// first `?`.
#[must_use]
#[inline]
pub fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    let path = parts.next().unwrap_or_default();
    (path, parts.next().unwrap_or_default())
}

/// The pairs of a query in their order, still percent-encoded. Empty pairs are
/// left out; a pair without `=` has an empty value.
#[inline]
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    query
        .split(|&byte| byte == b'&' || byte == b';')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let key = halves.next().unwrap_or_default();
            (key, halves.next().unwrap_or_default())
        })
}

/// The value of `key` (in lower case), still percent-encoded: the last one
/// when there are several, as in Chihaya. For hooks; it scans the query.
#[must_use]
pub fn find<'a>(query: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    pairs(query)
        .filter(|(raw_key, _)| {
            let lower = |byte: Result<u8, _>| byte.map(|byte| byte.to_ascii_lowercase());
            percent::decode(raw_key)
                .map(lower)
                .eq(key.iter().map(|&byte| Ok(byte)))
        })
        .map(|(_, value)| value)
        .last()
}

/// Longest key that any parser here knows.
const LONGEST_KEY: usize = 16;

/// A decoded key in lower case, in place; `None` when it is longer than any
/// known key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyBuffer([u8; LONGEST_KEY]);

impl KeyBuffer {
    /// # Errors
    ///
    /// When the key holds an invalid escape.
    #[inline]
    pub(super) fn decode(&mut self, raw: &[u8]) -> Result<Option<&[u8]>, InvalidEscape> {
        let key = percent::decode_into(raw, &mut self.0)?;
        Ok(key.map(|key| {
            key.make_ascii_lowercase();
            &*key
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_both_separators_and_the_first_equals_sign() {
        let found: Vec<_> = pairs(b"a=1&b=2=3;c&&;=d&e=").collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"a", b"1"),
            (b"b", b"2=3"),
            (b"c", b""),
            (b"", b"d"),
            (b"e", b""),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn finds_the_last_value_whatever_the_case_and_encoding_of_the_key() {
        let query = b"JWT=a&j%57t=b&jwtx=c&jw=d&%4=e";
        assert_eq!(find(query, b"jwt"), Some(&b"b"[..]));
        assert_eq!(find(query, b"none"), None);
    }

    #[test]
    fn splits_a_target_at_the_first_question_mark() {
        assert_eq!(split_target(b"/a?b?c"), (&b"/a"[..], &b"b?c"[..]));
        assert_eq!(split_target(b"/a"), (&b"/a"[..], &b""[..]));
    }
}
