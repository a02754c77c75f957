//! Peers on their way from a swarm into a datagram.

use crate::shard::exchange::PeerOutput;
use crate::swarm::StoredPeer;

/// Peers written one behind the other into a datagram.
pub(super) struct DatagramPeers<'a> {
    pub buffer: &'a mut [u8],
    pub filled: usize,
}

impl PeerOutput for DatagramPeers<'_> {
    #[inline]
    fn peers<P: StoredPeer>(&mut self, peers: &[P]) {
        for peer in peers {
            let compact = peer.compact();
            let end = self.filled + compact.len();
            // num_want was clamped to what fits.
            let Some(room) = self.buffer.get_mut(self.filled..end) else {
                return;
            };
            room.copy_from_slice(compact);
            self.filled = end;
        }
    }
}
