//! Everything random that a tracker begins with, drawn once.

use super::StartError;

/// See the module.
pub(super) struct Seeds {
    /// Keys the map from info hashes to shards.
    pub owner_key: u32,
    /// What opentracker's statistics call this tracker.
    pub tracker_id: u32,
    /// Keys the connection ids, unless the configuration does.
    pub connection_key: [u8; 16],
    /// For the hooks.
    pub hooks: u64,
    /// For each shard.
    pub shards: Vec<u64>,
}

impl Seeds {
    /// Draws them from the system.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn draw(shards: usize) -> Result<Self, StartError> {
        let mut bytes = vec![0u8; 32 + shards * 8];
        getrandom::fill(&mut bytes)
            .map_err(|error| StartError(format!("the system gives no random numbers: {error}")))?;
        let (key, rest) = bytes.split_at(4);
        let (connection_key, rest) = rest.split_at(16);
        let (hooks, rest) = rest.split_at(8);
        let (tracker_id, rest) = rest.split_at(4);
        let number = |bytes: &[u8]| {
            let next = |number, &byte| number << 8 | u64::from(byte);
            bytes.iter().fold(0, next)
        };
        Ok(Self {
            owner_key: number(key) as u32,
            tracker_id: number(tracker_id) as u32,
            connection_key: std::array::from_fn(|at| connection_key[at]),
            hooks: number(hooks),
            shards: rest.chunks_exact(8).map(number).collect(),
        })
    }
}
