//! `Accept-Encoding` (RFC 9110, section 12.5.3) and the encoders for it.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// Quick rather than small: hashes do not get smaller at any level.
const GZIP_LEVEL: u32 = 2;
const ZSTD_LEVEL: i32 = 1;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The header line that says so, if one is needed.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => "Content-Encoding: gzip\r\n",
            Self::Zstd => "Content-Encoding: zstd\r\n",
        }
    }

    /// What a client likes best: the highest weight; of the same weight zstd,
    /// then gzip. A client that accepts nothing at all gets it unencoded.
    #[must_use]
    pub fn negotiate(accept: &[u8]) -> Self {
        let (mut gzip, mut zstd, mut identity, mut others) = (None, None, None, None);
        for item in accept.split(|&byte| byte == b',') {
            let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(weight).unwrap_or(1000);
            match name.as_slice() {
                b"gzip" | b"x-gzip" => gzip = Some(weight),
                b"zstd" => zstd = Some(weight),
                b"identity" => identity = Some(weight),
                b"*" => others = Some(weight),
                _ => {}
            }
        }
        let gzip = gzip.or(others).unwrap_or(0);
        let zstd = zstd.or(others).unwrap_or(0);
        // Preferred only if it was named: every client accepts it.
        let identity = identity.unwrap_or(0);
        let best = gzip.max(zstd).max(identity);
        match best {
            0 => Self::Identity,
            best if best == zstd => Self::Zstd,
            best if best == gzip => Self::Gzip,
            _ => Self::Identity,
        }
    }
}

/// Thousandths of `q=0.5`; `None` for another parameter. A weight that is none
/// counts as 0.
fn weight(parameter: &[u8]) -> Option<u32> {
    let (b"q" | b"Q", value) = parameter.split_at_checked(1)? else {
        return None;
    };
    let value = value.trim_ascii().strip_prefix(b"=")?;
    let value = std::str::from_utf8(value.trim_ascii()).ok();
    let value: f64 = value.and_then(|value| value.parse().ok()).unwrap_or(0.0);
    Some((value.clamp(0.0, 1.0) * 1000.0).round() as u32)
}

/// Encodes what is written to it.
pub enum Encoder<W: Write> {
    /// As it is.
    Identity(W),
    /// RFC 1952.
    Gzip(GzEncoder<W>),
    /// RFC 8878.
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Encodes into `out`.
    ///
    /// # Errors
    /// When the encoder cannot be made.
    pub fn new(encoding: Encoding, out: W) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Identity => Self::Identity(out),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(out, Compression::new(GZIP_LEVEL))),
            Encoding::Zstd => Self::Zstd(zstd::Encoder::new(out, ZSTD_LEVEL)?),
        })
    }

    /// Writes the end and returns what was encoded into.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Identity(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn takes_what_the_client_likes_best() {
        for (accept, expected) in [
            ("", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("GZIP, deflate", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("gzip;q=1.0, zstd;q=0.5", Encoding::Gzip),
            ("gzip; q=0.3 , zstd ; q = 0.5", Encoding::Zstd),
            ("zstd;q=0, gzip", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
            ("gzip;q=0, *", Encoding::Zstd),
            ("*;q=0", Encoding::Identity),
            ("identity, gzip;q=0.5", Encoding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Encoding::Gzip),
            ("identity;q=0", Encoding::Identity),
            ("deflate, br", Encoding::Identity),
            ("gzip;q=nonsense", Encoding::Identity),
            ("gzip;level=9;q=0.1", Encoding::Gzip),
            (",;,q=1", Encoding::Identity),
        ] {
            assert_eq!(Encoding::negotiate(accept.as_bytes()), expected, "{accept}");
        }
    }

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let text = b"opentracker ".repeat(1000);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let mut encoder = Encoder::new(encoding, Vec::new()).expect("an encoder");
            encoder.write_all(&text).expect("memory");
            let bytes = encoder.finish().expect("memory");
            let mut decoded = Vec::new();
            match encoding {
                Encoding::Identity => decoded = bytes,
                Encoding::Gzip => {
                    let mut decoder = flate2::read::GzDecoder::new(bytes.as_slice());
                    decoder.read_to_end(&mut decoded).expect("gzip");
                }
                Encoding::Zstd => decoded = zstd::decode_all(bytes.as_slice()).expect("zstd"),
            }
            assert_eq!(decoded, text, "{encoding:?}");
        }
    }
}
