//! Peers with private, loopback or link-local addresses are handed only to
//! requesters of the same kind: to others they are of no use, and they would
//! learn about somebody's network.
//!
//! On without being named; named with `enabled: false` it is off. Acts where
//! peers are chosen: see [`super::selection`].

use super::{Hook, Selection};
use crate::config::Section;

/// The hook.
#[derive(Clone, Debug)]
pub struct PeerScope {
    enabled: bool,
}

impl Hook for PeerScope {
    fn read(options: &mut Section<'_>) -> Self {
        let mut enabled = true;
        options.boolean("enabled", &mut enabled);
        Self { enabled }
    }

    fn shape(&self, selection: &mut Selection) -> bool {
        selection.peer_scope = self.enabled;
        true
    }
}
