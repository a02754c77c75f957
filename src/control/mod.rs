//! What happens beside the shards: logging, signals, the metrics endpoint,
//! files that hooks use.
//!
//! Nothing here is on the request path, and nothing here may block a shard.

pub mod background;
pub mod certificates;
pub mod logging;
pub mod metrics;
pub mod metrics_server;
pub mod opentracker_stats;
pub mod reloads;
pub mod service_manager;
pub mod signals;
