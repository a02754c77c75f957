//! Info hashes in lines, as opentracker reads them: 40 hexadecimal digits of
//! any case at the start of a line and no 41st; what follows is ignored, and so
//! is every other line. The last line needs no end.
//!
//! Bytes may come in any pieces, and a line may have any length: no more than
//! its first 41 bytes are kept.

use crate::bittorrent::InfoHash;

/// Digits of an info hash.
const DIGITS: usize = 40;

/// Finds the hashes in a stream of bytes.
#[derive(Debug)]
pub struct HashLines {
    /// How the line that is being read begins.
    head: [u8; DIGITS + 1],
    len: usize,
    /// Lines so far that said something else than a hash: neither empty nor a
    /// comment (`#`).
    pub skipped: u64,
}

impl Default for HashLines {
    fn default() -> Self {
        Self {
            head: [0; DIGITS + 1],
            len: 0,
            skipped: 0,
        }
    }
}

impl HashLines {
    /// Takes the next bytes; calls `found` for each line that is complete and
    /// has a hash.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(InfoHash)) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        // `split` gives at least one piece.
        let mut piece = lines.next().unwrap_or_default();
        for next in lines {
            self.append(piece);
            self.end(&mut found);
            piece = next;
        }
        self.append(piece);
    }

    /// Says that there are no more bytes: what is there of a line is one.
    pub fn end(&mut self, mut found: impl FnMut(InfoHash)) {
        let line = &self.head[..self.len];
        match hash(line) {
            Some(hash) => found(hash),
            None if line.trim_ascii().is_empty() || line.starts_with(b"#") => {}
            None => self.skipped += 1,
        }
        self.len = 0;
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = &mut self.head[self.len..];
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
    }
}

/// The hash that a line begins with.
fn hash(line: &[u8]) -> Option<InfoHash> {
    let (digits, behind) = line.split_at_checked(DIGITS)?;
    if behind.first().is_some_and(u8::is_ascii_hexdigit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> (Vec<u8>, u64) {
        let (mut lines, mut found) = (HashLines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |hash| found.push(hash.0[0]));
        }
        lines.end(|hash| found.push(hash.0[0]));
        (found, lines.skipped)
    }

    #[test]
    fn reads_what_opentracker_reads() {
        let (lower, upper) = ("ab".repeat(20), "CD".repeat(20));
        let text = format!(
            "# a comment\n\n{lower}\n{upper} a name\r\n {lower}\n{lower}0\n{}\nshort\n\
             {upper},x\n{lower}-{}\nnot a hash, but as long as one, and longer\n{upper}",
            "ab".repeat(32),
            "y".repeat(100_000),
        );
        let expected = (vec![0xab, 0xcd, 0xcd, 0xab, 0xcd], 5);
        assert_eq!(read(&[text.as_bytes()]), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), expected);
        let odd: Vec<&[u8]> = text.as_bytes().chunks(37).collect();
        assert_eq!(read(&odd), expected);
    }

    #[test]
    fn any_bytes_may_come() {
        assert_eq!(read(&[b""]), (vec![], 0));
        assert_eq!(read(&[b"\n\n\r\n \t\n"]), (vec![], 0));
        assert_eq!(read(&[b"\xff\xfe\0\n", &[0xc3; 50]]), (vec![], 2));
    }
}
