//! What a run leaves in a figure's row: a value, a detail, a note.

use std::time::Duration;

use super::servers::{Running, Server, StartError};
use super::tables::{Figure, Row};
use crate::config::{Pace, RunConfig};
use crate::report::Report;
use crate::run;

/// How long the tail of latency is watched at most.
pub const LONGEST_TAIL: Duration = Duration::from_secs(15);

/// A server that waited longer than this share of a run for its processor was
/// disturbed by other load (or has more threads than its processor can run).
const DISTURBED: f64 = 0.05;

/// Adds the value of a valid run to the row, or why it is not valid.
pub fn record(
    row: &mut Row,
    outcome: Result<Report, run::RunError>,
    value: impl Fn(&Report) -> Option<f64>,
) -> Option<Report> {
    let report = record_nothing(row, outcome)?;
    row.disturbed += usize::from(
        report
            .cpu
            .as_ref()
            .is_some_and(|cpu| cpu.waiting > DISTURBED),
    );
    match value(&report) {
        Some(value) => row.add(value),
        None => row.note("the server's figures could not be read from /proc"),
    }
    Some(report)
}

/// Adds the tail of latency under this load at a rate per second.
pub fn record_tail(
    row: &mut Row,
    rate: f64,
    duration: Duration,
    running: &Running,
    load: RunConfig,
) {
    let config = RunConfig {
        pace: Pace::Rate(rate.max(1.0)),
        warm_up: Duration::from_millis(200),
        duration: duration.clamp(Duration::from_secs(3), LONGEST_TAIL),
        rss_of: load.cpu_of,
        ..load
    };
    let tail = |report: &Report| Some(report.latency.p999_us);
    if let Some(report) = record(row, running.run(&config), tail) {
        row.detail = Some(format!(
            "{:.0} k/s, p99 {:.0}, max {:.0} µs, {:.0} MB at the end",
            rate / 1e3,
            report.latency.p99_us,
            report.latency.max_us,
            report.resident_bytes.unwrap_or(0) as f64 / 1e6
        ));
    }
}

/// The report of a valid run; why another is not valid goes into the notes.
pub fn record_nothing(row: &mut Row, outcome: Result<Report, run::RunError>) -> Option<Report> {
    valid(outcome).map_err(|why| row.note(why)).ok()
}

/// The report of a valid run, or why it is not valid.
pub fn valid(outcome: Result<Report, run::RunError>) -> Result<Report, String> {
    match outcome {
        Ok(report) if report.is_valid() => Ok(report),
        Ok(report) => Err(format!("invalid run: {}", report.invalid.join(", "))),
        Err(error) => Err(format!("failed run: {error}")),
    }
}

/// Processor time of the server per reply, in microseconds.
pub fn cpu_per_reply(report: &Report) -> Option<f64> {
    report.cpu.as_ref().map(|cpu| cpu.us_per_reply)
}

/// Notes that the generator may have been the limit.
pub fn note_generator(row: &mut Row, report: &Report) {
    if report.idle_fraction < 0.05 {
        row.note("the generator was hardly ever idle");
    }
}

/// Notes why a server does not run.
pub fn not_started(figure: &mut Figure, server: Server, error: &StartError) {
    figure
        .row(server.name(), server.is_limit())
        .note(error.to_string());
}
