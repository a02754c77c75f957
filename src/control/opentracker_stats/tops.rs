//! `top10` and `top100`: the torrents with the most peers, and those with the
//! most seeders. Of two with the same count the lower hash comes first.

use super::render::line;
use super::walk::Torrent;
use crate::bittorrent::InfoHash;

/// The torrents with the most of something, so far.
#[derive(Clone, Debug)]
pub struct Tops {
    amount: usize,
    by_peers: Best,
    by_seeds: Best,
}

impl Tops {
    /// Keeps this many of each.
    #[must_use]
    pub fn new(amount: usize) -> Self {
        Self {
            amount,
            by_peers: Best::default(),
            by_seeds: Best::default(),
        }
    }

    /// Looks at a torrent.
    pub fn add(&mut self, torrent: &Torrent) {
        let peers = torrent.complete.saturating_add(torrent.incomplete);
        self.by_peers.add(peers, torrent.info_hash, self.amount);
        self.by_seeds
            .add(torrent.complete, torrent.info_hash, self.amount);
    }

    /// Both lists.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (best, what) in [(&self.by_peers, "peers"), (&self.by_seeds, "seeds")] {
            let amount = self.amount;
            line(
                &mut text,
                format_args!("Top {amount} torrents by {what}:\n"),
            );
            for (count, info_hash) in &best.0 {
                let hex = Hex(info_hash);
                line(&mut text, format_args!("\t{count}\t{hex}\n"));
            }
        }
        text
    }
}

/// In their order, the first first.
#[derive(Clone, Debug, Default)]
struct Best(Vec<(u32, InfoHash)>);

impl Best {
    fn add(&mut self, count: u32, info_hash: InfoHash, amount: usize) {
        if count == 0 {
            return;
        }
        let comes_before = |other: &(u32, InfoHash)| {
            (other.0, std::cmp::Reverse(other.1)) > (count, std::cmp::Reverse(info_hash))
        };
        if self.0.len() >= amount && self.0.last().is_none_or(comes_before) {
            return;
        }
        let at = self.0.partition_point(comes_before);
        self.0.insert(at, (count, info_hash));
        self.0.truncate(amount);
    }
}

/// A hash in upper-case hexadecimal digits.
pub(super) struct Hex<'a>(pub &'a InfoHash);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut digits = [0; 40];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0.0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' - 10 + nibble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torrent(number: u8, complete: u32, incomplete: u32) -> Torrent {
        Torrent {
            info_hash: InfoHash([number; 20]),
            complete,
            incomplete,
            downloaded: 0,
            idle_seconds: 0,
        }
    }

    #[test]
    fn keeps_the_best_of_both_kinds_in_order() {
        let mut tops = Tops::new(2);
        for torrent in [
            torrent(9, 1, 4),
            torrent(3, 2, 3),
            torrent(5, 0, 9),
            torrent(4, 2, 0),
            torrent(1, 0, 0),
        ] {
            tops.add(&torrent);
        }
        let hex = |byte: &str| byte.repeat(20);
        let expected = format!(
            "Top 2 torrents by peers:\n\t9\t{}\n\t5\t{}\n\
             Top 2 torrents by seeds:\n\t2\t{}\n\t2\t{}\n",
            hex("05"),
            hex("03"),
            hex("03"),
            hex("04")
        );
        assert_eq!(tops.render(), expected);
    }
}
