//! opentracker's texts, byte for byte in their shape, from a [`Snapshot`].
//!
//! Most have four lines for MRTG: one number, another, the uptime, what it is
//! about. Two of opentracker's are wrong and right here: `herr` gives each
//! error its own name, and `fscr` counts (full scrapes, and bytes).
//!
//! The rest is in [`super::everything`], [`super::tops`], [`super::networks`]
//! and [`super::dump`].

use super::snapshot::Snapshot;
use crate::shard::opentracker_counters::HttpError;
use std::fmt::Write;

/// `peer`. Munin reads its first three lines.
#[must_use]
pub fn peers(taken: &Snapshot) -> String {
    serving(taken.peers, taken.seeds, taken.torrents)
}

/// `torr`.
#[must_use]
pub fn torrents(taken: &Snapshot) -> String {
    serving(taken.torrents, 0, taken.torrents)
}

fn serving(first: u64, second: u64, torrents: u64) -> String {
    format!("{first}\n{second}\nopentracker serving {torrents} torrents\nopentracker")
}

/// `conn`.
#[must_use]
pub fn connections(taken: &Snapshot) -> String {
    let (count, successes) = (all_connections(taken), all_successes(taken));
    let what = rates(taken, "connections", (count, successes), "success");
    mrtg(taken, count, successes, &what)
}

/// `tcp4`.
#[must_use]
pub fn tcp(taken: &Snapshot) -> String {
    let (count, successes) = (taken.tcp_accepts, taken.tcp_announces);
    let what = rates(taken, "tcp4 stats", (count, successes), "success");
    mrtg(taken, count, successes, &what)
}

/// `udp4`.
#[must_use]
pub fn udp(taken: &Snapshot) -> String {
    let count = taken.udp_packets;
    let successes = taken.udp_announces + taken.udp_connects;
    let what = rates(taken, "udp4 stats", (count, successes), "success");
    mrtg(taken, count, successes, &what)
}

/// `scrp`.
#[must_use]
pub fn scrapes(taken: &Snapshot) -> String {
    let both = per_second(taken, taken.tcp_scrapes + taken.udp_scrapes);
    let what = format!("opentracker scrape stats, {both} scrape/s (tcp and udp)");
    mrtg(taken, taken.tcp_scrapes, taken.udp_scrapes, &what)
}

/// `completed`.
#[must_use]
pub fn completed(taken: &Snapshot) -> String {
    let hours = (taken.uptime_seconds / 3600).max(1);
    let what = format!("opentracker, {} completed/h.", taken.completed / hours);
    mrtg(taken, taken.completed, 0, &what)
}

/// `syncs`. The last line is that of `conn` there, too.
#[must_use]
pub fn syncs(taken: &Snapshot) -> String {
    let both = (all_connections(taken), all_successes(taken));
    let what = rates(taken, "connections", both, "success");
    mrtg(taken, taken.livesyncs, 0, &what)
}

/// `fscr`.
#[must_use]
pub fn full_scrapes(taken: &Snapshot) -> String {
    let (count, bytes) = (taken.full_scrapes, taken.full_scrape_bytes);
    let what = rates(taken, "full scrape stats", (count, bytes), "bytes");
    mrtg(taken, count, bytes, &what)
}

/// `herr`: the seven kinds that it has always had.
#[must_use]
pub fn http_errors(taken: &Snapshot) -> String {
    const LINES: [(&str, HttpError); 7] = [
        ("302 RED", HttpError::Redirect),
        ("400 ...", HttpError::Malformed),
        ("400 PAR", HttpError::Parameter),
        ("400 COM", HttpError::NotCompact),
        ("403 IP ", HttpError::Denied),
        ("404 INV", HttpError::NotFound),
        ("500 SRV", HttpError::Server),
    ];
    let mut text = String::new();
    for (name, error) in LINES {
        let count = taken.http_errors[error as usize];
        line(&mut text, format_args!("{name} {count}\n"));
    }
    text
}

/// `renew`.
#[must_use]
pub fn renewals(taken: &Snapshot) -> String {
    let mut text = String::new();
    for (minutes, count) in taken.renewals.iter().enumerate() {
        line(&mut text, format_args!("{minutes:02} {count}\n"));
    }
    text
}

/// `version`.
#[must_use]
pub fn version(taken: &Snapshot) -> String {
    format!("{}\n", taken.version)
}

/// Appends to a text, which cannot fail.
pub(super) fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// The last line of a mode that counts connections, and what came of them.
fn rates(taken: &Snapshot, name: &str, (count, came): (u64, u64), of_what: &str) -> String {
    format!(
        "opentracker {name}, {} conns/s :: {} {of_what}/s.",
        per_second(taken, count),
        per_second(taken, came)
    )
}

fn mrtg(taken: &Snapshot, first: u64, second: u64, what: &str) -> String {
    let (seconds, hours) = (taken.uptime_seconds, taken.uptime_seconds / 3600);
    format!("{first}\n{second}\n{seconds} seconds ({hours} hours)\n{what}")
}

fn per_second(taken: &Snapshot, count: u64) -> u64 {
    count / taken.uptime_seconds.max(1)
}

fn all_connections(taken: &Snapshot) -> u64 {
    taken.tcp_accepts + taken.udp_packets
}

fn all_successes(taken: &Snapshot) -> u64 {
    taken.tcp_announces + taken.udp_announces + taken.udp_connects
}
