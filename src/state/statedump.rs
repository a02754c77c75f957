//! opentracker's state file: download counts as lines of text.
//!
//! A line is `HEX:base:downloads`: the info hash as 40 hexadecimal digits, the
//! minute since 1970 in which the torrent was last seen alive, and how often it
//! was downloaded. opentracker writes it at `/stats?mode=statedump` and reads
//! it with `-l FILE`. There are no peers in it.

use crate::bittorrent::{AddressFamily, InfoHash};
use crate::shard::Shard;
use crate::shard::survey::SwarmView;
use std::fmt;
use std::io::{self, BufRead, Read, Write};

/// The longest line that is looked at. A right one has 83 characters at most.
const MAX_LINE_BYTES: usize = 256;

/// Bad lines that are named.
const NAMED_BAD_LINES: usize = 5;

/// One torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which one.
    pub info_hash: InfoHash,
    /// When it was last seen alive, in minutes since 1970.
    pub base_minute: u64,
    /// How often it was downloaded.
    pub downloads: u64,
}

/// Why a line is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// It does not begin with 40 hexadecimal digits.
    Hash,
    /// There is no `:` and number where the minute should be.
    Base,
    /// There is no `:` and number where the downloads should be.
    Downloads,
    /// Something follows the downloads.
    Trailing,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "it does not begin with the 40 hexadecimal digits of an info hash",
            Self::Base => "after the info hash there is no ':' and minute",
            Self::Downloads => "after the minute there is no ':' and number of downloads",
            Self::Trailing => "something follows the number of downloads",
        })
    }
}

impl std::error::Error for BadLine {}

impl Line {
    /// The line of a torrent in a survey, at this minute since 1970; `None` for
    /// the second of two swarms of one torrent, as the first (IPv4) has stood
    /// for both. A torrent of which one family comes or goes during the survey
    /// may be told twice or not at all.
    #[must_use]
    pub fn of(swarm: &SwarmView<'_>, unix_minute: u64) -> Option<Self> {
        let twin = swarm.twin();
        if twin.is_some() && swarm.family == AddressFamily::V6 {
            return None;
        }
        let both = swarm.counts.merge(twin.unwrap_or_default());
        let idle_seconds = match both.complete + both.incomplete {
            0 => swarm.empty_seconds.unwrap_or(0),
            _ => 0,
        };
        Some(Self {
            info_hash: swarm.info_hash,
            base_minute: unix_minute.saturating_sub(u64::from(idle_seconds) / 60),
            downloads: both.downloaded.into(),
        })
    }

    /// Writes it with its line end, at most 83 bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
        for byte in self.info_hash.0 {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
        // Writing to a vector does not fail.
        let _ = writeln!(out, ":{}:{}", self.base_minute, self.downloads);
    }

    /// Reads a line, with or without its line end. The digits may be of either
    /// case, and blanks may follow.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        let (hash, rest) = line.split_at_checked(40).ok_or(BadLine::Hash)?;
        let hash = std::str::from_utf8(hash).map_err(|_| BadLine::Hash)?;
        let info_hash = hash.parse().map_err(|_| BadLine::Hash)?;
        let (base_minute, rest) = number(rest).ok_or(BadLine::Base)?;
        let (downloads, rest) = number(rest).ok_or(BadLine::Downloads)?;
        if !rest.trim_ascii().is_empty() {
            return Err(BadLine::Trailing);
        }
        Ok(Self {
            info_hash,
            base_minute,
            downloads,
        })
    }
}

/// Takes `:` and a number.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.strip_prefix(b":")?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Torrents whose downloads are known now.
    pub torrents: u64,
    /// Torrents without downloads, of which nothing is to be kept.
    pub without_downloads: u64,
    /// Torrents that are not kept: last seen too long ago
    /// (`downloads_lifetime`), or no room (`max_swarms`).
    pub not_kept: u64,
    /// How many lines are not as they should be.
    pub bad_lines: u64,
    /// The first of them, with their numbers from 1.
    pub named: Vec<(u64, BadLine)>,
}

/// Reads a file into the shards (all of them, in order). Of each torrent the
/// larger number of downloads counts, so nothing is doubled, whatever is read
/// before and however often.
///
/// # Errors
/// Those of reading. What came before is imported.
pub fn import(
    mut file: impl BufRead,
    shards: &mut [Shard],
    now_seconds: u32,
    unix_seconds: u64,
) -> io::Result<Imported> {
    let mut imported = Imported::default();
    let Some(owners) = shards.first().map(|shard| *shard.owners()) else {
        return Ok(imported);
    };
    let mut text = Vec::with_capacity(MAX_LINE_BYTES);
    let mut number = 0;
    while next_line(&mut file, &mut text)? {
        number += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = match Line::parse(&text) {
            Ok(line) => line,
            Err(bad) => {
                imported.bad_lines += 1;
                if imported.named.len() < NAMED_BAD_LINES {
                    imported.named.push((number, bad));
                }
                continue;
            }
        };
        if line.downloads == 0 {
            imported.without_downloads += 1;
            continue;
        }
        let idle = (unix_seconds / 60).saturating_sub(line.base_minute);
        let idle_seconds = u32::try_from(idle.saturating_mul(60)).unwrap_or(u32::MAX);
        let downloads = u32::try_from(line.downloads).unwrap_or(u32::MAX);
        let Some(shard) = shards.get_mut(owners.owner(&line.info_hash)) else {
            continue;
        };
        match shard.raise_downloads(now_seconds, line.info_hash, downloads, idle_seconds) {
            true => imported.torrents += 1,
            false => imported.not_kept += 1,
        }
    }
    Ok(imported)
}

/// Reads the next line, of a long one the beginning; false at the end.
fn next_line(file: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    let limit = MAX_LINE_BYTES as u64;
    let mut count = file.by_ref().take(limit).read_until(b'\n', text)?;
    if count == 0 {
        return Ok(false);
    }
    let mut ended = text.ends_with(b"\n");
    let mut rest = Vec::new();
    while !ended && count as u64 == limit {
        rest.clear();
        count = file.by_ref().take(limit).read_until(b'\n', &mut rest)?;
        ended = rest.ends_with(b"\n");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090A0B0C0D0E0F10111213";

    fn line(text: &str) -> Result<Line, BadLine> {
        Line::parse(text.as_bytes())
    }

    #[test]
    fn a_line_reads_back() {
        let text = format!("{HEX}:29001234:7\n");
        let read = line(&text).expect("a line");
        let expected = Line {
            info_hash: InfoHash(std::array::from_fn(|at| at as u8)),
            base_minute: 29_001_234,
            downloads: 7,
        };
        assert_eq!(read, expected);
        let mut out = Vec::new();
        read.write(&mut out);
        assert_eq!(out, text.as_bytes());
        let longest = Line {
            base_minute: u64::MAX,
            downloads: u64::MAX,
            ..expected
        };
        out.clear();
        longest.write(&mut out);
        assert_eq!((out.len(), Line::parse(&out)), (83, Ok(longest)));
    }

    #[test]
    fn case_and_blanks_are_no_matter() {
        let upper = line(&format!("{HEX}:1:2"));
        assert_eq!(line(&format!("{}:1:2 \r\n", HEX.to_lowercase())), upper);
        assert!(upper.is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(line("hello"), Err(BadLine::Hash));
        assert_eq!(line(&HEX.replace('A', "G")), Err(BadLine::Hash));
        assert_eq!(line(HEX), Err(BadLine::Base));
        assert_eq!(line(&format!("{HEX}:")), Err(BadLine::Base));
        assert_eq!(line(&format!("{HEX}:-1:2")), Err(BadLine::Base));
        assert_eq!(line(&format!("{HEX}:12")), Err(BadLine::Downloads));
        assert_eq!(line(&format!("{HEX}:12:x")), Err(BadLine::Downloads));
        let huge = format!("{HEX}:1:99999999999999999999");
        assert_eq!(line(&huge), Err(BadLine::Downloads));
        assert_eq!(line(&format!("{HEX}:1:2:3")), Err(BadLine::Trailing));
    }

    #[test]
    fn long_lines_are_one_line() {
        let long = "x".repeat(MAX_LINE_BYTES * 3 + 5);
        let exact = "y".repeat(MAX_LINE_BYTES);
        let text = format!("{long}\nab\n{exact}\n\ncd");
        let mut file = text.as_bytes();
        let mut line = Vec::new();
        let mut found = Vec::new();
        while next_line(&mut file, &mut line).expect("memory") {
            found.push(line.len());
        }
        assert_eq!(found, [MAX_LINE_BYTES, 3, MAX_LINE_BYTES, 1, 2]);
    }
}
