//! One core's state. So far: its published counters.

pub mod stats;
