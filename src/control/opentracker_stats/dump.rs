//! Every torrent, one after the other: full scrapes, `tpbs` and `statedump`.
//!
//! Order: up to [`SORTED_AT_MOST`] torrents are sorted by their hash, as
//! opentracker's are and as bencode wants it for the keys of a dictionary.
//! More come as the walk meets them: to sort them all would take hundreds of
//! megabytes. What reads full scrapes of that size reads them in any order.

use super::request::Format;
use super::tops::Hex;
use super::walk::Torrent;
use std::io::{self, Write};

/// Torrents that are held back to be sorted, 36 bytes each: 9 MB.
pub const SORTED_AT_MOST: usize = 1 << 18;

/// Writes torrents in one format.
pub struct Dump<W> {
    out: W,
    format: Format,
    now_minutes: u64,
    /// Torrents that wait to be sorted; `None` when there were too many.
    waiting: Option<Vec<Torrent>>,
    most_waiting: usize,
    /// One torrent in its form.
    line: Vec<u8>,
}

impl<W: Write> Dump<W> {
    /// Begins. `unix_seconds` is the time of day.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin(mut out: W, format: Format, unix_seconds: u64) -> io::Result<Self> {
        if format == Format::Bencode {
            out.write_all(b"d5:filesd")?;
        }
        Ok(Self {
            out,
            format,
            now_minutes: unix_seconds / 60,
            waiting: Some(Vec::new()),
            most_waiting: SORTED_AT_MOST,
            line: Vec::new(),
        })
    }

    /// Adds a torrent.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&mut self, torrent: Torrent) -> io::Result<()> {
        match &mut self.waiting {
            None => return self.write(&torrent),
            Some(waiting) => {
                waiting.push(torrent);
                if waiting.len() <= self.most_waiting {
                    return Ok(());
                }
            }
        }
        self.release(false)
    }

    /// Writes the end and returns what was written to.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.release(true)?;
        if self.format == Format::Bencode {
            self.out.write_all(b"ee")?;
        }
        Ok(self.out)
    }

    /// Writes what waits, and lets nothing wait from now on.
    fn release(&mut self, is_all: bool) -> io::Result<()> {
        let mut waiting = self.waiting.take().unwrap_or_default();
        if is_all {
            waiting.sort_unstable_by_key(|torrent| torrent.info_hash);
        }
        waiting.iter().try_for_each(|torrent| self.write(torrent))
    }

    fn write(&mut self, torrent: &Torrent) -> io::Result<()> {
        self.line.clear();
        write_torrent(&mut self.line, torrent, self.format, self.now_minutes)?;
        self.out.write_all(&self.line)
    }
}

/// Appends one torrent.
fn write_torrent(
    out: &mut Vec<u8>,
    torrent: &Torrent,
    format: Format,
    now_minutes: u64,
) -> io::Result<()> {
    let Torrent {
        info_hash,
        complete,
        incomplete,
        downloaded,
        idle_seconds,
    } = torrent;
    match format {
        Format::Bencode => {
            out.extend_from_slice(b"20:");
            out.extend_from_slice(&info_hash.0);
            write!(
                out,
                "d8:completei{complete}e10:downloadedi{downloaded}e10:incompletei{incomplete}ee"
            )
        }
        Format::Binary => {
            out.extend_from_slice(&info_hash.0);
            out.extend_from_slice(&complete.to_be_bytes());
            out.extend_from_slice(&incomplete.to_be_bytes());
            Ok(())
        }
        Format::Text => writeln!(out, "{}:{complete}:{incomplete}", Hex(info_hash)),
        Format::TextWithDownloads => {
            let hex = Hex(info_hash);
            writeln!(out, "{hex}:{complete}:{incomplete}:{downloaded}")
        }
        Format::Url => {
            for &byte in &info_hash.0 {
                write_escaped(out, byte)?;
            }
            writeln!(out, ":{complete}:{incomplete}")
        }
        Format::State => {
            let minute = now_minutes.saturating_sub(u64::from(idle_seconds / 60));
            writeln!(out, "{}:{minute}:{downloaded}", Hex(info_hash))
        }
    }
}

/// One byte as opentracker's URLs have it: lower-case digits.
fn write_escaped(out: &mut Vec<u8>, byte: u8) -> io::Result<()> {
    if byte.is_ascii_alphanumeric() || b"$-./=_~".contains(&byte) {
        out.push(byte);
        return Ok(());
    }
    write!(out, "%{byte:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::InfoHash;

    fn torrent(first: u8) -> Torrent {
        let hash = std::array::from_fn(|at| first.wrapping_add(at as u8));
        Torrent {
            info_hash: InfoHash(hash),
            complete: 5,
            incomplete: 4,
            downloaded: 3,
            idle_seconds: 125,
        }
    }

    fn dump(format: Format, torrents: &[Torrent], most_waiting: usize) -> Vec<u8> {
        let mut dump = Dump::begin(Vec::new(), format, 600).expect("memory");
        dump.most_waiting = most_waiting;
        for torrent in torrents {
            dump.add(*torrent).expect("memory");
        }
        dump.finish().expect("memory")
    }

    /// As Debian's opentracker writes the same hashes.
    #[test]
    fn every_format_as_opentracker_writes_it() {
        let torrents = [torrent(0x5c), torrent(0x20)];
        let text = |format| String::from_utf8(dump(format, &torrents, 9)).expect("text");
        assert_eq!(
            text(Format::Text),
            "202122232425262728292A2B2C2D2E2F30313233:5:4\n\
             5C5D5E5F606162636465666768696A6B6C6D6E6F:5:4\n"
        );
        assert_eq!(
            text(Format::TextWithDownloads),
            "202122232425262728292A2B2C2D2E2F30313233:5:4:3\n\
             5C5D5E5F606162636465666768696A6B6C6D6E6F:5:4:3\n"
        );
        assert_eq!(
            text(Format::Url),
            "%20%21%22%23$%25%26%27%28%29%2a%2b%2c-./0123:5:4\n\
             %5c%5d%5e_%60abcdefghijklmno:5:4\n"
        );
        assert_eq!(
            text(Format::State),
            "202122232425262728292A2B2C2D2E2F30313233:8:3\n\
             5C5D5E5F606162636465666768696A6B6C6D6E6F:8:3\n"
        );
        assert_eq!(
            text(Format::Bencode),
            "d5:filesd20: !\"#$%&'()*+,-./0123d8:completei5e10:downloadedi3e10:incompletei4ee\
             20:\\]^_`abcdefghijklmnod8:completei5e10:downloadedi3e10:incompletei4eeee"
        );
        let binary = dump(Format::Binary, &torrents[..1], 9);
        assert_eq!(binary.len(), 28);
        assert_eq!(binary[20..], [0, 0, 0, 5, 0, 0, 0, 4]);
    }

    #[test]
    fn nothing_is_a_dictionary_without_entries() {
        assert_eq!(dump(Format::Bencode, &[], 9), b"d5:filesdee");
        assert_eq!(dump(Format::Text, &[], 9), b"");
    }

    #[test]
    fn too_many_come_as_they_are_and_none_is_lost() {
        let torrents: Vec<_> = (0..20u8).rev().map(torrent).collect();
        for most_waiting in [0, 1, 18, 19, 20, 21] {
            let bytes = dump(Format::Binary, &torrents, most_waiting);
            let firsts: Vec<u8> = bytes.chunks(28).map(|entry| entry[0]).collect();
            let mut expected: Vec<u8> = (0..20).collect();
            if most_waiting < 20 {
                expected.reverse();
            }
            assert_eq!(firsts, expected, "{most_waiting}");
        }
    }
}
