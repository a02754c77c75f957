//! What a shard runs on: its executor, the reactor it waits in, the mesh of
//! lanes to the other shards, and the clock.
//!
//! Knows nothing of trackers: the mesh carries any message, the reactor any
//! descriptor. Only here (and above) are clocks read.

pub mod clock;
pub mod executor;
pub mod mailbox;
pub mod mesh;
pub mod reactor;
