//! Percent-encoding (RFC 3986, section 2.1) of binary values in queries.
//!
//! `+` is an ordinary byte. RFC 3986 says so, and opentracker and aquatic read
//! it so; Chihaya follows HTML forms instead and reads a space. Clients of
//! note encode both bytes (`%2B`, `%20`), so only crude ones can tell the
//! difference; those were written against opentracker, the common tracker.

/// A `%` that is not followed by two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEscape;

impl std::fmt::Display for InvalidEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a '%' is not followed by two hexadecimal digits")
    }
}

impl std::error::Error for InvalidEscape {}

/// The decoded bytes of `raw`, one by one.
#[must_use]
#[inline]
pub const fn decode(raw: &[u8]) -> Decoder<'_> {
    Decoder { raw }
}

/// Iterator of [`decode`].
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    raw: &'a [u8],
}

impl Iterator for Decoder<'_> {
    type Item = Result<u8, InvalidEscape>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&byte, rest) = self.raw.split_first()?;
        self.raw = rest;
        if byte != b'%' {
            return Some(Ok(byte));
        }
        let decoded = rest
            .split_first_chunk()
            .and_then(|(&[high, low], rest)| Some((hex(high)?, hex(low)?, rest)));
        Some(match decoded {
            Some((high, low, rest)) => {
                self.raw = rest;
                Ok((high << 4) | low)
            }
            None => {
                self.raw = &[];
                Err(InvalidEscape)
            }
        })
    }
}

/// Decodes into `buffer`; `None` when the value is longer than the buffer.
///
/// # Errors
///
/// When `raw` holds an invalid escape, also after what fits.
#[inline]
pub fn decode_into<'b>(
    raw: &[u8],
    buffer: &'b mut [u8],
) -> Result<Option<&'b mut [u8]>, InvalidEscape> {
    if !raw.contains(&b'%') {
        // Most values have no escape, and need no look at each byte.
        let Some(decoded) = buffer.get_mut(..raw.len()) else {
            return Ok(None);
        };
        decoded.copy_from_slice(raw);
        return Ok(Some(decoded));
    }
    let mut decoder = decode(raw);
    let mut length: usize = 0;
    for slot in &mut *buffer {
        match decoder.next() {
            Some(byte) => *slot = byte?,
            None => break,
        }
        length = length.saturating_add(1);
    }
    match decoder.next() {
        None => Ok(buffer.get_mut(..length)),
        Some(byte) => {
            byte?;
            validate(decoder.raw)?;
            Ok(None)
        }
    }
}

/// Decodes a value that must have exactly `N` bytes; `None` when it has not.
///
/// # Errors
///
/// When `raw` holds an invalid escape.
#[inline]
pub fn decode_exact<const N: usize>(raw: &[u8]) -> Result<Option<[u8; N]>, InvalidEscape> {
    let mut buffer = [0; N];
    let complete = decode_into(raw, &mut buffer)?.is_some_and(|decoded| decoded.len() == N);
    Ok(complete.then_some(buffer))
}

/// Appends the decoded bytes to `out`, which may grow. On an error `out` keeps
/// what came before it.
///
/// # Errors
///
/// When `raw` holds an invalid escape.
pub fn decode_to(raw: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidEscape> {
    for byte in decode(raw) {
        out.push(byte?);
    }
    Ok(())
}

/// Checks the escapes of a value that is not looked at otherwise.
///
/// # Errors
///
/// When `raw` holds an invalid escape.
#[inline]
pub fn validate(raw: &[u8]) -> Result<(), InvalidEscape> {
    if raw.contains(&b'%') {
        for byte in decode(raw) {
            byte?;
        }
    }
    Ok(())
}

/// Appends `bytes` to `out` with everything encoded but the unreserved
/// characters (RFC 3986, section 2.3).
pub fn encode_to(bytes: &[u8], out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.extend(['%', digit(byte >> 4), digit(byte & 0x0f)]),
        }
    }
}

#[inline]
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_encoding_in_either_case() {
        for byte in 0..=u8::MAX {
            let mut upper = String::new();
            encode_to(&[byte], &mut upper);
            let lower = format!("%{byte:02x}");
            assert_eq!(decode_exact(upper.as_bytes()), Ok(Some([byte])));
            assert_eq!(decode_exact(lower.as_bytes()), Ok(Some([byte])));
        }
    }

    #[test]
    fn plus_is_a_plus() {
        assert_eq!(decode_exact(b"+%2B%20"), Ok(Some(*b"++ ")));
    }

    #[test]
    fn an_escape_is_wrong_wherever_it_stands() {
        for raw in [&b"%"[..], b"%4", b"ab%4g", b"%%41", b"abcdefgh%zz"] {
            assert_eq!(decode_exact::<2>(raw), Err(InvalidEscape), "{raw:?}");
            assert_eq!(validate(raw), Err(InvalidEscape), "{raw:?}");
        }
    }

    #[test]
    fn a_value_of_another_length_is_not_exact() {
        assert_eq!(decode_exact::<3>(b"ab"), Ok(None));
        assert_eq!(decode_exact::<3>(b"abcd"), Ok(None));
        assert_eq!(decode_exact::<3>(b"%61bc"), Ok(Some(*b"abc")));
    }
}
