//! AF_XDP: frames between a network interface and this process, past the
//! kernel's network stack.
//!
//! A program in the kernel ([`bpf`]) hands frames to sockets ([`socket`]), one
//! for each queue on which an interface receives ([`interface`]). Opening takes
//! CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF; what is open works without.

pub mod bpf;
pub mod interface;
pub mod socket;
