//! The PROXY protocol, versions 1 and 2: how a proxy that passes on bytes
//! tells, before the first of them, for whom it speaks
//! (haproxy's `proxy-protocol.txt`).
//!
//! The introduction is read in pieces as they arrive, and not a byte beyond it
//! is taken. The longest address takes 52 bytes; what a proxy adds to it (the
//! TLVs of version 2) is passed over without being kept.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Begins every introduction of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family, and length of the rest.
const HEAD_BYTES: usize = 16;

/// The longest line of version 1, its end included (section 2.1).
const LONGEST_LINE: usize = 107;

/// Begins every introduction of version 1.
const WORD: &[u8] = b"PROXY ";

/// How far the reading of an introduction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduced {
    /// It goes on.
    Partly,
    /// The connection was made by this address.
    As(IpAddr),
    /// The proxy speaks for itself, or cannot say for whom: the connection's
    /// own address counts.
    AsItself,
}

/// What came is no introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotIntroduced;

impl fmt::Display for NotIntroduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed PROXY protocol header")
    }
}

impl std::error::Error for NotIntroduced {}

/// Reads one introduction.
#[derive(Clone, Copy, Debug)]
pub struct Introduction {
    kept: [u8; LONGEST_LINE],
    length: usize,
    /// Bytes still to pass over; then it is done.
    rest: Option<(u16, Introduced)>,
}

impl Default for Introduction {
    fn default() -> Self {
        Self {
            kept: [0; LONGEST_LINE],
            length: 0,
            rest: None,
        }
    }
}

impl Introduction {
    /// Takes the next bytes; returns how many of them belong to the
    /// introduction and what is known now. All do while it goes on.
    ///
    /// # Errors
    /// At the first byte that no introduction can have.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Introduced), NotIntroduced> {
        let mut left = bytes;
        let taken = |left: &[u8]| bytes.len().saturating_sub(left.len());
        loop {
            if let Some((rest, introduced)) = &mut self.rest {
                let passed = left.len().min(usize::from(*rest));
                left = left.get(passed..).unwrap_or_default();
                *rest = rest.saturating_sub(passed as u16);
                return Ok(match rest {
                    0 => (taken(left), *introduced),
                    _ => (taken(left), Introduced::Partly),
                });
            }
            let Some((byte, behind)) = left.split_first() else {
                return Ok((taken(left), Introduced::Partly));
            };
            left = behind;
            *self.kept.get_mut(self.length).ok_or(NotIntroduced)? = *byte;
            self.length = self.length.saturating_add(1);
            self.rest = self.understand()?;
        }
    }

    /// Whether any byte was taken.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.length > 0
    }

    /// What the bytes so far mean: `None` if there must be more, else how many
    /// are still to pass over.
    fn understand(&self) -> Result<Option<(u16, Introduced)>, NotIntroduced> {
        let kept = self.kept.get(..self.length).unwrap_or_default();
        let common = |begin: &[u8]| kept.iter().zip(begin).all(|(a, b)| a == b);
        if common(WORD) {
            if kept.len() <= WORD.len() {
                return Ok(None);
            }
            return match kept.strip_suffix(b"\r\n") {
                Some(line) => Ok(Some((0, line_of_version_1(line).ok_or(NotIntroduced)?))),
                // A line feed by itself ends nothing.
                None if kept.last() == Some(&b'\n') => Err(NotIntroduced),
                None => Ok(None),
            };
        }
        if !common(SIGNATURE) {
            return Err(NotIntroduced);
        }
        let Some((head, addresses)) = kept.split_at_checked(HEAD_BYTES) else {
            return Ok(None);
        };
        let Some(&[command, family, high, low]) = head.last_chunk::<4>() else {
            return Err(NotIntroduced);
        };
        let length = u16::from_be_bytes([high, low]);
        // Section 2.2. Datagrams and Unix sockets have no address for us;
        // whatever is not assigned is malformed.
        let ip_bytes: u16 = match (command, family) {
            (0x20, _) => return Ok(Some((length, Introduced::AsItself))),
            (0x21, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => {
                return Ok(Some((length, Introduced::AsItself)));
            }
            (0x21, 0x11) => 4,
            (0x21, 0x21) => 16,
            _ => return Err(NotIntroduced),
        };
        // Source and destination, then both ports.
        let block = ip_bytes.saturating_mul(2).saturating_add(4);
        if length < block {
            return Err(NotIntroduced);
        }
        let source = addresses.get(..usize::from(ip_bytes));
        let Some(source) = source else {
            return Ok(None);
        };
        let ip = match (<[u8; 4]>::try_from(source), <[u8; 16]>::try_from(source)) {
            (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
            (_, Ok(v6)) => IpAddr::V6(Ipv6Addr::from(v6)),
            _ => return Err(NotIntroduced),
        };
        let behind = length.saturating_sub(ip_bytes);
        Ok(Some((behind, Introduced::As(ip.to_canonical()))))
    }
}

/// A line without its end (section 2.1).
fn line_of_version_1(line: &[u8]) -> Option<Introduced> {
    let line = std::str::from_utf8(line.strip_prefix(WORD)?).ok()?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Introduced::AsItself);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (from, to) = (words.next()?, words.next()?);
    if words.next().is_some() || !is_port(from) || !is_port(to) {
        return None;
    }
    let ip = match family {
        "TCP4" => {
            let _: Ipv4Addr = destination.parse().ok()?;
            IpAddr::V4(source.parse().ok()?)
        }
        "TCP6" => {
            let _: Ipv6Addr = destination.parse().ok()?;
            IpAddr::V6(source.parse().ok()?)
        }
        _ => return None,
    };
    Some(Introduced::As(ip.to_canonical()))
}

/// Digits only: Rust would also read a sign.
fn is_port(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in one piece and byte by byte, which must come to the same;
    /// returns how many bytes were taken.
    fn read(bytes: &[u8]) -> Result<(usize, Introduced), NotIntroduced> {
        let whole = Introduction::default().read(bytes);
        let mut pieces = Introduction::default();
        let mut result = Ok((0, Introduced::Partly));
        for at in 0..bytes.len() {
            result = match pieces.read(&bytes[at..=at]) {
                Ok((1, Introduced::Partly)) => Ok((at + 1, Introduced::Partly)),
                Ok((used, done)) => Ok((at + used, done)),
                Err(error) => Err(error),
            };
            if !matches!(result, Ok((_, Introduced::Partly))) {
                break;
            }
        }
        assert_eq!(whole, result, "{bytes:?}");
        whole
    }

    fn ip(text: &str) -> Introduced {
        Introduced::As(text.parse().expect("an address"))
    }

    #[test]
    fn version_1() {
        for (line, expected) in [
            (
                "TCP4 192.0.2.1 198.51.100.1 56324 443",
                Some(ip("192.0.2.1")),
            ),
            (
                "TCP6 2001:db8::1 2001:db8::2 0 65535",
                Some(ip("2001:db8::1")),
            ),
            ("TCP6 ::ffff:192.0.2.1 ::1 1 2", Some(ip("192.0.2.1"))),
            ("UNKNOWN", Some(Introduced::AsItself)),
            ("UNKNOWN ffff::1 x y z", Some(Introduced::AsItself)),
            ("UNKNOWNS", None),
            ("TCP4 192.0.2.1 198.51.100.1 56324", None),
            ("TCP4 192.0.2.1 198.51.100.1 56324 443 1", None),
            ("TCP4  192.0.2.1 198.51.100.1 56324 443", None),
            ("TCP4 2001:db8::1 2001:db8::2 1 2", None),
            ("TCP6 192.0.2.1 198.51.100.1 1 2", None),
            ("TCP4 192.0.2.1 198.51.100.1 +1 2", None),
            ("TCP4 192.0.2.1 198.51.100.1 65536 2", None),
            ("TCP4 192.0.2.1 198.51.100.1 1 2\n", None),
            ("tcp4 192.0.2.1 198.51.100.1 1 2", None),
            ("", None),
        ] {
            let text = format!("PROXY {line}\r\nGET /");
            let expected = expected.map(|introduced| (text.len() - 5, introduced));
            assert_eq!(
                read(text.as_bytes()),
                expected.ok_or(NotIntroduced),
                "{line}"
            );
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
        assert_eq!(
            read(longest.as_bytes()),
            Ok((LONGEST_LINE, Introduced::AsItself))
        );
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
        assert_eq!(read(longer.as_bytes()), Err(NotIntroduced));
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "\r\n\r\n\r\n",
            "\x16\x03\x01",
        ] {
            assert_eq!(read(wrong.as_bytes()), Err(NotIntroduced), "{wrong:?}");
        }
        assert_eq!(read(b"PROXY TC"), Ok((8, Introduced::Partly)));
    }

    fn version_2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        let head = [command, family, (length >> 8) as u8, length as u8];
        [&SIGNATURE[..], &head, rest].concat()
    }

    #[test]
    fn version_2_with_all_its_kinds() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 1;
        for (command, family, block, expected) in [
            (0x21, 0x11, &v4[..], Some(ip("192.0.2.1"))),
            (0x21, 0x21, &v6[..], Some(ip("2001:db8::1"))),
            (0x20, 0x00, &[], Some(Introduced::AsItself)),
            (0x20, 0x11, &v4, Some(Introduced::AsItself)),
            (0x21, 0x00, &[], Some(Introduced::AsItself)),
            (0x21, 0x31, &[7; 216], Some(Introduced::AsItself)),
            (0x21, 0x11, &v4[..11], None),
            (0x21, 0x21, &v6[..35], None),
            (0x22, 0x11, &v4, None),
            (0x11, 0x11, &v4, None),
            (0x21, 0x13, &v4, None),
            (0x21, 0x41, &v4, None),
        ] {
            for tlvs in [0, 1, 3, 5000] {
                let rest = [block, &vec![4; tlvs]].concat();
                let mut bytes = version_2(command, family, rest.len() as u16, &rest);
                // Fewer bytes than the family has only if no TLV makes up for it.
                let expected = match expected {
                    None if tlvs > 0 && matches!(block.len(), 11 | 35) => continue,
                    expected => expected.map(|introduced| (bytes.len(), introduced)),
                };
                bytes.extend(b"GET /");
                assert_eq!(
                    read(&bytes),
                    expected.ok_or(NotIntroduced),
                    "{command:x} {family:x}"
                );
                if expected.is_some() {
                    let cut = &bytes[..bytes.len() - 6];
                    assert_eq!(read(cut), Ok((cut.len(), Introduced::Partly)));
                }
            }
        }
    }
}
