//! Measures BitTorrent trackers from outside: UDP and HTTP, closed loop and
//! fixed rate, memory fills, and several trackers side by side.
//!
//! One run, from the outside in: [`cli`] checks the command line (with
//! [`arguments`]) into a [`config::RunConfig`]; [`run`] starts one thread per
//! load, [`udp`] or [`http`], whose loop is in [`drive`]; each takes requests
//! from a [`source`] ([`workload`] decides which peer and swarm) when its gate
//! allows, and counts what becomes of them in an [`account`] with its
//! [`stats`]; [`report`] says what came out. [`compare`] does this for several
//! servers side by side.
//!
//! It shares no code with the tracker it was written for, so that a mistake
//! there cannot hide here. Only [`sys`] holds unsafe code.

pub mod account;
pub mod arguments;
pub mod bencode;
pub mod cli;
pub mod compare;
pub mod config;
pub mod connect;
pub mod drive;
pub mod echo;
pub mod http;
pub mod http_message;
pub mod inflight;
pub mod pace;
pub mod packet;
pub mod process;
pub mod random;
pub mod report;
pub mod run;
pub mod schedule;
pub mod skew;
pub mod source;
pub mod stats;
pub mod sys;
pub mod udp;
pub mod workload;
