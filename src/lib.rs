//! karuta, a BitTorrent tracker for Linux hosts with very high announce rates.
//!
//! The library exists so that tests, benches, fuzz targets and the load tester
//! can reach the parts of the program. Layers, from the bottom up (a module
//! uses only those below it; `tests/tidy.rs` holds this):
//!
//! ```text
//! e2e         checks a running tracker, as two clients would
//! server      builds the mesh, starts shards and control; stops in reverse
//! control     signals, metrics endpoint, reload
//! frontend    udp, http: bytes <-> requests on one transport
//! state       snapshots of all swarms on disk, opentracker's state file
//! runtime     executors, mesh between shards, clock, reactor
//! shard       one core's state: announce, scrape, tick; synchronous
//! hook        policy on requests
//! swarm       peers of an info hash, selection, expiry
//! protocol    wire formats without I/O
//! opentracker opentracker's file and flags -> the YAML file
//! config      the YAML file -> validated settings
//! bittorrent  the field's own terms
//! sys         the only unsafe code
//! ```

pub mod bittorrent;
pub mod config;
pub mod control;
pub mod e2e;
pub mod frontend;
pub mod hook;
pub mod opentracker;
pub mod protocol;
pub mod runtime;
pub mod server;
pub mod shard;
pub mod state;
pub mod swarm;
pub mod sys;
