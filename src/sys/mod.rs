//! The only unsafe code of karuta, behind safe functions: socket options,
//! batched datagrams, probes of the host, privileges, memory in huge pages.
//!
//! Nearly everything here is a thin wrapper of one kernel interface and holds no
//! policy. Each `unsafe` block states why it is sound.

pub mod cpu;
pub mod datagram;
pub mod fd;
pub mod huge;
pub mod privileges;
pub mod probe;
pub mod process;
pub mod socket;
pub mod steering;
pub mod xdp;

mod mapping;
mod option;
mod path_mtu;
mod prefetch;
pub use prefetch::{prefetch_read, prefetch_whole};
