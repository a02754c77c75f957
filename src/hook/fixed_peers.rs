//! Peers that are always handed out, announced or not: a site's own seeders.
//!
//! They come first in a reply and count against the peers wanted, not in the
//! swarm's counts. May be named several times, for different torrents. Acts
//! where peers are chosen: see [`super::selection`].
//!
//! Options: `peers` (addresses with ports), `info_hashes` (default: all
//! torrents), `to_seeders` (default false: seeders have no use for seeders).

use super::selection::FixedPeers;
use super::{Hook, Selection};
use crate::config::Section;
use std::sync::Arc;

/// Most peers that may be listed: all of them are compared with each peer.
const MOST_PEERS: usize = 64;

/// The hook.
#[derive(Clone, Debug)]
pub struct FixedPeersHook {
    options: FixedPeers,
}

impl Hook for FixedPeersHook {
    fn read(options: &mut Section<'_>) -> Self {
        let mut read = FixedPeers::default();
        options.addresses("peers", &mut read.peers);
        let of_no_use =
            |address: &&std::net::SocketAddr| address.ip().is_unspecified() || address.port() == 0;
        if let Some(address) = read.peers.iter().find(of_no_use) {
            options.refuse("peers", &format!("{address} is no peer's address"));
        } else if read.peers.len() > MOST_PEERS {
            options.refuse("peers", &format!("names more than {MOST_PEERS}"));
        } else if read.peers.is_empty() && options.is_sound(&["peers"]) {
            options.refuse("peers", "wants at least one, as \"192.0.2.1:6881\"");
        }
        for (path, text) in options.texts("info_hashes").into_iter().flatten() {
            match text.parse() {
                Ok(hash) => read.info_hashes.push(hash),
                Err(error) => {
                    options.refuse_at(path, &format!("{text:?}: {error}"));
                }
            }
        }
        read.info_hashes.sort_unstable();
        if read.info_hashes.is_empty() && options.has("info_hashes") {
            options.refuse("info_hashes", "names no torrent; remove it to mean all");
        }
        options.boolean("to_seeders", &mut read.to_seeders);
        Self { options: read }
    }

    fn shape(&self, selection: &mut Selection) -> bool {
        Arc::make_mut(&mut selection.fixed).push(self.options.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::problems;
    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (options, expected) in [
            ("{}", "peers: wants at least one"),
            ("peers: ['192.0.2.1']", "peers[0]: "),
            ("peers: ['0.0.0.0:1']", "is no peer's address"),
            (
                "{peers: ['192.0.2.1:1'], info_hashes: [x]}",
                "info_hashes[0]: \"x\"",
            ),
            (
                "{peers: ['192.0.2.1:1'], info_hashes: []}",
                "names no torrent",
            ),
        ] {
            let found = problems::<FixedPeersHook>(options);
            assert!(found.contains(expected), "{options}: {found}");
        }
        let options = "peers: ['192.0.2.1:1', '[2001:db8::1]:2']";
        assert_eq!(problems::<FixedPeersHook>(options), "");
    }
}
