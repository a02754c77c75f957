//! What happens beside the shards: logging, signals, metrics and statistics,
//! files that hooks use.
//!
//! Nothing here is on the request path, and nothing here may block a shard.

pub mod background;
pub mod certificates;
pub mod logging;
pub mod metrics;
pub mod opentracker_stats;
pub mod reloads;
pub mod report;
pub mod service_manager;
pub mod signals;
pub mod web;
