//! The query of a scrape over HTTP (BEP 48).

use super::announce::Failure;
use super::percent;
use super::query::{self, KeyBuffer};
use crate::bittorrent::InfoHash;

/// Reads the query of a scrape: calls `add` for each info hash in the order of
/// the query, for the first `max` of them (`max_scrape_infohashes`); what
/// exceeds it is not answered, as in Chihaya. Returns how many were added.
///
/// A scrape without an info hash would be a full scrape; it is refused.
///
/// # Errors
///
/// [`Failure::InvalidEscape`], [`Failure::InvalidInfoHash`] (also beyond `max`)
/// or [`Failure::NoInfoHash`]. What was added before the error is void.
pub fn parse_scrape(
    query: &[u8],
    max: usize,
    mut add: impl FnMut(InfoHash),
) -> Result<usize, Failure> {
    let mut found: usize = 0;
    let mut buffer = KeyBuffer::default();
    for (raw_key, value) in query::pairs(query) {
        let is_info_hash = buffer
            .decode(raw_key)?
            .is_some_and(|key| key == b"info_hash");
        if !is_info_hash {
            percent::validate(value)?;
            continue;
        }
        let info_hash = percent::decode_exact(value)?.ok_or(Failure::InvalidInfoHash)?;
        if found < max {
            add(InfoHash(info_hash));
        }
        found = found.saturating_add(1);
    }
    if found == 0 {
        return Err(Failure::NoInfoHash);
    }
    Ok(found.min(max))
}
