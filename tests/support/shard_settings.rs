//! What shards that a test or a bench makes by hand are set to.

use karuta::shard::ShardSettings;

/// The usual settings of a shard.
pub fn shard_settings() -> ShardSettings {
    ShardSettings {
        peer_lifetime_seconds: 1860,
        downloads_lifetime_seconds: 0,
        client_breakdown: false,
        sweep_seconds: 180,
        peer_ids: false,
        max_peers: 0,
        max_swarms: 0,
        opentracker_statistics: false,
    }
}
