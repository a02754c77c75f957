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
        let Some(stride) = peers.first().map(|peer| peer.compact().len()) else {
            return;
        };
        // num_want was clamped to what fits.
        let rooms = self.buffer[self.filled..].chunks_exact_mut(stride);
        self.filled += rooms.len().min(peers.len()) * stride;
        for (room, peer) in rooms.zip(peers) {
            room.copy_from_slice(peer.compact());
        }
    }
}
