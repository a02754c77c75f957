//! How a connection is named while it waits for a socket or a shard.

/// Names a connection: its place, and which of the place's tenants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionToken {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl ConnectionToken {
    /// The token as the reactor carries it, below 2⁶²: the generation loses
    /// its two upper bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64 & 0x3fff_ffff) << 32) | self.place as u64
    }

    /// The token back from the reactor.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            place: bits as u32,
            generation: (bits >> 32) as u32 & 0x3fff_ffff,
        }
    }
}
