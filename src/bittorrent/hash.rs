//! The two 20-byte names of BEP 3: the torrent's info hash and the peer's id.

use std::fmt;
use std::str::FromStr;

/// A torrent's name: the SHA-1 of its info dictionary (BEP 3), or the first
/// 20 bytes of the SHA-256 for version 2 torrents (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// The first four bytes as a big-endian number: what the kernel's steering
    /// program and [`crate::shard`]'s owner function both read.
    #[must_use]
    #[inline]
    pub const fn prefix(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

/// Why a text is not an info hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseInfoHashError {
    /// It is not 40 characters long.
    Length,
    /// The character at this index is not a hexadecimal digit.
    Digit(usize),
}

impl fmt::Display for ParseInfoHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("an info hash is written as 40 hexadecimal digits"),
            Self::Digit(at) => write!(f, "character {} is not a hexadecimal digit", at + 1),
        }
    }
}

impl std::error::Error for ParseInfoHashError {}

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;

    /// Reads 40 hexadecimal digits, in either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 40 {
            return Err(ParseInfoHashError::Length);
        }
        let mut bytes = [0u8; 20];
        for (at, character) in text.bytes().enumerate() {
            let digit = (character as char)
                .to_digit(16)
                .ok_or(ParseInfoHashError::Digit(at))?;
            bytes[at / 2] = (bytes[at / 2] << 4) | digit as u8;
        }
        Ok(Self(bytes))
    }
}

/// A client's name for itself in one session (BEP 3, BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PeerId(pub [u8; 20]);

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hash_round_trips_through_hexadecimal() {
        let text = "0123456789abcdefABCDEF0123456789abcdef01";
        let hash: InfoHash = text.parse().expect("40 digits");
        assert_eq!(hash.to_string(), text.to_lowercase());
        assert_eq!(hash.prefix(), 0x0123_4567);
    }

    #[test]
    fn info_hash_says_what_is_wrong() {
        assert_eq!("ab".parse::<InfoHash>(), Err(ParseInfoHashError::Length));
        let text = "0123456789abcdefABCDEF0123456789abcdef0g";
        assert_eq!(text.parse::<InfoHash>(), Err(ParseInfoHashError::Digit(39)));
        // 40 bytes that are not 40 characters must not be split inside one.
        let text = "é".repeat(20);
        assert_eq!(text.parse::<InfoHash>(), Err(ParseInfoHashError::Digit(0)));
    }
}
